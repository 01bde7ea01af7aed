//! Jobs as fluids: every iteration takes the T of docs/scheduling.md section 1 at the present shares.
//!
//! Progress is a real number of iterations. A change of T keeps the progress so far; a finish time is worked out when
//! T changes and at no other time, so that undisturbed jobs end exactly at their start plus N·T.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bace_api::{Attempt, JobId, StageIndex};
use bace_engine::{Input, Rates, Scenario, Start};
use bace_models::StageSeconds;
use bace_netem::{BitRate, Delay, LinkId};

use crate::driver::{Executor, Instant, Reports};

/// The analytic iteration model.
#[derive(Debug)]
pub struct Analytic {
    scenario: Arc<Scenario>,
    running: BTreeMap<JobId, Fluid>,
    /// Finishes to come; jobs that make no progress are absent.
    finishes: BTreeSet<(Moment, JobId)>,
    /// Not handed in yet.
    usages: Vec<Input>,
}

/// A job that runs.
#[derive(Debug)]
struct Fluid {
    stage_seconds: Vec<StageSeconds>,
    iteration_s: f64,
    /// Since when T is what it is and usage is not reported.
    since_s: f64,
    /// Iterations done until then.
    done: f64,
    finish_s: f64,
}

/// A time that can be sorted.
#[derive(Debug, Clone, Copy)]
struct Moment(f64);

impl Analytic {
    /// An executor of `scenario`'s jobs.
    pub fn new(scenario: Arc<Scenario>) -> Self {
        Self {
            scenario,
            running: BTreeMap::new(),
            finishes: BTreeSet::new(),
            usages: Vec::new(),
        }
    }

    /// Takes T from `now` on.
    fn set_iteration_s(&mut self, now: Instant, job: JobId, iteration_s: f64) {
        let Some(fluid) = self.running.get_mut(&job) else {
            return;
        };
        let iterations = f64::from(self.scenario.jobs[job.index()].iterations);
        self.finishes.remove(&(Moment(fluid.finish_s), job));
        fluid.iteration_s = iteration_s;
        let left = (iterations - fluid.done).max(0.0);
        fluid.finish_s = if left > 0.0 {
            now.at_s() + left * iteration_s
        } else {
            now.at_s()
        };
        if fluid.finish_s.is_finite() {
            self.finishes.insert((Moment(fluid.finish_s), job));
        }
    }

    /// Brings a job's progress up to `now` and notes the computing since the last time.
    fn bring_up(&mut self, now: Instant, job: JobId) {
        let Some(fluid) = self.running.get_mut(&job) else {
            return;
        };
        let (from_s, to_s) = (fluid.since_s, now.at_s());
        let iterations = (to_s - from_s) / fluid.iteration_s;
        let micro_batches = f64::from(self.scenario.jobs[job.index()].micro_batches);
        fluid.since_s = to_s;
        fluid.done += iterations;
        if to_s <= from_s {
            return;
        }
        for (stage, takes) in (0..).map(StageIndex).zip(&fluid.stage_seconds) {
            self.usages.push(Input::Usage {
                job,
                stage,
                from_s,
                to_s,
                // The formula's iteration has no step.
                busy_s: micro_batches * takes.micro_batch_s * iterations,
            });
        }
    }
}

impl Executor for Analytic {
    fn start(&mut self, now: Instant, start: &Start) {
        let fluid = Fluid {
            stage_seconds: start.stage_seconds.clone(),
            iteration_s: start.iteration_s,
            since_s: now.at_s(),
            done: f64::from(start.first_iteration),
            finish_s: f64::INFINITY,
        };
        self.running.insert(start.job, fluid);
        self.set_iteration_s(now, start.job, start.iteration_s);
    }

    fn rates(&mut self, now: Instant, rates: &Rates) {
        self.bring_up(now, rates.job);
        self.set_iteration_s(now, rates.job, rates.iteration_s);
    }

    fn cancel(&mut self, _now: Instant, job: JobId, _attempt: Attempt) {
        if let Some(fluid) = self.running.remove(&job) {
            self.finishes.remove(&(Moment(fluid.finish_s), job));
        }
    }

    fn link_changed(&mut self, _: Instant, _: LinkId, _: BitRate, _: Delay) {}

    fn next_s(&mut self) -> Option<f64> {
        self.finishes.first().map(|(finish, _)| finish.0)
    }

    fn advance(&mut self, now: Instant, reports: &mut Reports) {
        while let Some(&(finish, job)) = self.finishes.first()
            && now.includes(finish.0)
        {
            self.bring_up(now, job);
            self.finishes.pop_first();
            self.running.remove(&job);
            reports.inputs.append(&mut self.usages);
            reports.inputs.push(Input::Finished(job));
        }
    }

    fn report(&mut self, now: Instant, reports: &mut Reports) {
        let jobs: Vec<JobId> = self.running.keys().copied().collect();
        for job in jobs {
            self.bring_up(now, job);
        }
        reports.inputs.append(&mut self.usages);
        let progress = self.running.iter().map(|(&job, fluid)| Input::Progress {
            job,
            iterations: fluid.done,
        });
        reports.inputs.extend(progress);
    }
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}
