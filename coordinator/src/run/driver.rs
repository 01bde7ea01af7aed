//! The engine under the real clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bace_api::{
    Attempt, ComputeRung, FromWorker, IterationReport, JobId, Record, StageFinished, StageIndex,
    ToWorker, WorkerId, told,
};
use bace_engine::{Command, Engine, Input, Policy, Scenario, Scheduled, Start, agenda, pipeline};
use bace_netem::RegionId;
use bace_socket::now_ns;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use super::fleet::{Event, Fleet};
use super::jobs::{ActiveJob, iteration_record, prepare_all};
use super::progress::Progress;
use super::recorder::Recorder;

/// Ctrl-C and a polite kill.
pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    /// Begins to listen; the process no longer ends by itself.
    pub fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Waits for one; says which. Cancel-safe.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted by Ctrl-C",
            _ = self.terminate.recv() => "terminated",
        }
    }
}

/// Feeds the engine what happens and does what it decides.
pub struct Driver<'a> {
    scenario: Arc<Scenario>,
    engine: Engine,
    fleet: Fleet,
    compute: ComputeRung,
    recorder: &'a mut Recorder,
    interrupts: &'a mut Interrupts,
    origin_ns: u64,
    agenda: VecDeque<Scheduled>,
    /// Living workers without a stage, by region.
    idle: BTreeMap<RegionId, BTreeSet<WorkerId>>,
    /// Workers that live, by region.
    alive: BTreeMap<RegionId, u32>,
    jobs: BTreeMap<JobId, ActiveJob>,
    /// Placed jobs whose workers are still being released by the job before.
    launches: VecDeque<Box<Start>>,
    /// Something happened upon which a job might be placed.
    unsettled: bool,
    progress: Progress,
}

impl<'a> Driver<'a> {
    /// A driver whose clock starts with [`run`](Self::run).
    pub fn new(
        scenario: Arc<Scenario>,
        policy: Box<dyn Policy + Send>,
        fleet: Fleet,
        compute: ComputeRung,
        (recorder, interrupts): (&'a mut Recorder, &'a mut Interrupts),
    ) -> Self {
        let mut idle: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for worker in &fleet.workers {
            idle.entry(worker.seat.region)
                .or_default()
                .insert(worker.seat.worker);
        }
        Self {
            progress: Progress::new(&scenario),
            engine: Engine::new(Arc::clone(&scenario), policy),
            agenda: agenda(&scenario).into(),
            alive: idle
                .iter()
                .map(|(&region, workers)| (region, workers.len() as u32))
                .collect(),
            scenario,
            fleet,
            compute,
            recorder,
            interrupts,
            origin_ns: now_ns(),
            idle,
            jobs: BTreeMap::new(),
            launches: VecDeque::new(),
            unsettled: false,
        }
    }

    /// Runs all jobs to their ends and ends the workers, whatever happens.
    pub async fn run(mut self) -> anyhow::Result<()> {
        self.origin_ns = now_ns();
        let driven = self.drive().await;
        if let Ok(Some(stopped)) = driven {
            self.fail_running(stopped)?;
        }
        let at_s = self.now_s();
        let name = |job: JobId| self.scenario.jobs[job.index()].name.clone();
        let stopped = match &driven {
            Ok(stopped) => stopped.map(str::to_owned),
            Err(error) => Some(format!("failed to {}", told(error.as_ref()))),
        };
        let ended = self.recorder.add(Record::RunEnded {
            at_s,
            waiting: if stopped.is_none() {
                self.engine.waiting().map(name).collect()
            } else {
                Vec::new()
            },
            stopped,
        });
        self.progress.end();
        self.fleet.shut_down().await;
        driven?;
        Ok(ended?)
    }

    /// Closes the accounts of all running jobs.
    fn fail_running(&mut self, reason: &str) -> anyhow::Result<()> {
        for job in self.engine.running().collect::<Vec<_>>() {
            let reason = format!("the run was {reason}");
            self.tell_engine(Input::Failed { job, reason })?;
        }
        Ok(())
    }

