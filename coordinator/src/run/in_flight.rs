//! What all links of a run hold at once: rate x delay of each, in this machine's memory.

use std::collections::BTreeMap;

use bace_engine::Scenario;
use bace_netem::{LinkId, LinkSpec, RegionId, TimeScale};
use bace_socket::SenderConfig;

use crate::wall;

/// Part of this machine's memory that links may hold; the rest is for the jobs' states and their tensors.
const MEMORY_SHARE: u64 = 2;
/// Links that an error names.
const NAMED: usize = 3;
const BYTES_PER_GB: f64 = 1e9;

/// Bytes under way at once, at most, on something that has a name.
#[derive(Debug)]
struct Held {
    bytes: u64,
    what: String,
}

/// Refuses links that together may hold more than half of `memory_bytes`, however small each of them is. Without a
/// limit where the system does not tell its memory.
pub fn refuse_more_than_memory_holds(
    scenario: &Scenario,
    memory_bytes: Option<u64>,
) -> anyhow::Result<()> {
    let Some(limit) = memory_bytes.map(|bytes| bytes / MEMORY_SHARE) else {
        return Ok(());
    };
    let scale = scenario.compute.time_scale;
    let mut held = held_at(scenario, scale);
    let sum = sum(&held);
    if sum <= u128::from(limit) {
        return Ok(());
    }
    // Equal ones in the scenario's order.
    held.sort_by_key(|held| std::cmp::Reverse(held.bytes));
    let gigabytes = |bytes: f64| format!("{:.2} GB", bytes / BYTES_PER_GB);
    let largest: Vec<String> = held
        .iter()
        .take(NAMED)
        .map(|held| format!("{} ({})", held.what, gigabytes(held.bytes as f64)))
        .collect();
    let problem = format!(
        "run on these links: {} could be in flight on all of them at once, the limit is {}, half of this machine's memory; \
         lower rates or delays, first of {}",
        gigabytes(sum as f64),
        gigabytes(limit as f64),
        largest.join(", ")
    );
    Err(wall::beyond(&problem, scale, |other| {
        self::sum(&held_at(scenario, other)) <= u128::from(limit)
    }))
}

fn sum(held: &[Held]) -> u128 {
    held.iter().map(|held| u128::from(held.bytes)).sum()
}

/// All that can be in flight while emulated time passes at `scale`.
fn held_at(scenario: &Scenario, scale: TimeScale) -> Vec<Held> {
    let mut held = fabrics(scenario, scale);
    held.extend(links(scenario, scale));
    held
}

/// The fabric of each region: one link for each direction of each boundary that its GPUs can have between them.
fn fabrics(scenario: &Scenario, scale: TimeScale) -> Vec<Held> {
    let most_of_one = of_jobs(scenario).max().unwrap_or_default();
    let regions = scenario.regions.iter().filter(|region| region.gpus > 1);
    regions
        .map(|region| {
            let boundary_bytes = 2 * in_flight(region.fabric, scale).min(most_of_one);
            Held {
                bytes: boundary_bytes.saturating_mul(u64::from(region.gpus) - 1),
                what: format!("the fabric inside region `{}`", region.name),
            }
        })
        .collect()
}

/// The links between regions that have GPUs, each with the largest rate x delay that it ever has. Jobs share it.
fn links(scenario: &Scenario, scale: TimeScale) -> Vec<Held> {
    let of_all_jobs = of_jobs(scenario).fold(0, u64::saturating_add);
    let has_gpus = |region: &RegionId| scenario.regions[region.index()].gpus > 0;
    let states = scenario.link_states();
    let usable = states.filter(|(link, _)| [link.from, link.to].iter().all(has_gpus));
    let mut most: BTreeMap<LinkId, u64> = BTreeMap::new();
    for (link, spec) in usable {
        let bytes = most.entry(link).or_default();
        *bytes = in_flight(spec, scale).max(*bytes);
    }
    let held = most.into_iter().map(|(link, bytes)| {
        let [from, to] = [link.from, link.to].map(|region| &scenario.regions[region.index()]);
        Held {
            bytes: bytes.min(of_all_jobs),
            what: format!("the link from `{}` to `{}`", from.name, to.name),
        }
    });
    held.collect()
}

fn in_flight(emulated: LinkSpec, scale: TimeScale) -> u64 {
    SenderConfig::default().bytes_in_flight(&scale.wall_link(emulated))
}

/// The most that each job can have between two stages, in one direction.
fn of_jobs(scenario: &Scenario) -> impl Iterator<Item = u64> {
    let jobs = scenario.jobs.iter();
    jobs.map(|job| {
        job.trained()
            .boundary_bytes()
            .saturating_mul(u64::from(job.tensors_ahead()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wrong_input::WrongInput;

    fn scenario(micro_batches: u32) -> Scenario {
        let text = format!(
            r#"
name = "wide"
seed = 1
[[region]]
name = "east"
gpus = 3
gpu = "a6000"
price_usd_per_kwh = 0.1
fabric_gbps = 80
fabric_delay_ms = 3
[[region]]
name = "west"
gpus = 1
gpu = "a6000"
price_usd_per_kwh = 0.1
[[region]]
name = "empty"
gpus = 0
gpu = "a6000"
price_usd_per_kwh = 0.1
[[link]]
from = "east"
to = "west"
bandwidth_mbps = 1_000
one_way_delay_ms = 98
[[link]]
from = "west"
to = "empty"
bandwidth_mbps = 100_000
one_way_delay_ms = 98
[[link_change]]
at_s = 5
from = "east"
to = "west"
bandwidth_mbps = 4_000
[[job]]
name = "only"
model = "gpt2"
arrival_s = 0
iterations = 1
micro_batches = {micro_batches}
micro_batch = 1
sequence = 1024
"#
        );
        Scenario::parse(&text, "wide", &|_| unreachable!("no file named")).unwrap()
    }

    fn refused(micro_batches: u32, memory_bytes: Option<u64>) -> Option<String> {
        let error = refuse_more_than_memory_holds(&scenario(micro_batches), memory_bytes).err()?;
        assert!(error.is::<WrongInput>());
        Some(error.to_string())
    }

    #[test]
    fn the_sum_of_all_links_is_held_against_memory() {
        // 2 x 4 Gbit/s x 100 ms, and 4 directions of 2 x 80 Gbit/s x 5 ms inside `east`.
        let held = 100_000_000 + 4 * 100_000_000;
        assert_eq!(refused(128, Some(2 * held)), None);
        assert_eq!(refused(128, None), None);
        assert_eq!(
            refused(128, Some(2 * held - 2)).unwrap(),
            "run on these links: 0.50 GB could be in flight on all of them at once, the limit is 0.50 GB, half of this machine's memory; \
             lower rates or delays, first of the fabric inside region `east` (0.40 GB), the link from `east` to `west` (0.10 GB); or use a time_scale of at most 0.999"
        );
    }

    #[test]
    fn no_link_holds_more_than_jobs_send() {
        // 5 tensors of 1024 x 768 elements of 2 bytes, on five directions of links.
        let held = 5 * 5 * 1024 * 768 * 2;
        assert_eq!(refused(2, Some(2 * held)), None);
        assert!(refused(2, Some(2 * held - 2)).is_some());
    }
}
