//! The link clock: a token bucket whose depth is one chunk, as arithmetic.
//!
//! A chunk reserves the interval of time in which the link carries it. An idle link earns no
//! burst: a reservation never begins before the bytes are ready. Nanoseconds count from any one
//! origin; whoever calls has the clock.

use crate::{BitRate, LinkSpec};

/// Bits of a byte times nanoseconds of a second.
pub(crate) const BIT_NANOS: u128 = 8 * 1_000_000_000;

/// The time in which a link carries one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The first bit leaves, ns.
    pub start_ns: u64,
    /// The last bit has left, ns.
    pub end_ns: u64,
}

/// Whole nanoseconds that `bytes` take at `bits_per_second`, half a nanosecond rounded up.
///
/// `None` at rate 0. Saturates at `u64::MAX`. The error is at most half a nanosecond a chunk:
/// 1e-5 of a 256 KiB chunk's time at 40 Gbit/s.
pub fn duration_ns(bytes: u64, bits_per_second: u64) -> Option<u64> {
    if bits_per_second == 0 {
        return None;
    }
    let rate = u128::from(bits_per_second);
    let nanos = (u128::from(bytes) * BIT_NANOS + rate / 2) / rate;
    Some(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The slot of `bytes` that became ready at `ready_ns`, on a link that is free from `free_at_ns`.
///
/// `ready_ns` may lie in the past: a sender that was held up loses no time of the link, since what
/// counts is when the bytes could have left. `None` while the link is down (rate 0).
/// The link is free again from the slot's end.
pub fn reserve(free_at_ns: u64, bits_per_second: u64, bytes: u64, ready_ns: u64) -> Option<Slot> {
    let start_ns = free_at_ns.max(ready_ns);
    let end_ns = start_ns.saturating_add(duration_ns(bytes, bits_per_second)?);
    Some(Slot { start_ns, end_ns })
}

/// What a link gives at one instant, in the whole numbers of clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkState {
    /// Of the whole link; 0 while it is down.
    pub bits_per_second: u64,
    /// One way, without jitter.
    pub delay_ns: u64,
}

impl LinkState {
    /// Of the whole link.
    pub fn rate(self) -> BitRate {
        BitRate::from_bps(self.bits_per_second as f64).expect("a whole number is a rate")
    }

    /// There and back, ns, taken as twice this direction's delay.
    pub fn round_trip_ns(self) -> u64 {
        self.delay_ns.saturating_mul(2)
    }
}

impl From<&LinkSpec> for LinkState {
    fn from(spec: &LinkSpec) -> Self {
        Self {
            bits_per_second: spec.rate.whole_bps(),
            delay_ns: spec.delay.nanos(),
        }
    }
}

/// A link's clock for one owner; processes that share a link keep the same state in a shared cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkClock {
    state: LinkState,
    free_at_ns: u64,
}

impl LinkClock {
    /// The clock of an idle link.
    pub fn new(state: LinkState) -> Self {
        Self {
            state,
            free_at_ns: 0,
        }
    }

    /// What the link gives at present.
    pub fn state(&self) -> LinkState {
        self.state
    }

    /// Reserves the next slot for `bytes` that became ready at `ready_ns`; `None` while the link is
    /// down, and then nothing is reserved.
    pub fn reserve(&mut self, bytes: u64, ready_ns: u64) -> Option<Slot> {
        let slot = reserve(self.free_at_ns, self.state.bits_per_second, bytes, ready_ns)?;
        self.free_at_ns = slot.end_ns;
        Some(slot)
    }

    /// When the link is free, ns.
    pub fn free_at_ns(&self) -> u64 {
        self.free_at_ns
    }

