//! A ledger's attribution.

use bace_api::{Attempt, ClockKind};

use super::link_rates::LinkRates;
use super::roots::sums;
use super::sums::Sums;
use super::timeline::{Extent, Start, Timeline};
use super::transit::directions;
use crate::{AttemptLog, Figure, JobLog, RunLog};

/// Where the time of a ledger's jobs went.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribution {
    /// Every job that was ever placed, in the ledger's order.
    pub jobs: Vec<JobAttribution>,
}

/// Where the time of a job went.
#[derive(Debug, Clone, PartialEq)]
pub struct JobAttribution {
    /// Its name.
    pub job: String,
    /// Its starts, in order.
    pub attempts: Vec<AttemptAttribution>,
}

/// Where the time of a start went.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptAttribution {
    /// Which start.
    pub attempt: Attempt,
    /// Its stages' time, or why nothing is known of it.
    pub times: Figure<AttemptTimes>,
}

/// The stages' time of a start, all of it: each stage's sums come to `to_s` − `from_s`. Emulated seconds from the start of the run.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptTimes {
    /// Its placement.
    pub from_s: f64,
    /// When its GPUs were free again, or up to when all of its stages are known.
    pub to_s: f64,
    /// Why nothing is known behind `to_s`; absent where nothing is missing.
    pub cut: Option<String>,
    /// Stage-seconds behind `to_s` until its GPUs were free: 0 where nothing is missing, absent where they never were.
    pub unknown_s: Option<f64>,
    /// Its stages, in order.
    pub stages: Vec<StageAttribution>,
}

/// Where the time of a stage went.
#[derive(Debug, Clone, PartialEq)]
pub struct StageAttribution {
    /// Where its GPU stood.
    pub region: String,
    /// Its seconds by cause.
    pub sums: Sums,
}

/// Takes apart where the time of all stages went; docs/attribution.md has the rules. Simulated ledgers and real ones go the same way.
pub fn attribute(log: &RunLog) -> Attribution {
    let rates = LinkRates::of(log);
    let placed = log.jobs.iter().filter(|job| !job.attempts.is_empty());
    let jobs = placed.map(|job| JobAttribution {
        job: job.name.clone(),
        attempts: (0..job.attempts.len())
            .map(|place| AttemptAttribution {
                attempt: job.attempts[place].attempt,
                times: match times(log, &rates, job, place) {
                    Ok(times) => Figure::Known(times),
                    Err(reason) => Figure::Unknown(reason.into()),
                },
            })
            .collect(),
    });
    Attribution {
        jobs: jobs.collect(),
    }
}

impl Attribution {
    /// A job by its name.
    pub fn job(&self, name: &str) -> Option<&JobAttribution> {
        self.jobs.iter().find(|job| job.job == name)
    }

    /// Whether the time of any start is known.
    pub fn is_known(&self) -> bool {
        let mut starts = self.jobs.iter().flat_map(|job| &job.attempts);
        starts.any(|start| start.times.known().is_some())
    }
}

impl JobAttribution {
    /// A start by its number.
    pub fn attempt(&self, attempt: Attempt) -> Option<&AttemptAttribution> {
        self.attempts.iter().find(|of| of.attempt == attempt)
    }

    /// All its starts' stages together; the first reason where one of them is not known.
    pub fn sums(&self) -> Figure<Sums> {
        let mut all = Sums::default();
        for attempt in &self.attempts {
            match &attempt.times {
                Figure::Known(times) => all.merge(&times.sums()),
                Figure::Unknown(reason) => return Figure::Unknown(reason.clone()),
            }
        }
        Figure::Known(all)
    }
}

impl AttemptTimes {
    /// All its stages together.
    pub fn sums(&self) -> Sums {
        let mut all = Sums::default();
        for stage in &self.stages {
            all.merge(&stage.sums);
        }
        all
    }
}

/// The times of a job's start at `place`, or why there are none; words that follow a colon.
fn times(
    log: &RunLog,
    rates: &LinkRates,
    job: &JobLog,
    place: usize,
) -> Result<AttemptTimes, String> {
    let attempt = &job.attempts[place];
    if log.header.is_by_formula() {
        return Err("a simulation by formula walks no actions".to_owned());
    }
    check(attempt)?;
    let is_last = place + 1 == job.attempts.len();
    let has_finished = job.finished_s.is_some() && is_last;
    let mut stages = attempt.stages.iter();
    let (extent, cut) = if !has_finished && stages.all(|stage| stage.iterations.is_empty()) {
        extent_of_set_up(attempt, log.header.clock)?
    } else {
        extent(attempt, has_finished)?
    };
    let directions = directions(&job.name, attempt, rates)?;
    let start = Start {
        directions: &directions,
        extent,
        compute: log.header.compute,
    };
    let stages = attempt.stages.iter().enumerate();
    let timelines: Vec<Timeline> = stages
        .map(|(index, stage)| start.timeline(index, stage))
        .collect();
    let stages = attempt.stages.iter().zip(sums(&timelines, &directions));
    Ok(AttemptTimes {
        from_s: extent.from_s,
        to_s: extent.to_s,
        cut,
        unknown_s: attempt
            .released_s
            .map(|released_s| (released_s - extent.to_s).max(0.0) * f64::from(attempt.k())),
        stages: stages
            .map(|(stage, sums)| StageAttribution {
                region: stage.region.clone(),
                sums,
            })
            .collect(),
    })
}

