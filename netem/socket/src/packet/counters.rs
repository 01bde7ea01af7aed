//! What became of a link's datagrams.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bace_netem::LATE_TOLERANCE_NS;

/// What has become of the datagrams that one member sent over one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DatagramCounts {
    /// Handed to the system when the link would have delivered them.
    pub sent: u64,
    /// Bytes of those, as the link's accounting counts them.
    pub bytes: u64,
    /// Lost by a draw.
    pub lost: u64,
    /// Dropped because the link's queue was full.
    pub dropped: u64,
    /// Refused by the system when they were due.
    pub refused: u64,
    /// Handed over more than 1 ms after they were due: the host could not keep up with the link.
    pub late: u64,
    /// The most by which one was, ns; within that 1 ms it is no fault.
    pub late_max_ns: u64,
}

/// Counts that go on; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct DatagramCounters(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    bytes: AtomicU64,
    lost: AtomicU64,
    dropped: AtomicU64,
    refused: AtomicU64,
    late: AtomicU64,
    late_max_ns: AtomicU64,
}

impl DatagramCounters {
    /// The counts so far; read one after the other, not at one instant.
    pub fn counts(&self) -> DatagramCounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DatagramCounts {
            sent: of(&self.0.sent),
            bytes: of(&self.0.bytes),
            lost: of(&self.0.lost),
            dropped: of(&self.0.dropped),
            refused: of(&self.0.refused),
            late: of(&self.0.late),
            late_max_ns: of(&self.0.late_max_ns),
        }
    }

    pub(super) fn sent(&self, datagrams: u64, bytes: u64, late_ns: u64) {
        self.0.sent.fetch_add(datagrams, Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.0.late_max_ns.fetch_max(late_ns, Ordering::Relaxed);
        if late_ns > LATE_TOLERANCE_NS {
            self.0.late.fetch_add(datagrams, Ordering::Relaxed);
        }
    }

    pub(super) fn lost(&self, datagrams: u64) {
        self.0.lost.fetch_add(datagrams, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self, datagrams: u64) {
        self.0.dropped.fetch_add(datagrams, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, datagrams: u64) {
        self.0.refused.fetch_add(datagrams, Ordering::Relaxed);
    }
}
