//! A placed job as the driver sees it: which workers hold its stages, and how far each is.

use std::collections::BTreeMap;

use bace_api::{
    ActionsRecord, ComputePlan, ComputeRung, DatagramSummary, IterationRecord, IterationReport,
    Neighbour, Prepare, Program, Record, SetUpReport, StageFinished, StageIndex, ToWorker,
    TransferSummary, WorkerId,
};
use bace_engine::{Cluster, Scenario, Start};
use bace_netem::LinkId;

use super::fleet::{Fleet, Worker, part_of};

/// What a worker tells of a stage that is ready to train.
#[derive(Debug, Clone, Copy)]
pub struct PreparedStage {
    /// Its parameters.
    pub parameters: u64,
    /// What it took until then.
    pub set_up: SetUpReport,
}

/// A job from its placement until its workers are free again.
#[derive(Debug)]
pub struct ActiveJob {
    /// The engine's order.
    pub start: Box<Start>,
    /// The worker of each stage.
    pub workers: Vec<WorkerId>,
    /// The stages that are ready to train.
    prepared: BTreeMap<StageIndex, PreparedStage>,
    /// Iterations that each stage has ended.
    iterations: Vec<u32>,
    finished: BTreeMap<StageIndex, StageFinished>,
    /// Hashes of each stage's final weights; the stage's worker is free.
    released: BTreeMap<StageIndex, Vec<(String, String)>>,
    /// Whether it is being taken down, finished or not.
    pub is_ending: bool,
    succeeded: bool,
}

impl ActiveJob {
    /// A job whose stages are about to be prepared by `workers`.
    pub fn new(start: Box<Start>, workers: Vec<WorkerId>) -> Self {
        Self {
            iterations: vec![0; workers.len()],
            start,
            workers,
            prepared: BTreeMap::new(),
            finished: BTreeMap::new(),
            released: BTreeMap::new(),
            is_ending: false,
            succeeded: false,
        }
    }

    /// The stage that `worker` holds.
    pub fn stage_of(&self, worker: WorkerId) -> Option<StageIndex> {
        let index = self.workers.iter().position(|&of| of == worker)?;
        u32::try_from(index).ok().map(StageIndex)
    }

    /// A stage is ready to train; whether all are.
    pub fn prepared(&mut self, stage: StageIndex, told: PreparedStage) -> bool {
        self.prepared.insert(stage, told);
        self.prepared.len() == self.workers.len()
    }

    /// A stage has ended an iteration; how many all stages have ended, if that grew.
    pub fn iteration_ended(&mut self, stage: StageIndex) -> Option<u32> {
        let least = |iterations: &[u32]| iterations.iter().copied().min().unwrap_or_default();
        let before = least(&self.iterations);
        self.iterations[stage.index()] += 1;
        let now = least(&self.iterations);
        (now > before).then_some(now)
    }

    /// A stage has ended its last step; whether all have.
    pub fn stage_finished(&mut self, finished: StageFinished) -> bool {
        self.finished.insert(finished.stage, finished);
        self.succeeded = self.finished.len() == self.workers.len();
        self.succeeded
    }

    /// A stage's worker is free or gone; whether all are.
    pub fn stage_released(&mut self, stage: StageIndex, weights: Vec<(String, String)>) -> bool {
        self.released.insert(stage, weights);
        self.released.len() == self.workers.len()
    }

    /// Hashes of the final weights in model order; none unless all stages have told theirs.
    pub fn weights(self) -> Vec<(String, String)> {
        // A worker that died after its last step has taken its hashes along.
        if !self.succeeded || self.released.values().any(Vec::is_empty) {
            return Vec::new();
        }
        self.released.into_values().flatten().collect()
    }

    /// That training begins, once all stages are ready.
    pub fn training(&self, at_s: f64, scenario: &Scenario, text_hash: Option<String>) -> Record {
        let scale = scenario.compute.time_scale;
        let stages = self.prepared.values();
        let set_up = stages.clone().map(|stage| stage.set_up.emulated(scale));
        let workers = self.workers.iter();
        Record::Training {
            at_s,
            job: scenario.jobs[self.start.job.index()].name.clone(),
            attempt: self.start.attempt,
            workers: workers.map(|worker| worker.certificate_name()).collect(),
            parameters: stages.map(|stage| stage.parameters).sum(),
            text_hash,
            set_up: set_up.collect(),
        }
    }

    /// What crossed each direction of each boundary, in emulated seconds.
    pub fn transfers(&self, at_s: f64, scenario: &Scenario) -> Vec<Record> {
        let scale = scenario.compute.time_scale;
        let job = &scenario.jobs[self.start.job.index()];
        let regions = self.start.placement.stage_regions();
        let region = |stage: StageIndex| {
            scenario.regions[regions[stage.index()].index()]
                .name
                .clone()
        };
        let record = |[from, to]: [StageIndex; 2],
                      sent: TransferSummary,
                      received: TransferSummary,
                      datagrams: Option<DatagramSummary>| {
            Record::Transfer {
                at_s,
                job: job.name.clone(),
                attempt: self.start.attempt,
                from_stage: from,
                to_stage: to,
                from: region(from),
                to: region(to),
                carried_bytes: job
                    .scale_model
                    .is_some()
                    .then(|| sent.messages.saturating_mul(job.boundary_bytes())),
                summary: TransferSummary {
                    messages: sent.messages,
                    bytes: sent.bytes,
                    // Lateness shows where it arrives.
                    late_arrivals: received.late_arrivals,
                    worst_late_s: received.worst_late_s,
                }
                .emulated(scale),
                datagrams: datagrams.map(|datagrams| datagrams.emulated(scale)),
            }
        };
        let stages: Vec<&StageFinished> = self.finished.values().collect();
        let boundaries = stages.windows(2).filter_map(|pair| {
            let (upper, lower) = (pair[0], pair[1]);
            let (down, up) = (upper.next?, lower.previous?);
            let [above, below] = [upper.stage, lower.stage];
            Some([
                record([above, below], down, up, upper.next_datagrams),
                record([below, above], up, down, lower.previous_datagrams),
            ])
        });
        boundaries.flatten().collect()
    }
}