    /// Changes what the reservations to come get; those made keep their slots. Time during which
    /// the link was down cannot be reserved afterwards.
    pub fn set(&mut self, state: LinkState, now_ns: u64) {
        if self.state.bits_per_second == 0 {
            self.free_at_ns = self.free_at_ns.max(now_ns);
        }
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state(bits_per_second: u64) -> LinkState {
        LinkState {
            bits_per_second,
            delay_ns: 0,
        }
    }

    fn clock(bits_per_second: u64) -> LinkClock {
        LinkClock::new(state(bits_per_second))
    }

    fn slot(start_ns: u64, end_ns: u64) -> Option<Slot> {
        Some(Slot { start_ns, end_ns })
    }

    #[test]
    fn slots_follow_each_other_to_the_nanosecond() {
        let mut clock = clock(1_000_000_000);
        assert_eq!(clock.reserve(65_536, 1_000), slot(1_000, 525_288));
        assert_eq!(clock.reserve(65_536, 1_000), slot(525_288, 1_049_576));
        assert_eq!(clock.reserve(0, 1_000), slot(1_049_576, 1_049_576));
        assert_eq!(clock.reserve(1, 2_000_000), slot(2_000_000, 2_000_008));
    }

    #[test]
    fn half_a_nanosecond_is_rounded_up() {
        assert_eq!(duration_ns(1, 16_000_000_000), Some(1));
        assert_eq!(duration_ns(1, 16_000_000_001), Some(0));
        assert_eq!(duration_ns(1, 3), Some(2_666_666_667));
        assert_eq!(duration_ns(u64::MAX, 1), Some(u64::MAX));
    }

    #[test]
    fn a_late_caller_loses_no_time_of_the_link() {
        let mut clock = clock(8_000_000_000);
        assert_eq!(clock.reserve(1_000, 50), slot(50, 1_050));
        // Asked for long after the first, yet ready since 50.
        assert_eq!(clock.reserve(1_000, 50), slot(1_050, 2_050));
    }

    #[test]
    fn a_link_that_was_down_gives_no_time_for_it() {
        let mut clock = clock(8_000_000_000);
        clock.reserve(1_000, 0);
        clock.set(state(0), 2_000);
        assert_eq!(clock.reserve(1, 0), None);
        assert_eq!(clock.free_at_ns(), 1_000);
        clock.set(state(8_000_000_000), 9_000);
        assert_eq!(clock.reserve(10, 0), slot(9_000, 9_010));
    }

    #[test]
    fn a_changed_rate_holds_from_the_next_reservation() {
        let mut clock = clock(8_000_000_000);
        clock.reserve(1_000, 0);
        clock.set(state(4_000_000_000), 500);
        assert_eq!(clock.reserve(1_000, 0), slot(1_000, 3_000));
    }

    proptest! {
        #[test]
        fn slots_are_in_order_and_never_overlap(
            bps in 1u64..100_000_000_000_000,
            chunks in prop::collection::vec((0u64..1 << 20, 0u64..10_000_000_000), 1..60),
        ) {
            let mut clock = clock(bps);
            let mut last_end = 0;
            for (bytes, ready_ns) in chunks {
                let slot = clock.reserve(bytes, ready_ns).unwrap();
                prop_assert!(slot.start_ns >= last_end && slot.start_ns >= ready_ns);
                prop_assert!(slot.start_ns == last_end || slot.start_ns == ready_ns);
                prop_assert_eq!(slot.end_ns, clock.free_at_ns());
                last_end = slot.end_ns;
            }
        }

        #[test]
        fn a_busy_link_carries_its_rate(
            bps in 1_000u64..1_000_000_000_000,
            chunks in prop::collection::vec(0u64..1 << 20, 1..60),
        ) {
            let mut clock = clock(bps);
            for &bytes in &chunks {
                clock.reserve(bytes, 7).unwrap();
            }
            let busy_ns = u128::from(clock.free_at_ns() - 7);
            let exact = chunks.iter().map(|&bytes| u128::from(bytes) * BIT_NANOS).sum::<u128>();
            // Half a nanosecond a chunk, in units of 1/bps ns.
            let tolerance = chunks.len() as u128 * u128::from(bps) / 2 + 1;
            prop_assert!((busy_ns * u128::from(bps)).abs_diff(exact) <= tolerance);
        }

        #[test]
        fn nothing_overflows(free: u64, bps: u64, bytes: u64, ready: u64) {
            match reserve(free, bps, bytes, ready) {
                Some(slot) => prop_assert!(slot.end_ns >= slot.start_ns && bps > 0),
                None => prop_assert_eq!(bps, 0),
            }
        }
    }
}
