//! Small messages that links carry as if they were large ones.

/// A message's own bytes, and those of the one for which a link carries it: its link counts the latter alone, while the
/// former are what is written and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandIn {
    own_bytes: u64,
    carried_bytes: u64,
}

impl StandIn {
    /// A message of `own_bytes` that is carried as one of `carried_bytes`.
    pub fn new(own_bytes: u64, carried_bytes: u64) -> Self {
        Self {
            own_bytes,
            carried_bytes,
        }
    }

    /// A message that stands for itself.
    pub fn itself(bytes: u64) -> Self {
        Self::new(bytes, bytes)
    }

    /// What its link carries, bytes.
    pub fn carried_bytes(self) -> u64 {
        self.carried_bytes
    }

    /// Whether its link carries another number of bytes than it has.
    pub fn is_other(self) -> bool {
        self.own_bytes != self.carried_bytes
    }

    /// Own bytes that have left with the first `carried` of the carried ones: in proportion, and all of them at the end.
    pub fn own_bytes_with(self, carried: u64) -> u64 {
        if carried >= self.carried_bytes {
            return self.own_bytes;
        }
        let share = u128::from(self.own_bytes) * u128::from(carried);
        // No more than `own_bytes`, since `carried` is below `carried_bytes`.
        (share / u128::from(self.carried_bytes)) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Accounting, BitRate, Delay, Flow, FlowKey, LinkClock, LinkId, LinkSpec, RegionId};

    #[test]
    fn own_bytes_leave_in_proportion() {
        let small = StandIn::new(10, 100);
        assert_eq!(
            [0, 9, 10, 55, 99, 100].map(|carried| small.own_bytes_with(carried)),
            [0, 0, 1, 5, 9, 10]
        );
        assert_eq!(StandIn::new(7, 0).own_bytes_with(0), 7);
        assert_eq!(StandIn::new(0, 9).own_bytes_with(5), 0);
        assert!(small.is_other() && !StandIn::itself(3).is_other());
    }

    proptest! {
        /// Whatever the chunks of the large message, its link is charged for exactly it, takes exactly its time, and every own
        /// byte leaves once.
        #[test]
        fn a_link_carries_the_large_message_to_the_byte(
            own in 0u64..1 << 20,
            carried in 1u64..1 << 30,
            chunk_bytes in 1u64 << 14..1 << 18,
            accounting in prop::sample::select(vec![Accounting::Payload, Accounting::Ip, Accounting::Ethernet]),
        ) {
            let mut spec = LinkSpec::new(BitRate::from_bps(1e9).unwrap(), Delay::ZERO);
            spec.accounting = accounting;
            let link = LinkId::new(RegionId::new(0), RegionId::new(1));
            let key = FlowKey { seed: 1, link, job: 0, from_stage: 0, to_stage: 1 };
            let (mut flow, mut clock) = (Flow::new(&spec, key), LinkClock::new((&spec).into()));
            let stand_in = StandIn::new(own, carried);
            let mut message = flow.message(stand_in.carried_bytes(), 0);
            let (mut charged, mut written, mut chunks) = (0, 0, 0);
            while message.left_bytes() > 0 {
                let chunk = flow.next_chunk(&mut message, chunk_bytes, (&spec).into());
                let slot = clock.reserve(chunk.charged_bytes, chunk.ready_ns).unwrap();
                flow.delivered_ns(&mut message, chunk, slot, (&spec).into());
                charged += chunk.charged_bytes;
                chunks += 1;
                let due = stand_in.own_bytes_with(message.sent_bytes());
                prop_assert!(due >= written && due <= own);
                written = due;
            }
            prop_assert_eq!(charged, spec.charged_bytes(carried));
            prop_assert_eq!(written, own);
            prop_assert_eq!(chunks, carried.div_ceil(chunk_bytes));
        }
    }
}
