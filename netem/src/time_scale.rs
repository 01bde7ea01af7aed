//! How fast emulated time passes on this machine.

use serde::{Deserialize, Serialize};

use crate::{BitRate, BurstCredit, Delay, Finding, Jitter, LinkSpec, Quantity};

/// Emulated seconds that pass in a second of this machine, a wall second: below 1 a slow machine emulates what is faster
/// than it, above 1 hours are compressed.
///
/// Bytes are the same in both worlds, so that bytes x 8 / (rate x seconds) is as well: a link that is to give 100 Mbit/s after
/// 20 ms has to give 400 Mbit/s after 5 ms of a machine on which four emulated seconds pass in one.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct TimeScale(f64);

/// A number that is no time scale.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} is not a time scale: it must be a number from {least} up to {most}", least = TimeScale::LEAST, most = TimeScale::MOST)]
pub struct NotATimeScale(f64);

impl TimeScale {
    /// Emulated seconds are this machine's.
    pub const ONE: Self = Self(1.0);
    /// The smallest: an emulated second in a quarter of an hour.
    pub const LEAST: f64 = 1e-3;
    /// The largest: an emulated day in less than a second.
    pub const MOST: f64 = 1e5;

    /// A scale from emulated seconds in a wall second; `None` outside [`Self::LEAST`] to [`Self::MOST`].
    pub fn new(emulated_per_wall: f64) -> Option<Self> {
        (Self::LEAST..=Self::MOST)
            .contains(&emulated_per_wall)
            .then_some(Self(emulated_per_wall))
    }

    /// Emulated seconds in a wall second.
    pub fn get(self) -> f64 {
        self.0
    }

    /// The wall seconds that emulated ones take.
    pub fn wall_seconds(self, emulated_s: f64) -> f64 {
        emulated_s / self.0
    }

    /// The emulated seconds that pass in wall ones.
    pub fn emulated_seconds(self, wall_s: f64) -> f64 {
        wall_s * self.0
    }

    /// The rate in wall seconds of one in emulated seconds.
    pub fn wall_rate(self, emulated: BitRate) -> BitRate {
        BitRate::from_bps(emulated.bps() * self.0)
            .expect("a part or a multiple of a rate is a rate")
    }

    /// The delay in wall seconds of one in emulated seconds.
    pub fn wall_delay(self, emulated: Delay) -> Delay {
        Delay::from_seconds(self.wall_seconds(emulated.seconds()))
            .expect("a part or a multiple of a delay is a delay")
    }

    /// What a link has to be in wall seconds to be `emulated` in emulated ones: bytes and shares stay.
    pub fn wall_link(self, emulated: LinkSpec) -> LinkSpec {
        // All fields by name: whether one holds a time has to be decided for each.
        let LinkSpec {
            rate,
            delay,
            jitter,
            loss,
            accounting,
            sharing,
            burst,
            queue_bytes,
        } = emulated;
        LinkSpec {
            rate: self.wall_rate(rate),
            delay: self.wall_delay(delay),
            jitter: match jitter {
                Jitter::None => Jitter::None,
                Jitter::Uniform(most) => Jitter::Uniform(self.wall_delay(most)),
                Jitter::Normal(deviation) => Jitter::Normal(self.wall_delay(deviation)),
            },
            loss,
            accounting,
            sharing,
            burst: burst.map(|BurstCredit { bytes, sustained }| BurstCredit {
                bytes,
                sustained: self.wall_rate(sustained),
            }),
            queue_bytes,
        }
    }

    /// A figure that was measured and judged in wall seconds, in emulated ones.
    pub fn emulated_finding(self, wall: Finding) -> Finding {
        let factor = match wall.quantity {
            Quantity::Rate | Quantity::SharedRate => 1.0 / self.0,
            Quantity::Completion | Quantity::Delay => self.0,
            Quantity::Fairness => 1.0,
        };
        Finding {
            quantity: wall.quantity,
            configured: wall.configured * factor,
            measured: wall.measured * factor,
            at_least: wall.at_least.map(|least| least * factor),
            at_most: wall.at_most.map(|most| most * factor),
        }
    }

    /// The largest scale that `fits`, rounded down to three digits; `None` if none does. What fits at one scale has to fit at
    /// every smaller one.
    pub fn largest(fits: impl Fn(Self) -> bool) -> Option<Self> {
        let (mut low, mut high) = (Self::LEAST, Self::MOST);
        if !fits(Self(low)) {
            return None;
        }
        if fits(Self(high)) {
            return Some(Self(high));
        }
        while high / low > 1.0 + BISECTED_TO {
            let middle = (low * high).sqrt();
            if fits(Self(middle)) {
                low = middle;
            } else {
                high = middle;
            }
        }
        // The bisection ends a hair below a bound that is round itself.
        let rounded = |value| Self(three_digits_down(value).max(Self::LEAST));
        let nearest = rounded(low * (1.0 + BISECTED_TO));
        Some(if fits(nearest) { nearest } else { rounded(low) })
    }
}

/// How near to the bound [`TimeScale::largest`] gets, as a share.
const BISECTED_TO: f64 = 1e-9;

fn three_digits_down(value: f64) -> f64 {
    let beyond = 2 - value.log10().floor() as i32;
    // Divided, since powers of ten below 1 are not exact.
    let unit = 10_f64.powi(beyond.abs());
    if beyond < 0 {
        (value / unit).floor() * unit
    } else {
        (value * unit).floor() / unit
    }
}

impl Default for TimeScale {
    fn default() -> Self {
        Self::ONE
    }
}

