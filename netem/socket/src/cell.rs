//! Link clocks in shared memory: one line a directed link.
//!
//! A process that dies in the middle leaves at most one reserved chunk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use bace_netem::{LinkSpec, LinkState, Slot};

use crate::SocketError;
use crate::shared::{Line, Section, SharedLines, SharedMemory};

const NAME: [u8; 8] = *b"bacelink";
const VERSION: u64 = 4;

// Words of a link's line. All zero is an idle link that is down.
/// How often the state has changed; the last bit says which of the two states holds.
const CHANGES: usize = 0;
/// Two [`LinkState`]s of two words each. Readers use one while the other is written, so that rate and delay change together,
/// and a writer that dies in between leaves the old ones.
const STATES: usize = 1;
const FREE_AT_NS: usize = 5;
/// When the bucket of burst credit is full; 0 before anything was taken from it.
const CREDIT_FULL_AT_NS: usize = 6;
const CHARGED_BYTES: usize = 7;
const RESERVATIONS: usize = 8;
const PAYLOAD_BYTES: usize = 9;
const MESSAGES: usize = 10;
const LATE_ARRIVALS: usize = 11;
const LATE_MAX_NS: usize = 12;
const LATE_TOTAL_NS: usize = 13;
/// When the link was last put up; 0 if it never was down since it was made.
const UP_AT_NS: usize = 14;

/// The link clocks of one run, by link index.
#[derive(Debug, Clone)]
pub struct CellTable {
    lines: SharedLines,
}

/// One directed link's clock and counters; clones are the same link.
#[derive(Debug, Clone)]
pub struct LinkCell(Home);

#[derive(Debug, Clone)]
enum Home {
    Shared { lines: SharedLines, index: usize },
    Private(Arc<Line>),
}

/// Why a link was not reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreserved {
    /// Its rate is 0.
    Down,
    /// Its slot would begin too late.
    Full,
}

/// What a link has carried since it was made, in all processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CellCounters {
    /// Bytes charged for all reservations.
    pub charged_bytes: u64,
    /// Chunks, or datagrams.
    pub reservations: u64,
    /// Payload bytes of the messages that have arrived.
    pub payload_bytes: u64,
    /// Messages that have arrived whole.
    pub messages: u64,
    /// Those of them that were later, beyond tolerance, than the link would have delivered them.
    pub late_arrivals: u64,
    /// The most by which one was late, ns.
    pub late_max_ns: u64,
    /// By how much all of them together were late, ns.
    pub late_total_ns: u64,
}

impl CellTable {
    /// Room for `links` links, all down.
    pub fn section(links: usize) -> Section {
        Section {
            name: NAME,
            version: VERSION,
            lines: links,
        }
    }

    /// The link clocks in `memory`.
    ///
    /// # Errors
    /// When it has none, or those of another version.
    pub fn of(memory: &SharedMemory) -> Result<Self, SocketError> {
        let lines = memory.section(NAME, VERSION)?;
        Ok(Self { lines })
    }

    /// Memory for `links` links alone, all down, and the path by which other processes of this
    /// user open it for as long as this table lives.
    ///
    /// # Errors
    /// When the system gives no memory.
    pub fn create(links: usize) -> Result<(Self, PathBuf), SocketError> {
        let (memory, path) = SharedMemory::create(&[Self::section(links)])?;
        Ok((Self::of(&memory)?, path))
    }

    /// The link clocks in memory that another process made.
    ///
    /// # Errors
    /// When there is nothing at `path`, or no link clocks of this version.
    pub fn open(path: &Path) -> Result<Self, SocketError> {
        Self::of(&SharedMemory::open(path)?)
    }

    /// How many links the table has room for.
    pub fn links(&self) -> usize {
        self.lines.len()
    }

    /// The link of `index`.
    ///
    /// # Errors
    /// When the table is shorter.
    pub fn cell(&self, index: usize) -> Result<LinkCell, SocketError> {
        let links = self.links();
        if index >= links {
            return Err(SocketError::NoSuchCell { index, links });
        }
        let lines = self.lines.clone();
        Ok(LinkCell(Home::Shared { lines, index }))
    }
}

