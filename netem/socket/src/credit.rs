//! Burst credit in front of a link's clock: governor's bucket, kept in the link's shared memory and asked for any time.
//!
//! governor reads a clock and keeps its state where it is told to. Given the time at which bytes were ready for a clock, it is
//! retroactive as the link's clock is; given absolute nanoseconds and the link's line, all processes share one bucket.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bace_netem::{LinkSpec, duration_ns};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use crate::cell::LinkCell;

/// What one of governor's cells stands for. Its period is a whole number of nanoseconds: with a byte a cell, 10 Gbit/s would
/// be a fifth too slow; with 1 KiB they are right to 0.03 %.
const CELL_BYTES: u64 = 1024;

/// One sender's door to its link's bucket of burst credit.
#[derive(Debug)]
pub(crate) struct CreditGate {
    limiter: RateLimiter<NotKeyed, SharedBucket, AskedTime, NoOpMiddleware<Nanos>>,
    depth: NonZeroU32,
    period_ns: u64,
    cell: LinkCell,
}

impl CreditGate {
    /// The gate of a link with burst credit that something fills; `None` for all others.
    pub fn new(cell: &LinkCell, spec: &LinkSpec) -> Option<Self> {
        let depth_bytes = spec.credit_depth_bytes()?;
        let sustained_bps = spec.burst?.sustained.whole_bps();
        let period_ns = duration_ns(CELL_BYTES, sustained_bps)?.max(1);
        // A bucket that takes centuries to fill is never seen full again.
        let most = (i64::MAX as u64 / period_ns).min(u32::MAX.into());
        let cells = (depth_bytes / CELL_BYTES).min(most) as u32;
        let depth = NonZeroU32::new(cells).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(Duration::from_nanos(period_ns))?.allow_burst(depth);
        let bucket = SharedBucket(cell.clone());
        Some(Self {
            limiter: RateLimiter::new(quota, bucket, AskedTime::default()),
            depth,
            period_ns,
            cell: cell.clone(),
        })
    }

    /// Takes credit for the `bytes` of a message that follow `before` others; from when it has them, at `ready_ns` at the
    /// earliest. A message's last cell is charged whole.
    pub fn take(&mut self, before: u64, bytes: u64, ready_ns: u64) -> u64 {
        let end = before.saturating_add(bytes).div_ceil(CELL_BYTES);
        let mut cells = end - before.div_ceil(CELL_BYTES);
        let mut at_ns = ready_ns;
        // No more at once than the bucket holds.
        while let Some(some) = NonZeroU32::new(cells.min(self.depth.get().into()) as u32) {
            at_ns = self.take_cells(some, at_ns);
            cells -= u64::from(some.get());
        }
        at_ns
    }

    /// From when there would be credit for `bytes` at `ready_ns`, if nobody else takes it meanwhile; takes nothing.
    pub fn earliest_ns(&self, bytes: u64, ready_ns: u64) -> u64 {
        let cells_ns = bytes.div_ceil(CELL_BYTES).saturating_mul(self.period_ns);
        let depth_ns = u64::from(self.depth.get()).saturating_mul(self.period_ns);
        let full_at_ns = self.cell.credit_full_at_ns().load(Ordering::Acquire);
        full_at_ns
            .saturating_add(cells_ns)
            .saturating_sub(depth_ns)
            .max(ready_ns)
    }

    fn take_cells(&self, cells: NonZeroU32, mut at_ns: u64) -> u64 {
        loop {
            self.limiter.clock().0.store(at_ns, Ordering::Relaxed);
            let checked = self.limiter.check_n(cells);
            match checked.expect("no more cells are asked for than the bucket holds") {
                Ok(()) => return at_ns,
                // Again at that time, unless another process was quicker.
                Err(not_until) => at_ns = at_ns.max(not_until.earliest_possible().into()),
            }
        }
    }
}

/// The time for which credit is asked.
#[derive(Debug, Default)]
struct AskedTime(AtomicU64);

impl Clock for AskedTime {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}

/// governor's state in the link's line.
#[derive(Debug)]
struct SharedBucket(LinkCell);

