//! What has to be right before anything is started: the worker's program, its libtorch, devices and text.

use bace_api::{ComputeRung, Job, NetworkRung};
use bace_engine::Scenario;
use bace_models::STATE_BYTES_PER_PARAMETER;
use bace_netem::{LinkId, LinkSpec, Route, TimeScale};
use bace_socket::{PacketLink, SenderConfig, SocketError};

use crate::cli::{DeviceChoice, EmulationArgs};
use crate::machine;
use crate::run::in_flight::refuse_more_than_memory_holds;
use crate::wall;
use crate::wrong_input::WrongInput;

/// Element sizes that can cross a boundary for real: bf16 and fp32.
const ELEMENT_SIZES: [u32; 2] = [2, 4];

/// Most emulated GPUs of a run: each is a process that holds libtorch.
pub const MOST_WORKERS: u64 = 256;
/// Token ids that bytes need.
const BYTE_TOKENS: u32 = 256;
const BYTES_PER_GB: f64 = 1e9;

/// Refuses what can be simulated but not run, on the rung that was asked for.
pub fn refuse_what_cannot_run(
    args: &EmulationArgs,
    asked: Option<ComputeRung>,
    scenario: &Scenario,
) -> anyhow::Result<()> {
    if !scenario.gpu_changes.is_empty() {
        return Err(WrongInput::error(
            "run a scenario with [[gpu_change]]: training cannot go on from a checkpoint, so that it can only be simulated",
        ));
    }
    let workers = workers(scenario);
    if workers > MOST_WORKERS {
        return Err(WrongInput::error(format!(
            "run {workers} emulated GPUs: each is a process of its own, and a run has at most {MOST_WORKERS}; simulate it, or lower `gpus`"
        )));
    }
    refuse_links_that_cannot_be_carried(scenario)?;
    let network = args.network.map(NetworkRung::from);
    if network.unwrap_or(scenario.network.backend) == NetworkRung::Packet {
        refuse_links_whose_datagrams_cannot_be_held(scenario)?;
    }
    refuse_more_than_memory_holds(scenario, machine::memory_bytes())?;
    refuse_scale_models_on(network.unwrap_or(scenario.network.backend), asked, scenario)?;
    if asked == Some(ComputeRung::Modelled) {
        return Ok(());
    }
    for job in scenario.jobs.iter().map(Job::trained) {
        let (name, model) = (&job.name, &job.model_name);
        if job.model.vocabulary < BYTE_TOKENS {
            return Err(WrongInput::error(format!(
                "train job `{name}`: `vocabulary` = {} of model `{model}` is too small; tokens are bytes and need at least {BYTE_TOKENS}",
                job.model.vocabulary
            )));
        }
        // Workers on CUDA bring their own memory.
        let state_bytes = STATE_BYTES_PER_PARAMETER.saturating_mul(job.model.parameters());
        let here = machine::memory_bytes().filter(|_| args.device == DeviceChoice::Cpu);
        if let Some(bytes) = here.filter(|&bytes| state_bytes > bytes) {
            return Err(WrongInput::error(format!(
                "train job `{name}`: model `{model}` needs {:.0} GB of memory to train, and this machine has {:.0} GB; simulate it, use --compute modelled, or a smaller model",
                state_bytes as f64 / BYTES_PER_GB,
                bytes as f64 / BYTES_PER_GB
            )));
        }
    }
    for job in &scenario.jobs {
        if !ELEMENT_SIZES.contains(&job.shape.bytes_per_element) {
            return Err(WrongInput::error(format!(
                "run the job `{}`: `bytes_per_element` = {} can only be simulated; use 2 (bf16) or 4 (fp32)",
                job.name, job.shape.bytes_per_element
            )));
        }
    }
    Ok(())
}