impl LinkCell {
    /// An idle link of `spec` for this process alone: the fabric inside a region, which no two stage
    /// boundaries share.
    pub fn private(spec: &LinkSpec) -> Self {
        let cell = Self(Home::Private(Arc::default()));
        cell.set(spec.into(), 0);
        cell
    }

    /// Whether other processes may use this link.
    pub fn is_shared(&self) -> bool {
        matches!(self.0, Home::Shared { .. })
    }

    /// Reserves the link for `bytes` that became ready at `ready_ns`, after all earlier
    /// reservations; lock-free. `None` while the link is down, and then nothing is reserved.
    ///
    /// `bytes` are those that the link's rate counts: see [`LinkSpec::charged_bytes`].
    pub fn reserve(&self, bytes: u64, ready_ns: u64) -> Option<Slot> {
        self.reserve_by(bytes, ready_ns, |_| u64::MAX).ok()
    }

    /// As [`reserve`](Self::reserve), for bytes that are dropped where they would wait too long: `latest_start_ns` says, for
    /// the rate in bit/s at which they would be carried, when their slot may begin at the latest.
    ///
    /// # Errors
    /// Why nothing was reserved.
    pub fn reserve_by(
        &self,
        bytes: u64,
        ready_ns: u64,
        latest_start_ns: impl Fn(u64) -> u64,
    ) -> Result<Slot, Unreserved> {
        let line = self.line();
        let mut free_at_ns = line.words[FREE_AT_NS].load(Ordering::Acquire);
        loop {
            let rate = self.state().bits_per_second;
            let slot =
                bace_netem::reserve(free_at_ns, rate, bytes, ready_ns).ok_or(Unreserved::Down)?;
            if slot.start_ns > latest_start_ns(rate) {
                return Err(Unreserved::Full);
            }
            match line.words[FREE_AT_NS].compare_exchange_weak(
                free_at_ns,
                slot.end_ns,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    line.words[CHARGED_BYTES].fetch_add(bytes, Ordering::Relaxed);
                    line.words[RESERVATIONS].fetch_add(1, Ordering::Relaxed);
                    return Ok(slot);
                }
                Err(current) => free_at_ns = current,
            }
        }
    }

    /// What the link gives at present.
    pub fn state(&self) -> LinkState {
        let line = self.line();
        loop {
            let changes = line.words[CHANGES].load(Ordering::Acquire);
            let [rate, delay] = state_words(line, changes);
            let state = LinkState {
                bits_per_second: rate.load(Ordering::Relaxed),
                delay_ns: delay.load(Ordering::Relaxed),
            };
            fence(Ordering::Acquire);
            // Two changes later the same place is written again.
            if line.words[CHANGES].load(Ordering::Relaxed) == changes {
                return state;
            }
        }
    }

    /// Changes rate and delay of the reservations to come, for all processes; those made keep their slots and their delay.
    /// The time that a link was down (rate 0) cannot be reserved once it is up again: `now_ns` is the earliest start.
    ///
    /// One process at a time may change a link.
    pub fn set(&self, state: LinkState, now_ns: u64) {
        let line = self.line();
        if self.state().bits_per_second == 0 {
            line.words[FREE_AT_NS].fetch_max(now_ns, Ordering::AcqRel);
            line.words[UP_AT_NS].store(now_ns, Ordering::Release);
        }
        let changes = line.words[CHANGES].load(Ordering::Acquire).wrapping_add(1);
        let [rate, delay] = state_words(line, changes);
        // A reader that sees either value sees the last change too, and reads again.
        fence(Ordering::Release);
        rate.store(state.bits_per_second, Ordering::Relaxed);
        delay.store(state.delay_ns, Ordering::Relaxed);
        line.words[CHANGES].store(changes, Ordering::Release);
    }

    /// When the link is free of all reservations made so far, ns.
    pub fn free_at_ns(&self) -> u64 {
        self.line().words[FREE_AT_NS].load(Ordering::Acquire)
    }

    /// Since when the link is up, ns; no reservation begins before that.
    pub fn up_at_ns(&self) -> u64 {
        self.line().words[UP_AT_NS].load(Ordering::Acquire)
    }

    /// When the link's bucket of burst credit is full, ns; 0 before anything was taken from it.
    pub(crate) fn credit_full_at_ns(&self) -> &AtomicU64 {
        &self.line().words[CREDIT_FULL_AT_NS]
    }

    /// Counts a message of `payload_bytes` that has arrived whole, and by how much it was later than the link would have
    /// delivered it; `None` within tolerance.
    pub fn count_arrival(&self, payload_bytes: u64, late_ns: Option<u64>) {
        let line = self.line();
        line.words[MESSAGES].fetch_add(1, Ordering::Relaxed);
        line.words[PAYLOAD_BYTES].fetch_add(payload_bytes, Ordering::Relaxed);
        if let Some(late_ns) = late_ns {
            line.words[LATE_ARRIVALS].fetch_add(1, Ordering::Relaxed);
            line.words[LATE_MAX_NS].fetch_max(late_ns, Ordering::Relaxed);
            line.words[LATE_TOTAL_NS].fetch_add(late_ns, Ordering::Relaxed);
        }
    }

    /// What the link has carried; the counters are read one after the other, not at one instant.
    pub fn counters(&self) -> CellCounters {
        let line = self.line();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CellCounters {
            charged_bytes: read(&line.words[CHARGED_BYTES]),
            reservations: read(&line.words[RESERVATIONS]),
            payload_bytes: read(&line.words[PAYLOAD_BYTES]),
            messages: read(&line.words[MESSAGES]),
            late_arrivals: read(&line.words[LATE_ARRIVALS]),
            late_max_ns: read(&line.words[LATE_MAX_NS]),
            late_total_ns: read(&line.words[LATE_TOTAL_NS]),
        }
    }

    fn line(&self) -> &Line {
        match &self.0 {
            Home::Shared { lines, index } => &lines[*index],
            Home::Private(line) => line,
        }
    }
}

