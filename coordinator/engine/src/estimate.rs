//! The arithmetic of docs/scheduling.md sections 1 and 2: stage times, K_min, K*, iteration times, demands.
//!
//! Choices where the page is silent:
//! - types and speeds are those of all regions, with or without GPUs;
//! - where the jobs' times were measured on one device, all GPUs are that device, whatever types they stand for;
//! - the delay of a boundary between two regions is that of the link its activations take, counted twice.

use std::collections::BTreeMap;
use std::fmt;

use bace_api::{Job, JobId, Refusal, RegionGpus};
use bace_models::{
    DeviceProfile, GpuType, MicroBatchShape, ModelSpec, ProfileKey, Split, Work, Workload,
};
use bace_netem::{LinkId, RegionId};

use crate::{Cluster, Scenario};

/// Values this close (relative) are a tie.
pub(crate) const TIE: f64 = 1e-12;

/// Jobs with the same model and micro-batch, which share stage times and demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobKindId(u32);

/// What follows from a model and a micro-batch.
#[derive(Debug, Clone, PartialEq)]
pub struct JobKind {
    workload: Workload,
    /// Bits over one stage boundary, one direction, one micro-batch: 8·A.
    boundary_bits: f64,
    /// K_min.
    fewest_gpus: u64,
    /// Work of the largest of K equal stages, at K − 1.
    largest_work: Vec<f64>,
}

/// What does not change while a scenario runs.
#[derive(Debug, Clone)]
pub struct Estimates {
    kinds: Vec<JobKind>,
    kind_of: Vec<JobKindId>,
    /// Work a second, by region: operations, or seconds where these were measured.
    speeds: Vec<f64>,
    slowest_speed: f64,
    smallest_fabric_bps: f64,
    all_gpus: u64,
    smallest_memory: u64,
}

/// What a profile lacks for a scenario's jobs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("predict from the profile: it has no entry for {}", .gaps.iter().map(ProfileGap::to_string).collect::<Vec<_>>().join("; nor for "))]
pub struct Unprofiled {
    /// At least one, in the order of the jobs.
    pub gaps: Vec<ProfileGap>,
}

/// A model and a micro-batch that a profile knows nothing of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileGap {
    /// What is missing.
    pub key: ProfileKey,
    /// The model's name in the scenario.
    pub model: String,
    /// Jobs that need it.
    pub jobs: Vec<String>,
}

impl fmt::Display for ProfileGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Jobs that a message names.
        const NAMED: usize = 3;

        let (model, shape) = (&self.key.model, &self.key.shape);
        let jobs: Vec<String> = self
            .jobs
            .iter()
            .take(NAMED)
            .map(|job| format!("`{job}`"))
            .collect();
        let more = match self.jobs.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        write!(
            f,
            "model `{}` (hidden {}, heads {}/{}, head size {}, feed-forward {}{}, vocabulary {}) with micro-batches of {} x {} tokens \
             and {} bytes an element at boundaries, needed by {}{more}",
            self.model,
            model.hidden,
            model.heads,
            model.kv_heads,
            model.head_size,
            model.feed_forward,
            if model.gated { " gated" } else { "" },
            model.vocabulary,
            shape.sequences,
            shape.sequence,
            shape.bytes_per_element,
            jobs.join(", ")
        )
    }
}

impl JobKind {
    /// Seconds of the largest of `stages` equal stages at `speed`, as [`Estimates::speed`] gives it: t(K).
    ///
    /// # Panics
    /// If `stages` is 0 or beyond what [`JobKind::most_stages`] says.
    pub fn largest_stage_s(&self, stages: u32, speed: f64) -> f64 {
        self.largest_work[stages as usize - 1] / speed
    }

    /// Bits over one stage boundary, one direction, one micro-batch.
    pub fn boundary_bits(&self) -> f64 {
        self.boundary_bits
    }

    /// K_min: GPUs below which weights, gradients and Adam state do not fit.
    pub fn fewest_gpus(&self) -> u64 {
        self.fewest_gpus
    }

    /// min(L, all GPUs of the scenario).
    pub fn most_stages(&self) -> u32 {
        self.largest_work.len() as u32
    }
}

impl Estimates {
    /// The estimates of `scenario` by the formula.
    pub fn of(scenario: &Scenario) -> Self {
        let regions = scenario.regions.iter();
        let speeds = regions.map(|region| region.gpu.flops * region.gpu.mfu);
        Self::with(scenario, speeds.collect(), |job| {
            Workload::of(&job.model, &job.shape)
        })
    }

