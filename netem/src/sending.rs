//! When a message asks for its slots on a link's clock.
//!
//! Whoever shares a link asks for one slot at a time: the first when the message is ready, each further one shortly before the
//! slot of the one before begins. So all who have something to send have one slot reserved beyond the one that is on the link, and get
//! equally many. The shaped socket's senders and models of them go by the same [`Sending`].

use crate::{Chunk, Flow, LinkState, Message, Slot};

/// How far ahead of its link's clock a sender works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// How long before its slot a chunk is written, and the next one asks, ns.
    pub lookahead_ns: u64,
    /// Whether others may use the link: slots of bytes that are not ready yet would keep them waiting, and are not asked for.
    pub is_shared: bool,
}

impl Ahead {
    /// The lookahead of senders, ns: it hides the lateness of timers and of the physical transfer.
    pub const LOOKAHEAD_NS: u64 = 2_000_000;

    /// How long before bytes are ready they may ask, ns.
    fn early_ns(self) -> u64 {
        if self.is_shared { 0 } else { self.lookahead_ns }
    }
}

/// A message on its way to a link's clock, chunk by chunk.
#[derive(Debug, Clone)]
pub struct Sending {
    message: Message,
    ahead: Ahead,
    asks_ns: u64,
    /// What it has asked for and has no slot yet.
    chunk: Option<Chunk>,
}

impl Sending {
    /// `message` of a sender that is free for it.
    pub fn new(message: Message, ahead: Ahead) -> Self {
        let asks_ns = message.ready_ns().saturating_sub(ahead.early_ns());
        Self {
            message,
            ahead,
            asks_ns,
            chunk: None,
        }
    }

    /// The message.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// When it asks for its next slot, ns; once it has all of them, from when its sender is free.
    pub fn asks_ns(&self) -> u64 {
        self.asks_ns
    }

    /// It asks no earlier than at `free_ns`, when its sender is free.
    pub fn wait_for(&mut self, free_ns: u64) {
        self.asks_ns = self.asks_ns.max(free_ns);
    }

    /// The chunk, of at most `most_bytes` of payload, that it asks for on a link in `state`, which has to be up. `None` where its
    /// flow is held to a rate and it has to ask again later, which happens once a chunk at most: then for the same chunk, whatever
    /// `most_bytes` and `state` are.
    pub fn ask(&mut self, flow: &mut Flow, most_bytes: u64, state: LinkState) -> Option<Chunk> {
        let message = &mut self.message;
        let chunk = self.chunk;
        let chunk = chunk.unwrap_or_else(|| flow.next_chunk(message, most_bytes, state));
        self.chunk = Some(chunk);
        let from_ns = chunk.ready_ns.saturating_sub(self.ahead.early_ns());
        let may_ask = from_ns <= self.asks_ns;
        self.wait_for(from_ns);
        may_ask.then_some(chunk)
    }

    /// `chunk`, which it asked for, has `slot` of a link in `state`; when the link delivers it, ns.
    pub fn take(&mut self, flow: &mut Flow, chunk: Chunk, slot: Slot, state: LinkState) -> u64 {
        self.chunk = None;
        self.wait_for(slot.start_ns.saturating_sub(self.ahead.lookahead_ns));
        flow.delivered_ns(&mut self.message, chunk, slot, state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BitRate, Delay, FlowKey, LinkClock, LinkId, LinkSpec, LossModel, RegionId};

    /// A byte a microsecond, 20 ms away.
    fn spec() -> LinkSpec {
        let rate = BitRate::from_bps(8e6).unwrap();
        LinkSpec::new(rate, Delay::from_seconds(0.02).unwrap())
    }

    fn flow(spec: &LinkSpec) -> Flow {
        let link = LinkId::new(RegionId::new(0), RegionId::new(1));
        let key = FlowKey {
            seed: 0,
            link,
            job: 0,
            from_stage: 0,
            to_stage: 1,
        };
        Flow::new(spec, key)
    }

    fn ahead(is_shared: bool) -> Ahead {
        Ahead {
            lookahead_ns: 2_000_000,
            is_shared,
        }
    }

    /// When a message of 25,000 bytes, ready at 10 ms, asks for chunks of 10,000, and when its sender is free.
    fn asks(spec: &LinkSpec, is_shared: bool) -> Vec<u64> {
        let (mut flow, mut clock) = (flow(spec), LinkClock::new(spec.into()));
        let mut sending = Sending::new(flow.message(25_000, 10_000_000), ahead(is_shared));
        let mut asks = Vec::new();
        while sending.message().left_bytes() > 0 {
            let state = clock.state();
            let Some(chunk) = sending.ask(&mut flow, 10_000, state) else {
                continue;
            };
            asks.push(sending.asks_ns());
            let slot = clock.reserve(chunk.charged_bytes, chunk.ready_ns).unwrap();
            sending.take(&mut flow, chunk, slot, state);
        }
        asks.push(sending.asks_ns());
        asks
    }

    #[test]
    fn each_chunk_asks_shortly_before_the_one_before_begins() {
        // Slots begin at 10, 20 and 30 ms.
        assert_eq!(
            asks(&spec(), true),
            [10_000_000, 10_000_000, 18_000_000, 28_000_000]
        );
        assert_eq!(
            asks(&spec(), false),
            [8_000_000, 8_000_000, 18_000_000, 28_000_000]
        );
    }

    #[test]
    fn a_flow_that_is_held_to_a_rate_asks_when_it_may_send() {
        let mut held = spec();
        held.loss.model = LossModel::Mathis;
        // 1.22 x 1421 bytes in 0.04 s x 0.2 are 216,702.5 bytes a second.
        held.loss.share = 0.04;
        let chunk_ns = 46_146_214;
        let exact = asks(&held, true);
        for (chunk, asks_ns) in (0..3).zip(&exact) {
            assert!(
                asks_ns.abs_diff(10_000_000 + chunk * chunk_ns) < 100,
                "{exact:?}"
            );
        }
    }

    #[test]
    fn a_sender_that_is_busy_lets_its_message_wait() {
        let mut flow = flow(&spec());
        let mut sending = Sending::new(flow.message(1, 10_000_000), ahead(true));
        sending.wait_for(9_000_000);
        assert_eq!(sending.asks_ns(), 10_000_000);
        sending.wait_for(11_000_000);
        assert_eq!(sending.asks_ns(), 11_000_000);
    }
}
