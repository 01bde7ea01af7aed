//! The engine: inputs go in, commands and records come out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bace_api::{
    Attempt, InputRecord, JobId, PlacedRegion, Placement, PlacementReason, Record, Refusal,
    Shortfall,
};
use bace_models::DeviceProfile;
use bace_netem::{BitRate, Delay, LinkId, RegionId};
use serde::Serialize;

use crate::accounts::Accounts;
use crate::estimate::{PipelineTimes, TIE, pipeline_slots, split};
use crate::policy::{Choice, ClusterView, Decision, IdleView, PassedOver, Policy, Waiting};
use crate::running::Running;
use crate::{Cluster, Command, Estimates, Input, JobKindId, Scenario, Unprofiled};

/// Progress this close below a whole iteration counts as that iteration.
const PROGRESS_SLACK: f64 = 1e-9;

/// How much the engine tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// Every input, every decision with its reason, every outcome: what a replay and an explanation need.
    #[default]
    Full,
    /// Placements without reasons, and outcomes: what a summary needs, several times faster.
    Outcomes,
}

/// Decides what runs where; a value without I/O, threads or clock.
///
/// A driver hands in all inputs of one instant with [`Engine::handle`], calls [`Engine::settle`] once, and drains
/// [`Engine::poll_command`] and [`Engine::poll_record`]. Times must not go back. An input about a job that does not run (any
/// more), or a second submission, is recorded and otherwise ignored: reports and cancellations cross on their way.
pub struct Engine {
    scenario: Arc<Scenario>,
    policy: Box<dyn Policy + Send>,
    detail: Detail,
    estimates: Estimates,
    /// Without jobs: links as they are now, GPUs as configured, which is the most they ever are.
    idle: Cluster,
    cluster: Cluster,
    /// In order of arrival, then id.
    waiting: Vec<Waiting>,
    running: BTreeMap<JobId, Running>,
    /// By job: whether it has arrived.
    submitted: Vec<bool>,
    /// By job: how often it was started, and iterations done before the next start.
    history: Vec<(u32, u32)>,
    /// By job: the last reason told for passing it over.
    told: Vec<Option<Shortfall>>,
    /// K* and K° of jobs alike, while no link changes its capacity.
    shares: BTreeMap<(JobKindId, u32), Result<Shares, Refusal>>,
    /// A link changed its capacity since K° of the waiting jobs was looked for.
    outdated: bool,
    /// Jobs on links whose flows or capacity changed since the last settling.
    touched: Vec<JobId>,
    prices: Vec<f64>,
    starts: u64,
    commands: VecDeque<Command>,
    records: VecDeque<Record>,
}

/// Stage counts that jobs alike have in common.
#[derive(Debug, Clone, Copy)]
struct Shares {
    k_min: u32,
    k_star: u32,
    k_full: Option<u32>,
}

impl Engine {
    /// An engine over the idle cluster of `scenario`.
    pub fn new(scenario: Arc<Scenario>, policy: Box<dyn Policy + Send>) -> Self {
        let idle = Cluster::idle(&scenario);
        Self {
            estimates: Estimates::of(&scenario),
            cluster: idle.clone(),
            idle,
            waiting: Vec::new(),
            running: BTreeMap::new(),
            submitted: vec![false; scenario.jobs.len()],
            history: vec![(0, 0); scenario.jobs.len()],
            told: vec![None; scenario.jobs.len()],
            shares: BTreeMap::new(),
            outdated: false,
            touched: Vec::new(),
            prices: vec![0.0; scenario.regions.len()],
            starts: 0,
            commands: VecDeque::new(),
            records: VecDeque::new(),
            detail: Detail::Full,
            scenario,
            policy,
        }
    }

    /// Tells as much as `detail` says.
    #[must_use]
    pub fn with_detail(mut self, detail: Detail) -> Self {
        self.detail = detail;
        self
    }