    /// The estimates of `scenario` where every GPU is the device that `profile` was measured on.
    ///
    /// # Errors
    /// If the profile lacks what a job needs.
    pub fn measured(scenario: &Scenario, profile: &DeviceProfile) -> Result<Self, Unprofiled> {
        let times = |job: &Job| profile.times(&job.model, &job.shape);
        let lacking = scenario.jobs.iter().filter(|job| times(job).is_none());
        let mut gaps: Vec<ProfileGap> = Vec::new();
        for job in lacking {
            let key = ProfileKey::of(&job.model, &job.shape);
            match gaps.iter_mut().find(|gap| gap.key == key) {
                Some(gap) => gap.jobs.push(job.name.clone()),
                None => gaps.push(ProfileGap {
                    key,
                    model: job.model_name.clone(),
                    jobs: vec![job.name.clone()],
                }),
            }
        }
        if !gaps.is_empty() {
            return Err(Unprofiled { gaps });
        }
        let speeds = vec![1.0; scenario.regions.len()];
        // The device's seconds are the machine's.
        let scale = scenario.compute.time_scale;
        Ok(Self::with(scenario, speeds, |job| {
            let times = times(job).expect("no job lacks an entry");
            Workload {
                layers: job.model.layers,
                work: Work::Measured(times.map(|wall_s| scale.emulated_seconds(wall_s))),
            }
        }))
    }

    fn with(scenario: &Scenario, speeds: Vec<f64>, workload: impl Fn(&Job) -> Workload) -> Self {
        let all_gpus = scenario
            .regions
            .iter()
            .map(|region| u64::from(region.gpus))
            .sum();
        let memories = scenario
            .regions
            .iter()
            .map(|region| region.gpu.memory_bytes);
        let fabrics = scenario
            .regions
            .iter()
            .map(|region| region.fabric.rate.bps());
        let mut estimates = Self {
            kinds: Vec::new(),
            kind_of: Vec::with_capacity(scenario.jobs.len()),
            slowest_speed: speeds.iter().copied().fold(f64::INFINITY, f64::min),
            speeds,
            smallest_fabric_bps: fabrics.fold(f64::INFINITY, f64::min),
            all_gpus,
            smallest_memory: memories.min().unwrap_or(0),
        };
        let mut known = BTreeMap::new();
        for job in &scenario.jobs {
            let id = *known
                .entry(numbers(&job.model, &job.shape))
                .or_insert_with(|| {
                    estimates.kinds.push(estimates.new_kind(job, workload(job)));
                    JobKindId(estimates.kinds.len() as u32 - 1)
                });
            estimates.kind_of.push(id);
        }
        estimates
    }

    /// Which kind a job is.
    pub fn kind_id(&self, job: JobId) -> JobKindId {
        self.kind_of[job.index()]
    }

    /// What jobs of a kind have in common.
    pub fn kind(&self, id: JobKindId) -> &JobKind {
        &self.kinds[id.0 as usize]
    }

    /// Work a second of a GPU of `region`: operations, or 1 where times were measured.
    pub fn speed(&self, region: RegionId) -> f64 {
        self.speeds[region.index()]
    }

    /// Work a second of the slowest type in the scenario.
    pub fn slowest_speed(&self) -> f64 {
        self.slowest_speed
    }

    /// K*: the stage count that is fastest while nothing between regions is in the way.
    pub fn best_stages(&self, job: JobId, micro_batches: u32) -> Result<u32, Refusal> {
        let kind = self.kind(self.kind_id(job));
        let fewest = u32::try_from(kind.fewest_gpus).unwrap_or(u32::MAX);
        if kind.fewest_gpus > self.all_gpus {
            return Err(Refusal::Gpus {
                needs: kind.fewest_gpus,
                has: self.all_gpus,
            });
        }
        if fewest > kind.most_stages() {
            return Err(Refusal::Memory {
                needs: kind.fewest_gpus,
                layers: kind.workload.layers,
                memory_bytes: self.smallest_memory,
            });
        }
        let fabric_s = kind.boundary_bits / self.smallest_fabric_bps;
        let ideal = |stages: u32| {
            let communication = if stages > 1 { fabric_s } else { 0.0 };
            let slowest = kind.largest_stage_s(stages, self.slowest_speed);
            pipeline_slots(micro_batches, stages) * slowest.max(communication)
        };
        let range = fewest..=kind.most_stages();
        let best = range.clone().map(ideal).fold(f64::INFINITY, f64::min);
        let mut found = range.filter(|&stages| ideal(stages) <= best * (1.0 + TIE));
        match found.next() {
            Some(stages) if best.is_finite() => Ok(stages),
            _ => Err(Refusal::Fabric { stages: fewest }),
        }
    }

    /// The smallest speed on a path.
    pub(crate) fn slowest_on(&self, path: &[RegionGpus]) -> f64 {
        path.iter()
            .map(|part| self.speed(part.region))
            .fold(f64::INFINITY, f64::min)
    }

