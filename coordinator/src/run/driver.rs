//! The engine under the real clock.

mod events;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use bace_api::{
    ComputeRung, JobId, MOST_SPANS, MemoryPhase, Program, ReceiptPhase, Record, StageIndex,
    ToWorker, WorkerId, told,
};
use bace_engine::{
    Command, DEAD_LINK, Engine, Input, Scenario, Scheduled, Start, agenda, pipeline,
};
use bace_netem::{RegionId, TimeScale};
use bace_socket::now_ns;
use tokio::time::sleep;

use super::fleet::Fleet;
use super::interrupts::Interrupts;
use super::jobs::{ActiveJob, Launch};
use super::metering::{Held, Metering};
use super::progress::Progress;
use super::receipts::{Occasion, ReceiptTaker};
use super::recorder::Recorder;

/// How long nothing may be heard of jobs whose links carry nothing any more: what was under way may still end them.
const STUCK_GRACE: Duration = Duration::from_secs(5);

/// What to drive.
pub struct DriverPlan {
    /// Who decides; it has seen nothing yet.
    pub engine: Engine,
    /// Workers that are ready.
    pub fleet: Fleet,
    /// Who takes the time of compute.
    pub compute: ComputeRung,
    /// Whether workers tell of every action.
    pub tells_actions: bool,
    /// Who measures the links once more.
    pub receipts: ReceiptTaker,
    /// What reads this machine's meters.
    pub metering: Metering,
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    /// It waits for a stage.
    Idle,
    /// It holds a stage of this job, until it says that it has released it.
    Holds(JobId),
    /// Its process is gone.
    Gone,
}

/// Feeds the engine what happens and does what it decides.
///
/// Engine and ledger live in emulated seconds, workers in those of this machine. Driver and fleet translate.
pub struct Driver<'a> {
    scenario: Arc<Scenario>,
    engine: Engine,
    fleet: Fleet,
    compute: ComputeRung,
    tells_actions: bool,
    scale: TimeScale,
    receipts: ReceiptTaker,
    metering: Metering,
    recorder: &'a mut Recorder,
    interrupts: &'a mut Interrupts,
    origin_ns: u64,
    agenda: VecDeque<Scheduled>,
    /// By [`WorkerId`].
    duties: Vec<Duty>,
    jobs: BTreeMap<JobId, ActiveJob>,
    /// Placed jobs whose workers are still being released by the job before.
    launches: VecDeque<Box<Start>>,
    /// Jobs with a link on their path that carries nothing.
    stuck: BTreeSet<JobId>,
    /// Something happened upon which a job might be placed.
    unsettled: bool,
    progress: Progress,
}

impl<'a> Driver<'a> {
    /// A driver whose clock starts with [`run`](Self::run).
    pub fn new(
        plan: DriverPlan,
        recorder: &'a mut Recorder,
        interrupts: &'a mut Interrupts,
    ) -> Self {
        let DriverPlan {
            engine,
            fleet,
            compute,
            tells_actions,
            receipts,
            metering,
        } = plan;
        let scenario = Arc::clone(engine.scenario());
        Self {
            progress: Progress::new(&scenario),
            engine,
            agenda: agenda(&scenario).into(),
            duties: vec![Duty::Idle; fleet.workers.len()],
            receipts,
            scale: scenario.compute.time_scale,
            metering,
            scenario,
            fleet,
            compute,
            tells_actions,
            recorder,
            interrupts,
            origin_ns: now_ns(),
            jobs: BTreeMap::new(),
            launches: VecDeque::new(),
            stuck: BTreeSet::new(),
            unsettled: false,
        }
    }

