//! Prediction and repeats side by side: job by job, iteration by iteration.

use std::collections::BTreeMap;

use bace_api::{Attempt, Iteration, StageIndex};

use super::decisions::job_differs;
use super::errors::Pairing;
use super::{LeftOut, PolicyRuns};
use crate::{JobLog, Measured, Predicted, RunLog, StageIteration, StageLog};

/// Why a comparison of iterations says nothing.
pub(super) const NO_ITERATIONS: &str = "no iteration joins";

/// A job in a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side<'a> {
    pub name: &'a str,
    pub log: &'a RunLog,
    /// Absent where no record names it.
    pub job: Option<&'a JobLog>,
}

/// A job in the prediction and in all repeats in which it was decided about alike.
#[derive(Debug, Clone)]
pub(super) struct JobJoin<'a> {
    pub name: &'a str,
    pub predicted: Predicted<Side<'a>>,
    /// By repeat; absent where it is left out.
    pub measured: Vec<Option<Measured<Side<'a>>>>,
}

/// One iteration of one start of a job.
pub(super) type IterationKey = (Attempt, Iteration);

/// All jobs of the scenario, and where they are left out since what was decided about them differs.
pub(super) fn join(runs: &PolicyRuns) -> (Vec<JobJoin<'_>>, Vec<LeftOut>) {
    let mut left_out = Vec::new();
    let jobs = runs.predicted.0.header.jobs.iter().map(|name| {
        let predicted = Predicted(Side::of(&runs.predicted.0, name));
        let repeats = runs.measured.iter().zip(1..);
        let measured = repeats.map(|(Measured(log), repeat)| {
            let side = Side::of(log, name);
            let why = job_differs(predicted.0, side);
            let kept = why.is_none().then_some(Measured(side));
            left_out.extend(why.map(|why| LeftOut {
                repeat,
                job: name.clone(),
                why,
            }));
            kept
        });
        let measured = measured.collect();
        JobJoin {
            name,
            predicted,
            measured,
        }
    });
    (jobs.collect(), left_out)
}

impl<'a> Side<'a> {
    /// The job of this name.
    pub fn of(log: &'a RunLog, name: &'a str) -> Self {
        let job = log.job(name);
        Self { name, log, job }
    }

    /// The time of each of the job's iterations, seconds: from one end of the first stage's iteration to the next, of the first of a
    /// start from the begin of that stage's. One behind a gap has none.
    pub fn iteration_times(self) -> BTreeMap<IterationKey, f64> {
        let mut times = BTreeMap::new();
        for attempt in self.job.iter().flat_map(|job| &job.attempts) {
            let Some(stage) = attempt.stages.first() else {
                continue;
            };
            let mut before: Option<(Iteration, f64)> = None;
            for (&iteration, ended) in &stage.iterations {
                let from_s = match before {
                    None => Some(ended.record.from_s),
                    Some((last, end_s)) => {
                        (last.0.checked_add(1) == Some(iteration.0)).then_some(end_s)
                    }
                };
                if let Some(from_s) = from_s {
                    times.insert((attempt.attempt, iteration), ended.record.to_s - from_s);
                }
                before = Some((iteration, ended.record.to_s));
            }
        }
        times
    }

    /// The stages of a start; none of one that was not made.
    pub fn stages(self, attempt: Attempt) -> &'a [StageLog] {
        let attempts = self.job.map_or(&[][..], |job| job.attempts.as_slice());
        let of = attempts.iter().find(|of| of.attempt == attempt);
        of.map_or(&[], |of| of.stages.as_slice())
    }

    /// What a stage did in an iteration.
    pub fn stage_iteration(
        self,
        stage: StageIndex,
        (attempt, iteration): IterationKey,
    ) -> Option<&'a StageIteration> {
        self.stages(attempt)
            .get(stage.index())?
            .iterations
            .get(&iteration)
    }

    /// From each placement to the begin of the first stage's first iteration, all together; absent where none began.
    pub fn set_up_s(self) -> Option<f64> {
        let attempts = &self.job?.attempts;
        let begins = attempts
            .iter()
            .filter_map(|attempt| Some(attempt.iterates_s()? - attempt.placed_s));
        begins.reduce(|sum, set_up_s| sum + set_up_s)
    }

    /// What the run amounts to for the job.
    pub fn summary(self) -> Option<&'a crate::JobSummary> {
        self.log
            .summary
            .jobs
            .iter()
            .find(|job| job.name == self.name)
    }
}

impl<'a> JobJoin<'a> {
    /// A figure of the job that the prediction has, with those of the repeats that have it.
    pub fn pair(&self, figure: impl Fn(Side<'a>) -> Option<f64>) -> Option<Pairing> {
        let measured = self
            .measured
            .iter()
            .map(|side| Some(Measured(figure(side.as_ref()?.0)?)));
        Some(Pairing {
            measured: measured.collect(),
            predicted: Predicted(figure(self.predicted.0)?),
        })
    }

    /// The times of the job's iterations.
    pub fn iterations(&self) -> BTreeMap<IterationKey, Pairing> {
        let predicted = self.predicted.0.iteration_times();
        let measured = self
            .measured
            .iter()
            .map(|side| side.map(|side| side.0.iteration_times()));
        let measured: Vec<Option<BTreeMap<IterationKey, f64>>> = measured.collect();
        let joined = predicted.into_iter().map(|(key, time_s)| {
            let repeats = measured
                .iter()
                .map(|times| Some(Measured(*times.as_ref()?.get(&key)?)));
            let pairing = Pairing {
                predicted: Predicted(time_s),
                measured: repeats.collect(),
            };
            (key, pairing)
        });
        joined.collect()
    }
}