impl std::fmt::Display for TimeScale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<f64> for TimeScale {
    type Error = NotATimeScale;

    fn try_from(emulated_per_wall: f64) -> Result<Self, NotATimeScale> {
        Self::new(emulated_per_wall).ok_or(NotATimeScale(emulated_per_wall))
    }
}

impl From<TimeScale> for f64 {
    fn from(scale: TimeScale) -> Self {
        scale.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Accounting, Loss, LossModel};

    fn scale(value: f64) -> TimeScale {
        TimeScale::new(value).unwrap()
    }

    fn rate(bps: f64) -> BitRate {
        BitRate::from_bps(bps).unwrap()
    }

    fn delay(seconds: f64) -> Delay {
        Delay::from_seconds(seconds).unwrap()
    }

    #[test]
    fn a_scale_is_a_number_within_bounds() {
        for wrong in [0.0, -1.0, 0.9e-3, 1.1e5, f64::NAN, f64::INFINITY] {
            assert_eq!(TimeScale::new(wrong), None, "{wrong}");
        }
        assert_eq!(
            TimeScale::try_from(0.0).unwrap_err().to_string(),
            "0 is not a time scale: it must be a number from 0.001 up to 100000"
        );
    }

    #[test]
    fn a_link_keeps_its_bytes_and_shares() {
        let spec = LinkSpec {
            jitter: Jitter::Normal(delay(0.002)),
            loss: Loss {
                share: 0.01,
                model: LossModel::Mathis,
            },
            accounting: Accounting::Ip,
            burst: Some(BurstCredit {
                bytes: 5_000_000,
                sustained: rate(10e6),
            }),
            queue_bytes: Some(64_000),
            ..LinkSpec::new(rate(100e6), delay(0.02))
        };
        let wall = LinkSpec {
            jitter: Jitter::Normal(delay(0.0005)),
            burst: Some(BurstCredit {
                bytes: 5_000_000,
                sustained: rate(40e6),
            }),
            rate: rate(400e6),
            delay: delay(0.005),
            ..spec
        };
        assert_eq!(scale(4.0).wall_link(spec), wall);
        assert_eq!(TimeScale::ONE.wall_link(spec), spec);
    }

    #[test]
    fn findings_are_told_in_emulated_units() {
        let wall = |quantity| Finding {
            quantity,
            configured: 8.0,
            measured: 10.0,
            at_least: None,
            at_most: Some(9.0),
        };
        for (quantity, factor) in [
            (Quantity::Rate, 0.25),
            (Quantity::SharedRate, 0.25),
            (Quantity::Completion, 4.0),
            (Quantity::Delay, 4.0),
            (Quantity::Fairness, 1.0),
        ] {
            let told = scale(4.0).emulated_finding(wall(quantity));
            assert_eq!(
                (told.configured, told.measured),
                (8.0 * factor, 10.0 * factor)
            );
            assert_eq!((told.at_least, told.at_most), (None, Some(9.0 * factor)));
            assert_eq!(told.miss(), wall(quantity).miss());
        }
    }

    #[test]
    fn the_largest_scale_is_just_within_its_bound() {
        let largest = |bound: f64| TimeScale::largest(|scale| scale.get() <= bound);
        assert_eq!(largest(1e-4), None);
        assert_eq!(largest(1e6), TimeScale::new(1e5));
        for (bound, told) in [
            (0.3579, "0.357"),
            (2.0, "2"),
            (123.9, "123"),
            (1e-3, "0.001"),
        ] {
            let scale = largest(bound).unwrap();
            assert_eq!(scale.to_string(), told);
            assert!(scale.get() <= bound);
        }
    }

    proptest! {
        /// Bytes x 8 / (rate x seconds) does not change, whatever else a link does.
        #[test]
        fn a_message_takes_its_time_on_either_clock(
            factor in TimeScale::LEAST..TimeScale::MOST,
            bps in 1e3..1e12,
            delay_s in 0.0..10.0,
            share in 0.0..0.5,
            bytes in 1_u64..1 << 40,
        ) {
            let scale = scale(factor);
            for model in [LossModel::Goodput, LossModel::Mathis] {
                let spec = LinkSpec {
                    loss: Loss { share, model },
                    accounting: Accounting::Ethernet,
                    ..LinkSpec::new(rate(bps), delay(delay_s))
                };
                let wall_s = scale.wall_link(spec).ideal_seconds(bytes);
                let emulated_s = spec.ideal_seconds(bytes);
                let told_s = scale.emulated_seconds(wall_s);
                prop_assert!((told_s - emulated_s).abs() <= 1e-12 * emulated_s);
            }
        }

        #[test]
        fn there_and_back_is_where_one_was(factor in TimeScale::LEAST..TimeScale::MOST, seconds in 0.0..1e9) {
            let scale = scale(factor);
            let back_s = scale.emulated_seconds(scale.wall_seconds(seconds));
            prop_assert!((back_s - seconds).abs() <= 1e-15 * seconds.max(1.0));
            let delay = scale.wall_delay(delay(seconds)).seconds();
            prop_assert_eq!(delay, scale.wall_seconds(seconds));
        }

        #[test]
        fn what_is_under_way_and_queued_stays(factor in TimeScale::LEAST..TimeScale::MOST, bps in 1e3..1e12, delay_s in 0.0..10.0) {
            let spec = LinkSpec::new(rate(bps), delay(delay_s));
            let wall = scale(factor).wall_link(spec);
            let product = |spec: LinkSpec| spec.rate.bps() * spec.delay.seconds();
            prop_assert!((product(wall) - product(spec)).abs() <= 1e-12 * product(spec));
        }
    }
}
