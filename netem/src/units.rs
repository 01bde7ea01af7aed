//! Rates; the one place where bytes become bits.

use serde::{Deserialize, Serialize};

/// A data rate in bits per second; finite and not negative.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct BitRate(f64);

/// A number that is no rate.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} bit/s is not a rate: it must be finite and not negative")]
pub struct NotARate(f64);

impl TryFrom<f64> for BitRate {
    type Error = NotARate;

    fn try_from(bits_per_second: f64) -> Result<Self, NotARate> {
        Self::from_bps(bits_per_second).ok_or(NotARate(bits_per_second))
    }
}

impl From<BitRate> for f64 {
    fn from(rate: BitRate) -> Self {
        rate.0
    }
}

impl BitRate {
    /// A link that carries nothing.
    pub const ZERO: Self = Self(0.0);

    /// A rate from bits per second; `None` if it is negative or not finite.
    pub fn from_bps(bits_per_second: f64) -> Option<Self> {
        (bits_per_second.is_finite() && bits_per_second >= 0.0).then_some(Self(bits_per_second))
    }

    /// Bits per second.
    pub fn bps(self) -> f64 {
        self.0
    }

    /// Seconds that `bytes` take at this rate; infinite at rate 0.
    pub fn seconds_for(self, bytes: u64) -> f64 {
        bytes_to_bits(bytes) / self.0
    }

    /// The rate that carries `bytes` every `seconds`.
    pub fn carrying(bytes: u64, seconds: f64) -> Self {
        Self(bytes_to_bits(bytes) / seconds)
    }

    /// Whole bits per second for integer link clocks: rounded, and at least 1 unless the link is down.
    pub fn whole_bps(self) -> u64 {
        if self.0 == 0.0 {
            0
        } else {
            (self.0.round() as u64).max(1)
        }
    }
}

/// Bytes to bits, as a real number.
fn bytes_to_bits(bytes: u64) -> f64 {
    bytes as f64 * 8.0
}