    /// Why it stopped before all jobs had ended, if it did.
    async fn drive(&mut self) -> anyhow::Result<Option<&'static str>> {
        let mut are_all_gone = false;
        loop {
            self.take_due()?;
            self.settle()?;
            if self.is_over() {
                return Ok(None);
            }
            let next_s = self
                .agenda
                .front()
                .map(|next| (next.at_s - self.now_s()).max(0.0));
            if are_all_gone && next_s.is_none() {
                bail!("hear from the workers: all are gone");
            }
            tokio::select! {
                event = self.fleet.events.recv(), if !are_all_gone => {
                    let Some(event) = event else {
                        // Jobs still arrive, to wait in vain.
                        are_all_gone = true;
                        continue;
                    };
                    self.event(event)?;
                    // What has been said meanwhile belongs to the same instant.
                    while let Ok(event) = self.fleet.events.try_recv() {
                        self.event(event)?;
                    }
                }
                () = sleep(Duration::from_secs_f64(next_s.unwrap_or_default())), if next_s.is_some() => {}
                signal = self.interrupts.next() => return Ok(Some(signal)),
            }
        }
    }

    /// Whether nothing more will happen.
    fn is_over(&self) -> bool {
        let arrivals = self
            .agenda
            .iter()
            .any(|next| matches!(next.input, Input::Submitted(_)));
        let waits = self.engine.waiting().next().is_some();
        self.jobs.is_empty()
            && self.launches.is_empty()
            && !arrivals
            && (!waits || self.agenda.is_empty())
    }

    fn now_s(&self) -> f64 {
        self.seconds(now_ns())
    }

    /// The run's seconds of a reading of the monotonic clock.
    fn seconds(&self, monotonic_ns: u64) -> f64 {
        monotonic_ns.saturating_sub(self.origin_ns) as f64 / 1e9
    }

    /// Hands in what the scenario says happens by now.
    fn take_due(&mut self) -> anyhow::Result<()> {
        let now_s = self.now_s();
        while self.agenda.front().is_some_and(|next| next.at_s <= now_s)
            && let Some(next) = self.agenda.pop_front()
        {
            if let Input::LinkChanged { link, rate } = next.input {
                self.fleet.set_rate(link, rate)?;
            }
            self.tell_engine(next.input)?;
            self.unsettled = true;
        }
        Ok(())
    }

    fn tell_engine(&mut self, input: Input) -> anyhow::Result<()> {
        let at_s = self.now_s();
        self.engine.handle(at_s, input);
        self.record_engine()
    }

    fn record_engine(&mut self) -> anyhow::Result<()> {
        while let Some(record) = self.engine.poll_record() {
            self.progress.show(&record);
            self.recorder.add(record)?;
        }
        Ok(())
    }

    /// Lets the engine place jobs, and does what it decides.
    fn settle(&mut self) -> anyhow::Result<()> {
        if std::mem::take(&mut self.unsettled) {
            let at_s = self.now_s();
            self.engine.settle(at_s);
            self.record_engine()?;
        }
        while let Some(command) = self.engine.poll_command() {
            match command {
                Command::Start(start) => self.launches.push_back(start),
                // Real links share themselves out.
                Command::Rates(_) => {}
                Command::Cancel { job, .. } => self.take_down(job),
            }
        }
        self.launch_what_can()
    }

    fn launch_what_can(&mut self) -> anyhow::Result<()> {
        for start in std::mem::take(&mut self.launches) {
            match self.free_workers(&start) {
                Some(workers) => self.launch(start, workers)?,
                None => self.launches.push_back(start),
            }
        }
        Ok(())
    }

    /// An idle worker for each stage, if the regions have them.
    fn free_workers(&self, start: &Start) -> Option<Vec<WorkerId>> {
        let mut workers = Vec::new();
        for part in &start.placement.path {
            let idle = self.idle.get(&part.region)?;
            let before = workers.len();
            workers.extend(idle.iter().copied().take(part.gpus as usize));
            if workers.len() - before < part.gpus as usize {
                return None;
            }
        }
        Some(workers)
    }

    fn launch(&mut self, start: Box<Start>, workers: Vec<WorkerId>) -> anyhow::Result<()> {
        let job = start.job;
        let plan = pipeline::plan(&self.scenario, &start);
        self.recorder
            .add(plan.record(&self.scenario, &start, self.now_s()))?;
        if let Err(error) = pipeline::check(&plan.program) {
            self.unsettled = true;
            return self.tell_engine(Input::Failed {
                job,
                reason: format!("failed to {error}"),
            });
        }
        let stages = (plan.program, &workers[..]);
        let commands = prepare_all(&self.scenario, &self.fleet, self.compute, &start, stages);
        for (&worker, command) in workers.iter().zip(commands) {
            let worker = &self.fleet.workers[worker.index()];
            if let Some(idle) = self.idle.get_mut(&worker.seat.region) {
                idle.remove(&worker.seat.worker);
            }
            worker.tell(command);
        }
        self.jobs.insert(job, ActiveJob::new(start, workers));
        Ok(())
    }

    fn event(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Said(worker, said) => match said {
                FromWorker::Prepared {
                    job,
                    attempt,
                    parameters,
                } => self.prepared(worker, job, attempt, parameters),
                FromWorker::Iteration(report) => self.iteration(&report),
                FromWorker::Finished(finished) => self.stage_finished(finished),
                FromWorker::Failed {
                    job,
                    attempt,
                    reason,
                } => self.failed(job, attempt, reason),
                FromWorker::Released { job, weights, .. } => self.released(worker, job, weights),
                other => {
                    tracing::warn!("{} said {other:?} out of turn", worker.certificate_name());
                    Ok(())
                }
            },
            Event::Lost(worker, reason) => self.lost(worker, &reason),
        }
    }

    /// The job if `attempt` is its present start and it is not being taken down.
    fn active(&mut self, job: JobId, attempt: Attempt) -> Option<&mut ActiveJob> {
        self.jobs
            .get_mut(&job)
            .filter(|active| active.start.attempt == attempt && !active.is_ending)
    }

    fn prepared(
        &mut self,
        worker: WorkerId,
        job: JobId,
        attempt: Attempt,
        parameters: u64,
    ) -> anyhow::Result<()> {
        let Some(active) = self.active(job, attempt) else {
            return Ok(());
        };
        let Some(stage) = active.stage_of(worker) else {
            return Ok(());
        };
        let Some(parameters) = active.prepared(stage, parameters) else {
            return Ok(());
        };
        let workers = active.workers.clone();
        self.tell_all(&workers, &ToWorker::Start(job, attempt));
        let record = Record::Training {
            at_s: self.now_s(),
            job: self.scenario.jobs[job.index()].name.clone(),
            attempt,
            workers: workers
                .iter()
                .map(|worker| worker.certificate_name())
                .collect(),
            parameters,
            text_hash: self.fleet.text_hash.clone(),
        };
        self.progress.show(&record);
        Ok(self.recorder.add(record)?)
    }

    fn iteration(&mut self, report: &IterationReport) -> anyhow::Result<()> {
        let (job, stage) = (report.job, report.stage);
        let Some(active) = self.active(job, report.attempt) else {
            return Ok(());
        };
        let done = active.iteration_ended(stage);
        let record = iteration_record(&self.scenario, report, |ns| self.seconds(ns));
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
        let Some(active) = self.active(job, finished.attempt) else {
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

    fn failed(&mut self, job: JobId, attempt: Attempt, reason: String) -> anyhow::Result<()> {
        if self.active(job, attempt).is_none() {
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

    fn released(
        &mut self,
        worker: WorkerId,
        job: JobId,
        weights: Vec<(String, String)>,
    ) -> anyhow::Result<()> {
        let region = self.fleet.workers[worker.index()].seat.region;
        self.idle.entry(region).or_default().insert(worker);
        self.stage_released(worker, job, weights)
    }

    fn stage_released(
        &mut self,
        worker: WorkerId,
        job: JobId,
        weights: Vec<(String, String)>,
    ) -> anyhow::Result<()> {
        let Some(active) = self.jobs.get_mut(&job) else {
            return Ok(());
        };
        let Some(stage) = active.stage_of(worker) else {
            return Ok(());
        };
        if !active.stage_released(stage, weights) {
            return Ok(());
        }
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

    fn lost(&mut self, worker: WorkerId, reason: &str) -> anyhow::Result<()> {
        let seat = self.fleet.workers[worker.index()].seat.clone();
        let name = worker.certificate_name();
        self.recorder.add(Record::WorkerLost {
            at_s: self.now_s(),
            worker: name.clone(),
            reason: reason.to_owned(),
        })?;
        if let Some(idle) = self.idle.get_mut(&seat.region) {
            idle.remove(&worker);
        }
        let held = self
            .jobs
            .iter()
            .find_map(|(&job, active)| Some((job, active.stage_of(worker)?)));
        if let Some((job, StageIndex(stage))) = held {
            let attempt = self.jobs[&job].start.attempt;
            let reason = format!(
                "worker {name} ({}) of stage {stage} died: {reason}",
                seat.region_name
            );
            self.failed(job, attempt, reason)?;
            self.stage_released(worker, job, Vec::new())?;
        }
        let alive = self.alive.entry(seat.region).or_default();
        *alive = alive.saturating_sub(1);
        let gpus = *alive;
        self.unsettled = true;
        self.tell_engine(Input::GpusChanged {
            region: seat.region,
            gpus,
        })
    }

    fn tell_all(&self, workers: &[WorkerId], command: &ToWorker) {
        for worker in workers {
            self.fleet.workers[worker.index()].tell(command.clone());
        }
    }
}