/// Whether every stage's actions are there, one iteration after another, at times that are numbers.
fn check(attempt: &AttemptLog) -> Result<(), String> {
    if attempt.stages.is_empty() {
        return Err("it was placed on no GPU".to_owned());
    }
    let records = attempt
        .stages
        .iter()
        .flat_map(|stage| stage.iterations.values());
    if records.clone().next().is_some() && records.clone().all(|done| done.spans.is_empty()) {
        return Err(
            "its ledger holds iterations and not their actions: they were left out, or an older program wrote it".to_owned(),
        );
    }
    let first = attempt
        .stages
        .iter()
        .filter_map(|stage| stage.iterations.keys().next())
        .min();
    for (index, stage) in attempt.stages.iter().enumerate() {
        let mut expected = first.map(|first| first.0);
        for (iteration, done) in &stage.iterations {
            let of = || format!("iteration {iteration} of stage {index}");
            if Some(iteration.0) != expected {
                return Err(format!("its ledger lacks iterations before {}", of()));
            }
            expected = iteration.0.checked_add(1);
            if done.spans.is_empty() {
                return Err(format!("its ledger lacks the actions of {}", of()));
            }
            let of_spans = done.spans.iter().flat_map(|span| {
                let waits = [span.lease_wait_s, span.excess_s];
                let waits = waits.into_iter().flatten();
                waits.chain([span.from_s, span.to_s])
            });
            let mut all = of_spans.chain([done.record.from_s, done.record.to_s]);
            if !all.all(f64::is_finite) {
                return Err(format!("a time of {} is not a number", of()));
            }
        }
    }
    Ok(())
}

/// The time of a start that is known, and why that is not all of it.
fn extent(attempt: &AttemptLog, has_finished: bool) -> Result<(Extent, Option<String>), String> {
    let from_s = attempt.placed_s;
    let mut ends = Vec::with_capacity(attempt.stages.len());
    for (index, stage) in attempt.stages.iter().enumerate() {
        let last = stage.iterations.last_key_value();
        let (&iteration, done) = last.ok_or_else(|| format!("stage {index} ended no iteration"))?;
        ends.push((iteration, done.record.to_s));
    }
    let same = ends.windows(2).all(|two| two[0].0 == two[1].0);
    if has_finished && !same {
        return Err("its stages ended different numbers of iterations".to_owned());
    }
    let trained_s = ends.iter().map(|end| end.1).fold(from_s, f64::max);
    let released_s = attempt.released_s;
    let (to_s, cut) = match (has_finished, released_s) {
        (true, Some(released_s)) => (released_s, None),
        (true, None) => (
            trained_s,
            Some("its ledger does not tell when its GPUs were free"),
        ),
        (false, _) => (
            ends.iter().map(|end| end.1).fold(f64::INFINITY, f64::min),
            Some(
                "it did not finish, and what its stages did after the last iteration that all of them ended is not recorded",
            ),
        ),
    };
    let to_s = to_s.min(released_s.unwrap_or(to_s)).max(from_s);
    let extent = Extent {
        from_s,
        trained_s: trained_s.min(to_s),
        to_s,
    };
    Ok((extent, cut.map(str::to_owned)))
}

/// The time of a start of which no stage ended an iteration: it was set up until it trained or its GPUs were free.
fn extent_of_set_up(
    attempt: &AttemptLog,
    clock: ClockKind,
) -> Result<(Extent, Option<String>), String> {
    // Simulations have no record of the begin of training, but stages compute from then on.
    let mut energies = attempt.stages.iter().map(|stage| stage.energy.as_ref());
    let never_trained = match clock {
        ClockKind::Wall => true,
        ClockKind::Virtual => energies.all(|used| used.is_some_and(|used| used.busy_s == 0.0)),
    };
    let (to_s, cut) = match (attempt.training_s, attempt.released_s) {
        (Some(training_s), _) => (
            training_s,
            Some(
                "it did not finish, and what its stages did in training is not recorded, since none ended an iteration",
            ),
        ),
        (None, Some(released_s)) if never_trained => (released_s, None),
        (None, _) => {
            return Err(
                "none of its stages ended an iteration, and until when it was set up is not recorded"
                    .to_owned(),
            );
        }
    };
    let from_s = attempt.placed_s;
    let to_s = to_s.min(attempt.released_s.unwrap_or(to_s)).max(from_s);
    let extent = Extent {
        from_s,
        trained_s: to_s,
        to_s,
    };
    Ok((extent, cut.map(str::to_owned)))
}
