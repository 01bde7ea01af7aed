//! What two hosts' monotonic clocks differ by, from messages that crossed between them.
//!
//! A message takes some time, never less than none. One that is sent here at `s` and received there at `r` shows that the
//! other clock is ahead by at most `r - s`; one on the way back shows that it is ahead by at least its sending minus its
//! arrival here. The truth lies between the tightest of both kinds, however unlike the queues of the two directions are:
//! each direction's best message counts by itself.
//!
//! The clocks drift apart, so that what a message has shown loosens with its age. All loosen at one rate, and so the
//! tightest of each kind stays the tightest until a newer one beats it: nothing else has to be kept.

use serde::{Deserialize, Serialize};

/// How fast two clocks drift apart at most, parts per million: two crystals of ±50 each, as computers have them.
pub const MAX_DRIFT_PPM: u64 = 100;

/// How long a round trip counts at least, ns, and at most for twice as long: a path that has become longer is learnt then.
const ROUND_TRIP_WINDOW_NS: u64 = 30_000_000_000;

const PPM: i128 = 1_000_000;

/// Another host's clock as known at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockEstimate {
    /// By how much the other clock is ahead of this one, ns; negative where it is behind.
    pub offset_ns: i64,
    /// How far `offset_ns` may be from the truth, ns.
    pub uncertainty_ns: u64,
    /// What a message needs from one host to the other, ns: half of the shortest round trip of the last minute.
    pub latency_ns: u64,
}

impl ClockEstimate {
    /// The reading of this host's clock at the instant at which the other host's reads `their_ns`.
    pub fn to_own(&self, their_ns: u64) -> u64 {
        let own = i128::from(their_ns) - i128::from(self.offset_ns);
        u64::try_from(own.max(0)).unwrap_or(u64::MAX)
    }
}

/// Narrows down what another clock is ahead by, as messages cross in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockBounds {
    /// The other clock is ahead by at most this.
    most: Option<Bound>,
    /// The other clock is ahead by at least this.
    least: Option<Bound>,
    round_trip: Option<ShortestTrip>,
}

/// The shortest round trip of late: of the present window and the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ShortestTrip {
    /// When the present window began, on this host's clock.
    since_ns: u64,
    present_ns: u64,
    before_ns: u64,
}

/// What one message has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bound {
    /// When, on this host's clock.
    at_ns: u64,
    ahead_ns: i128,
}

impl ShortestTrip {
    fn shortest_ns(&self) -> u64 {
        self.present_ns.min(self.before_ns)
    }
}

impl Bound {
    /// By how much it has loosened at `now_ns`, rounded up.
    fn slack_ns(&self, now_ns: u64) -> i128 {
        let age_ns = i128::from(now_ns.saturating_sub(self.at_ns));
        (age_ns * i128::from(MAX_DRIFT_PPM) + PPM - 1) / PPM
    }
}

impl ClockBounds {
    /// A message left this host at `sent_ns` of its clock and reached the other at `received_ns` of the other's.
    pub fn went(&mut self, sent_ns: u64, received_ns: u64) {
        let new = Bound {
            at_ns: sent_ns,
            ahead_ns: i128::from(received_ns) - i128::from(sent_ns),
        };
        let is_tighter = |old: &Bound| new.ahead_ns <= old.ahead_ns + old.slack_ns(new.at_ns);
        if self.most.as_ref().is_none_or(is_tighter) {
            self.most = Some(new);
        }
        // Clocks that drift faster than they may have made what the other kind has shown untrue.
        let is_beyond = |least: &Bound| least.ahead_ns - least.slack_ns(new.at_ns) > new.ahead_ns;
        if self.least.as_ref().is_some_and(is_beyond) {
            self.least = None;
        }
    }

    /// A message left the other host at `sent_ns` of its clock and was here at `received_ns` of this host's.
    pub fn came(&mut self, sent_ns: u64, received_ns: u64) {
        let new = Bound {
            at_ns: received_ns,
            ahead_ns: i128::from(sent_ns) - i128::from(received_ns),
        };
        let is_tighter = |old: &Bound| new.ahead_ns >= old.ahead_ns - old.slack_ns(new.at_ns);
        if self.least.as_ref().is_none_or(is_tighter) {
            self.least = Some(new);
        }
        let is_beyond = |most: &Bound| most.ahead_ns + most.slack_ns(new.at_ns) < new.ahead_ns;
        if self.most.as_ref().is_some_and(is_beyond) {
            self.most = None;
        }
    }

    /// A message and its answer, which was here at `at_ns`, were `ns` on their ways, what the other host took to answer not
    /// counted.
    pub fn round_trip(&mut self, at_ns: u64, ns: u64) {
        let new = ShortestTrip {
            since_ns: at_ns,
            present_ns: ns,
            before_ns: ns,
        };
        self.round_trip = Some(match self.round_trip {
            None => new,
            Some(old) if at_ns.saturating_sub(old.since_ns) >= ROUND_TRIP_WINDOW_NS => {
                ShortestTrip {
                    before_ns: old.present_ns,
                    ..new
                }
            }
            Some(old) => ShortestTrip {
                present_ns: old.present_ns.min(ns),
                ..old
            },
        });
    }