/// A job about to be loaded by its workers.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// What links give at present.
    pub cluster: &'a Cluster,
    /// All workers.
    pub fleet: &'a Fleet,
    /// Who takes the time of compute.
    pub compute: ComputeRung,
    /// Whether its workers tell of every action.
    pub tells_actions: bool,
    /// The engine's order.
    pub start: &'a Start,
    /// The worker of each stage.
    pub workers: &'a [WorkerId],
}

impl Launch<'_> {
    /// What every stage is told to prepare, in stage order.
    pub fn prepares(&self, program: Program) -> Vec<ToWorker> {
        let Self {
            scenario,
            start,
            workers,
            ..
        } = self;
        let job = &scenario.jobs[start.job.index()];
        let stages = (0..)
            .map(StageIndex)
            .zip(program.stages)
            .zip(&start.stage_seconds);
        let prepares = stages.map(|((stage, program), takes)| {
            ToWorker::Prepare(Box::new(Prepare {
                id: start.job,
                attempt: start.attempt,
                job: job.trained(),
                boundary_stands_for_bytes: job.scale_model.as_ref().map(|_| job.boundary_bytes()),
                seed: scenario.seed,
                stage,
                stages: start.placement.stages(),
                layers: start.placement.layers_of(stage),
                program,
                previous: stage
                    .0
                    .checked_sub(1)
                    .map(|to| self.neighbour(stage, StageIndex(to))),
                next: (stage.index() + 1 < workers.len())
                    .then(|| self.neighbour(stage, StageIndex(stage.0 + 1))),
                compute: ComputePlan {
                    rung: self.compute,
                    forward_s: takes.forward_s,
                    backward_s: takes.backward_s(),
                }
                .wall(scenario.compute.time_scale),
                tells_actions: self.tells_actions,
            }))
        });
        prepares.collect()
    }

    /// The stage `to` and the directed link that leads there from `from`, in wall seconds.
    fn neighbour(&self, from: StageIndex, to: StageIndex) -> Neighbour {
        let regions = self.start.placement.stage_regions();
        let link = LinkId::new(regions[from.index()], regions[to.index()]);
        let scale = self.scenario.compute.time_scale;
        let spec = |sender: StageIndex, link: LinkId| {
            if link.is_fabric() {
                return scale.wall_link(self.scenario.regions[link.from.index()].fabric);
            }
            let present = self.cluster.present(link, self.scenario.links[&link]);
            let share = self.fleet.share_of(self.workers[sender.index()], link.from);
            part_of(scale.wall_link(present), share)
        };
        let worker: &Worker = &self.fleet.workers[self.workers[to.index()].index()];
        Neighbour {
            worker: worker.seat.worker,
            address: worker.address,
            link_id: link,
            link: spec(from, link),
            back: spec(to, link.reversed()),
            clock: self.fleet.clock_of(link),
            clock_back: self.fleet.clock_of(link.reversed()),
            is_elsewhere: self
                .fleet
                .are_apart(self.workers[from.index()], worker.seat.worker),
        }
    }
}

/// The ledger's record of a worker's report; `seconds` turns the host's monotonic clock into the run's emulated seconds.
pub fn iteration_record(
    scenario: &Scenario,
    report: &IterationReport,
    seconds: impl Fn(u64) -> f64,
) -> IterationRecord {
    let job = &scenario.jobs[report.job.index()];
    let scale = scenario.compute.time_scale;
    IterationRecord {
        job: job.name.clone(),
        attempt: report.attempt,
        stage: report.stage,
        iteration: report.iteration,
        from_s: seconds(report.begin_ns),
        to_s: seconds(report.end_ns),
        times: report.times.emulated(scale),
        loss: report.loss,
        tokens: report.is_last_stage.then(|| job.iteration_tokens()),
        device_s: report.device_s.map(|wall_s| scale.emulated_seconds(wall_s)),
        lease_wait_s: report
            .lease_wait_s
            .map(|wall_s| scale.emulated_seconds(wall_s)),
        actions: report.actions,
        overruns: report.overruns,
        worst_overrun_s: scale.emulated_seconds(report.worst_overrun_s),
        overrun_s: report
            .actions
            .map(|_| scale.emulated_seconds(report.overrun_s)),
        scale_without_overrun: report.scale_without_overrun,
    }
}

/// The ledger's record of what a worker's report tells action by action, likewise; absent where it does not.
pub fn actions_record(
    scenario: &Scenario,
    report: &IterationReport,
    seconds: impl Fn(u64) -> f64,
) -> Option<ActionsRecord> {
    let scale = scenario.compute.time_scale;
    let spans = report.spans.iter();
    let spans = spans.map(|span| span.emulated(scale, &seconds));
    (!report.spans.is_empty()).then(|| ActionsRecord {
        job: scenario.jobs[report.job.index()].name.clone(),
        attempt: report.attempt,
        stage: report.stage,
        iteration: report.iteration,
        spans: spans.collect(),
    })
}
