//! What this machine can carry, and whether a scenario fits.

use bace_api::ComputeRung;
use bace_engine::Scenario;
use bace_models::STATE_BYTES_PER_PARAMETER;
use bace_netem::RegionId;
use bace_socket::bench::LINKS_SHARE;
use serde_json::{Value, json};

use super::measured::{Measured, gbps};
use super::training::WorkerWorth;
use crate::machine;
use crate::run::MOST_WORKERS;

/// The share of available memory that workers may take; the rest is for tensors on their way, page cache and whoever else
/// is there.
const MEMORY_SHARE: f64 = 0.8;
/// The share of the cores' speed that emulated GPUs may add up to. A paced action has to end before the emulated GPU would
/// end it, beside the network threads, the copies of tensors and other workers that compute at the same moment.
pub const COMPUTE_SHARE: f64 = 0.5;
/// The share of the cores' time that messages may take beside their bytes: what comes in bursts has to wait for nothing.
const MESSAGES_SHARE: f64 = 0.25;
/// A stage has at most two neighbours, so that an emulated GPU fills at most two outgoing links at once.
const LINKS_OF_A_GPU: usize = 2;
const BYTES_PER_GB: f64 = 1e9;

/// What this machine can carry; absent where what it follows from could not be measured.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// What the rates of all links in use may add up to, 10^9 bit/s.
    pub links_gbps: Option<f64>,
    /// Worker processes that fit into memory before any job is loaded.
    pub workers: Option<u64>,
    /// Memory for workers, bytes.
    pub memory_bytes: Option<f64>,
    /// What one worker takes of it, bytes.
    pub worker_bytes: Option<u64>,
    /// What the emulated GPUs' speeds (peak x MFU) may add up to on the paced rung, 10^9 operations a second.
    pub compute_gops: Option<f64>,
    /// Messages that the cores can handle beside their bytes, a second.
    pub messages_per_s: Option<f64>,
}

/// One of a scenario's demands beside what there is.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    /// What is demanded.
    pub what: &'static str,
    /// How much, and how much there is; in `unit`.
    pub needed: f64,
    /// How much there is; absent where it could not be measured.
    pub available: Option<f64>,
    /// Of both.
    pub unit: &'static str,
    /// Whether only a run has it that computes.
    pub of_training: bool,
    /// What to change where it does not fit.
    pub advice: &'static str,
}

impl Capacity {
    /// Follows from what was measured.
    pub fn of(measured: &Measured, worker: Option<WorkerWorth>) -> Self {
        let cores = std::thread::available_parallelism().ok();
        let memory_bytes =
            machine::available_memory_bytes().map(|bytes| bytes as f64 * MEMORY_SHARE);
        let compute = worker.zip(cores).map(|(worker, cores)| {
            worker.operations_per_s * cores.get() as f64 * COMPUTE_SHARE / 1e9
        });
        Self {
            links_gbps: measured.quic.map(|ceiling| gbps(ceiling.links())),
            workers: worker.zip(memory_bytes).map(|(worker, bytes)| {
                ((bytes / worker.memory_bytes as f64) as u64).min(MOST_WORKERS)
            }),
            memory_bytes,
            worker_bytes: worker.map(|worker| worker.memory_bytes),
            compute_gops: compute,
            messages_per_s: measured
                .message_cost_s
                .zip(cores)
                .map(|(cost_s, cores)| MESSAGES_SHARE * cores.get() as f64 / cost_s),
        }
    }

