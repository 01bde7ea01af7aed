//! A job's transfers on one directed link.

use std::collections::VecDeque;

use bace_api::{MessageTimes, TensorKind};
use bace_netem::{FlowKey, Jitter, LinkSpec, LossModel, Sharing};

use super::link::SharedLink;
use super::machine_time::MachineTime;
use super::turns::Turns;

const BITS_PER_BYTE: f64 = 8.0;

/// One direction of a boundary between regions: equal tensors in order.
///
/// On a link of its own a tensor leaves at the rate it can have, and what is to come is known at once; where others use the
/// link as well, or the link has more to it than a rate and a delay, tensors go chunk by chunk.
#[derive(Debug)]
pub(super) struct Flow {
    /// Stage that receives.
    pub to_stage: usize,
    pub kind: TensorKind,
    key: FlowKey,
    time: MachineTime,
    /// What the link gives at present.
    spec: LinkSpec,
    /// Of a tensor.
    pub bytes: u64,
    /// Bits that a tensor takes of the link's rate.
    bits: f64,
    /// At which a tensor leaves a link of its own.
    rate_bps: f64,
    /// When each tensor was ready that has not left and takes no turns, oldest first.
    alone: VecDeque<f64>,
    /// When the oldest of them began to leave.
    began_s: f64,
    turns: Turns,
    /// Whether the next tensor takes turns.
    takes_turns: bool,
    /// When the latest tensor so far has left, and when it arrives; none behind it does before.
    left_s: f64,
    latest_s: f64,
}

/// What a flow carries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tensors {
    /// Of each.
    pub bytes: u64,
    pub kind: TensorKind,
}

/// Whether a link of `spec` is always taken in turns: the way of each chunk matters.
fn is_rough(spec: &LinkSpec) -> bool {
    draws(spec) || spec.burst.is_some() || spec.sharing == Sharing::PerFlow
}

/// Whether a link of `spec` draws lots.
fn draws(spec: &LinkSpec) -> bool {
    let recovers = spec.loss.share > 0.0 && spec.loss.model == LossModel::Goodput;
    spec.jitter != Jitter::None || recovers
}

impl Flow {
    /// The idle flow of `key` over a link of `spec`, which carries `tensors`.
    pub fn new(key: FlowKey, spec: &LinkSpec, tensors: Tensors, time: MachineTime) -> Self {
        let Tensors { bytes, kind } = tensors;
        let mut flow = Self {
            to_stage: key.to_stage as usize,
            kind,
            key,
            time,
            spec: *spec,
            bytes,
            bits: BITS_PER_BYTE * spec.charged_bytes(bytes) as f64,
            rate_bps: 0.0,
            alone: VecDeque::new(),
            began_s: 0.0,
            turns: Turns::new(spec, key, time),
            takes_turns: is_rough(spec),
            left_s: f64::NEG_INFINITY,
            latest_s: 0.0,
        };
        flow.set_rate();
        flow
    }

    /// The link.
    pub fn link(&self) -> bace_netem::LinkId {
        self.key.link
    }

    /// Whether an undisturbed iteration is like the one before it as far as this flow is concerned.
    pub fn repeats(&self) -> bool {
        !is_rough(&self.spec)
    }

    /// Whether others use `link` as well, the smallest of whose tensors has `least_bytes`.
    pub fn set_company(&mut self, link: &SharedLink, is_shared: bool, least_bytes: u64) {
        let exact = is_rough(&self.spec);
        self.takes_turns = is_shared || exact;
        self.turns.set_company(link, least_bytes, exact);
    }

    /// Looks at what is under way chunk by chunk, up to `at_s` of the simulation, when `link` is about to change or to be shared, or the
    /// job to be gone.
    pub fn unroll(&mut self, link: &mut SharedLink, at_s: f64) {
        if self.alone.is_empty() {
            return;
        }
        self.turns.resume_at(link, self.began_s);
        for ready_s in self.alone.drain(..) {
            self.turns.enqueue(self.bytes, ready_s);
        }
        self.turns.serve_until(link, at_s);
    }

