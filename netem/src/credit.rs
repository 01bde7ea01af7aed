//! Burst credit: a bucket that fills while a link idles, as arithmetic. The generic cell rate algorithm with a byte for a cell.

use crate::{BurstCredit, LinkSpec, chunk_bytes, duration_ns};

/// Chunks that a bucket holds at least: with fewer, a sender that wakes up late would lose credit for good.
const LEAST_CHUNKS: u64 = 4;

/// A bucket of credit: what passes it leaves it at `sustained` in the long run, and earlier as long as it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreditBucket {
    depth_bytes: u64,
    sustained_bps: u64,
    /// When it would be full if nothing more were taken.
    full_at_ns: u64,
}

impl CreditBucket {
    /// A full bucket of `depth_bytes` that fills at `burst.sustained`.
    pub fn new(burst: BurstCredit, depth_bytes: u64) -> Self {
        Self {
            depth_bytes,
            sustained_bps: burst.sustained.whole_bps(),
            full_at_ns: 0,
        }
    }

    /// Takes `bytes`, asked for at `ready_ns` and after all that was taken before; when the bucket holds them, ns.
    ///
    /// As with the link's clock, `ready_ns` may lie in the past. `None` where nothing ever fills the bucket, and then nothing is
    /// taken.
    pub fn take(&mut self, bytes: u64, ready_ns: u64) -> Option<u64> {
        let taken_ns = duration_ns(bytes, self.sustained_bps)?;
        let depth_ns = duration_ns(self.depth_bytes, self.sustained_bps)?;
        let earliest_ns = self
            .full_at_ns
            .saturating_add(taken_ns)
            .saturating_sub(depth_ns);
        let at_ns = ready_ns.max(earliest_ns);
        self.full_at_ns = self.full_at_ns.max(at_ns).saturating_add(taken_ns);
        Some(at_ns)
    }
}

impl LinkSpec {
    /// Bytes in the full bucket of a link with burst credit, charged as the link's rate is: those given, and four chunks at least.
    pub fn credit_depth_bytes(&self) -> Option<u64> {
        let chunk = self.charged_bytes(chunk_bytes(self.rate).into());
        let burst = self.burst?;
        Some(burst.bytes.max(LEAST_CHUNKS.saturating_mul(chunk)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{BitRate, Delay};

    fn burst(bytes: u64, sustained_bps: u64) -> BurstCredit {
        BurstCredit {
            bytes,
            sustained: BitRate::from_bps(sustained_bps as f64).unwrap(),
        }
    }

    #[test]
    fn a_full_bucket_gives_at_once_and_then_what_flows_in() {
        // 8 Gbit/s are a byte a nanosecond.
        let mut bucket = CreditBucket::new(burst(100, 8_000_000_000), 100);
        let taken = [60, 40, 10, 30].map(|bytes| bucket.take(bytes, 1_000).unwrap());
        assert_eq!(taken, [1_000, 1_000, 1_010, 1_040]);
        // 60 have flowed in by 1_100.
        assert_eq!(bucket.take(60, 1_100), Some(1_100));
        assert_eq!(bucket.take(1, 1_100), Some(1_101));
        // Idle for ever, it holds no more than it can.
        assert_eq!(
            [80, 40].map(|bytes| bucket.take(bytes, 9_000).unwrap()),
            [9_000, 9_020]
        );
    }

    #[test]
    fn what_nothing_fills_gives_nothing() {
        assert_eq!(CreditBucket::new(burst(100, 0), 100).take(1, 5), None);
    }

    #[test]
    fn a_bucket_holds_four_chunks_at_least() {
        let mut spec = LinkSpec::new(BitRate::from_bps(1e9).unwrap(), Delay::ZERO);
        assert_eq!(spec.credit_depth_bytes(), None);
        spec.burst = Some(burst(1, 1_000_000));
        assert_eq!(spec.credit_depth_bytes(), Some(4 * 65_536));
        spec.loss.share = 0.5;
        assert_eq!(spec.credit_depth_bytes(), Some(8 * 65_536));
        spec.burst = Some(burst(1 << 30, 1_000_000));
        assert_eq!(spec.credit_depth_bytes(), Some(1 << 30));
    }

    proptest! {
        #[test]
        fn never_more_than_the_depth_and_what_flowed_in(
            depth in 1u64..1 << 30,
            sustained in 1_000_000u64..10_000_000_000,
            mut asked in prop::collection::vec((0u64..1 << 30, 1u64..1 << 18), 1..60),
        ) {
            asked.sort_unstable();
            let mut bucket = CreditBucket::new(burst(depth, sustained), depth);
            let taken: Vec<(u64, u64)> =
                asked.into_iter().map(|(ready, bytes)| (bucket.take(bytes, ready).unwrap(), bytes)).collect();
            for (i, &(from_ns, _)) in taken.iter().enumerate() {
                let mut bytes = 0;
                let mut last_ns = from_ns;
                for &(to_ns, more) in &taken[i..] {
                    prop_assert!(to_ns >= last_ns);
                    last_ns = to_ns;
                    bytes += more;
                    let flowed = u128::from(to_ns - from_ns) * u128::from(sustained) / 8_000_000_000;
                    // A piece larger than the bucket is owed; each is rounded by half a nanosecond.
                    let rounding = 60 * (u128::from(sustained) / 8_000_000_000 + 1);
                    prop_assert!(u128::from(bytes) <= u128::from(depth.max(more)) + flowed + rounding);
                }
            }
        }
    }
}
