//! What loss does where bytes are not really lost. A share of 0 does nothing at all, to the nanosecond.

use crate::accounting::{SEGMENT_BYTES, datagrams};
use crate::clock::BIT_NANOS;
use crate::{BitRate, Delay, LinkSpec, LinkState, Loss, LossModel};

/// The constant of the square-root law of Mathis, Semke, Mahdavi and Ott (1997) for a receiver that acknowledges every segment.
const MATHIS_FACTOR: f64 = 1.22;

impl Loss {
    /// Bytes that a link carries until `bytes` have come through: under the goodput model bytes / (1 - share), which leaves
    /// rate x (1 - share) for the message.
    pub(crate) fn with_repeats(self, bytes: u64) -> u64 {
        if self.share > 0.0 && self.model == LossModel::Goodput {
            (bytes as f64 / (1.0 - self.share)).round() as u64
        } else {
            bytes
        }
    }

    /// The payload rate to which one flow is held: that of the square-root law under the Mathis model. `None` where nothing
    /// holds it: in the goodput model, without loss, and on a path without a round trip.
    pub fn flow_cap(self, round_trip: Delay) -> Option<BitRate> {
        if self.model != LossModel::Mathis || self.share <= 0.0 || round_trip == Delay::ZERO {
            return None;
        }
        let segment_s = round_trip.seconds() * self.share.sqrt() / MATHIS_FACTOR;
        Some(BitRate::carrying(SEGMENT_BYTES, segment_s))
    }

    /// The chance that a message of `payload_bytes` needs one more round trip under the goodput model: that one of the
    /// datagrams of its last bandwidth x round-trip product is lost, which nothing behind them reveals in time.
    pub fn recovery_chance(self, payload_bytes: u64, link: LinkState) -> f64 {
        if self.model != LossModel::Goodput || self.share <= 0.0 {
            return 0.0;
        }
        let in_flight =
            u128::from(link.bits_per_second) * u128::from(link.round_trip_ns()) / BIT_NANOS;
        let tail_bytes = u128::from(payload_bytes).min(in_flight) as u64;
        1.0 - power(1.0 - self.share, datagrams(tail_bytes))
    }
}

impl LinkSpec {
    /// The most that one flow gets of this link, however idle; the link's rate where loss holds nobody back. In bytes of
    /// tensors per second: headers do not count.
    pub fn flow_cap(&self) -> Option<BitRate> {
        self.loss.flow_cap(self.round_trip())
    }

    /// There and back, taken as twice this direction's delay.
    pub fn round_trip(&self) -> Delay {
        Delay::from_seconds(2.0 * self.delay.seconds()).unwrap_or(self.delay)
    }
}

/// `base` to the `exponent` by multiplications alone, which all platforms round alike.
fn power(mut base: f64, mut exponent: u64) -> f64 {
    let mut product = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            product *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn loss(share: f64, model: LossModel) -> Loss {
        Loss { share, model }
    }

    fn ms(ms: f64) -> Delay {
        Delay::from_seconds(ms / 1e3).unwrap()
    }

    fn link(mbps: u64, delay_ms: u64) -> LinkState {
        LinkState {
            bits_per_second: mbps * 1_000_000,
            delay_ns: delay_ms * 1_000_000,
        }
    }

    #[test]
    fn no_loss_changes_nothing() {
        for model in [LossModel::Goodput, LossModel::Mathis] {
            let none = loss(0.0, model);
            assert_eq!(none.with_repeats(u64::MAX), u64::MAX);
            assert_eq!(none.flow_cap(ms(200.0)), None);
            assert_eq!(none.recovery_chance(1 << 30, link(1_000, 100)), 0.0);
        }
    }

    #[test]
    fn goodput_is_what_is_not_lost() {
        let one_in_ten = loss(0.1, LossModel::Goodput);
        assert_eq!(one_in_ten.with_repeats(900_000), 1_000_000);
        assert_eq!(one_in_ten.flow_cap(ms(40.0)), None);
        assert_eq!(loss(0.1, LossModel::Mathis).with_repeats(900_000), 900_000);
        assert_eq!(loss(1.0, LossModel::Goodput).with_repeats(1), u64::MAX);
    }

    #[test]
    fn the_square_root_law_by_hand() {
        // 1.22 x 1421 x 8 / (0.04 x 0.01) = 34.7 Mbit/s; a hundred times the loss, a tenth of the rate.
        let cap = |share| {
            loss(share, LossModel::Mathis)
                .flow_cap(ms(40.0))
                .unwrap()
                .bps()
                / 1e6
        };
        assert!((cap(1e-4) - 34.6724).abs() < 1e-3, "{}", cap(1e-4));
        assert!((cap(1e-4) / cap(1e-2) - 10.0).abs() < 1e-9);
        assert_eq!(loss(0.01, LossModel::Mathis).flow_cap(Delay::ZERO), None);
    }

    #[test]
    fn only_the_last_round_trip_of_a_message_can_cost_one() {
        let rare = loss(1e-4, LossModel::Goodput);
        // 1 Mbit/s x 2 x 40 ms hold 10 kB, 8 datagrams.
        let chance = rare.recovery_chance(1 << 30, link(1, 40));
        assert!((chance - 8e-4).abs() < 1e-6, "{chance}");
        assert_eq!(rare.recovery_chance(1 << 20, link(1, 40)), chance);
        let one_datagram = rare.recovery_chance(1, link(1, 40));
        assert!((one_datagram - 1e-4).abs() < 1e-12);
        assert_eq!(rare.recovery_chance(0, link(1, 40)), 0.0);
        assert_eq!(rare.recovery_chance(1 << 30, link(1, 0)), 0.0);
        assert_eq!(
            loss(1e-4, LossModel::Mathis).recovery_chance(1 << 30, link(1, 40)),
            0.0
        );
    }

    proptest! {
        #[test]
        fn a_power_is_a_power(base in 0.0f64..1.0, exponent in 0u64..10_000) {
            let expected = base.powf(exponent as f64);
            prop_assert!((power(base, exponent) - expected).abs() <= 1e-11);
        }

        #[test]
        fn chances_are_chances(share in 0.0f64..1.0, bytes: u64, bits_per_second: u64, delay_ns: u64) {
            let link = LinkState { bits_per_second, delay_ns };
            let chance = loss(share, LossModel::Goodput).recovery_chance(bytes, link);
            prop_assert!((0.0..=1.0).contains(&chance));
        }
    }
}
