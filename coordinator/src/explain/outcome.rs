//! What the job cost, and what went wrong.

use std::collections::BTreeMap;

use bace_api::Record;
use bace_ledger::{Figure, JobStatus};

use super::story::Told;
use super::words::{count, dollars, duration, joules, seconds};

const JOULES_PER_KWH: f64 = 3.6e6;

/// Joules and dollars by region, with the price that they come to.
pub fn cost(told: &Told<'_>) -> Vec<String> {
    let summary = told.summary;
    if summary.placed.is_none() {
        return Vec::new();
    }
    let (energy_j, cost_usd) = match (&summary.energy_j, &summary.cost_usd) {
        (Figure::Known(energy_j), Figure::Known(cost_usd)) => (*energy_j, *cost_usd),
        (Figure::Unknown(reason), _) | (_, Figure::Unknown(reason)) => {
            return vec![format!("What it cost is unknown: {reason}.")];
        }
    };
    let mut sentences = vec![format!(
        "Its emulated GPUs used {}, which cost {}.",
        joules(energy_j),
        dollars(cost_usd)
    )];
    let mut regions: BTreeMap<&str, (f64, f64, f64)> = BTreeMap::new();
    let starts = told.of.into_iter().flat_map(|of| &of.attempts);
    let uses = starts.flat_map(|start| {
        start
            .stages
            .iter()
            .filter_map(|stage| stage.energy.as_ref())
    });
    for energy in uses {
        let sums = regions.entry(&energy.region).or_default();
        sums.0 += energy.energy_j;
        sums.1 += energy.cost_usd;
        sums.2 += energy.busy_s;
    }
    let parts = regions
        .iter()
        .map(|(region, (energy_j, cost_usd, busy_s))| {
            let price = if *energy_j > 0.0 {
                format!(
                    ", ${:.4} a kWh with PUE",
                    cost_usd * JOULES_PER_KWH / energy_j
                )
            } else {
                String::new()
            };
            format!(
                "{} for {} in {region}{price}, where they computed for {}",
                dollars(*cost_usd),
                joules(*energy_j),
                seconds(*busy_s)
            )
        });
    let parts: Vec<String> = parts.collect();
    if !parts.is_empty() {
        sentences.push(format!("That is {}.", parts.join("; and ")));
    }
    sentences
}

/// What the ledger tells of mishaps, and how the job ended.
pub fn wrong(told: &Told<'_>) -> Vec<String> {
    let summary = told.summary;
    let mut sentences = Vec::new();
    sentences.extend(lost(told));
    let starts = told.of.map_or(0, |of| of.attempts.len());
    if starts > 1 {
        sentences.push(format!("It was started {starts} times."));
    }
    if let Figure::Known(late @ 1..) = summary.late_arrivals {
        let worst = summary.worst_late_s.known();
        let worst = worst.map_or_else(String::new, |worst_s| {
            format!(", the worst by {}", duration(*worst_s))
        });
        sentences.push(format!(
            "{} came later than the emulated link would have delivered{worst}.",
            count(late, "message")
        ));
    }
    if summary.overruns > 0 {
        sentences.push(format!(
            "{} took longer here than on the emulated GPU, the worst by {}.",
            count(summary.overruns, "action"),
            duration(summary.worst_overrun_s)
        ));
    }
    let nothing = sentences.is_empty();
    match (&summary.status, told.of.and_then(|of| of.finished_s)) {
        (JobStatus::Finished, Some(finished_s)) => {
            let jct = told.of.and_then(|of| of.jct_s());
            let jct = jct.map_or_else(String::new, |jct_s| {
                format!(", {} after its arrival", seconds(jct_s))
            });
            sentences.push(format!("It finished at {}{jct}.", seconds(finished_s)));
            if nothing {
                sentences.push("The ledger tells of nothing that went wrong.".to_owned());
            }
        }
        (JobStatus::Failed(reason), _) => {
            sentences.push(format!("It failed: {}.", reason.trim_end_matches('.')))
        }
        (JobStatus::Unfinished, _) => {
            sentences.push("It had not ended when the ledger ends.".to_owned());
        }
        _ => {}
    }
    sentences
}

/// Its workers that went away while it had them.
fn lost(told: &Told<'_>) -> Vec<String> {
    let had = |worker: &String, at_s: f64| {
        let mut starts = told.of.into_iter().flat_map(|of| &of.attempts);
        starts.any(|start| {
            start.workers.contains(worker)
                && start.placed_s <= at_s
                && start.released_s.is_none_or(|released_s| at_s <= released_s)
        })
    };
    let records = told.log.records.iter();
    let lost = records.filter_map(|record| match record {
        Record::WorkerLost {
            at_s,
            worker,
            reason,
        } if had(worker, *at_s) => Some(format!(
            "Worker {worker}, which it had, was lost at {}: {}.",
            seconds(*at_s),
            reason.trim_end_matches('.')
        )),
        _ => None,
    });
    lost.collect()
}