/// Rate and delay of the state that holds after so many changes.
fn state_words(line: &Line, changes: u64) -> [&AtomicU64; 2] {
    let at = STATES + 2 * (changes & 1) as usize;
    [&line.words[at], &line.words[at + 1]]
}

#[cfg(test)]
mod tests {
    use bace_netem::{BitRate, Delay};
    use proptest::prelude::*;

    use super::*;

    fn state(bits_per_second: u64, delay_ns: u64) -> LinkState {
        LinkState {
            bits_per_second,
            delay_ns,
        }
    }

    #[test]
    fn two_tables_of_one_memory_share_every_link() {
        let (made, path) = CellTable::create(3).unwrap();
        let opened = CellTable::open(&path).unwrap();
        assert_eq!(opened.links(), 3);
        let ours = made.cell(1).unwrap();
        let theirs = opened.cell(1).unwrap();
        assert_eq!(theirs.reserve(1, 0), None);
        ours.set(state(8_000_000_000, 5), 100);
        assert_eq!(theirs.state(), state(8_000_000_000, 5));
        assert_eq!(
            ours.reserve(1_000, 0),
            Some(Slot {
                start_ns: 100,
                end_ns: 1_100
            })
        );
        assert_eq!(
            theirs.reserve(1_000, 0),
            Some(Slot {
                start_ns: 1_100,
                end_ns: 2_100
            })
        );
        theirs.count_arrival(900, Some(7));
        theirs.count_arrival(90, Some(5));
        theirs.count_arrival(9, None);
        assert_eq!(
            ours.counters(),
            CellCounters {
                charged_bytes: 2_000,
                reservations: 2,
                payload_bytes: 999,
                messages: 3,
                late_arrivals: 2,
                late_max_ns: 7,
                late_total_ns: 12,
            }
        );
        assert_eq!(made.cell(0).unwrap().counters(), CellCounters::default());
    }

    #[test]
    fn what_would_wait_too_long_reserves_nothing() {
        let spec = LinkSpec::new(BitRate::from_bps(8e9).unwrap(), Delay::ZERO);
        let cell = LinkCell::private(&spec);
        let by = |latest_ns| cell.reserve_by(1_000, 50, move |_| latest_ns);
        assert_eq!(
            by(50),
            Ok(Slot {
                start_ns: 50,
                end_ns: 1_050
            })
        );
        assert_eq!(by(1_049), Err(Unreserved::Full));
        assert_eq!(cell.counters().charged_bytes, 1_000);
        assert!(by(1_050).is_ok());
        cell.set(LinkState::default(), 0);
        assert_eq!(by(u64::MAX), Err(Unreserved::Down));
    }