/// Refuses scale models where nothing could make them stand for the models of the scenario.
fn refuse_scale_models_on(
    network: NetworkRung,
    asked: Option<ComputeRung>,
    scenario: &Scenario,
) -> anyhow::Result<()> {
    let Some(job) = scenario.jobs.iter().find(|job| job.scale_model.is_some()) else {
        return Ok(());
    };
    let wrong = |why: &str| {
        let name = &job.name;
        Err(WrongInput::error(format!(
            "run job `{name}`, which has a `scale_model`, {why}"
        )))
    };
    if asked == Some(ComputeRung::Native) {
        return wrong(
            "with --compute native: the small model's own time stands for nothing; use paced or modelled",
        );
    }
    match network {
        NetworkRung::Packet => wrong(
            "on links of the back end `packet`: they carry the small tensors' own datagrams, which stand for nothing; use `virtual` or `none`",
        ),
        NetworkRung::Kernel => wrong(
            "on links of the back end `kernel`: it sees the small tensors' own bytes, which stand for nothing; use `virtual` or `none`",
        ),
        NetworkRung::Modelled | NetworkRung::Shaped | NetworkRung::None => Ok(()),
    }
}

/// Refuses links on which a job's tensors could travel and whose rate x delay no sender holds.
fn refuse_links_that_cannot_be_carried(scenario: &Scenario) -> anyhow::Result<()> {
    let sender = SenderConfig::default();
    for region in scenario.regions.iter().filter(|region| region.gpus > 1) {
        let what = format!("the fabric inside region `{}`", region.name);
        refuse_beyond(scenario, &what, |scale| {
            sender.admit(&scale.wall_link(region.fabric))
        })?;
    }
    for (link, spec) in links_at_any_time(scenario) {
        refuse_beyond(scenario, &name_of(scenario, link), |scale| {
            sender.admit(&scale.wall_link(spec))
        })?;
    }
    Ok(())
}

/// Refuses links whose queue and rate x delay no worker can hold datagram by datagram.
fn refuse_links_whose_datagrams_cannot_be_held(scenario: &Scenario) -> anyhow::Result<()> {
    for (link, there) in links_at_any_time(scenario) {
        let back = scenario.links.get(&link.reversed());
        let back = back.copied().unwrap_or(there);
        refuse_beyond(scenario, &name_of(scenario, link), |scale| {
            let [there, back] = [there, back].map(|spec| scale.wall_link(spec));
            PacketLink::admit(&Route { there, back })
        })?;
    }
    Ok(())
}

/// Whether senders and this machine's memory hold what the links of `scenario` carry at `scale`.
pub fn can_be_carried(scenario: &Scenario, scale: TimeScale) -> bool {
    let mut scaled = scenario.clone();
    scaled.compute.time_scale = scale;
    refuse_links_that_cannot_be_carried(&scaled).is_ok()
        && refuse_more_than_memory_holds(&scaled, machine::memory_bytes()).is_ok()
}

/// The links on which a job's tensors could travel, as they are given and as they change.
fn links_at_any_time(scenario: &Scenario) -> impl Iterator<Item = (LinkId, LinkSpec)> {
    scenario.link_states().filter(|(link, _)| {
        let mut ends = [link.from, link.to].into_iter();
        ends.all(|region| scenario.regions[region.index()].gpus > 0)
    })
}

fn name_of(scenario: &Scenario, link: LinkId) -> String {
    let [from, to] = [link.from, link.to].map(|region| &scenario.regions[region.index()].name);
    format!("the link from `{from}` to `{to}`")
}

/// Refuses `what` unless it is admitted at the scenario's time scale.
fn refuse_beyond(
    scenario: &Scenario,
    what: &str,
    admit: impl Fn(TimeScale) -> Result<(), SocketError>,
) -> anyhow::Result<()> {
    let scale = scenario.compute.time_scale;
    admit(scale).map_err(|error| {
        wall::beyond(&format!("use {what}: {error}"), scale, |other| {
            admit(other).is_ok()
        })
    })
}

