//! What the driver does about what workers say, and about those that go away.

use bace_api::{
    Attempt, FromWorker, IterationReport, JobId, Record, StageFinished, StageIndex, ToWorker,
    WorkerId,
};
use bace_engine::{Input, Start};
use bace_netem::{ClockEstimate, RegionId};

use super::{Driver, Duty};
use crate::run::fleet::{Event, clock_record};
use crate::run::jobs::{ActiveJob, PreparedStage, actions_record, iteration_record};

impl Driver<'_> {
    pub(super) fn event(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            // What a worker said and its end reach the driver on different ways.
            Event::Said(worker, _) if self.duties[worker.index()] == Duty::Gone => Ok(()),
            Event::Said(worker, said) => self.said(worker, *said),
            Event::Lost(worker, reason) => self.lost(worker, &reason),
        }
    }

    fn said(&mut self, worker: WorkerId, said: FromWorker) -> anyhow::Result<()> {
        let held = match &said {
            FromWorker::Prepared { job, attempt, .. }
            | FromWorker::Failed { job, attempt, .. }
            | FromWorker::Released { job, attempt, .. } => self.stage_held(worker, *job, *attempt),
            FromWorker::Iteration(report) => self
                .stage_held(worker, report.job, report.attempt)
                .filter(|stage| *stage == report.stage),
            FromWorker::Finished(finished) => self
                .stage_held(worker, finished.job, finished.attempt)
                .filter(|stage| *stage == finished.stage),
            _ => None,
        };
        let Some(stage) = held else {
            tracing::warn!("{} said {said:?} out of turn", worker.certificate_name());
            return Ok(());
        };
        match said {
            FromWorker::Prepared {
                job,
                parameters,
                set_up,
                next_clock,
                ..
            } => {
                self.record_clock(job, stage, next_clock)?;
                self.prepared(job, stage, PreparedStage { parameters, set_up })
            }
            FromWorker::Iteration(report) => self.iteration(worker, &report),
            FromWorker::Finished(finished) => self.stage_finished(*finished),
            FromWorker::Failed { job, reason, .. } => self.failed(job, reason),
            FromWorker::Released { job, weights, .. } => {
                self.duties[worker.index()] = Duty::Idle;
                self.metering.holds(worker, None);
                self.stage_released(job, stage, weights)
            }
            _ => Ok(()),
        }
    }

    /// The stage of this start of a job that a worker holds.
    fn stage_held(&self, worker: WorkerId, job: JobId, attempt: Attempt) -> Option<StageIndex> {
        if self.duties[worker.index()] != Duty::Holds(job) {
            return None;
        }
        let active = self.jobs.get(&job)?;
        active
            .stage_of(worker)
            .filter(|_| active.start.attempt == attempt)
    }

    /// A job that is not being taken down.
    fn active(&mut self, job: JobId) -> Option<&mut ActiveJob> {
        self.jobs.get_mut(&job).filter(|active| !active.is_ending)
    }

    /// How the clock of the stage behind compares with that of `stage`, where it is another.
    fn record_clock(
        &mut self,
        job: JobId,
        stage: StageIndex,
        next_clock: Option<ClockEstimate>,
    ) -> anyhow::Result<()> {
        let at_s = self.now_s();
        if let (Some(estimate), Some(active)) = (next_clock, self.active(job))
            && let Some(next) = active.workers.get(stage.index() + 1)
        {
            let against = active.workers[stage.index()].certificate_name();
            let record = clock_record(at_s, next.certificate_name(), against, estimate);
            self.recorder.add(record)?;
        }
        Ok(())
    }

    fn prepared(
        &mut self,
        job: JobId,
        stage: StageIndex,
        told: PreparedStage,
    ) -> anyhow::Result<()> {
        let Some(active) = self.active(job) else {
            return Ok(());
        };
        if !active.prepared(stage, told) {
            return Ok(());
        }
        let (attempt, workers) = (active.start.attempt, active.workers.clone());
        self.tell_all(&workers, &ToWorker::Start(job, attempt));
        let text_hash = self.fleet.text_hash.clone();
        let record = self.jobs[&job].training(self.now_s(), &self.scenario, text_hash);
        self.progress.show(&record);
        Ok(self.recorder.add(record)?)
    }

    fn iteration(&mut self, worker: WorkerId, report: &IterationReport) -> anyhow::Result<()> {
        let (job, stage) = (report.job, report.stage);
        let Some(active) = self.active(job) else {
            return Ok(());
        };
        let done = active.iteration_ended(stage);
        let to_own = self.fleet.workers[worker.index()].to_own();
        let seconds = |ns| self.seconds(to_own(ns));
        let record = iteration_record(&self.scenario, report, seconds);
        let actions = actions_record(&self.scenario, report, seconds);
        let usage = Input::Usage {
            job,
            stage,
            from_s: record.from_s,
            to_s: record.to_s,
            busy_s: record.times.busy_s(),
        };
        let record = Record::Iteration(record);
        self.progress.show(&record);
        self.recorder.add(record)?;
        if let Some(actions) = actions {
            self.recorder.add(Record::Actions(actions))?;
        }
        self.tell_engine(usage)?;
        if let Some(done) = done {
            self.tell_engine(Input::Progress {
                job,
                iterations: f64::from(done),
            })?;
        }
        Ok(())
    }

    fn stage_finished(&mut self, finished: StageFinished) -> anyhow::Result<()> {
        let job = finished.job;
        self.record_clock(job, finished.stage, finished.next_clock)?;
        let Some(active) = self.active(job) else {
            return Ok(());
        };
        if !active.stage_finished(finished) {
            return Ok(());
        }
        self.unsettled = true;
        self.tell_engine(Input::Finished(job))?;
        let at_s = self.now_s();
        for record in self.jobs[&job].transfers(at_s, &self.scenario) {
            self.recorder.add(record)?;
        }
        self.take_down(job);
        Ok(())
    }

    pub(super) fn failed(&mut self, job: JobId, reason: String) -> anyhow::Result<()> {
        if self.active(job).is_none() {
            return Ok(());
        }
        self.unsettled = true;
        self.take_down(job);
        self.tell_engine(Input::Failed { job, reason })
    }

    /// Tells a job's workers to drop it; they are idle once they say so.
    fn take_down(&mut self, job: JobId) {
        self.launches.retain(|start| start.job != job);
        if let Some(active) = self.jobs.get_mut(&job).filter(|active| !active.is_ending) {
            active.is_ending = true;
            let (attempt, workers) = (active.start.attempt, active.workers.clone());
            self.tell_all(&workers, &ToWorker::Release(job, attempt));
        }
    }

    fn stage_released(
        &mut self,
        job: JobId,
        stage: StageIndex,
        weights: Vec<(String, String)>,
    ) -> anyhow::Result<()> {
        let Some(active) = self.jobs.get_mut(&job) else {
            return Ok(());
        };
        if !active.stage_released(stage, weights) {
            return Ok(());
        }
        self.stuck.remove(&job);
        let Some(active) = self.jobs.remove(&job) else {
            return Ok(());
        };
        let attempt = active.start.attempt;
        let parts = active.weights();
        if !parts.is_empty() {
            self.recorder.add(Record::Weights {
                job: self.scenario.jobs[job.index()].name.clone(),
                attempt,
                parts,
            })?;
        }
        Ok(())
    }

    pub(super) fn lost(&mut self, worker: WorkerId, reason: &str) -> anyhow::Result<()> {
        self.fleet.lost(worker)?;
        let seat = self.fleet.workers[worker.index()].seat.clone();
        let name = worker.certificate_name();
        self.recorder.add(Record::WorkerLost {
            at_s: self.now_s(),
            worker: name.clone(),
            reason: reason.to_owned(),
        })?;
        let duty = std::mem::replace(&mut self.duties[worker.index()], Duty::Gone);
        self.metering.holds(worker, None);
        if let Duty::Holds(job) = duty
            && let Some(stage) = self
                .jobs
                .get(&job)
                .and_then(|active| active.stage_of(worker))
        {
            let region = &seat.region_name;
            let reason = format!("worker {name} ({region}) of stage {stage} died: {reason}");
            self.failed(job, reason)?;
            self.stage_released(job, stage, Vec::new())?;
        }
        self.fail_launch_without_worker(seat.region)?;
        self.unsettled = true;
        self.tell_engine(Input::GpusChanged {
            region: seat.region,
            gpus: self.alive_in(seat.region),
        })
    }

    /// Fails the youngest job that was placed on more workers than `region` has left and has not begun: it waited for the
    /// one that is gone.
    fn fail_launch_without_worker(&mut self, region: RegionId) -> anyhow::Result<()> {
        let gpus_of = |start: &Start| {
            let parts = start.placement.path.iter();
            parts
                .filter(|part| part.region == region)
                .map(|part| part.gpus)
                .sum::<u32>()
        };
        let running = self.jobs.values().filter(|active| !active.is_ending);
        let starts = running
            .map(|active| &*active.start)
            .chain(self.launches.iter().map(|start| &**start));
        if starts.map(gpus_of).sum::<u32>() <= self.alive_in(region) {
            return Ok(());
        }
        let Some(index) = self.launches.iter().rposition(|start| gpus_of(start) > 0) else {
            return Ok(());
        };
        let Some(start) = self.launches.remove(index) else {
            return Ok(());
        };
        let name = &self.scenario.regions[region.index()].name;
        let reason = format!("a worker in {name} died that it was about to start on");
        self.tell_engine(Input::Failed {
            job: start.job,
            reason,
        })
    }
}
