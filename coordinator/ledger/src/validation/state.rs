//! What a run's jobs and GPUs were at a moment: what led to a decision.

use std::collections::BTreeMap;
use std::fmt;

use bace_api::{InputRecord, PlacedRegion, Record};

use crate::path::path_text;
use crate::{JobLog, RunLog};

/// A run at a moment, before what happens then.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// The moment, emulated seconds from the start of the run.
    pub at_s: f64,
    /// Jobs that hold GPUs, in the header's order.
    pub running: Vec<RunningJob>,
    /// Jobs that wait for GPUs, in the order in which they began to.
    pub waiting: Vec<WaitingJob>,
    /// Free GPUs of each region, in the header's order; empty where the ledger does not say how many there are.
    pub free_gpus: Vec<(String, i64)>,
}

/// A job that holds GPUs.
#[derive(Debug, Clone, PartialEq)]
pub struct RunningJob {
    /// Its name.
    pub job: String,
    /// Where.
    pub path: Vec<PlacedRegion>,
    /// Iterations that its first stage has ended, all starts together.
    pub iterations: u32,
}

/// A job that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitingJob {
    /// Its name.
    pub job: String,
    /// Since when: its submission, or the loss of its GPUs.
    pub since_s: f64,
    /// Iterations that its first stage has ended.
    pub iterations: u32,
}

/// Jobs and GPUs under reconstruction.
#[derive(Default)]
struct Replay<'a> {
    running: BTreeMap<&'a str, &'a [PlacedRegion]>,
    waiting: Vec<(&'a str, f64)>,
    gpus: BTreeMap<&'a str, u32>,
    /// When the engine was last told something.
    input_s: f64,
}

impl State {
    /// A run just before the record at this place.
    pub(super) fn before(log: &RunLog, record: usize, at_s: f64) -> Self {
        Self::after(log, &log.records[..record], at_s)
    }

    /// A run at this time, all records of it included.
    pub(super) fn at(log: &RunLog, at_s: f64) -> Self {
        let later = |record: &Record| matches!(record, Record::Input { at_s: told_s, .. } if *told_s > at_s);
        let end = log.records.iter().position(later);
        let end = end.unwrap_or(log.records.len());
        Self::after(log, &log.records[..end], at_s)
    }

    fn after(log: &RunLog, records: &[Record], at_s: f64) -> Self {
        let mut replay = Replay::default();
        let gpus = log.header.regions.iter().zip(&log.header.gpus);
        replay.gpus = gpus
            .map(|(region, gpus)| (region.as_str(), *gpus))
            .collect();
        for record in records {
            replay.add(record);
        }
        let done = |job: &str| log.job(job).map_or(0, |job| iterations_by(job, at_s));
        let held = log.jobs.iter().filter_map(|job| {
            let path = replay.running.get(job.name.as_str())?;
            Some(RunningJob {
                job: job.name.clone(),
                path: path.to_vec(),
                iterations: done(&job.name),
            })
        });
        let waiting = replay.waiting.iter().map(|&(job, since_s)| WaitingJob {
            job: job.to_owned(),
            since_s,
            iterations: done(job),
        });
        Self {
            at_s,
            running: held.collect(),
            waiting: waiting.collect(),
            free_gpus: replay.free(&log.header.regions),
        }
    }
}

impl<'a> Replay<'a> {
    fn add(&mut self, record: &'a Record) {
        match record {
            Record::Input { at_s, input } => {
                self.input_s = *at_s;
                match input {
                    InputRecord::Submitted { job } => self.waiting.push((job, *at_s)),
                    InputRecord::GpusChanged { region, gpus } => {
                        if let Some(known) = self.gpus.get_mut(region.as_str()) {
                            *known = *gpus;
                        }
                    }
                    _ => {}
                }
            }
            Record::Placed { job, path, .. } => {
                self.leave(job);
                self.running.insert(job, path);
            }
            // Told as GPUs become free: the job has ended, which the next record says, or it waits again.
            Record::Energy(energy) => self.release(&energy.job),
            Record::Refused { job, .. }
            | Record::JobFinished { job, .. }
            | Record::JobFailed { job, .. } => {
                self.running.remove(job.as_str());
                self.leave(job);
            }
            _ => {}
        }
    }

    fn release(&mut self, job: &'a str) {
        if self.running.remove(job).is_some() {
            self.waiting.push((job, self.input_s));
        }
    }

    fn leave(&mut self, job: &str) {
        self.waiting.retain(|(waiting, _)| *waiting != job);
    }

    fn free(&self, regions: &[String]) -> Vec<(String, i64)> {
        let held = |region: &str| -> i64 {
            let parts = self.running.values().flat_map(|path| path.iter());
            let here = parts.filter(|part| part.region == region);
            here.map(|part| i64::from(part.gpus)).sum()
        };
        let known = regions.iter().filter_map(|region| {
            let gpus = self.gpus.get(region.as_str())?;
            Some((region.clone(), i64::from(*gpus) - held(region)))
        });
        known.collect()
    }
}

/// Iterations that the first stage had ended at a time.
fn iterations_by(job: &JobLog, at_s: f64) -> u32 {
    let stages = job.attempts.iter().filter_map(|of| of.stages.first());
    let ended = stages.flat_map(|stage| &stage.iterations);
    let ended = ended.filter(|(_, ended)| ended.record.to_s <= at_s);
    let done = ended.map(|(iteration, _)| iteration.0.saturating_add(1));
    done.max().unwrap_or(0)
}

impl fmt::Display for State {
    /// Three clauses: who ran, who waited, what was free.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = self.running.iter().map(|it| {
            let path = it.path.iter().map(|part| (part.region.as_str(), part.gpus));
            format!(
                "{} ({} iterations done, {})",
                it.job,
                it.iterations,
                path_text(path)
            )
        });
        let waiting = self.waiting.iter().map(|it| match it.iterations {
            0 => format!("{} since {:.3} s", it.job, it.since_s),
            done => format!(
                "{} since {:.3} s, {done} iterations done",
                it.job, it.since_s
            ),
        });
        let free = self
            .free_gpus
            .iter()
            .map(|(region, gpus)| format!("{region} {gpus}"));
        write!(
            f,
            "running: {}; waiting: {}; free GPUs: {}",
            listed(running, "none"),
            listed(waiting, "none"),
            listed(free, "not in the ledger"),
        )
    }
}

fn listed(words: impl Iterator<Item = String>, none: &str) -> String {
    let words: Vec<String> = words.collect();
    if words.is_empty() {
        none.to_owned()
    } else {
        words.join(", ")
    }
}
