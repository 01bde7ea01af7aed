//! What was decided, and what the scenario did to the run: both must be alike, each in its order.
//!
//! Placements and refusals are compared with one another in the order in which they were made. Submissions and changes of links
//! and GPUs are compared in theirs; of those, what the scenario brings about at one instant may come in any order, since the engine
//! queues by arrival and then by place in the scenario, and changes of different links or regions commute. Whether a decision fell
//! before or after a change is a matter of time, which is what errors are about: if it matters, what was decided differs.
//!
//! Not compared: jobs passed over, whose figures follow the state of a moment; when something was decided; the words of reasons.

use std::fmt;

use bace_api::{Attempt, InputRecord, PlacedRegion, Record, Schedule};
use serde_json::Value;

use super::Whereabouts;
use super::difference::{Difference, Moment};
use super::join::Side;
use super::state::State;
use crate::path::path_text;
use crate::{AttemptLog, JobLog, RunLog};

/// Rates and delays this close, relative, are the same.
const SAME: f64 = 1e-9;

/// Something that both sides must have alike.
#[derive(Debug, Clone, PartialEq)]
enum Fact {
    Placed {
        job: String,
        start: Start,
    },
    Refused {
        job: String,
    },
    Submitted {
        job: String,
    },
    Link {
        from: String,
        to: String,
        bandwidth_bps: f64,
        delay_s: Option<f64>,
    },
    Gpus {
        region: String,
        gpus: u32,
    },
}

/// What is decided about a start of a job.
#[derive(Debug, Clone, PartialEq)]
struct Start {
    attempt: Attempt,
    path: Vec<PlacedRegion>,
    layers: Vec<u32>,
    /// Order of work and depth of each stage; absent where no pipeline was made.
    pipeline: Option<(Schedule, Vec<u32>)>,
}

/// A fact in a ledger.
#[derive(Debug, Clone)]
struct Entry {
    fact: Fact,
    at_s: f64,
    /// Its place among the ledger's records.
    record: usize,
    reason: Value,
}

/// The first difference in what was decided, and the first in what the scenario did.
pub(super) fn differences(
    policy: &str,
    repeat: usize,
    predicted: &RunLog,
    measured: &RunLog,
) -> Vec<Difference> {
    let place = || Whereabouts {
        policy: policy.to_owned(),
        repeat,
        ..Whereabouts::default()
    };
    let sides = [predicted, measured];
    let decided = sides.map(|log| entries(log, Fact::is_decision));
    let mut told = sides.map(|log| entries(log, |fact| !fact.is_decision()));
    let ends_s = sides.map(end_s);
    let [one, two] = &mut told;
    drop_after(one, two.len(), ends_s[1]);
    drop_after(two, one.len(), ends_s[0]);
    let instants = instants(&told[0]);
    for entries in &mut told {
        sort_within(entries, &instants);
    }
    let first = |what: &str, [one, two]: &[Vec<Entry>; 2]| {
        let index = (0..one.len().max(two.len())).find(|&index| {
            match (one.get(index), two.get(index)) {
                (Some(one), Some(two)) => !one.fact.is_same(&two.fact),
                _ => true,
            }
        })?;
        let at_s = one.get(index).or(two.get(index))?.at_s;
        let moment = |log, entry: Option<&Entry>| {
            entry.map_or_else(|| nothing(log, at_s), |entry| entry.moment(log))
        };
        Some(Difference {
            place: place(),
            what: format!("{what} {}", index + 1),
            predicted: moment(predicted, one.get(index)),
            measured: moment(measured, two.get(index)),
        })
    };
    let decided = first("decision", &decided);
    decided.into_iter().chain(first("event", &told)).collect()
}

/// Whether what was decided about a job is the same on both sides; else what is not.
pub(super) fn job_differs(predicted: Side<'_>, measured: Side<'_>) -> Option<String> {
    let refused = [predicted, measured].map(|side| side.is_refused());
    if refused[0] != refused[1] {
        let who = if refused[0] { "predicted" } else { "measured" };
        return Some(format!("it is refused in the {who} run alone"));
    }
    let starts =
        [predicted, measured].map(|side| side.job.map_or(&[][..], |job| job.attempts.as_slice()));
    if starts[0].len() != starts[1].len() {
        return Some(format!(
            "{} starts predicted, {} measured",
            starts[0].len(),
            starts[1].len()
        ));
    }
    let mut pairs = starts[0].iter().zip(starts[1]);
    let differs = pairs.find(|(one, two)| Start::of(one) != Start::of(two));
    differs.map(|(one, _)| format!("attempt {} is placed or cut otherwise", one.attempt))
}

impl Side<'_> {
    fn is_refused(self) -> bool {
        let refused =
            |record: &Record| matches!(record, Record::Refused { job, .. } if job == self.name);
        self.log.records.iter().any(refused)
    }
}

fn nothing(log: &RunLog, at_s: f64) -> Moment {
    Moment {
        did: None,
        reason: Value::Null,
        state: State::at(log, at_s),
    }
}

/// The facts of a ledger that are `wanted`, in order.
fn entries(log: &RunLog, wanted: impl Fn(&Fact) -> bool) -> Vec<Entry> {
    let facts = log
        .records
        .iter()
        .enumerate()
        .filter_map(|(place, record)| {
            let (fact, at_s, reason) = fact(log, record)?;
            Some(Entry {
                fact,
                at_s,
                record: place,
                reason,
            })
        });
    facts.filter(|entry| wanted(&entry.fact)).collect()
}