    /// What is known at `now_ns` of this host's clock; `None` until messages have crossed in both directions.
    pub fn estimate(&self, now_ns: u64) -> Option<ClockEstimate> {
        let (most, least) = (self.most?, self.least?);
        let latency_ns = self.round_trip?.shortest_ns() / 2;
        let most_ns = most.ahead_ns + most.slack_ns(now_ns);
        let least_ns = least.ahead_ns - least.slack_ns(now_ns);
        let width_ns = (most_ns - least_ns).max(0);
        // Rounded up, so that the truth is inside.
        let uncertainty_ns = u64::try_from((width_ns + 1) / 2).unwrap_or(u64::MAX);
        let middle = least_ns + width_ns / 2;
        let saturated = if middle < 0 { i64::MIN } else { i64::MAX };
        Some(ClockEstimate {
            offset_ns: i64::try_from(middle).unwrap_or(saturated),
            uncertainty_ns,
            latency_ns,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The other host's clock: ahead by `ahead_ns` at 0 and faster by `drift_ppm`.
    #[derive(Clone, Copy)]
    struct Other {
        ahead_ns: i128,
        drift_ppm: i128,
    }

    impl Other {
        fn at(self, own_ns: u64) -> u64 {
            let own = i128::from(own_ns);
            u64::try_from(own + self.ahead_ns + own * self.drift_ppm / PPM).unwrap()
        }

        fn ahead_at(self, own_ns: u64) -> i128 {
            i128::from(self.at(own_ns)) - i128::from(own_ns)
        }
    }

    /// A probe that leaves at `at_ns`, is answered at once, and takes `out_ns` and `back_ns`.
    fn probe(bounds: &mut ClockBounds, other: Other, at_ns: u64, out_ns: u64, back_ns: u64) {
        let there_ns = at_ns + out_ns;
        let here_ns = there_ns + back_ns;
        bounds.went(at_ns, other.at(there_ns));
        bounds.came(other.at(there_ns), here_ns);
        bounds.round_trip(here_ns, out_ns + back_ns);
    }

    #[test]
    fn a_path_that_has_become_longer_is_learnt() {
        let mut bounds = ClockBounds::default();
        let at = |seconds: u64| 1_000_000_000_000 + seconds * 1_000_000_000;
        let latency_ns = |bounds: &ClockBounds, seconds| {
            let estimate = bounds.estimate(at(seconds));
            estimate.map(|estimate| estimate.latency_ns)
        };
        for second in 0..40 {
            probe(&mut bounds, AHEAD, at(second), 1_000, 3_000);
        }
        for second in 40..100 {
            probe(&mut bounds, AHEAD, at(second), 4_000, 5_000);
            if second < 60 {
                assert_eq!(latency_ns(&bounds, second), Some(2_000));
            }
        }
        assert_eq!(latency_ns(&bounds, 100), Some(4_500));
    }

    const DAY_NS: i128 = 86_400_000_000_000;
    const AHEAD: Other = Other {
        ahead_ns: 40 * DAY_NS,
        drift_ppm: 0,
    };

    #[test]
    fn nothing_is_known_before_messages_have_crossed_both_ways() {
        let mut bounds = ClockBounds::default();
        assert_eq!(bounds.estimate(0), None);
        bounds.went(10, 20);
        assert_eq!(bounds.estimate(20), None);
        bounds.came(20, 30);
        assert_eq!(bounds.estimate(30), None);
        bounds.round_trip(20, 20);
        assert!(bounds.estimate(30).is_some());
    }

    #[test]
    fn one_round_trip_gives_the_offset_to_half_of_it() {
        let mut bounds = ClockBounds::default();
        probe(&mut bounds, AHEAD, 1_000, 200, 200);
        let estimate = bounds.estimate(1_400).unwrap();
        assert_eq!(i128::from(estimate.offset_ns), AHEAD.ahead_ns);
        assert_eq!(estimate.latency_ns, 200);
        // Each bound has loosened by the nanosecond to which its age is rounded up, at most.
        assert!((200..=201).contains(&estimate.uncertainty_ns));
    }

    #[test]
    fn a_clock_that_is_behind_gives_a_negative_offset() {
        let other = Other {
            ahead_ns: -5_000,
            drift_ppm: 0,
        };
        let mut bounds = ClockBounds::default();
        probe(&mut bounds, other, 1_000_000, 100, 100);
        let estimate = bounds.estimate(1_000_200).unwrap();
        assert_eq!(estimate.offset_ns, -5_000);
        assert_eq!(estimate.to_own(other.at(2_000_000)), 2_000_000);
    }

    /// No single round trip here is better than 2 ms, and yet the offset is known to 0.1 ms: a queue fills one direction
    /// and then the other.
    #[test]
    fn queues_in_one_direction_at_a_time_do_not_spoil_the_estimate() {
        let mut bounds = ClockBounds::default();
        probe(&mut bounds, AHEAD, 0, 2_000_000, 100_000);
        let one_sided = bounds.estimate(2_100_000).unwrap();
        let error = (i128::from(one_sided.offset_ns) - AHEAD.ahead_ns).unsigned_abs();
        assert!(error > 900_000 && error <= u128::from(one_sided.uncertainty_ns));
        probe(&mut bounds, AHEAD, 5_000_000, 100_000, 2_000_000);
        let estimate = bounds.estimate(7_100_000).unwrap();
        let error = (i128::from(estimate.offset_ns) - AHEAD.ahead_ns).unsigned_abs();
        assert!(error <= 1_000, "{estimate:?}");
        assert!(estimate.uncertainty_ns < 101_000, "{estimate:?}");
        assert_eq!(estimate.latency_ns, 1_050_000);
    }

    #[test]
    fn what_was_shown_loosens_with_its_age() {
        let mut bounds = ClockBounds::default();
        probe(&mut bounds, AHEAD, 0, 50_000, 50_000);
        let after = |s: u64| bounds.estimate(s * 1_000_000_000).unwrap().uncertainty_ns;
        assert!((150_000 - 10..=150_000).contains(&after(1)), "{}", after(1));
        assert!(
            (6_050_000 - 10..=6_050_000).contains(&after(60)),
            "{}",
            after(60)
        );
    }

    #[test]
    fn an_hour_of_drift_is_followed() {
        let other = Other {
            ahead_ns: -DAY_NS / 2,
            drift_ppm: 60,
        };
        let begin_ns = 2 * 43_200_000_000_000;
        let mut bounds = ClockBounds::default();
        for second in 0..3_600 {
            let at_ns = begin_ns + second * 1_000_000_000;
            // One probe in ten is quick; the others wait in either queue.
            let queue_ns = if second % 10 == 0 { 0 } else { 900_000 };
            probe(&mut bounds, other, at_ns, 50_000 + queue_ns, 50_000);
            let now_ns = at_ns + 999_000_000;
            let estimate = bounds.estimate(now_ns).unwrap();
            let error = i128::from(estimate.offset_ns) - other.ahead_at(now_ns);
            assert!(error.unsigned_abs() <= u128::from(estimate.uncertainty_ns));
            assert!(estimate.uncertainty_ns < 1_000_000, "{estimate:?}");
        }
    }

    #[test]
    fn clocks_that_drift_faster_than_they_may_are_known_again_with_the_next_probe() {
        let mut bounds = ClockBounds::default();
        probe(&mut bounds, AHEAD, 0, 50_000, 50_000);
        let stepped = Other {
            ahead_ns: AHEAD.ahead_ns + 7_000_000,
            drift_ppm: 0,
        };
        for at_ns in [1_000_000, 2_000_000] {
            probe(&mut bounds, stepped, at_ns, 50_000, 50_000);
        }
        let estimate = bounds.estimate(2_100_000).unwrap();
        let error = i128::from(estimate.offset_ns) - stepped.ahead_ns;
        assert!(error.abs() <= 1_000, "{estimate:?}");
    }

    #[test]
    fn readings_that_cannot_be_do_not_overflow() {
        let mut bounds = ClockBounds::default();
        bounds.went(0, u64::MAX);
        bounds.came(u64::MAX, 0);
        bounds.round_trip(0, u64::MAX);
        let estimate = bounds.estimate(u64::MAX).unwrap();
        assert_eq!(estimate.offset_ns, i64::MAX);
        assert_eq!(estimate.to_own(5), 0);
        let behind = ClockEstimate {
            offset_ns: i64::MIN,
            ..estimate
        };
        assert_eq!(behind.to_own(u64::MAX), u64::MAX);
    }

    proptest! {
        /// Whatever the queues, the truth lies within the uncertainty.
        #[test]
        fn the_truth_is_within_the_uncertainty(
            ahead_ns in -1_000_000_000_000i128..1_000_000_000_000,
            drift_ppm in -100i128..=100,
            probes in prop::collection::vec((0u64..2_000_000_000, 0u64..20_000_000, 0u64..20_000_000), 1..40),
            later_ns in 0u64..10_000_000_000,
        ) {
            let other = Other { ahead_ns, drift_ppm };
            let mut bounds = ClockBounds::default();
            let mut at_ns = 2_000_000_000_000;
            for (gap_ns, out_ns, back_ns) in probes {
                at_ns += gap_ns;
                probe(&mut bounds, other, at_ns, out_ns, back_ns);
                at_ns += out_ns + back_ns;
            }
            let now_ns = at_ns + later_ns;
            let estimate = bounds.estimate(now_ns).unwrap();
            let error = i128::from(estimate.offset_ns) - other.ahead_at(now_ns);
            // The test's own clock rounds to whole nanoseconds.
            prop_assert!(error.unsigned_abs() <= u128::from(estimate.uncertainty_ns) + 3);
        }
    }
}