    /// t of a placement: the largest stage's forward and backward seconds at the stages' own speeds.
    pub(crate) fn placed_stage_s(
        &self,
        scenario: &Scenario,
        kind: &JobKind,
        path: &[RegionGpus],
    ) -> f64 {
        let slowest = self.slowest_on(path);
        if path.iter().all(|part| self.speed(part.region) == slowest) {
            let stages = path.iter().map(|part| part.gpus).sum();
            return kind.largest_stage_s(stages, slowest);
        }
        split(scenario, kind, path).largest_s
    }

    fn new_kind(&self, job: &Job, workload: Workload) -> JobKind {
        let most = u64::from(job.model.layers).min(self.all_gpus) as u32;
        let largest_work = (1..=most)
            .map_while(|stages| workload.largest_stage_work(stages))
            .collect();
        JobKind {
            workload,
            boundary_bits: job.boundary_bytes() as f64 * 8.0,
            fewest_gpus: job.model.fewest_gpus(self.smallest_memory),
            largest_work,
        }
    }
}

/// The layers of each stage on `path`, split for the stages' own speeds.
pub(crate) fn split(scenario: &Scenario, kind: &JobKind, path: &[RegionGpus]) -> Split {
    let gpus: Vec<&GpuType> = path
        .iter()
        .flat_map(|part| {
            let gpu = &scenario.regions[part.region.index()].gpu;
            std::iter::repeat_n(gpu, part.gpus as usize)
        })
        .collect();
    let split = kind.workload.split(&gpus);
    split.expect("a path has at least one GPU and no more than the model has layers")
}

/// What an iteration of a placed job takes besides its shares of links between regions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PipelineTimes {
    /// M + K − 1.
    slots: f64,
    /// t, seconds.
    stage_s: f64,
    /// Largest time of a tensor over a region's fabric, seconds; 0 where no region holds two stages.
    fabric_s: f64,
    /// Bits over one boundary.
    bits: f64,
    /// 2·Σ d, seconds.
    delays_s: f64,
}

impl PipelineTimes {
    /// Those of `job` on `path` with largest stage time `stage_s`.
    pub(crate) fn of(
        scenario: &Scenario,
        cluster: &Cluster,
        job: &Job,
        bits: f64,
        path: &[RegionGpus],
        stage_s: f64,
    ) -> Self {
        let stages = path.iter().map(|part| part.gpus).sum();
        let mut times = Self {
            slots: pipeline_slots(job.micro_batches, stages),
            stage_s,
            fabric_s: 0.0,
            bits,
            delays_s: 0.0,
        };
        for part in path.iter().filter(|part| part.gpus > 1) {
            let fabric = &scenario.regions[part.region.index()].fabric;
            times.fabric_s = times.fabric_s.max(bits / fabric.rate.bps());
        }
        times.set_delays(scenario, cluster, path);
        times
    }

    /// Takes the delays along `path` as they are at present.
    pub(crate) fn set_delays(
        &mut self,
        scenario: &Scenario,
        cluster: &Cluster,
        path: &[RegionGpus],
    ) {
        let mut delays = 0.0;
        for (position, part) in path.iter().enumerate() {
            if part.gpus > 1 {
                let fabric = &scenario.regions[part.region.index()].fabric;
                delays += f64::from(part.gpus - 1) * fabric.delay.seconds();
            }
            if let Some(next) = path.get(position + 1) {
                delays += cluster.delay_s(LinkId::new(part.region, next.region));
            }
        }
        self.delays_s = 2.0 * delays;
    }

    /// T with a share of `share_bps` on the slowest link between regions; pass infinity without such a link.
    pub(crate) fn iteration_s(&self, share_bps: f64) -> f64 {
        let slot = self.stage_s.max(self.fabric_s).max(self.bits / share_bps);
        self.slots * slot + self.delays_s
    }

    /// D: bit/s on every link between regions, each direction.
    pub(crate) fn demand_bps(&self) -> f64 {
        self.bits / self.stage_s
    }
}

/// M + K − 1.
pub(crate) fn pipeline_slots(micro_batches: u32, stages: u32) -> f64 {
    f64::from(micro_batches) + f64::from(stages) - 1.0
}

/// All numbers that a kind follows from, as a key.
fn numbers(model: &ModelSpec, shape: &MicroBatchShape) -> [u32; 11] {
    [
        model.layers,
        model.hidden,
        model.heads,
        model.kv_heads,
        model.head_size,
        model.feed_forward,
        u32::from(model.gated),
        model.vocabulary,
        shape.sequences,
        shape.sequence,
        shape.bytes_per_element,
    ]
}
