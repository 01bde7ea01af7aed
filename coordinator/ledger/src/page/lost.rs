//! Which GPUs of a region were lost when.

use bace_api::{InputRecord, Record};

use super::timeline::Held;
use crate::RunLog;
use crate::seats::Gpu;

/// GPUs that a region did not have for a while.
pub(super) struct Lost {
    pub from_s: f64,
    pub until_s: f64,
    /// Rows of the region that stand for them.
    pub rows: Vec<usize>,
    pub title: String,
}

/// What the region `name` of `gpus` GPUs had lost, whose rows are `seats`, of which `held` were held. Rows stand for lost workers where the ledger
/// names those, else for GPUs that nobody held.
pub(super) fn lost(
    log: &RunLog,
    (name, gpus, seats): (&str, u32, &[Gpu]),
    held: &[&Held<'_>],
    end_s: f64,
) -> Vec<Lost> {
    let changes = log.records.iter().filter_map(|record| match record {
        Record::Input {
            at_s,
            input: InputRecord::GpusChanged { region, gpus },
        } if region == name => Some((*at_s, *gpus)),
        _ => None,
    });
    let changes: Vec<(f64, u32)> = changes.collect();
    let mut all: Vec<Lost> = Vec::new();
    for (place, &(from_s, left_over)) in changes.iter().enumerate() {
        let count = gpus.saturating_sub(left_over) as usize;
        if count == 0 {
            continue;
        }
        let until_s = changes.get(place + 1).map_or(end_s, |next| next.0);
        let gone = gone(log, until_s);
        let mut rows: Vec<usize> = (0..gpus as usize).collect();
        rows.sort_by(|&one, &two| {
            let is_gone = |row: usize| {
                seats
                    .get(row)
                    .is_some_and(|gpu| gone.contains(&gpu.name.as_str()))
            };
            let was_lost = |row: usize| all.last().is_some_and(|last| last.rows.contains(&row));
            let held_s = |row: usize| held_s(held, row, (from_s, until_s));
            let by_worker = is_gone(two).cmp(&is_gone(one));
            let by_time = held_s(one).total_cmp(&held_s(two));
            let by_before = was_lost(two).cmp(&was_lost(one));
            by_worker.then(by_time).then(by_before).then(two.cmp(&one))
        });
        rows.truncate(count);
        rows.sort_unstable();
        all.push(Lost {
            from_s,
            until_s,
            rows,
            title: format!(
                "{name} had lost {count} of {gpus} GPUs from {from_s:.3} s to {until_s:.3} s"
            ),
        });
    }
    all
}

/// Workers that are gone before `until_s`.
fn gone(log: &RunLog, until_s: f64) -> Vec<&str> {
    let lost = log.records.iter().filter_map(|record| match record {
        Record::WorkerLost { at_s, worker, .. } if *at_s < until_s => Some(worker.as_str()),
        _ => None,
    });
    lost.collect()
}

/// Seconds of a span in which jobs held a row.
fn held_s(held: &[&Held<'_>], row: usize, (from_s, until_s): (f64, f64)) -> f64 {
    let of_row = held
        .iter()
        .filter(|of| of.stages.iter().any(|stage| stage.1 == row));
    let shared = of_row.map(|of| (of.until_s.min(until_s) - of.from_s.max(from_s)).max(0.0));
    shared.sum()
}