impl StateStore for SharedBucket {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let shared = self.0.credit_full_at_ns();
        let mut full_at_ns = shared.load(Ordering::Acquire);
        loop {
            let known = (full_at_ns > 0).then(|| Nanos::from(full_at_ns));
            let (answer, next) = decide(known)?;
            match shared.compare_exchange_weak(
                full_at_ns,
                next.into(),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(answer),
                Err(current) => full_at_ns = current,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bace_netem::{BitRate, BurstCredit, CreditBucket, Delay};
    use proptest::prelude::*;

    use super::*;
    use crate::cell::CellTable;

    fn bursting(bytes: u64, sustained_bps: f64) -> LinkSpec {
        let rate = BitRate::from_bps(10e9).unwrap();
        let mut spec = LinkSpec::new(rate, Delay::ZERO);
        spec.burst = Some(BurstCredit {
            bytes,
            sustained: BitRate::from_bps(sustained_bps).unwrap(),
        });
        spec
    }

    #[test]
    fn links_without_credit_have_no_gate() {
        let plain = LinkSpec::new(BitRate::from_bps(1e9).unwrap(), Delay::ZERO);
        assert!(CreditGate::new(&LinkCell::private(&plain), &plain).is_none());
        let dry = bursting(1 << 20, 0.0);
        assert!(CreditGate::new(&LinkCell::private(&dry), &dry).is_none());
    }

    #[test]
    fn processes_share_one_bucket() {
        // Four chunks of 256 KiB; 1 KiB flows in every microsecond.
        let spec = bursting(1 << 20, 8.192e9);
        let (table, path) = CellTable::create(1).unwrap();
        let mut ours = CreditGate::new(&table.cell(0).unwrap(), &spec).unwrap();
        let opened = CellTable::open(&path).unwrap().cell(0).unwrap();
        let mut theirs = CreditGate::new(&opened, &spec).unwrap();
        assert_eq!(ours.take(0, 1 << 19, 5_000), 5_000);
        assert_eq!(theirs.take(0, 1 << 19, 5_000), 5_000);
        assert_eq!(ours.earliest_ns(10 << 10, 5_000), 15_000);
        assert_eq!(ours.take(0, 10 << 10, 5_000), 15_000);
        assert_eq!(theirs.take(0, 1, 5_000), 16_000);
        // The rest of that cell is paid for.
        assert_eq!(theirs.take(1, 1_023, 5_000), 5_000);
        assert_eq!(theirs.take(1_024, 1, 5_000), 17_000);
    }

    #[test]
    fn more_than_the_bucket_holds_is_taken_piece_by_piece() {
        let spec = bursting(1 << 20, 8.192e9);
        let mut gate = CreditGate::new(&LinkCell::private(&spec), &spec).unwrap();
        assert_eq!(gate.take(0, 3 << 20, 1_000_000), 1_000_000 + 2 * 1_024_000);
    }

    #[test]
    fn the_longest_bucket_does_not_overflow() {
        let spec = bursting(u64::MAX, 1.0);
        let mut gate = CreditGate::new(&LinkCell::private(&spec), &spec).unwrap();
        assert_eq!(gate.take(0, 1 << 20, 1 << 50), 1 << 50);
    }

    proptest! {
        #[test]
        fn it_is_the_bucket_of_the_model(
            depth_kib in 1024u64..100_000,
            period_ns in 1u64..100_000,
            asked in prop::collection::vec((1u64..1_024, 0u64..1 << 34), 1..80),
        ) {
            // Whole cells, and a rate whose period is whole: equal to the nanosecond.
            let sustained_bps = 8_192e9 / period_ns as f64;
            let spec = bursting(depth_kib << 10, sustained_bps);
            prop_assume!(duration_ns(1 << 10, sustained_bps.round() as u64) == Some(period_ns));
            let exact = |kib: u64| duration_ns(kib << 10, sustained_bps.round() as u64) == Some(kib * period_ns);
            prop_assume!(exact(depth_kib) && asked.iter().all(|&(kib, _)| exact(kib)));
            let mut gate = CreditGate::new(&LinkCell::private(&spec), &spec).unwrap();
            let mut model = CreditBucket::new(spec.burst.unwrap(), depth_kib << 10);
            for (kib, ready_ns) in asked {
                // governor takes 0 for "never asked".
                let ready_ns = ready_ns + 1;
                let taken_ns = gate.take(0, kib << 10, ready_ns);
                prop_assert_eq!(Some(taken_ns), model.take(kib << 10, ready_ns));
            }
        }

        #[test]
        fn rounding_of_its_period_is_all_that_parts_it_from_the_model(
            mbps in 1.0f64..10_000.0,
            depth_kib in 1024u64..100_000,
            chunks in prop::collection::vec(1u64..256, 1..200),
        ) {
            let spec = bursting(depth_kib << 10, mbps * 1e6);
            let mut gate = CreditGate::new(&LinkCell::private(&spec), &spec).unwrap();
            let mut model = CreditBucket::new(spec.burst.unwrap(), depth_kib << 10);
            let mut total = 0;
            for kib in chunks {
                total += kib;
                let taken_ns = gate.take(0, kib << 10, 1);
                let model_ns = model.take(kib << 10, 1).unwrap();
                // Half a nanosecond a cell, in the model half a one a chunk.
                let rounding_ns = (total + depth_kib) / 2 + 201;
                prop_assert!(taken_ns.abs_diff(model_ns) <= rounding_ns);
            }
        }
    }
}
