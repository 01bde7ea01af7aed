//! What a directed link is.

use serde::{Deserialize, Serialize};

use crate::BitRate;

/// Chunk size of slow links: 16 KiB take 13 ms at 10 Mbit/s, so that jobs still interleave.
const SLOW_CHUNK_BYTES: u32 = 16 * 1024;
/// Chunk size of most links.
const CHUNK_BYTES: u32 = 64 * 1024;
/// Chunk size of fast links, where fewer and larger chunks save a third of the sender's work.
const FAST_CHUNK_BYTES: u32 = 256 * 1024;
/// Links up to this rate use the small chunk.
const SLOW_BPS: f64 = 20e6;
/// Links from this rate on use the large chunk.
const FAST_BPS: f64 = 10e9;

const NANOS_PER_SECOND: f64 = 1e9;

/// A one-way delay in seconds: finite and not negative.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Delay(f64);

impl Delay {
    /// No delay.
    pub const ZERO: Self = Self(0.0);

    /// A delay from seconds; `None` if they are negative or not finite.
    pub fn from_seconds(seconds: f64) -> Option<Self> {
        (seconds.is_finite() && seconds >= 0.0).then_some(Self(seconds))
    }

    /// A delay of whole nanoseconds.
    pub fn from_nanos(nanos: u64) -> Self {
        Self(nanos as f64 / NANOS_PER_SECOND)
    }

    /// Seconds, exactly as given: what the scheduler computes with.
    pub fn seconds(self) -> f64 {
        self.0
    }

    /// Whole nanoseconds, rounded, for clocks; saturates after 584 years.
    pub fn nanos(self) -> u64 {
        (self.0 * NANOS_PER_SECOND).round() as u64
    }
}

impl TryFrom<f64> for Delay {
    type Error = NotADelay;

    fn try_from(seconds: f64) -> Result<Self, NotADelay> {
        Self::from_seconds(seconds).ok_or(NotADelay(seconds))
    }
}

impl From<Delay> for f64 {
    fn from(delay: Delay) -> Self {
        delay.0
    }
}

/// A number that is no delay.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} s is not a delay: it must be finite and not negative")]
pub struct NotADelay(f64);

/// Random extra delay of each chunk or datagram. It never reorders: what would overtake arrives together with what it
/// would have overtaken.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub enum Jitter {
    /// Every chunk takes the link's delay.
    #[default]
    None,
    /// Evenly spread from none to this much more.
    Uniform(Delay),
    /// The positive half of a normal distribution with this standard deviation: delay is a floor.
    Normal(Delay),
}

/// What loss does where bytes are not really lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum LossModel {
    /// A sender that fills the link whatever is lost: the rate falls to rate x (1 - loss), and a message whose last
    /// bandwidth x round trip is hit takes a round trip more.
    #[default]
    Goodput,
    /// A sender that takes loss for congestion: each flow gets at most 1.22 x segment / (round trip x sqrt(loss)).
    Mathis,
}

/// Share of datagrams that are lost.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Loss {
    /// From 0 (exact mode) to below 1.
    pub share: f64,
    /// What it does on the `virtual` back end; `packet` and `kernel` drop datagrams.
    pub model: LossModel,
}

/// Which bytes a link's rate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Accounting {
    /// The bytes of tensors alone.
    #[default]
    Payload,
    /// Those of the IP packets that would carry them.
    Ip,
    /// Those of the Ethernet frames that would carry them.
    Ethernet,
}

/// Among whom a link is shared equally.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Sharing {
    /// Jobs, however many messages each has under way.
    #[default]
    PerJob,
    /// Messages under way, as if each had a connection of its own.
    PerFlow,
}

impl Sharing {
    /// Messages that a job's sender carries over a directed link at a time; more wait until one has all its slots. Each has a timer
    /// and a chunk of its own.
    pub const fn most_at_once(self) -> usize {
        match self {
            Self::PerJob => 1,
            Self::PerFlow => 32,
        }
    }
}

/// A bucket that fills while the link idles, as clouds police instances: the link gives its `rate` while there is
/// credit, and `sustained` without.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BurstCredit {
    /// Bytes in a full bucket; it is full at the start of a run.
    pub bytes: u64,
    /// At which it fills; above 0.
    pub sustained: BitRate,
}