/// How many workers a scenario needs.
pub fn workers(scenario: &Scenario) -> u64 {
    let gpus = scenario.regions.iter().map(|region| region.gpus);
    gpus.map(u64::from).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(changes: &[(&str, &str)]) -> Option<String> {
        let text = r#"
name = "fat"
seed = 1
[[region]]
name = "east"
gpus = 2
gpu = "a6000"
price_usd_per_kwh = 0.1
fabric_gbps = 100
fabric_delay_ms = 1
[[region]]
name = "west"
gpus = 1
gpu = "a6000"
price_usd_per_kwh = 0.1
[[link]]
from = "east"
to = "west"
bandwidth_mbps = 10_000
one_way_delay_ms = 120
[[link_change]]
at_s = 5
from = "east"
to = "west"
bandwidth_mbps = 20_000
[[job]]
name = "only"
model = "gpt2"
arrival_s = 0
iterations = 1
micro_batches = 2
micro_batch = 1
sequence = 32
"#;
        let text = changes.iter().fold(text.to_owned(), |text, (old, with)| {
            assert!(text.contains(old), "{old}");
            text.replacen(old, with, 1)
        });
        let scenario = Scenario::parse(&text, "fat", &|_| unreachable!("no file named")).unwrap();
        let error = refuse_links_that_cannot_be_carried(&scenario).err()?;
        assert!(error.is::<WrongInput>());
        Some(error.to_string())
    }

    #[test]
    fn links_that_cannot_be_carried_are_refused_by_name() {
        assert_eq!(refused(&[]), None);
        assert_eq!(
            refused(&[("bandwidth_mbps = 10_000", "bandwidth_mbps = 100_000")]).unwrap(),
            "use the link from `east` to `west`: carry 100000 Mbit/s at a one-way delay of 120 ms: 3.05 GB could be in flight, the limit is 2.15 GB; at this delay use at most 70400 Mbit/s"
        );
        let changed = refused(&[("bandwidth_mbps = 20_000", "bandwidth_mbps = 71_000")]).unwrap();
        assert!(changed.contains("carry 71000 Mbit/s"), "{changed}");
        let fabric = ("fabric_delay_ms = 1", "fabric_delay_ms = 120");
        let told = refused(&[fabric]).unwrap();
        assert!(
            told.starts_with("use the fabric inside region `east`: carry 100000"),
            "{told}"
        );
    }

    #[test]
    fn links_at_a_scale_are_refused_with_the_largest_that_would_do() {
        // 20 Gbit/s x (120 ms + 2 ms of this machine x the scale) twice over are at most 2 GiB.
        let scale = ("seed = 1", "seed = 1\ncompute = { time_scale = 200 }");
        assert_eq!(
            refused(&[scale]).unwrap(),
            "use the fabric inside region `east`: carry 20000000 Mbit/s at a one-way delay of 0.005 ms: 10.03 GB could be in flight, the limit is 2.15 GB; at this delay use at most 4280000 Mbit/s (all on this machine's clock, at time_scale 200); use a time_scale of at most 42.4"
        );
        let within = ("seed = 1", "seed = 1\ncompute = { time_scale = 42.4 }");
        assert_eq!(refused(&[within]), None);
        // What is under way for the delay alone is the same at any scale.
        let fat = ("bandwidth_mbps = 10_000", "bandwidth_mbps = 100_000");
        let slow = ("seed = 1", "seed = 1\ncompute = { time_scale = 0.1 }");
        let told = refused(&[fat, slow]).unwrap();
        assert!(
            told.contains("carry 10000 Mbit/s at a one-way delay of 1200 ms"),
            "{told}"
        );
        assert!(
            told.ends_with("at time_scale 0.1); no time_scale is small enough"),
            "{told}"
        );
    }

    #[test]
    fn links_that_no_job_can_use_may_be_anything() {
        let fat = ("bandwidth_mbps = 10_000", "bandwidth_mbps = 100_000");
        let fabric = ("fabric_delay_ms = 1", "fabric_delay_ms = 120");
        assert_eq!(refused(&[fat, ("gpus = 1", "gpus = 0")]), None);
        assert_eq!(refused(&[fabric, ("gpus = 2", "gpus = 1")]), None);
    }
}
