//! One running job: its stages, what is under way between them, and its rhythm.
//!
//! Stage 0's step ends an iteration for all stages: by then everything under way has arrived, and every other stage has
//! stepped or, where steps take time, is at it. So an iteration that nothing outside the job disturbs, and that no other
//! stage's step reaches into, is like the one before it, unless a link draws lots or remembers what it has carried. Times inside a run count from the
//! end of the last iteration, so that such iterations are alike to the last bit.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use bace_api::{
    Attempt, Boundary, JobId, MessageTimes, Program, StageIndex, TensorKind, TransferSummary,
};
use bace_engine::{Scenario, Start};
use bace_netem::{FlowKey, LinkId, LinkSpec, RegionId};

use super::flow::{Flow, Tensors};
use super::machine_time::MachineTime;
use super::road::{Channel, Fabric, Road};
use super::stage::{BusySpan, Doing, Stage, StageIteration, slot};

/// Durations of iterations this close, relative, are the same.
const SAME: f64 = 1e-11;

/// Most iterations that are repeated at once where each becomes a record, so that records flow off before they pile up.
const REPEATED_AT_ONCE: u32 = 1_000;

/// Most actions of iterations repeated at once where each becomes a part of a record, but for those of a single iteration: 2 MB.
const REPEATED_ACTIONS_AT_ONCE: usize = 10_000;

/// A job between its start and its end.
#[derive(Debug)]
pub(super) struct Run {
    pub job: JobId,
    pub attempt: Attempt,
    /// Iterations done by earlier starts.
    pub first_iteration: u32,
    /// Its transfers on links between regions.
    pub flows: Vec<Flow>,
    /// Links on which a tensor asks for its turn; the caller clears it.
    pub touched: Vec<LinkId>,
    /// Iterations that stages have ended; the caller clears it. Empty if nobody wants them.
    pub ended: Vec<StageIteration>,
    keep_ended: bool,
    stages: Vec<Stage>,
    /// Of each stage, not told to anybody yet, in seconds of the run's clock.
    spans: Vec<Vec<BusySpan>>,
    boundaries: Vec<[Channel; 2]>,
    regions: Vec<RegionId>,
    events: BinaryHeap<Event>,
    events_made: u64,
    iterations: u32,
    bytes: u64,
    micro_batches: u32,
    /// The end of the last iteration, seconds from the start of the simulation.
    origin_s: f64,
    /// Whether something outside has changed the job's links since then.
    disturbed: bool,
    /// Duration of the last iteration, if undisturbed.
    duration_s: Option<f64>,
    /// Iterations done since the job sleeps; the rest of it stands where it fell asleep, so that it makes no difference in how
    /// many parts they are told.
    slept: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Something happens at [`Run::next_s`].
    Running,
    /// Between two iterations.
    Pausing {
        /// Whether the last two iterations were alike.
        steady: bool,
    },
    /// The iterations to come are left to arithmetic.
    Sleeping,
    /// All iterations are done.
    Done,
}

#[derive(Debug, Clone, Copy)]
struct Event {
    at_s: f64,
    order: u64,
    kind: EventKind,
}

#[derive(Debug, Clone, Copy)]
enum EventKind {
    Computed(usize),
    Arrived(usize, TensorKind),
}

/// One direction of a boundary over a whole run.
#[derive(Debug)]
pub(super) struct Transferred {
    pub from_stage: u32,
    pub to_stage: u32,
    pub from: RegionId,
    pub to: RegionId,
    pub summary: TransferSummary,
}

impl Run {
    /// The run of `start` by `program` from `now_s` on; `present` is what a link gives then.
    pub fn new(
        scenario: &Scenario,
        present: impl Fn(LinkId) -> LinkSpec,
        start: &Start,
        program: Program,
        now_s: f64,
    ) -> Self {
        let job = &scenario.jobs[start.job.index()];
        let iterations = job.iterations.saturating_sub(start.first_iteration);
        let stages = program.stages.into_iter().zip(&start.stage_seconds);
        let stages: Vec<Stage> = stages
            .zip(0..)
            .map(|((program, &takes), index)| Stage::new(index, program, takes, iterations))
            .collect();
        let mut run = Self {
            job: start.job,
            attempt: start.attempt,
            first_iteration: start.first_iteration,
            flows: Vec::new(),
            touched: Vec::new(),
            ended: Vec::new(),
            keep_ended: false,
            spans: vec![Vec::new(); stages.len()],
            stages,
            boundaries: Vec::new(),
            regions: start.placement.stage_regions(),
            events: BinaryHeap::new(),
            events_made: 0,
            iterations,
            bytes: job.boundary_bytes(),
            micro_batches: job.micro_batches,
            origin_s: now_s,
            disturbed: false,
            duration_s: None,
            slept: 0,
            state: State::Running,
        };
        for (index, boundary) in start.placement.boundaries().into_iter().enumerate() {
            let roads = run.roads(scenario, &present, boundary, index as u32);
            run.boundaries.push(roads.map(Channel::new));
        }
        for flow in &mut run.flows {
            flow.rebase(now_s);
        }
        run
    }