fn fact(log: &RunLog, record: &Record) -> Option<(Fact, f64, Value)> {
    Some(match record {
        Record::Placed {
            at_s,
            job,
            attempt,
            reason,
            ..
        } => {
            let attempts = log.job(job).map(|job| job.attempts.iter());
            let start = attempts?.rev().find(|of| of.attempt == *attempt)?;
            let start = Start::of(start);
            (
                Fact::Placed {
                    job: job.clone(),
                    start,
                },
                *at_s,
                reason.clone(),
            )
        }
        Record::Refused { at_s, job, reason } => (
            Fact::Refused { job: job.clone() },
            *at_s,
            Value::String(reason.clone()),
        ),
        Record::Input { at_s, input } => {
            let fact = match input {
                InputRecord::Submitted { job } => Fact::Submitted { job: job.clone() },
                InputRecord::LinkChanged {
                    from,
                    to,
                    bandwidth_bps,
                    one_way_delay_s,
                } => Fact::Link {
                    from: from.clone(),
                    to: to.clone(),
                    bandwidth_bps: *bandwidth_bps,
                    delay_s: *one_way_delay_s,
                },
                InputRecord::GpusChanged { region, gpus } => Fact::Gpus {
                    region: region.clone(),
                    gpus: *gpus,
                },
                _ => return None,
            };
            (fact, *at_s, Value::Null)
        }
        _ => return None,
    })
}

/// When the last job of a run ended; infinite where it did not come to its end.
fn end_s(log: &RunLog) -> f64 {
    let ends = |job: &JobLog| {
        job.finished_s
            .or(job.failed.as_ref().map(|(at_s, _)| *at_s))
    };
    let ended = log
        .records
        .iter()
        .any(|record| matches!(record, Record::RunEnded { .. }));
    match ended {
        true => log
            .jobs
            .iter()
            .filter_map(ends)
            .fold(f64::NEG_INFINITY, f64::max),
        false => f64::INFINITY,
    }
}

/// Drops what is beyond the `count` facts of the other run and came when that was over, `end_s`, so that it was not told.
fn drop_after(entries: &mut Vec<Entry>, count: usize, end_s: f64) {
    while entries.len() > count && entries.last().is_some_and(|entry| entry.at_s >= end_s) {
        entries.pop();
    }
}

/// How many facts in a row come at one time.
fn instants(entries: &[Entry]) -> Vec<usize> {
    let groups = entries.chunk_by(|one, two| one.at_s == two.at_s);
    groups.map(<[Entry]>::len).collect()
}

/// Brings the facts of each instant into one order; two about the same thing keep theirs.
fn sort_within(entries: &mut [Entry], instants: &[usize]) {
    let mut rest = entries;
    for &count in instants {
        let (group, behind) = rest.split_at_mut(count.min(rest.len()));
        group.sort_by(|one, two| one.fact.subject().cmp(&two.fact.subject()));
        rest = behind;
    }
}

impl Entry {
    fn moment(&self, log: &RunLog) -> Moment {
        Moment {
            did: Some(self.fact.to_string()),
            reason: self.reason.clone(),
            state: State::before(log, self.record, self.at_s),
        }
    }
}

impl Start {
    fn of(start: &AttemptLog) -> Self {
        Self {
            attempt: start.attempt,
            path: start.path.clone(),
            layers: start.stages.iter().map(|stage| stage.layers).collect(),
            pipeline: start
                .schedule
                .map(|schedule| (schedule, start.depths.clone())),
        }
    }
}

impl Fact {
    fn is_decision(&self) -> bool {
        matches!(self, Self::Placed { .. } | Self::Refused { .. })
    }

    /// What it is about.
    fn subject(&self) -> (u8, &str, &str) {
        match self {
            Self::Submitted { job } => (0, job, ""),
            Self::Link { from, to, .. } => (1, from, to),
            Self::Gpus { region, .. } => (2, region, ""),
            Self::Placed { job, .. } | Self::Refused { job } => (3, job, ""),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        let same = |one: f64, two: f64| (one - two).abs() <= SAME * one.abs().max(two.abs());
        match (self, other) {
            (
                Self::Link {
                    bandwidth_bps,
                    delay_s,
                    ..
                },
                Self::Link {
                    bandwidth_bps: other_bps,
                    delay_s: other_s,
                    ..
                },
            ) => {
                let delays = match (delay_s, other_s) {
                    (Some(one), Some(two)) => same(*one, *two),
                    (one, two) => one == two,
                };
                self.subject() == other.subject() && same(*bandwidth_bps, *other_bps) && delays
            }
            _ => self == other,
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Placed { job, start } => write!(f, "placed {job} on {start}"),
            Self::Refused { job } => write!(f, "refused {job}"),
            Self::Submitted { job } => write!(f, "{job} was submitted"),
            Self::Link {
                from,
                to,
                bandwidth_bps,
                delay_s,
            } => {
                write!(f, "{from} → {to} became {:.3} Mbit/s", bandwidth_bps / 1e6)?;
                match delay_s {
                    Some(delay_s) => write!(f, " and {:.3} ms", delay_s * 1e3),
                    None => Ok(()),
                }
            }
            Self::Gpus { region, gpus } => write!(f, "{region} had {gpus} GPUs"),
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = |all: &[u32]| {
            let all: Vec<String> = all.iter().map(u32::to_string).collect();
            all.join("+")
        };
        let path = self
            .path
            .iter()
            .map(|part| (part.region.as_str(), part.gpus));
        write!(
            f,
            "{}, K {}, layers {}",
            path_text(path),
            self.layers.len(),
            numbers(&self.layers)
        )?;
        match &self.pipeline {
            Some((schedule, depths)) => {
                write!(f, ", {}, depths {}", schedule.name(), numbers(depths))?
            }
            None => write!(f, ", without a pipeline")?,
        }
        match self.attempt {
            Attempt(0) => Ok(()),
            attempt => write!(f, ", attempt {attempt}"),
        }
    }
}