    /// Runs all jobs to their ends and ends the workers, whatever happens.
    pub async fn run(mut self) -> anyhow::Result<()> {
        self.origin_ns = now_ns();
        let mut driven = self.drive().await;
        let metered = self.end_metering().await;
        if matches!(driven, Ok(None)) {
            driven = self.take_receipts().await;
        }
        let closed = match driven {
            Ok(Some(stopped)) => self.fail_running(stopped),
            _ => Ok(()),
        };
        let at_s = self.now_s();
        let waiting_told = if matches!(driven, Ok(None)) {
            self.engine.tell_waiting(at_s);
            self.record_engine()
        } else {
            Ok(())
        };
        let name = |job: JobId| self.scenario.jobs[job.index()].name.clone();
        let stopped = match &driven {
            Ok(stopped) => stopped.map(str::to_owned),
            Err(error) => Some(format!("failed to {}", told(error.as_ref()))),
        };
        let mut closing_told = Ok(());
        for record in self.fleet.clock_offsets(at_s) {
            closing_told = closing_told.and(self.recorder.add(record));
        }
        for record in self.fleet.memory(at_s, MemoryPhase::Ended) {
            closing_told = closing_told.and(self.recorder.add(record));
        }
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
        metered?;
        closed?;
        waiting_told?;
        closing_told?;
        Ok(ended?)
    }

    /// Ends the meters, before the links are measured once more: that belongs to no job.
    async fn end_metering(&mut self) -> anyhow::Result<()> {
        let mut metering = std::mem::take(&mut self.metering);
        let at_s = self.now_s();
        let machine_s = |ns| self.machine_seconds(ns);
        let records = metering.finish(at_s, machine_s, self.scale).await?;
        self.record_all(records)
    }

    fn record_all(&mut self, records: Vec<Record>) -> anyhow::Result<()> {
        for record in records {
            self.recorder.add(record)?;
        }
        Ok(())
    }

    /// Whether no job gets any further and nothing is to come that could change that.
    fn are_all_stuck(&self) -> bool {
        self.agenda.is_empty()
            && !self.jobs.is_empty()
            && self.jobs.keys().all(|job| self.stuck.contains(job))
    }