    fn roads(
        &mut self,
        scenario: &Scenario,
        present: impl Fn(LinkId) -> LinkSpec,
        boundary: Boundary,
        upper: u32,
    ) -> [Road; 2] {
        match boundary {
            Boundary::Fabric(region) => {
                let LinkSpec { rate, delay, .. } = scenario.regions[region.index()].fabric;
                [(); 2].map(|()| Road::Fabric(Fabric::new(rate.seconds_for(self.bytes), delay)))
            }
            Boundary::Link(link) => [
                (link, upper, upper + 1, TensorKind::Activation),
                (link.reversed(), upper + 1, upper, TensorKind::Gradient),
            ]
            .map(|(link, from_stage, to_stage, kind)| {
                let key = FlowKey {
                    seed: scenario.seed,
                    link,
                    job: self.job.0,
                    from_stage,
                    to_stage,
                };
                let (spec, bytes) = (present(link), self.bytes);
                let tensors = Tensors { bytes, kind };
                let time = MachineTime {
                    scale: scenario.compute.time_scale,
                };
                self.flows.push(Flow::new(key, &spec, tensors, time));
                Road::Flow(self.flows.len() - 1)
            }),
        }
    }

    /// Asks for every stage's iterations in [`Run::ended`].
    pub fn keep_ended(&mut self) {
        self.keep_ended = true;
    }

    /// Asks for the actions of those iterations as well.
    pub fn keep_actions(&mut self) {
        for stage in &mut self.stages {
            stage.log.is_kept = true;
        }
    }

    /// Lets every stage begin.
    pub fn begin(&mut self) {
        for stage in 0..self.stages.len() {
            self.go(stage, 0.0);
        }
        self.end_if_done();
    }

    /// When something happens next; infinite if nothing does.
    pub fn next_s(&self) -> f64 {
        match self.state {
            State::Sleeping => self.sleeps_to_s(),
            State::Done => self.origin_s,
            _ => self.origin_s + self.next_event_s(),
        }
    }

    /// Lets the next thing happen.
    pub fn step(&mut self) {
        if self.state == State::Sleeping {
            self.sleep_through(self.slept_at_once());
            if self.left() == 0 {
                self.awake();
                self.state = State::Done;
            }
            return;
        }
        let now_s = self.next_event_s();
        if let Some(index) = self.flows.iter().position(|flow| flow.next_s() <= now_s) {
            let flow = &mut self.flows[index];
            match flow.take_left(now_s) {
                Some(message) => {
                    let (to, kind) = (flow.to_stage, flow.kind);
                    self.deliver(to, kind, message);
                }
                None => self.touched.push(flow.link()),
            }
            return;
        }
        let Some(event) = self.events.pop() else {
            return;
        };
        let stage = match event.kind {
            EventKind::Computed(stage) => {
                self.stages[stage].computed();
                stage
            }
            EventKind::Arrived(stage, kind) => {
                let channel = &mut self.boundaries[boundary_before(stage, kind)][slot(kind)];
                self.stages[stage].inbox[slot(kind)].extend(channel.under_way.pop_front());
                stage
            }
        };
        self.go(stage, now_s);
        self.end_if_done();
    }

    /// Between two iterations, whether those to come will be like the last one if nothing disturbs them; then
    /// [`Run::go_on`] or [`Run::sleep`] has to follow. `None` at other times.
    pub fn pausing(&self) -> Option<bool> {
        match self.state {
            State::Pausing { steady } => Some(steady),
            _ => None,
        }
    }

    /// Whether all iterations are done.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Begins the next iteration.
    pub fn go_on(&mut self) {
        self.state = State::Running;
        self.go(0, 0.0);
    }

    /// Leaves the iterations to come to arithmetic.
    pub fn sleep(&mut self) {
        self.state = State::Sleeping;
    }