    /// When something happens next on the link; infinite if nothing does, or the link is dead.
    pub fn next_s(&self) -> f64 {
        self.done_s().min(self.turns.leaves_s()).min(self.asks_s())
    }

    /// When the oldest tensor that takes no turns has left.
    pub fn done_s(&self) -> f64 {
        if self.alone.is_empty() || self.rate_bps <= 0.0 {
            f64::INFINITY
        } else {
            self.began_s + self.bits / self.rate_bps
        }
    }

    fn asks_s(&self) -> f64 {
        // Nobody is served while the link is down.
        if self.spec.rate.bps() > 0.0 {
            self.turns.asks_s()
        } else {
            f64::INFINITY
        }
    }

    /// Adds a tensor.
    pub fn enqueue(&mut self, now_s: f64) {
        if self.takes_turns || !self.turns.is_empty() || self.turns.is_taken(now_s) {
            self.turns.enqueue(self.bytes, now_s);
            return;
        }
        if self.alone.is_empty() {
            self.began_s = now_s;
        }
        self.alone.push_back(now_s);
    }

    /// The oldest tensor has left by `now_s`; how it comes to its receiver. `None` if none has.
    pub fn take_left(&mut self, now_s: f64) -> Option<MessageTimes> {
        let (ready_s, left_s, queued_s, arrival_s) = if self.done_s() <= now_s {
            let ready_s = self.alone.pop_front()?;
            self.began_s = now_s;
            (ready_s, now_s, 0.0, now_s + self.spec.delay.seconds())
        } else if self.turns.leaves_s() <= now_s {
            let left = self.turns.take_left()?;
            // Rounding to nanoseconds must not let it leave before it was ready, nor arrive before it has left.
            let left_s = left.left_s.max(left.ready_s).max(self.left_s);
            let arrival_s = left.delivered_s.max(left_s);
            // Flows of one job queue behind each other too, but only its oldest tensor is what the link carries.
            let turn_s = (left_s - left.ready_s.max(self.left_s)).max(0.0);
            (left.ready_s, left_s, left.queued_s.min(turn_s), arrival_s)
        } else {
            return None;
        };
        self.left_s = left_s;
        self.latest_s = self.latest_s.max(arrival_s);
        Some(MessageTimes {
            ready_s,
            left_s: Some(left_s),
            queued_s: Some(queued_s),
            due_s: self.latest_s,
            late_until_s: None,
        })
    }

    /// When a tensor asks for its turn, earliest first, in nanoseconds of the machine from the start of the simulation.
    pub fn asks_ns(&self) -> Option<u64> {
        self.turns.asks_ns()
    }

    /// Gives the tensor that asks next its turn, if the link is up.
    pub fn serve(&mut self, link: &mut SharedLink) {
        self.turns.serve(link);
    }

    /// What the link gives from now on.
    pub fn set_link(&mut self, spec: &LinkSpec) {
        self.spec = *spec;
        self.set_rate();
    }

    /// Moves the origin of times to `origin_s`. Everything has arrived.
    pub fn rebase(&mut self, origin_s: f64) {
        self.latest_s = 0.0;
        self.left_s = f64::NEG_INFINITY;
        self.turns.rebase(origin_s);
    }

    fn set_rate(&mut self) {
        let scale = self.time.scale;
        let cap = scale.wall_link(self.spec).flow_cap();
        let cap_bps = cap.map_or(f64::INFINITY, |cap| {
            // A flow is held to a rate of tensors, in whole bits a second of the machine, and the link counts what they cost it.
            let bps = cap.whole_bps() as f64 / scale.get();
            bps * self.bits / (BITS_PER_BYTE * self.bytes as f64)
        });
        self.rate_bps = self.spec.rate.bps().min(cap_bps);
    }
}