    #[test]
    fn an_index_beyond_the_table_is_an_error() {
        let (table, _path) = CellTable::create(2).unwrap();
        assert_eq!(
            table.cell(2).unwrap_err().to_string(),
            "use link clock 2: the table holds 2"
        );
    }

    #[test]
    fn threads_that_share_a_link_get_slots_that_never_overlap() {
        let (table, path) = CellTable::create(1).unwrap();
        table.cell(0).unwrap().set(state(1_000_000_000, 0), 0);
        let mut slots = Vec::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let cell = CellTable::open(&path).unwrap().cell(0).unwrap();
                        (0..2_000)
                            .map(|_| cell.reserve(65_536, 5).unwrap())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            for thread in threads {
                slots.extend(thread.join().unwrap());
            }
        });
        slots.sort_by_key(|slot| slot.start_ns);
        assert_eq!(slots[0].start_ns, 5);
        for pair in slots.windows(2) {
            assert_eq!(pair[0].end_ns, pair[1].start_ns);
        }
        assert_eq!(slots.last().unwrap().end_ns, 5 + 6_000 * 524_288);
        assert_eq!(
            table.cell(0).unwrap().counters().charged_bytes,
            6_000 * 65_536
        );
    }

    #[test]
    fn a_change_holds_for_all_from_then_on_and_downtime_is_lost() {
        let (made, path) = CellTable::create(1).unwrap();
        let (ours, theirs) = (made.cell(0).unwrap(), CellTable::open(&path).unwrap());
        let theirs = theirs.cell(0).unwrap();
        ours.set(state(8_000_000_000, 1), 0);
        let before = theirs.reserve(1_000, 0).unwrap();
        ours.set(state(4_000_000_000, 2), 500);
        assert_eq!((before.start_ns, before.end_ns), (0, 1_000));
        assert_eq!(theirs.reserve(1_000, 0).unwrap().end_ns, 3_000);
        ours.set(state(0, 2), 4_000);
        assert_eq!(theirs.reserve(1, 0), None);
        ours.set(state(8_000_000_000, 9), 7_000);
        assert_eq!(theirs.reserve(1, 0).unwrap().start_ns, 7_000);
        assert_eq!(theirs.state(), state(8_000_000_000, 9));
    }

    #[test]
    fn rate_and_delay_change_together() {
        let (table, path) = CellTable::create(1).unwrap();
        let cell = table.cell(0).unwrap();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let cell = CellTable::open(&path).unwrap().cell(0).unwrap();
                let mut last = 0;
                while last < 100_000 {
                    let seen = cell.state();
                    assert_eq!(seen.bits_per_second, seen.delay_ns);
                    assert!(seen.delay_ns >= last);
                    last = seen.delay_ns;
                }
            });
            for i in 1..=100_000 {
                cell.set(state(i, i), 0);
            }
            reader.join().unwrap();
        });
    }

    #[test]
    fn memory_without_link_clocks_is_refused() {
        let (memory, _path) = SharedMemory::create(&[]).unwrap();
        assert_eq!(
            CellTable::of(&memory).unwrap_err().to_string(),
            "find bacelink in the host's shared memory: it was made without"
        );
        assert_eq!(CellTable::create(0).unwrap().0.links(), 0);
    }

    proptest! {
        #[test]
        fn any_words_serve_as_a_link(
            words in prop::collection::vec(any::<u64>(), 15),
            bytes: u32,
            ready_ns: u64,
        ) {
            let (table, _path) = CellTable::create(1).unwrap();
            for (word, value) in table.lines[0].words.iter().zip(words) {
                word.store(value, Ordering::Relaxed);
            }
            let cell = table.cell(0).unwrap();
            let before = cell.free_at_ns();
            if let Some(slot) = cell.reserve(bytes.into(), ready_ns) {
                prop_assert!(slot.start_ns >= before && slot.end_ns >= slot.start_ns);
            }
            cell.set(state(1_000, 5), ready_ns);
            prop_assert_eq!(cell.state(), state(1_000, 5));
            cell.count_arrival(u64::MAX, Some(u64::MAX));
            cell.counters();
        }
    }
}
