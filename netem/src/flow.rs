//! From slots on a link's clock to times of delivery.
//!
//! A [`Flow`] is what one job sends over one directed link. It says what each chunk of a message costs and from when the
//! link may carry it, and, given the chunk's slot, when the link delivers it. Whoever has a clock uses it: the shaped
//! socket's sender, and models of it.

use crate::{Delay, Departure, FlowKey, Jitter, LinkSpec, LinkState, Sharing, Slot, clock};

/// What one job sends over one directed link.
#[derive(Debug, Clone)]
pub struct Flow {
    spec: LinkSpec,
    key: FlowKey,
    messages: u64,
    lane: Lane,
}

/// A message under way on a [`Flow`].
#[derive(Debug, Clone)]
pub struct Message {
    number: u64,
    payload_bytes: u64,
    ready_ns: u64,
    sent_bytes: u64,
    chunks: u64,
    departure: Departure,
    lane: Lane,
}

/// The next part of a message, as its link sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Of tensors.
    pub payload_bytes: u64,
    /// What the link was charged for the message's earlier chunks.
    pub charged_before: u64,
    /// What the link's clock is charged for this one.
    pub charged_bytes: u64,
    /// From when the link may carry it, ns. What else it had to wait for, such as credit, may move it until it has its slot.
    pub ready_ns: u64,
    /// When it has left if the link is faster than its flow may be, ns.
    paced_to_ns: u64,
}

/// What keeps its order: a job's messages, or one message where each counts as a flow of its own.
#[derive(Debug, Clone, Copy, Default)]
struct Lane {
    /// Until when earlier chunks take the rate that a flow is held to, ns.
    paced_to_ns: u64,
    /// When the last chunk has left, ns.
    left_ns: u64,
    /// The latest delivery so far, ns.
    delivered_ns: u64,
}

impl Flow {
    /// The flow of `key` over a link of `spec`. Rate and delay are those that each chunk meets.
    pub fn new(spec: &LinkSpec, key: FlowKey) -> Self {
        Self {
            spec: *spec,
            key,
            messages: 0,
            lane: Lane::default(),
        }
    }

    /// Takes account of messages that were computed as a whole and not by chunks, the last of which has left by `left_ns`: what
    /// follows leaves behind it, and is held to its rate from there on. Has no effect where each message is a flow of its own.
    pub fn resume_at(&mut self, left_ns: u64) {
        self.lane.paced_to_ns = self.lane.paced_to_ns.max(left_ns);
        self.lane.left_ns = self.lane.left_ns.max(left_ns);
    }

    /// The next message of the flow, sendable from `ready_ns`.
    pub fn message(&mut self, payload_bytes: u64, ready_ns: u64) -> Message {
        let number = self.messages;
        self.messages += 1;
        Message {
            number,
            payload_bytes,
            ready_ns,
            sent_bytes: 0,
            chunks: 0,
            departure: Departure::default(),
            lane: Lane::default(),
        }
    }

    /// The next `payload_bytes` of `message`, at most those left, on a link in `state`. Has to be given its slot before the
    /// message's next one is asked for.
    pub fn next_chunk(
        &mut self,
        message: &mut Message,
        payload_bytes: u64,
        state: LinkState,
    ) -> Chunk {
        let payload_bytes = payload_bytes.min(message.left_bytes());
        let charged_before = self.spec.charged_bytes(message.sent_bytes);
        let charged = self.spec.charged_bytes(message.sent_bytes + payload_bytes);
        let cap_bps = self.cap_bps(state);
        let ready_ns = message.ready_ns;
        let lane = self.lane(message);
        // A flow that is held to a rate has a clock of its own, in front of the link's.
        let paced =
            cap_bps.and_then(|bps| clock::reserve(lane.paced_to_ns, bps, payload_bytes, ready_ns));
        let chunk = Chunk {
            payload_bytes,
            charged_before,
            charged_bytes: charged - charged_before,
            ready_ns: paced.map_or(ready_ns, |slot| slot.start_ns),
            paced_to_ns: paced.map_or(0, |slot| slot.end_ns),
        };
        lane.paced_to_ns = lane.paced_to_ns.max(chunk.paced_to_ns);
        chunk
    }

    /// When a link in `state` delivers the chunk that it carries in `slot`, ns; never before what the flow sent earlier.
    pub fn delivered_ns(
        &mut self,
        message: &mut Message,
        chunk: Chunk,
        slot: Slot,
        state: LinkState,
    ) -> u64 {
        let left_ns = slot.end_ns.max(chunk.paced_to_ns);
        let lane = self.lane(message);
        let could_begin_ns = chunk.ready_ns.max(lane.left_ns);
        lane.left_ns = left_ns;
        message.departure.left_ns = left_ns;
        let queued_ns = slot.start_ns.saturating_sub(could_begin_ns);
        message.departure.queued_ns = message.departure.queued_ns.saturating_add(queued_ns);
        let jitter_ns = match self.spec.jitter {
            Jitter::None => 0,
            jitter => jitter.draw_ns(&mut self.key.chunk(message.number, message.chunks)),
        };
        message.sent_bytes += chunk.payload_bytes;
        message.chunks += 1;
        let recovery_ns = if message.left_bytes() == 0 {
            self.recovery_ns(message, state)
        } else {
            0
        };
        let delay_ns = state
            .delay_ns
            .saturating_add(jitter_ns)
            .saturating_add(recovery_ns);
        let lane = self.lane(message);
        lane.delivered_ns = lane.delivered_ns.max(left_ns.saturating_add(delay_ns));
        lane.delivered_ns
    }

    /// What a loss near the message's end costs it, ns.
    fn recovery_ns(&self, message: &Message, state: LinkState) -> u64 {
        let chance = self.spec.loss.recovery_chance(message.payload_bytes, state);
        if chance > 0.0 && self.key.message(message.number).happens(chance) {
            state.round_trip_ns()
        } else {
            0
        }
    }

    fn cap_bps(&self, state: LinkState) -> Option<u64> {
        let round_trip = Delay::from_nanos(state.round_trip_ns());
        let cap = self.spec.loss.flow_cap(round_trip);
        cap.map(|cap| cap.whole_bps())
    }

    fn lane<'a>(&'a mut self, message: &'a mut Message) -> &'a mut Lane {
        match self.spec.sharing {
            Sharing::PerJob => &mut self.lane,
            Sharing::PerFlow => &mut message.lane,
        }
    }
}

impl Message {
    /// From when it may leave, ns.
    pub fn ready_ns(&self) -> u64 {
        self.ready_ns
    }

    /// Payload that has its time on the link.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// How the chunks that have their slots leave the link; the slots have to say when they begin.
    pub fn departure(&self) -> Departure {
        self.departure
    }

    /// Payload that has no chunk yet.
    pub fn left_bytes(&self) -> u64 {
        self.payload_bytes - self.sent_bytes
    }
}

#[cfg(test)]
mod tests;
