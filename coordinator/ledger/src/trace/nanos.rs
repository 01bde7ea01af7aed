//! The clock of a trace.

use std::ops::{Add, Sub};

use serde::{Serialize, Serializer};

const PER_SECOND: f64 = 1e9;
const PER_MICROSECOND: f64 = 1e3;

/// An instant or a length in whole nanoseconds, so that what abuts in a ledger abuts in its trace: a viewer drops slices that
/// overlap by a rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Nanos(pub i64);

impl Nanos {
    pub const ONE: Self = Self(1);

    /// From seconds, rounded; saturates after 292 years.
    pub fn of(seconds: f64) -> Self {
        Self((seconds * PER_SECOND).round() as i64)
    }

    pub fn seconds(self) -> f64 {
        self.0 as f64 / PER_SECOND
    }
}

impl Add for Nanos {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Nanos {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// As the format wants it, in microseconds; a reader that cuts to whole nanoseconds finds this very one.
impl Serialize for Nanos {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let nearest = self.0 as f64 / PER_MICROSECOND;
        let found = (nearest * PER_MICROSECOND) as i64;
        to.serialize_f64(match found < self.0 {
            true => nearest.next_up(),
            false => nearest,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn microseconds_that_a_reader_cuts_are_the_nanoseconds_that_were_meant(
            nanos in 0_i64..4_000_000_000_000_000,
        ) {
            let text = serde_json::to_string(&Nanos(nanos)).unwrap();
            let read: f64 = text.parse().unwrap();
            prop_assert_eq!((read * 1000.0) as i64, nanos);
        }
    }

    #[test]
    fn seconds_are_rounded() {
        assert_eq!(Nanos::of(1.000_000_001_4), Nanos(1_000_000_001));
        assert_eq!(serde_json::to_string(&Nanos(1_500)).unwrap(), "1.5");
    }
}