    /// How much it tells.
    pub fn detail(&self) -> Detail {
        self.detail
    }

    /// Takes the times of compute from what was measured on a device, for all GPUs alike, in place of the formula.
    ///
    /// # Errors
    /// If `profile` lacks what a job needs.
    pub fn with_profile(mut self, profile: &DeviceProfile) -> Result<Self, Unprofiled> {
        self.estimates = Estimates::measured(&self.scenario, profile)?;
        Ok(self)
    }

    /// The scenario.
    pub fn scenario(&self) -> &Arc<Scenario> {
        &self.scenario
    }

    /// The cluster at this instant.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Jobs that wait, in order of arrival.
    pub fn waiting(&self) -> impl Iterator<Item = JobId> + '_ {
        self.waiting.iter().map(|waiting| waiting.job)
    }

    /// Jobs that run, by id.
    pub fn running(&self) -> impl Iterator<Item = JobId> + '_ {
        self.running.keys().copied()
    }

    /// Where a running job runs.
    pub fn placement(&self, job: JobId) -> Option<&Placement> {
        self.running.get(&job).map(|running| &running.placement)
    }

    /// Which start of a running job this is.
    pub fn attempt(&self, job: JobId) -> Option<Attempt> {
        self.running.get(&job).map(|running| running.attempt)
    }

    /// Takes in something that happened at `at_s`; placements wait for [`Engine::settle`].
    pub fn handle(&mut self, at_s: f64, input: Input) {
        if self.detail == Detail::Full {
            let input = input.to_record(&self.scenario);
            self.records.push_back(Record::Input { at_s, input });
        }
        match input {
            Input::Submitted(job) => self.submit(at_s, job),
            Input::Usage {
                job,
                stage,
                from_s,
                to_s,
                busy_s,
            } => {
                if let Some(running) = self.running.get_mut(&job) {
                    let scenario = &self.scenario;
                    running
                        .accounts
                        .compute(scenario, stage, from_s, to_s, busy_s);
                }
            }
            Input::Progress { job, iterations } => {
                if let Some(running) = self.running.get_mut(&job) {
                    running.progress = iterations;
                }
            }
            Input::Finished(job) => {
                if self.release(at_s, job).is_some() {
                    let job = self.name(job);
                    self.records.push_back(Record::JobFinished { at_s, job });
                }
            }
            Input::Failed { job, reason } => self.fail(at_s, job, reason),
            Input::LinkChanged { link, rate, delay } => self.change_link(link, rate, delay),
            Input::GpusChanged { region, gpus } => self.change_gpus(at_s, region, gpus),
        }
    }

    /// All inputs of the instant `at_s` are in: places what can be placed, and tells running jobs their shares.
    pub fn settle(&mut self, at_s: f64) {
        if self.detail == Detail::Full {
            let input = InputRecord::Settle;
            self.records.push_back(Record::Input { at_s, input });
        }
        let (mut placed, mut passed_over) = (Vec::new(), Vec::new());
        self.renew_waiting();
        self.update_prices(at_s);
        while !self.waiting.is_empty() {
            let decision = self.decide(at_s);
            passed_over.extend(decision.passed_over);
            let Some(choice) = decision.placed else {
                break;
            };
            placed.push(self.place(at_s, choice));
        }
        self.update_iteration_times(&placed);
        for (job, reason) in placed {
            self.tell_placed(at_s, job, reason);
        }
        for passed in passed_over {
            self.tell_passed_over(at_s, passed);
        }
    }

    /// Nothing more will happen: tells of every job that still waits why it does, in the figures of `at_s`.
    ///
    /// Says nothing about a job whose last told reason still holds to the figure. Every instant must be settled.
    pub fn tell_waiting(&mut self, at_s: f64) {
        if self.detail != Detail::Full || self.waiting.is_empty() {
            return;
        }
        self.update_prices(at_s);
        for PassedOver { job, cause } in self.decide(at_s).passed_over {
            if self.told[job.index()].as_ref() != Some(&cause) {
                self.record_passed_over(at_s, job, cause);
            }
        }
    }

    /// The next order, oldest first.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// The next record, oldest first.
    pub fn poll_record(&mut self) -> Option<Record> {
        self.records.pop_front()
    }

    fn update_prices(&mut self, at_s: f64) {
        if self.waiting.is_empty() {
            return;
        }
        for (price, region) in self.prices.iter_mut().zip(&self.scenario.regions) {
            *price = region.price.at(at_s);
        }
    }

    fn decide(&self, at_s: f64) -> Decision {
        self.policy.decide(&ClusterView {
            at_s,
            scenario: &self.scenario,
            cluster: &self.cluster,
            estimates: &self.estimates,
            prices: &self.prices,
            waiting: &self.waiting,
            explain: self.detail == Detail::Full,
        })
    }

    fn submit(&mut self, at_s: f64, job: JobId) {
        if std::mem::replace(&mut self.submitted[job.index()], true) {
            return;
        }
        let shares = self.shares_of(job);
        match shares.or_else(|refusal| self.shares_to_come(job, refusal)) {
            Ok(shares) => self.enqueue(job, shares),
            Err(refusal) => {
                let (job, reason) = (self.name(job), refusal.to_string());
                self.records
                    .push_back(Record::Refused { at_s, job, reason });
            }
        }
    }

    /// K* and K° on the idle cluster with links as they are now.
    fn shares_of(&mut self, id: JobId) -> Result<Shares, Refusal> {
        let kind = self.estimates.kind_id(id);
        let micro_batches = self.scenario.jobs[id.index()].micro_batches;
        if let Some(known) = self.shares.get(&(kind, micro_batches)) {
            return known.clone();
        }
        let shares = self.shares_over(&self.idle, id);
        self.shares.insert((kind, micro_batches), shares.clone());
        shares
    }

    fn shares_over(&self, idle: &Cluster, job: JobId) -> Result<Shares, Refusal> {
        let least = self.least_shares(job)?;
        let idle = IdleView {
            scenario: &self.scenario,
            cluster: idle,
            estimates: &self.estimates,
        };
        let kind = self.estimates.kind_id(job);
        let k_full = self
            .policy
            .full_share(&idle, kind, least.k_min, least.k_star)?;
        Ok(Shares { k_full, ..least })
    }

    /// With K_min for K°: what a job waits for while no path joins as many on the idle cluster.
    fn least_shares(&self, job: JobId) -> Result<Shares, Refusal> {
        let micro_batches = self.scenario.jobs[job.index()].micro_batches;
        let k_star = self.estimates.best_stages(job, micro_batches)?;
        let kind = self.estimates.kind_id(job);
        let k_min = self.estimates.kind(kind).fewest_gpus() as u32;
        Ok(Shares {
            k_min,
            k_star,
            k_full: Some(k_min),
        })
    }

    /// For a job that is refused as links are now: whether it can wait for what they will be.
    fn shares_to_come(&self, job: JobId, now: Refusal) -> Result<Shares, Refusal> {
        // What a driver hands in a little late is still to come behind an arrival that was planned before it.
        let arrival_s = self.scenario.jobs[job.index()].arrival_s;
        let mut best = None;
        for change in &self.scenario.link_changes {
            let known = best.as_ref().unwrap_or(&self.idle);
            if change.at_s > arrival_s && change.rate.bps() > known.capacity_bps(change.link) {
                let best = best.get_or_insert_with(|| self.idle.clone());
                best.set_link(change.link, change.rate, change.delay, &mut Vec::new());
            }
        }
        self.shares_over(&best.ok_or(now)?, job)?;
        self.least_shares(job)
    }

    fn change_link(&mut self, link: LinkId, rate: BitRate, delay: Delay) {
        self.cluster.set_link(link, rate, delay, &mut self.touched);
        if self.idle.capacity_bps(link) != rate.bps() {
            self.shares.clear();
            self.outdated = true;
        }
        self.idle.set_link(link, rate, delay, &mut Vec::new());
    }

    /// Looks for K° of the waiting jobs again where links changed.
    fn renew_waiting(&mut self) {
        if !std::mem::take(&mut self.outdated) {
            return;
        }
        for waiting in std::mem::take(&mut self.waiting) {
            self.wait_on(waiting.job);
        }
    }

    /// Queues a job that was accepted before, whether or not links would hold it now.
    fn wait_on(&mut self, job: JobId) {
        let shares = self.shares_of(job).or_else(|_| self.least_shares(job));
        self.enqueue(job, shares.expect("K* does not change, and it had one"));
    }

    /// Puts a job into the queue.
    fn enqueue(&mut self, id: JobId, shares: Shares) {
        let job = &self.scenario.jobs[id.index()];
        let kind = self.estimates.kind_id(id);
        let known = self.estimates.kind(kind);
        let stages = shares.k_full.unwrap_or(shares.k_star);
        let stage_s = known.largest_stage_s(stages, self.estimates.slowest_speed());
        let waiting = Waiting {
            job: id,
            arrival_s: job.arrival_s,
            kind,
            k_min: shares.k_min,
            k_star: shares.k_star,
            k_full: shares.k_full,
            compute_s: f64::from(job.iterations)
                * pipeline_slots(job.micro_batches, stages)
                * stage_s,
            demand_bps: known.boundary_bits() / stage_s,
        };
        let position = self.waiting.partition_point(|other| {
            (other.arrival_s, other.job) <= (waiting.arrival_s, waiting.job)
        });
        self.waiting.insert(position, waiting);
    }

    /// Applies a choice: GPUs, flows, accounts.
    fn place(&mut self, at_s: f64, choice: Choice) -> (JobId, PlacementReason) {
        let Choice { job, path, reason } = choice;
        self.waiting.retain(|waiting| waiting.job != job);
        self.told[job.index()] = None;
        let kind = self.estimates.kind(self.estimates.kind_id(job));
        let split = split(&self.scenario, kind, &path);
        let times = PipelineTimes::of(
            &self.scenario,
            &self.cluster,
            &self.scenario.jobs[job.index()],
            kind.boundary_bits(),
            &path,
            split.largest_s,
        );
        self.cluster
            .place(job, &path, times.demand_bps(), &mut self.touched);
        let placement = Placement {
            path,
            layers: split.layers,
        };
        let (attempt, done) = self.history[job.index()];
        self.history[job.index()].0 += 1;
        self.starts += 1;
        let running = Running {
            attempt: Attempt(attempt),
            accounts: Accounts::open(at_s, placement.stage_regions()),
            placement,
            stage_seconds: split.stage_seconds,
            times,
            iteration_s: f64::NAN,
            order: self.starts,
            first_iteration: done,
            progress: f64::from(done),
        };
        self.running.insert(job, running);
        (job, reason)
    }

    /// Recomputes T of jobs on changed links; tells those that ran before and whose T changed.
    fn update_iteration_times(&mut self, placed: &[(JobId, PlacementReason)]) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.extend(placed.iter().map(|(job, _)| *job));
        touched.sort_unstable();
        touched.dedup();
        for job in touched {
            let Some(running) = self.running.get_mut(&job) else {
                continue;
            };
            let before = running.iteration_s;
            let now = running.iteration_s_now(&self.scenario, &self.cluster, job);
            let same = before == now || (before - now).abs() <= TIE * before.min(now);
            if same {
                continue;
            }
            running.iteration_s = now;
            if !before.is_nan() {
                let rates = running.changed_rates(&self.scenario, &self.cluster, job);
                self.commands.push_back(Command::Rates(rates));
            }
        }
    }

    fn tell_placed(&mut self, at_s: f64, job: JobId, reason: PlacementReason) {
        let running = &self.running[&job];
        let start = running.start(&self.scenario, &self.cluster, job);
        let path = running.placement.path.iter().map(|part| PlacedRegion {
            region: self.scenario.regions[part.region.index()].name.clone(),
            gpus: part.gpus,
        });
        self.records.push_back(Record::Placed {
            at_s,
            job: self.name(job),
            attempt: running.attempt,
            k: running.placement.stages(),
            k_star: reason.k_star,
            path: path.collect(),
            layers: running.placement.layers.clone(),
            iteration_s: running.iteration_s,
            reason: self.as_data(&reason),
        });
        self.commands.push_back(Command::Start(Box::new(start)));
    }

    fn tell_passed_over(&mut self, at_s: f64, passed: PassedOver) {
        let PassedOver { job, cause } = passed;
        let told = &self.told[job.index()];
        let known = told.as_ref().is_some_and(|old| old.same_cause(&cause));
        if known || self.detail != Detail::Full || self.running.contains_key(&job) {
            return;
        }
        self.record_passed_over(at_s, job, cause);
    }

    fn record_passed_over(&mut self, at_s: f64, job: JobId, cause: Shortfall) {
        self.records.push_back(Record::PassedOver {
            at_s,
            job: self.name(job),
            why: cause.to_string(),
            reason: self.as_data(&cause),
        });
        self.told[job.index()] = Some(cause);
    }

    fn as_data(&self, reason: &impl Serialize) -> serde_json::Value {
        match self.detail {
            Detail::Full => serde_json::to_value(reason)
                .expect("reasons are structs of numbers and strings, which JSON can hold"),
            Detail::Outcomes => serde_json::Value::Null,
        }
    }

    fn fail(&mut self, at_s: f64, job: JobId, reason: String) {
        let waited = self.waiting.iter().position(|waiting| waiting.job == job);
        if let Some(position) = waited {
            self.waiting.remove(position);
        }
        if self.release(at_s, job).is_some() || waited.is_some() {
            let job = self.name(job);
            self.records
                .push_back(Record::JobFailed { at_s, job, reason });
        }
    }

    /// Sets a region's GPUs; the jobs that started last lose theirs and wait again.
    fn change_gpus(&mut self, at_s: f64, region: RegionId, gpus: u32) {
        self.cluster.set_gpus(region, gpus);
        while self.cluster.overcommitted(region) > 0 {
            let holds = |running: &Running| {
                let path = &running.placement.path;
                path.iter().any(|part| part.region == region)
            };
            let holders = self.running.iter().filter(|(_, running)| holds(running));
            let Some((&job, _)) = holders.max_by_key(|(_, running)| running.order) else {
                break;
            };
            let Some(running) = self.release(at_s, job) else {
                break;
            };
            let whole = (running.progress + PROGRESS_SLACK).floor() as u32;
            self.history[job.index()].1 = whole.min(self.scenario.jobs[job.index()].iterations);
            let name = &self.scenario.regions[region.index()].name;
            self.commands.push_back(Command::Cancel {
                job,
                attempt: running.attempt,
                reason: format!("{name} has {gpus} GPUs left"),
            });
            self.wait_on(job);
        }
    }

    /// Takes a job off the cluster and closes its accounts.
    fn release(&mut self, at_s: f64, job: JobId) -> Option<Running> {
        let mut running = self.running.remove(&job)?;
        self.cluster
            .release(job, &running.placement.path, &mut self.touched);
        let accounts = std::mem::replace(&mut running.accounts, Accounts::open(at_s, Vec::new()));
        let name = &self.scenario.jobs[job.index()].name;
        let uses = accounts.close(&self.scenario, at_s, name, running.attempt);
        self.records.extend(uses.into_iter().map(Record::Energy));
        Some(running)
    }

    fn name(&self, job: JobId) -> String {
        self.scenario.jobs[job.index()].name.clone()
    }
}