    /// What each bound is and why.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(gbps) = self.links_gbps {
            lines.push(format!(
                "links in use may add up to {gbps:.1} Gbit/s: {:.0} % of what QUIC carries over loopback; the rest is for catching up after a stall",
                LINKS_SHARE * 1e2
            ));
        }
        if let (Some(workers), Some(bytes)) = (self.workers, self.worker_bytes) {
            lines.push(format!(
                "up to {workers} emulated GPUs by memory: each is a process of {:.0} MB before its job's weights, in {:.0} % of what is available, and a run has at most {MOST_WORKERS}",
                bytes as f64 / 1e6,
                MEMORY_SHARE * 1e2
            ));
        }
        if let Some(messages) = self.messages_per_s {
            lines.push(format!(
                "tensors between stages may add up to {messages:.0} a second: then they take {:.0} % of the cores' time beside their bytes",
                MESSAGES_SHARE * 1e2
            ));
        }
        if let Some(gops) = self.compute_gops {
            lines.push(format!(
                "emulated GPUs may add up to {gops:.1} Gop/s (peak x MFU, paced): {:.0} % of what the cores train at; the rest is for networking and for workers that compute at the same moment; --compute modelled has no such bound",
                COMPUTE_SHARE * 1e2
            ));
        }
        lines
    }

    /// As `bace doctor --json` prints it.
    pub fn json(&self) -> Value {
        json!({
            "links_gbps": self.links_gbps,
            "workers_by_memory": self.workers,
            "memory_for_workers_bytes": self.memory_bytes,
            "worker_bytes": self.worker_bytes,
            "compute_gops": self.compute_gops,
            "messages_per_s": self.messages_per_s,
        })
    }

    /// What `scenario` demands at its own time_scale, the demand that is nearest to its bound, or furthest beyond it, first.
    pub fn demands(&self, scenario: &Scenario) -> Vec<Demand> {
        let gpus: u64 = scenario
            .regions
            .iter()
            .map(|region| u64::from(region.gpus))
            .sum();
        let scale = scenario.compute.time_scale.get();
        let worker_bytes = self.worker_bytes.unwrap_or_default() * gpus;
        let state_bytes = training_state_bytes(scenario, gpus);
        let mut demands = vec![
            Demand {
                what: "worker processes",
                needed: gpus as f64,
                available: Some(MOST_WORKERS as f64),
                unit: "",
                of_training: false,
                advice: "lower `gpus`, or simulate it",
            },
            Demand {
                what: "memory of workers and training state",
                needed: (worker_bytes as f64 + state_bytes) / BYTES_PER_GB,
                available: self
                    .memory_bytes
                    .filter(|_| self.worker_bytes.is_some())
                    .map(|bytes| bytes / BYTES_PER_GB),
                unit: "GB",
                of_training: true,
                advice: "lower `gpus`, use smaller models, or simulate it",
            },
            Demand {
                what: "links that can be in use at once",
                needed: scale * links_in_use_bps(scenario) * crossing_share(scenario) / 1e9,
                available: self.links_gbps,
                unit: "Gbit/s",
                of_training: false,
                advice: "use a lower time_scale, lower `bandwidth_mbps`, or spread the regions over several hosts",
            },
            Demand {
                what: "emulated GPUs' speeds, paced",
                needed: scale * operations_per_s(scenario) / 1e9,
                available: self.compute_gops,
                unit: "Gop/s",
                of_training: true,
                advice: "use a lower time_scale, lower `peak_tflops` or `gpus`, or run with --compute modelled",
            },
        ];
        if trains_scale_models(scenario) {
            // What they take is no matter of operations.
            demands.retain(|demand| demand.unit != "Gop/s");
        }
        if scenario.compute.rung == Some(ComputeRung::Modelled) {
            // Neither libtorch nor training state, and nothing computes.
            demands.retain(|demand| !demand.of_training);
        }
        // What is not known comes last.
        let order = |demand: &Demand| demand.share().unwrap_or(-1.0);
        demands.sort_by(|a, b| order(b).total_cmp(&order(a)));
        demands
    }
}

impl Demand {
    /// How much of what there is it takes; beyond 1 it does not fit. Absent where that is not known.
    pub fn share(&self) -> Option<f64> {
        self.available.map(|available| self.needed / available)
    }

    /// Whether it fits; absent where that is not known.
    pub fn fits(&self) -> Option<bool> {
        self.available.map(|available| self.needed <= available)
    }

    /// As `bace doctor --json` prints it.
    pub fn json(&self) -> Value {
        json!({
            "what": self.what,
            "needed": self.needed,
            "available": self.available,
            "unit": self.unit,
            "fits": self.fits(),
        })
    }
}

/// Whether any job trains a small model in the place of its own.
pub fn trains_scale_models(scenario: &Scenario) -> bool {
    scenario.jobs.iter().any(|job| job.scale_model.is_some())
}

