//! A job's transfers on one directed link.

use std::collections::VecDeque;

use bace_api::{MessageTimes, TensorKind};
use bace_netem::{FlowKey, LinkSpec, Sharing};

use super::chunks::Chunks;
use super::link::FlowRate;

const BITS_PER_BYTE: f64 = 8.0;

/// One direction of a boundary between regions: equal tensors in order.
///
/// On a link that jobs share, one of them is under way at a time; on one that flows share, all are, each with a part of the link.
#[derive(Debug)]
pub(super) struct Flow {
    /// Stage that receives.
    pub to_stage: usize,
    pub kind: TensorKind,
    key: FlowKey,
    /// What the link gives at present.
    spec: LinkSpec,
    bytes: u64,
    /// Bits that a tensor takes of the link's rate.
    bits: f64,
    cap_bps: f64,
    /// Oldest first.
    tensors: VecDeque<Tensor>,
    updated_s: f64,
    /// What each tensor under way gets.
    rate: FlowRate,
    /// Up to `queued_at_s`, what the link gave to other jobs since the oldest tensor's turn came.
    queued_s: f64,
    queued_at_s: f64,
    /// When the latest tensor so far arrives; none behind it arrives before.
    latest_s: f64,
    /// What the link draws for each chunk or message; absent where it draws nothing.
    chunks: Option<Chunks>,
}

/// A tensor that has not left.
#[derive(Debug, Clone, Copy)]
struct Tensor {
    ready_s: f64,
    /// Bits that had not left when the flow was last updated.
    left_bits: f64,
}

impl Flow {
    /// The idle flow of tensors of `bytes` over a link of `spec`.
    pub fn new(
        key: FlowKey,
        spec: &LinkSpec,
        bytes: u64,
        to_stage: usize,
        kind: TensorKind,
    ) -> Self {
        let mut flow = Self {
            to_stage,
            kind,
            key,
            spec: *spec,
            bytes,
            bits: BITS_PER_BYTE * spec.charged_bytes(bytes) as f64,
            cap_bps: f64::INFINITY,
            tensors: VecDeque::new(),
            updated_s: 0.0,
            rate: FlowRate::default(),
            queued_s: 0.0,
            queued_at_s: 0.0,
            latest_s: 0.0,
            chunks: Chunks::draws(spec).then(|| Chunks::new(spec, key)),
        };
        flow.set_cap();
        flow
    }