/// What one directed link gives: the emulation's target, the same whatever carries the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LinkSpec {
    /// Bits per second of the whole link, shared by all that use it; 0 while it is down.
    pub rate: BitRate,
    /// From a bit's leaving to its arrival.
    pub delay: Delay,
    /// Random extra delay.
    pub jitter: Jitter,
    /// Share of datagrams lost.
    pub loss: Loss,
    /// Which bytes `rate` counts.
    pub accounting: Accounting,
    /// Among whom it is shared equally.
    pub sharing: Sharing,
    /// Credit for bursts; absent where `rate` holds for ever.
    pub burst: Option<BurstCredit>,
    /// What the link's queue holds before it drops, bytes; absent for two bandwidth x round-trip products. The
    /// `virtual` back end drops nothing.
    pub queue_bytes: Option<u64>,
}

impl LinkSpec {
    /// A link of this rate and one-way delay, without loss or jitter.
    pub const fn new(rate: BitRate, delay: Delay) -> Self {
        Self {
            rate,
            delay,
            jitter: Jitter::None,
            loss: Loss {
                share: 0.0,
                model: LossModel::Goodput,
            },
            accounting: Accounting::Payload,
            sharing: Sharing::PerJob,
            burst: None,
            queue_bytes: None,
        }
    }

    /// Seconds from the moment a message of `bytes` may leave an idle link to its complete arrival; infinite while the link
    /// is down.
    ///
    /// Headers that the rate counts, bytes repeated after loss and the rate to which the Mathis model holds a flow are in it
    /// (the latter beside headers to one datagram's time). What is drawn is not: jitter and the goodput model's round trip of
    /// recovery make a message later. Burst credit counts as never ending.
    pub fn ideal_seconds(&self, bytes: u64) -> f64 {
        let link_s = self.rate.seconds_for(self.charged_bytes(bytes));
        let flow_s = self.flow_cap().map_or(0.0, |cap| cap.seconds_for(bytes));
        link_s.max(flow_s) + self.delay.seconds()
    }
}

/// Bytes of one reservation on a link of this rate, the last of a message excepted.
///
/// It is a property of the link and not of a sender: reservations take turns, so that a sender
/// with larger chunks would get a larger share.
pub fn chunk_bytes(rate: BitRate) -> u32 {
    if rate.bps() <= SLOW_BPS {
        SLOW_CHUNK_BYTES
    } else if rate.bps() >= FAST_BPS {
        FAST_CHUNK_BYTES
    } else {
        CHUNK_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(bps: f64) -> BitRate {
        BitRate::from_bps(bps).unwrap()
    }

    #[test]
    fn chunks_follow_the_rate() {
        let sizes = [0.0, 20e6, 20e6 + 1.0, 1e9, 10e9, 100e9].map(|bps| chunk_bytes(rate(bps)));
        assert_eq!(sizes, [16384, 16384, 65536, 65536, 262144, 262144]);
    }

    #[test]
    fn a_delay_is_finite_and_not_negative() {
        assert_eq!(Delay::from_seconds(-1e-9), None);
        assert_eq!(Delay::from_seconds(f64::NAN), None);
        assert_eq!(Delay::from_seconds(f64::INFINITY), None);
        assert_eq!(Delay::from_seconds(0.038).unwrap().nanos(), 38_000_000);
        assert_eq!(Delay::from_seconds(1e30).unwrap().nanos(), u64::MAX);
        assert_eq!(
            Delay::try_from(-2.0).unwrap_err().to_string(),
            "-2 s is not a delay: it must be finite and not negative"
        );
    }

    #[test]
    fn ideal_time_is_bytes_over_rate_plus_delay() {
        let spec = LinkSpec::new(rate(10e6), Delay::from_seconds(0.04).unwrap());
        assert_eq!(spec.ideal_seconds(16_000_000), 12.84);
        let lossy = |share, model| LinkSpec {
            loss: Loss { share, model },
            ..spec
        };
        assert_eq!(
            lossy(0.5, LossModel::Goodput).ideal_seconds(16_000_000),
            25.64
        );
        // 1.22 x 1421 x 8 / (0.08 x 0.1) = 1.733 62 Mbit/s.
        let held_s = lossy(0.01, LossModel::Mathis).ideal_seconds(1_733_620);
        assert!((held_s - 8.04).abs() < 1e-9, "{held_s}");
        let framed = LinkSpec {
            accounting: Accounting::Ethernet,
            ..spec
        };
        assert_eq!(
            framed.ideal_seconds(1421 * 1000),
            1494.0 * 8e3 / 10e6 + 0.04
        );
        assert!(
            LinkSpec::new(BitRate::ZERO, Delay::ZERO)
                .ideal_seconds(1)
                .is_infinite()
        );
    }
}