/// The largest share of a job's bytes on links that really crosses: all, but for scale models.
fn crossing_share(scenario: &Scenario) -> f64 {
    let jobs = scenario.jobs.iter();
    jobs.map(|job| job.trained().boundary_bytes() as f64 / job.boundary_bytes() as f64)
        .fold(0.0, f64::max)
}

/// What the emulated GPUs' speeds add up to, operations an emulated second.
pub fn operations_per_s(scenario: &Scenario) -> f64 {
    let regions = scenario.regions.iter();
    regions
        .map(|region| f64::from(region.gpus) * region.gpu.flops * region.gpu.mfu)
        .sum()
}

/// Weights, gradients and optimizer state of the jobs that could train at the same time, the largest ones.
fn training_state_bytes(scenario: &Scenario, gpus: u64) -> f64 {
    let mut states: Vec<f64> = scenario
        .jobs
        .iter()
        .map(|job| {
            STATE_BYTES_PER_PARAMETER.saturating_mul(job.trained().model.parameters()) as f64
        })
        .collect();
    states.sort_by(|a, b| b.total_cmp(a));
    // A job holds at least one GPU.
    let at_once = usize::try_from(gpus).unwrap_or(usize::MAX);
    states.into_iter().take(at_once).sum()
}

/// The highest sum of rates of links that can be in use at once.
fn links_in_use_bps(scenario: &Scenario) -> f64 {
    let gpus = |region: RegionId| scenario.regions[region.index()].gpus;
    let mut leaving = vec![Vec::new(); scenario.regions.len()];
    for (&id, link) in &scenario.links {
        if gpus(id.to) == 0 {
            continue;
        }
        let changes = scenario.link_changes.iter();
        let changed = changes.filter(|change| change.link == id);
        let highest = changed
            .map(|change| change.rate.bps())
            .fold(link.rate.bps(), f64::max);
        leaving[id.from.index()].push(highest);
    }
    let regions = scenario.regions.iter().zip(&mut leaving);
    regions
        .map(|(region, rates)| {
            rates.sort_by(|a, b| b.total_cmp(a));
            let at_once = LINKS_OF_A_GPU * region.gpus as usize;
            rates.iter().take(at_once).sum::<f64>()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOMY: Capacity = Capacity {
        links_gbps: Some(10.0),
        workers: Some(20),
        memory_bytes: Some(8e9),
        worker_bytes: Some(400_000_000),
        compute_gops: Some(30.0),
        messages_per_s: Some(5_000.0),
    };

    fn demands(capacity: Capacity, changes: &[(&str, &str)]) -> Vec<Demand> {
        let text = include_str!("../../scenarios/three-regions.toml");
        let text = changes.iter().fold(text.to_owned(), |text, (old, with)| {
            assert!(text.contains(old), "{old}");
            text.replace(old, with)
        });
        let scenario = Scenario::parse(&text, "test", &|_| unreachable!("no file named"));
        capacity.demands(&scenario.expect("a valid scenario"))
    }

    #[test]
    fn what_is_nearest_to_its_bound_comes_first() {
        let all = demands(ROOMY, &[]);
        assert_eq!(all[0].what, "emulated GPUs' speeds, paced");
        assert!((all[0].needed - 24.0).abs() < 1e-9, "{all:?}");
        let links = all.iter().find(|demand| demand.unit == "Gbit/s");
        // Both directions of 500, 200 and 100 Mbit/s.
        assert!((links.expect("links").needed - 1.6).abs() < 1e-9, "{all:?}");
        assert!(all.iter().all(|demand| demand.fits() == Some(true)));

        let fast = demands(ROOMY, &[("bandwidth_mbps = 500", "bandwidth_mbps = 9000")]);
        assert_eq!(fast[0].what, "links that can be in use at once");
        assert_eq!(fast[0].fits(), Some(false));
    }

    #[test]
    fn what_was_not_measured_is_not_known_to_fit() {
        let unknown = Capacity {
            links_gbps: None,
            ..ROOMY
        };
        let all = demands(unknown, &[]);
        let links = all
            .iter()
            .find(|demand| demand.unit == "Gbit/s")
            .expect("links");
        assert_eq!((links.fits(), links.available), (None, None));
    }
}