    /// The link.
    pub fn link(&self) -> bace_netem::LinkId {
        self.key.link
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Parts of its link that the flow takes.
    pub fn under_way(&self) -> usize {
        match self.spec.sharing {
            Sharing::PerJob => self.tensors.len().min(1),
            Sharing::PerFlow => self.tensors.len(),
        }
    }

    /// The most of its link's rate that each tensor under way can take; infinite where only the link limits it.
    pub fn cap_bps(&self) -> f64 {
        self.cap_bps
    }

    /// Whether an undisturbed iteration is like the one before it as far as this flow is concerned.
    pub fn repeats(&self) -> bool {
        self.chunks.is_none() && self.spec.burst.is_none()
    }

    /// When the oldest tensor has left; infinite if there is none, or the link is dead.
    pub fn done_s(&self) -> f64 {
        let rate_bps = self.rate.given_bps;
        match self.tensors.front() {
            Some(tensor) if rate_bps > 0.0 => self.updated_s + tensor.left_bits / rate_bps,
            _ => f64::INFINITY,
        }
    }

    /// Adds a tensor; whether the flow's parts of its link change.
    pub fn enqueue(&mut self, now_s: f64) -> bool {
        let before = self.under_way();
        if self.is_idle() {
            self.updated_s = now_s;
            self.begin_turn(now_s);
        } else if self.spec.sharing == Sharing::PerFlow {
            self.settle(now_s);
        }
        self.tensors.push_back(Tensor {
            ready_s: now_s,
            left_bits: self.bits,
        });
        if let Some(chunks) = &mut self.chunks {
            chunks.enqueue(self.bytes, now_s);
        }
        self.under_way() != before
    }

    /// The oldest tensor has left; how it comes to its receiver, and whether the flow's parts of its link change. `None` if
    /// there is none.
    pub fn complete(&mut self, now_s: f64) -> Option<(MessageTimes, bool)> {
        let before = self.under_way();
        self.settle(now_s);
        self.updated_s = now_s;
        self.note_queued(now_s);
        let tensor = self.tensors.pop_front()?;
        let arrival_s = match &mut self.chunks {
            // Rounding to nanoseconds must not let it arrive before it has left.
            Some(chunks) => chunks.complete(now_s).max(now_s),
            None => now_s + self.spec.delay.seconds(),
        };
        self.latest_s = self.latest_s.max(arrival_s);
        let times = MessageTimes {
            ready_s: tensor.ready_s,
            left_s: Some(now_s),
            queued_s: Some(self.queued_s),
            due_s: self.latest_s,
            late_until_s: None,
        };
        self.begin_turn(now_s);
        Some((times, self.under_way() != before))
    }

    /// What each tensor under way gets from now on.
    pub fn set_rate(&mut self, now_s: f64, rate: FlowRate) {
        if rate == self.rate {
            return;
        }
        self.note_queued(now_s);
        // An unchanged rate is left alone, so that a link of one's own gives exactly bits over rate.
        if rate.given_bps != self.rate.given_bps {
            self.settle(now_s);
        }
        self.rate = rate;
    }

    /// What the link gives from now on.
    pub fn set_link(&mut self, now_s: f64, spec: &LinkSpec) {
        self.settle(now_s);
        // What is behind the part of a tensor that has left does not overtake it.
        if self
            .tensors
            .iter()
            .any(|tensor| tensor.left_bits < self.bits)
        {
            self.latest_s = self.latest_s.max(now_s + self.spec.delay.seconds());
        }
        self.spec = *spec;
        self.set_cap();
        if let Some(chunks) = &mut self.chunks {
            chunks.set_link(spec);
        }
    }

    /// Moves the origin of times to `origin_s`. Everything has arrived.
    pub fn rebase(&mut self, origin_s: f64) {
        self.latest_s = 0.0;
        if let Some(chunks) = &mut self.chunks {
            chunks.rebase(origin_s);
        }
    }

    fn set_cap(&mut self) {
        let cap = self.spec.flow_cap();
        self.cap_bps = cap.map_or(f64::INFINITY, |cap| {
            // A flow is held to a rate of tensors, the link counts what they cost it.
            cap.bps() * self.bits / (BITS_PER_BYTE * self.bytes as f64)
        });
    }

    /// The turn of the oldest tensor comes now.
    fn begin_turn(&mut self, now_s: f64) {
        self.queued_s = 0.0;
        self.queued_at_s = now_s;
    }

    /// Counts what the link has given to others.
    fn note_queued(&mut self, now_s: f64) {
        let passed_s = (now_s - self.queued_at_s).max(0.0);
        self.queued_s += passed_s * self.rate.share_of_others();
        self.queued_at_s = self.queued_at_s.max(now_s);
    }

    /// Takes off what has left since the last time.
    fn settle(&mut self, now_s: f64) {
        // An instant gathers events that rounding has parted, so that time may seem to stand back.
        let passed_s = (now_s - self.updated_s).max(0.0);
        let under_way = self.under_way();
        let rate_bps = self.rate.given_bps;
        for tensor in self.tensors.iter_mut().take(under_way) {
            tensor.left_bits = (tensor.left_bits - passed_s * rate_bps).max(0.0);
        }
        if let Some(chunks) = &mut self.chunks {
            chunks.pass(under_way, self.updated_s, passed_s, rate_bps);
        }
        self.updated_s = self.updated_s.max(now_s);
    }
}
