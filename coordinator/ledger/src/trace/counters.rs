//! Quantities over time: use of links, prices, power.

use std::collections::BTreeMap;

use bace_api::{InputRecord, Record};

use super::nanos::Nanos;
use super::out::{Out, Window};
use crate::RunLog;
use crate::starts::Start;

/// About so many values show a whole window's use of a link.
const WINDOWS: i64 = 1_000;
/// Power is added up in whole microwatts, so that what is given back leaves nothing behind.
const MICROWATTS: f64 = 1e6;

/// What a scenario says of a region and its ledger does not.
#[derive(Debug, Clone, PartialEq)]
pub struct RegionFacts {
    /// Its name.
    pub name: String,
    /// Electricity price, $/kWh, by the emulated second from which it holds.
    pub price: Vec<(f64, f64)>,
    /// What a GPU draws while a job holds it, W.
    pub idle_w: f64,
    /// What it draws while it computes, W.
    pub busy_w: f64,
}

/// Writes the share of time in which a link carried something, window by window; nothing where that was not clocked.
pub(super) fn link_use<E>(
    out: &mut Out<'_, E>,
    pid: u32,
    link: &str,
    carried: impl Iterator<Item = Option<(Nanos, Nanos)>>,
) -> Result<(), E> {
    let Some(mut carried) = carried.collect::<Option<Vec<_>>>() else {
        return Ok(());
    };
    carried.sort_unstable();
    let step = round_step(out.window);
    let unit = format!("% of {} s", step.0 as f64 * 1e-9);
    let steps = shares(&carried, out.window, step);
    out.counter(pid, (&format!("{link} in use"), &unit), steps)
}

/// A round length of which a window has about [`WINDOWS`].
fn round_step(window: Window) -> Nanos {
    let wanted = ((window.to - window.from).0 / WINDOWS).max(1);
    let mut ten = 1_i64;
    while ten.saturating_mul(10) <= wanted {
        ten *= 10;
    }
    let rounded = [1, 2, 5, 10].map(|digit| ten.saturating_mul(digit));
    let enough = rounded.into_iter().find(|&step| step >= wanted);
    Nanos(enough.unwrap_or(i64::MAX))
}

/// Per cent of each step in which one of `spans`, by their begins, was on; its begin, then 0 behind the last.
fn shares(spans: &[(Nanos, Nanos)], window: Window, step: Nanos) -> Vec<(Nanos, f64)> {
    let mut busy: BTreeMap<i64, i64> = BTreeMap::new();
    let mut until = window.from;
    for &(from, to) in spans {
        let (mut from, to) = (from.max(until), to.min(window.to));
        until = until.max(to);
        while from < to {
            let index = (from - window.from).0 / step.0;
            let end = window.from + Nanos((index + 1).saturating_mul(step.0));
            *busy.entry(index).or_default() += (end.min(to) - from).0;
            from = end;
        }
    }
    let mut shares = vec![(window.from, 0.0)];
    for (&index, &nanos) in &busy {
        let at = |index: i64| window.from + Nanos(index * step.0);
        shares.push((at(index), 100.0 * nanos as f64 / step.0 as f64));
        if !busy.contains_key(&(index + 1)) {
            shares.push((at(index + 1), 0.0));
        }
    }
    // A first step that is in use has its own value.
    if busy.contains_key(&0) {
        shares.remove(0);
    }
    shares
}

/// Writes a region's price.
pub(super) fn price<E>(out: &mut Out<'_, E>, pid: u32, facts: &RegionFacts) -> Result<(), E> {
    let steps = facts.price.iter();
    let steps = steps.map(|&(from_s, usd_per_kwh)| (Nanos::of(from_s), usd_per_kwh));
    out.counter(pid, ("price", "$/kWh"), steps)
}

/// Writes what a region's emulated GPUs draw, as the accounts count it: `idle_w` while a job holds a GPU, and what `busy_w` is
/// above it evenly over each span in which a stage has reported busy seconds.
pub(super) fn power<E>(
    out: &mut Out<'_, E>,
    pid: u32,
    facts: &RegionFacts,
    (log, starts, log_end_s): (&RunLog, &[Start<'_>], f64),
) -> Result<(), E> {
    let mut deltas: BTreeMap<Nanos, i64> = BTreeMap::new();
    let mut draw = |watts: f64, from_s: f64, to_s: f64| {
        let microwatts = (watts * MICROWATTS).round() as i64;
        *deltas.entry(Nanos::of(from_s)).or_default() += microwatts;
        *deltas.entry(Nanos::of(to_s)).or_default() -= microwatts;
    };
    for start in starts {
        let held = start.attempt.stages.iter();
        for _ in held.filter(|stage| stage.region == facts.name) {
            let until_s = start.until_s(log_end_s);
            draw(facts.idle_w, start.attempt.placed_s, until_s);
        }
    }
    let mut placed: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &log.records {
        match record {
            Record::Placed { job, .. } => *placed.entry(job).or_default() += 1,
            Record::Input {
                input:
                    InputRecord::Usage {
                        job,
                        stage,
                        from_s,
                        to_s,
                        busy_s,
                    },
                ..
            } if to_s > from_s => {
                let start = placed.get(job.as_str()).map_or(0, |placed| placed - 1);
                let of = log.job(job).and_then(|job| job.attempts.get(start));
                let of = of.and_then(|attempt| attempt.stages.get(stage.index()));
                if of.is_some_and(|stage| stage.region == facts.name) {
                    let extra_w = (facts.busy_w - facts.idle_w) * busy_s / (to_s - from_s);
                    draw(extra_w, *from_s, *to_s);
                }
            }
            _ => {}
        }
    }
    let mut microwatts = 0;
    let steps = deltas.into_iter().map(|(at, delta)| {
        microwatts += delta;
        (at, microwatts as f64 / MICROWATTS)
    });
    let idle = [(Nanos::default(), 0.0)];
    out.counter(pid, ("power", "W"), idle.into_iter().chain(steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window {
        from: Nanos(100),
        to: Nanos(200),
    };

    fn of(spans: &[(i64, i64)]) -> Vec<(i64, f64)> {
        let spans: Vec<_> = spans.iter().map(|&(a, b)| (Nanos(a), Nanos(b))).collect();
        let shares = shares(&spans, WINDOW, Nanos(10));
        shares
            .into_iter()
            .map(|(at, share)| (at.0, share))
            .collect()
    }

    #[test]
    fn a_link_is_in_use_while_it_carries_for_anybody() {
        assert_eq!(of(&[]), [(100, 0.0)]);
        assert_eq!(
            of(&[(105, 112), (108, 114), (150, 160)]),
            [
                (100, 50.0),
                (110, 40.0),
                (120, 0.0),
                (150, 100.0),
                (160, 0.0)
            ]
            .map(|(at, share)| (at, share))
        );
        // What lies outside of the window does not count.
        assert_eq!(
            of(&[(0, 100), (195, 300)]),
            [(100, 0.0), (190, 50.0), (200, 0.0)]
        );
    }

    #[test]
    fn steps_are_round() {
        let step = |nanos| {
            round_step(Window {
                from: Nanos(0),
                to: Nanos(nanos),
            })
            .0
        };
        assert_eq!(
            [0, 999, 1_000, 3_000, 60_000_000_000].map(step),
            [1, 1, 1, 5, 100_000_000]
        );
    }
}