    /// Accounts for the whole iterations that a sleeping job has done by `now_s`, and goes on from there.
    pub fn wake(&mut self, now_s: f64) {
        let (State::Sleeping, Some(duration_s)) = (self.state, self.duration_s) else {
            return;
        };
        // One iteration is left to be walked, since it is what ends a run.
        let most = f64::from((self.slept + self.left()).saturating_sub(1));
        let mut done = ((now_s - self.origin_s) / duration_s)
            .floor()
            .clamp(f64::from(self.slept), most);
        // Rounding must not put the next begin into the future.
        if done > f64::from(self.slept) && self.origin_s + done * duration_s > now_s {
            done -= 1.0;
        }
        self.sleep_through(done as u32 - self.slept);
        self.awake();
        self.go_on();
    }

    /// Notes that the rates of the job's links are not its own affair any more.
    pub fn disturb(&mut self) {
        self.disturbed = true;
    }

    /// Iterations that all stages have ended since this start.
    pub fn done(&self) -> u32 {
        let ended = self.stages.iter().map(|stage| stage.walk.iteration().0);
        ended.min().unwrap_or_default() + self.slept
    }

    /// The stage that knows the loss.
    pub fn last_stage(&self) -> StageIndex {
        StageIndex(self.stages.len() as u32 - 1)
    }

    /// Busy spans of all stages up to `now_s` that have not been taken yet, on the simulation's clock.
    pub fn take_spans(&mut self, now_s: f64) -> Vec<Vec<BusySpan>> {
        let local_s = now_s - self.origin_s;
        for (stage, spans) in self.stages.iter_mut().zip(&mut self.spans) {
            let span = global(stage.note(local_s), self.origin_s);
            if span.to_s > span.from_s {
                add(spans, span);
            }
        }
        let empty = vec![Vec::new(); self.stages.len()];
        std::mem::replace(&mut self.spans, empty)
    }