    fn fail_stuck(&mut self) -> anyhow::Result<()> {
        for job in self.jobs.keys().copied().collect::<Vec<_>>() {
            self.failed(job, DEAD_LINK.to_owned())?;
        }
        Ok(())
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
            let next_s = next_s.map(|next_s| self.scale.wall_seconds(next_s));
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
                () = sleep(STUCK_GRACE), if self.are_all_stuck() => self.fail_stuck()?,
                signal = self.interrupts.next() => return Ok(Some(signal)),
            }
        }
    }

    /// Measures the links once more; which signal stopped it, if one did.
    async fn take_receipts(&mut self) -> anyhow::Result<Option<&'static str>> {
        self.progress.end();
        let links = self.scenario.links.iter();
        let links = links
            .map(|(&link, &spec)| (link, self.engine.cluster().present(link, spec)))
            .collect();
        let gone = self.fleet.workers.iter().map(|worker| worker.seat.worker);
        let gone = gone.filter(|worker| self.duties[worker.index()] == Duty::Gone);
        let occasion = Occasion {
            phase: ReceiptPhase::After,
            at_s: self.now_s(),
            links: &links,
            gone: gone.collect(),
            fleet: &mut self.fleet,
            recorder: self.recorder,
            interrupts: self.interrupts,
        };
        let taken = self.receipts.take(occasion).await?;
        for (worker, reason) in taken.lost {
            self.lost(worker, &reason)?;
        }
        Ok(taken.interrupted)
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

    /// The emulated seconds of the run at a reading of the monotonic clock.
    fn seconds(&self, monotonic_ns: u64) -> f64 {
        self.scale
            .emulated_seconds(self.machine_seconds(monotonic_ns).max(0.0))
    }

    /// The machine's seconds of the run at a reading of the monotonic clock, negative before it.
    fn machine_seconds(&self, monotonic_ns: u64) -> f64 {
        let elapsed_s = monotonic_ns.abs_diff(self.origin_ns) as f64 / 1e9;
        if monotonic_ns < self.origin_ns {
            -elapsed_s
        } else {
            elapsed_s
        }
    }

    /// Hands in what the scenario says happens by now.
    fn take_due(&mut self) -> anyhow::Result<()> {
        let now_s = self.now_s();
        let count = self.agenda.partition_point(|next| next.at_s <= now_s);
        let due: Vec<Input> = self.agenda.drain(..count).map(|next| next.input).collect();
        let changes = due.iter().filter_map(|input| match *input {
            Input::LinkChanged { link, rate, delay } => Some((link, rate, delay)),
            _ => None,
        });
        self.fleet.set_links(changes)?;
        for input in due {
            self.tell_engine(input)?;
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
        loop {
            if std::mem::take(&mut self.unsettled) {
                let at_s = self.now_s();
                self.engine.settle(at_s);
                self.record_engine()?;
            }
            while let Some(command) = self.engine.poll_command() {
                self.obey(command);
            }
            self.launch_what_can()?;
            self.record_all(self.metering.settled(self.now_s()))?;
            // A launch that failed has left GPUs to others.
            if !self.unsettled {
                return Ok(());
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Start(start) => self.launches.push_back(start),
            // Real links share themselves out; what they can no longer do is of interest.
            Command::Rates(rates) if rates.iteration_s.is_finite() => {
                self.stuck.remove(&rates.job);
            }
            Command::Rates(rates) => {
                self.stuck.insert(rates.job);
            }
            Command::Cancel { .. } => {
                unreachable!("a lost GPU fails its job before the engine hears of the loss")
            }
        }
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
            let before = workers.len();
            workers.extend(self.idle_in(part.region).take(part.gpus as usize));
            if workers.len() - before < part.gpus as usize {
                return None;
            }
        }
        Some(workers)
    }

    fn idle_in(&self, region: RegionId) -> impl Iterator<Item = WorkerId> + '_ {
        self.workers_in(region)
            .filter(|worker| self.duties[worker.index()] == Duty::Idle)
    }

    fn alive_in(&self, region: RegionId) -> u32 {
        let alive = self
            .workers_in(region)
            .filter(|worker| self.duties[worker.index()] != Duty::Gone);
        u32::try_from(alive.count()).expect("a region's GPUs are counted in 32 bits")
    }

    fn workers_in(&self, region: RegionId) -> impl Iterator<Item = WorkerId> + '_ {
        let seats = self.fleet.workers.iter().map(|worker| &worker.seat);
        seats
            .filter(move |seat| seat.region == region)
            .map(|seat| seat.worker)
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
        let launch = Launch {
            scenario: &self.scenario,
            cluster: self.engine.cluster(),
            fleet: &self.fleet,
            compute: self.compute,
            tells_actions: self.tells_actions && self.fit_a_record(job, &plan.program),
            start: &start,
            workers: &workers,
        };
        let prepares = launch.prepares(plan.program);
        let attempt = start.attempt;
        for ((stage, &worker), command) in (0..).map(StageIndex).zip(&workers).zip(prepares) {
            self.duties[worker.index()] = Duty::Holds(job);
            let held = Held {
                job,
                attempt,
                stage,
            };
            self.metering.holds(worker, Some(held));
            self.fleet.workers[worker.index()].tell(command);
        }
        self.jobs.insert(job, ActiveJob::new(start, workers));
        Ok(())
    }

    /// Whether the actions of an iteration fit a record; says so where they do not.
    fn fit_a_record(&self, job: JobId, program: &Program) -> bool {
        let most = program.stages.iter().map(Vec::len).max().unwrap_or(0);
        let fit = most <= MOST_SPANS;
        if !fit {
            tracing::warn!(
                "the ledger holds no actions of job `{}`: an iteration has {most} of them, and a record has room for {MOST_SPANS}",
                self.scenario.jobs[job.index()].name
            );
        }
        fit
    }

    fn tell_all(&self, workers: &[WorkerId], command: &ToWorker) {
        for worker in workers {
            self.fleet.workers[worker.index()].tell(command.clone());
        }
    }
}