    /// What has crossed each boundary in each direction.
    pub fn transferred(&self) -> impl Iterator<Item = Transferred> + '_ {
        self.boundaries
            .iter()
            .zip(0_u32..)
            .flat_map(move |(channels, boundary)| {
                let ends = [(boundary, boundary + 1), (boundary + 1, boundary)];
                channels
                    .iter()
                    .zip(ends)
                    .map(move |(channel, (from, to))| Transferred {
                        from_stage: from,
                        to_stage: to,
                        from: self.regions[from as usize],
                        to: self.regions[to as usize],
                        summary: TransferSummary {
                            messages: channel.messages,
                            bytes: channel.messages * self.bytes,
                            ..TransferSummary::default()
                        },
                    })
            })
    }

    fn next_event_s(&self) -> f64 {
        let event_s = self.events.peek().map_or(f64::INFINITY, |event| event.at_s);
        self.flows.iter().map(Flow::next_s).fold(event_s, f64::min)
    }

    fn sleeps_to_s(&self) -> f64 {
        let duration_s = self.duration_s.unwrap_or(f64::INFINITY);
        self.origin_s + f64::from(self.slept + self.slept_at_once()) * duration_s
    }

    fn slept_at_once(&self) -> u32 {
        if !self.keep_ended {
            return self.left();
        }
        let actions: usize = self.stages.iter().map(Stage::kept_actions).sum();
        let most = match REPEATED_ACTIONS_AT_ONCE.checked_div(actions) {
            Some(iterations) => (iterations as u32).clamp(1, REPEATED_AT_ONCE),
            None => REPEATED_AT_ONCE,
        };
        self.left().min(most)
    }

    fn left(&self) -> u32 {
        self.iterations - self.done()
    }

    /// Lets a stage do what it can do now.
    fn go(&mut self, stage: usize, now_s: f64) {
        loop {
            match self.stages[stage].act(now_s) {
                Doing::Nothing => return,
                Doing::Computing(to_s) => {
                    self.schedule(to_s, EventKind::Computed(stage));
                    return;
                }
                Doing::Sending(kind) => self.send(stage, kind, now_s),
                Doing::Stepped(ended) => {
                    let span = global(self.stages[stage].note(now_s), self.origin_s);
                    add(&mut self.spans[stage], span);
                    self.keep(ended);
                    if stage == 0 {
                        self.end_iteration(now_s);
                        return;
                    }
                }
            }
        }
    }

    fn send(&mut self, stage: usize, kind: TensorKind, now_s: f64) {
        let to = match kind {
            TensorKind::Activation => stage + 1,
            TensorKind::Gradient => stage - 1,
        };
        let channel = &mut self.boundaries[boundary_before(to, kind)][slot(kind)];
        channel.messages += 1;
        match &mut channel.road {
            Road::Fabric(fabric) => {
                let message = fabric.carry(now_s);
                self.deliver(to, kind, message);
            }
            Road::Flow(index) => {
                self.flows[*index].enqueue(now_s);
            }
        }
    }

    /// A tensor has left for stage `to`.
    fn deliver(&mut self, to: usize, kind: TensorKind, message: MessageTimes) {
        let channel = &mut self.boundaries[boundary_before(to, kind)][slot(kind)];
        channel.under_way.push_back(message);
        self.schedule(message.due_s, EventKind::Arrived(to, kind));
    }

    /// Stage 0 has stepped.
    fn end_iteration(&mut self, now_s: f64) {
        let steady = !self.disturbed
            && self.events.is_empty()
            && self.flows.iter().all(Flow::repeats)
            && self
                .duration_s
                .is_some_and(|before_s| (before_s - now_s).abs() <= SAME * now_s);
        self.duration_s = (!self.disturbed).then_some(now_s);
        self.disturbed = false;
        self.rebase(now_s);
        self.state = State::Pausing { steady };
    }

    /// Moves the origin of the run's clock to `origin_s` of that clock.
    fn rebase(&mut self, origin_s: f64) {
        self.origin_s += origin_s;
        for stage in &mut self.stages {
            stage.rebase(origin_s);
        }
        // Steps that other stages are at.
        if !self.events.is_empty() {
            let events = std::mem::take(&mut self.events);
            let moved = events.into_iter().map(|event| Event {
                at_s: event.at_s - origin_s,
                ..event
            });
            self.events = moved.collect();
        }
        // Everything has arrived.
        for flow in &mut self.flows {
            flow.rebase(origin_s);
        }
        for channel in self.boundaries.iter_mut().flatten() {
            channel.rebase();
        }
    }

    /// Does `count` further iterations like the last one that was walked.
    fn sleep_through(&mut self, count: u32) {
        let before = self.slept;
        self.slept += count;
        let Some(duration_s) = self.duration_s.filter(|_| self.keep_ended) else {
            return;
        };
        for index in 0..self.stages.len() {
            let Some(last) = self.stages[index].last().cloned() else {
                continue;
            };
            for k in before + 1..=self.slept {
                self.keep(last.later(k, f64::from(k) * duration_s));
            }
        }
    }

    /// Accounts for all iterations that were slept through.
    fn awake(&mut self) {
        let count = std::mem::take(&mut self.slept);
        let Some(duration_s) = self.duration_s.filter(|_| count > 0) else {
            return;
        };
        for (stage, spans) in self.stages.iter_mut().zip(&mut self.spans) {
            if let Some(span) = stage.repeat(count, duration_s) {
                add(spans, global(span, self.origin_s));
            }
        }
        for channel in self.boundaries.iter_mut().flatten() {
            channel.messages += u64::from(count) * u64::from(self.micro_batches);
        }
        self.rebase(f64::from(count) * duration_s);
    }

    fn keep(&mut self, mut ended: StageIteration) {
        if self.keep_ended {
            ended.shift(self.origin_s);
            self.ended.push(ended);
        }
    }

    fn end_if_done(&mut self) {
        if self
            .stages
            .iter()
            .all(|stage| stage.walk.action().is_none())
        {
            self.state = State::Done;
        }
    }

    fn schedule(&mut self, at_s: f64, kind: EventKind) {
        self.events_made += 1;
        self.events.push(Event {
            at_s,
            order: self.events_made,
            kind,
        });
    }
}

/// The boundary that tensors of `kind` cross on their way to stage `to`.
fn boundary_before(to: usize, kind: TensorKind) -> usize {
    match kind {
        TensorKind::Activation => to - 1,
        TensorKind::Gradient => to,
    }
}

fn global(span: BusySpan, origin_s: f64) -> BusySpan {
    BusySpan {
        from_s: span.from_s + origin_s,
        to_s: span.to_s + origin_s,
        busy_s: span.busy_s,
    }
}

fn add(spans: &mut Vec<BusySpan>, span: BusySpan) {
    if !spans.last_mut().is_some_and(|last| last.extend(span)) {
        spans.push(span);
    }
}

// Earliest first, and in the order made at one instant: the heap gives its greatest.
impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .at_s
            .total_cmp(&self.at_s)
            .then(other.order.cmp(&self.order))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}
