//! Link clocks in shared memory: one line of 128 bytes a directed link.
//!
//! The coordinator makes the memory and the processes of its user open it by the coordinator's
//! descriptor, `/proc/PID/fd/N`: no file system holds it, so that nothing is left behind however
//! the run ends. A process that dies in the middle leaves at most one reserved chunk.
#![expect(
    unsafe_code,
    reason = "this file alone views mapped memory as atomic counters"
)]

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use bace_netem::{LinkSpec, LinkState, Slot};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, Mode, SealFlags};

use crate::SocketError;

/// "bacelink", little-endian.
const MAGIC: u64 = u64::from_le_bytes(*b"bacelink");
const VERSION: u64 = 2;
const LINE_BYTES: usize = 128;

/// One link's line. All zero but the first two words is an idle link that is down.
#[derive(Debug, Default)]
#[repr(C, align(128))]
struct Line {
    magic: AtomicU64,
    version: AtomicU64,
    /// How often the state has changed; the last bit says which of `states` holds.
    changes: AtomicU64,
    states: [SharedState; 2],
    free_at_ns: AtomicU64,
    /// When the bucket of burst credit is full; 0 before anything was taken from it.
    credit_full_at_ns: AtomicU64,
    charged_bytes: AtomicU64,
    reservations: AtomicU64,
    payload_bytes: AtomicU64,
    messages: AtomicU64,
    late_arrivals: AtomicU64,
    late_max_ns: AtomicU64,
    late_total_ns: AtomicU64,
}

/// A [`LinkState`]. Readers use one while the other is written, so that rate and delay change together, and a writer that
/// dies in between leaves the old ones.
#[derive(Debug, Default)]
#[repr(C)]
struct SharedState {
    bits_per_second: AtomicU64,
    delay_ns: AtomicU64,
}

const _: () = assert!(size_of::<Line>() == LINE_BYTES);

/// The link clocks of one run, by link index.
#[derive(Debug, Clone)]
pub struct CellTable {
    map: Arc<Mapping>,
}

/// The mapped lines, and the descriptor others open them by.
#[derive(Debug)]
struct Mapping {
    map: MmapRaw,
    _file: File,
}

/// One directed link's clock and counters; clones are the same link.
#[derive(Debug, Clone)]
pub struct LinkCell(Home);

#[derive(Debug, Clone)]
enum Home {
    Shared { map: Arc<Mapping>, index: usize },
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
    /// Shared memory for `links` links, all down, and the path by which other processes of this
    /// user open it for as long as this table lives.
    ///
    /// # Errors
    /// When the system gives no memory.
    pub fn create(links: usize) -> Result<(Self, PathBuf), SocketError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("bace-links", flags)
            .map(File::from)
            .map_err(|error| SocketError::system("create shared memory")(error.into()))?;
        // An empty mapping is an error, and a run of one region has no link.
        let bytes = links.max(1) * LINE_BYTES;
        rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR)
            .and_then(|()| rustix::fs::ftruncate(&file, bytes as u64))
            .and_then(|()| {
                let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
                rustix::fs::fcntl_add_seals(&file, seals)
            })
            .map_err(|error| SocketError::system("size shared memory")(error.into()))?;
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
        let path = PathBuf::from(format!("/proc/{}/fd/{descriptor}", std::process::id()));
        let map = Mapping::new(file).map_err(SocketError::system("map shared memory"))?;
        for line in map.lines() {
            line.version.store(VERSION, Ordering::Relaxed);
            line.magic.store(MAGIC, Ordering::Release);
        }
        Ok((Self { map: Arc::new(map) }, path))
    }

    /// The link clocks that another process made.
    ///
    /// # Errors
    /// When there is nothing at `path`, or no link clocks of this version.
    pub fn open(path: &Path) -> Result<Self, SocketError> {
        let open_error = |source| SocketError::OpenCells {
            path: path.to_owned(),
            source,
        };
        let not_cells = |reason: String| SocketError::NotCells {
            path: path.to_owned(),
            reason,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(open_error)?;
        // Memory that could shrink under the mapping would kill this process on access.
        let seals = rustix::fs::fcntl_get_seals(&file).unwrap_or(SealFlags::empty());
        if !seals.contains(SealFlags::SHRINK) {
            return Err(not_cells("it is not sealed shared memory".into()));
        }
        let bytes = file.metadata().map_err(open_error)?.len();
        if bytes == 0 || bytes % LINE_BYTES as u64 != 0 {
            return Err(not_cells(format!(
                "its {bytes} bytes are no whole number of {LINE_BYTES}-byte lines"
            )));
        }
        let map = Mapping::new(file).map_err(open_error)?;
        for line in map.lines() {
            if line.magic.load(Ordering::Acquire) != MAGIC {
                return Err(not_cells("it does not hold link clocks".into()));
            }
            let version = line.version.load(Ordering::Relaxed);
            if version != VERSION {
                return Err(not_cells(format!(
                    "it has version {version}, this program knows {VERSION}"
                )));
            }
        }
        Ok(Self { map: Arc::new(map) })
    }

    /// How many links the table has room for; at least 1.
    pub fn links(&self) -> usize {
        self.map.lines().len()
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
        let map = Arc::clone(&self.map);
        Ok(LinkCell(Home::Shared { map, index }))
    }
}

impl Mapping {
    fn new(file: File) -> std::io::Result<Self> {
        let map = MmapOptions::new().map_raw(&file)?;
        Ok(Self { map, _file: file })
    }

    fn lines(&self) -> &[Line] {
        let count = self.map.len() / LINE_BYTES;
        // SAFETY: the mapping is page-aligned, lives as long as `self`, is at least `count` lines
        // long, and cannot shrink (sealed). A `Line` is atomics only: valid for every bit pattern
        // and free of data races with whoever else has it mapped.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast::<Line>(), count) }
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
        let mut free_at_ns = line.free_at_ns.load(Ordering::Acquire);
        loop {
            let rate = self.state().bits_per_second;
            let slot =
                bace_netem::reserve(free_at_ns, rate, bytes, ready_ns).ok_or(Unreserved::Down)?;
            if slot.start_ns > latest_start_ns(rate) {
                return Err(Unreserved::Full);
            }
            match line.free_at_ns.compare_exchange_weak(
                free_at_ns,
                slot.end_ns,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    line.charged_bytes.fetch_add(bytes, Ordering::Relaxed);
                    line.reservations.fetch_add(1, Ordering::Relaxed);
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
            let changes = line.changes.load(Ordering::Acquire);
            let shared = &line.states[(changes & 1) as usize];
            let state = LinkState {
                bits_per_second: shared.bits_per_second.load(Ordering::Relaxed),
                delay_ns: shared.delay_ns.load(Ordering::Relaxed),
            };
            fence(Ordering::Acquire);
            // Two changes later the same place is written again.
            if line.changes.load(Ordering::Relaxed) == changes {
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
            line.free_at_ns.fetch_max(now_ns, Ordering::AcqRel);
        }
        let changes = line.changes.load(Ordering::Acquire).wrapping_add(1);
        let shared = &line.states[(changes & 1) as usize];
        // A reader that sees either value sees the last change too, and reads again.
        fence(Ordering::Release);
        shared
            .bits_per_second
            .store(state.bits_per_second, Ordering::Relaxed);
        shared.delay_ns.store(state.delay_ns, Ordering::Relaxed);
        line.changes.store(changes, Ordering::Release);
    }

    /// When the link is free of all reservations made so far, ns.
    pub fn free_at_ns(&self) -> u64 {
        self.line().free_at_ns.load(Ordering::Acquire)
    }

    /// When the link's bucket of burst credit is full, ns; 0 before anything was taken from it.
    pub(crate) fn credit_full_at_ns(&self) -> &AtomicU64 {
        &self.line().credit_full_at_ns
    }

    /// Counts a message of `payload_bytes` that has arrived whole, and by how much it was later than the link would have
    /// delivered it; `None` within tolerance.
    pub fn count_arrival(&self, payload_bytes: u64, late_ns: Option<u64>) {
        let line = self.line();
        line.messages.fetch_add(1, Ordering::Relaxed);
        line.payload_bytes
            .fetch_add(payload_bytes, Ordering::Relaxed);
        if let Some(late_ns) = late_ns {
            line.late_arrivals.fetch_add(1, Ordering::Relaxed);
            line.late_max_ns.fetch_max(late_ns, Ordering::Relaxed);
            line.late_total_ns.fetch_add(late_ns, Ordering::Relaxed);
        }
    }

    /// What the link has carried; the counters are read one after the other, not at one instant.
    pub fn counters(&self) -> CellCounters {
        let line = self.line();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CellCounters {
            charged_bytes: read(&line.charged_bytes),
            reservations: read(&line.reservations),
            payload_bytes: read(&line.payload_bytes),
            messages: read(&line.messages),
            late_arrivals: read(&line.late_arrivals),
            late_max_ns: read(&line.late_max_ns),
            late_total_ns: read(&line.late_total_ns),
        }
    }

    fn line(&self) -> &Line {
        match &self.0 {
            Home::Shared { map, index } => &map.lines()[*index],
            Home::Private(line) => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

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
    fn another_process_opens_it() {
        let (_table, path) = CellTable::create(1).unwrap();
        let mut head = std::process::Command::new("head");
        let head = head.arg("-c8").arg(&path).output().unwrap();
        assert_eq!(head.stdout, b"bacelink");
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
    fn what_is_no_table_is_told_apart() {
        let missing = CellTable::open(Path::new("/proc/0/fd/1")).unwrap_err();
        assert!(missing.to_string().contains("/proc/0/fd/1: No such file"));

        let mut plain = tempfile::NamedTempFile::new().unwrap();
        plain.write_all(&[0; 128]).unwrap();
        let unsealed = CellTable::open(plain.path()).unwrap_err().to_string();
        assert!(unsealed.contains("not sealed"), "{unsealed}");

        for (bytes, magic, version, expected) in [
            (100, MAGIC, VERSION, "no whole number"),
            (128, MAGIC + 1, VERSION, "does not hold link clocks"),
            (128, MAGIC, 1, "version 1, this program knows 2"),
        ] {
            let (_file, path) = sealed(bytes, magic, version);
            let error = CellTable::open(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
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

    proptest! {
        #[test]
        fn any_sealed_memory_is_refused_or_serves(
            lines in prop::collection::vec(prop::collection::vec(any::<u64>(), LINE_BYTES / 8), 1..4),
            genuine: bool,
            tail in prop_oneof![3 => Just(0usize), 1 => 1usize..LINE_BYTES],
            bytes: u32,
            ready_ns: u64,
        ) {
            let mut memory = Vec::new();
            for mut line in lines.clone() {
                if genuine {
                    (line[0], line[1]) = (MAGIC, VERSION);
                }
                memory.extend(line.iter().flat_map(|word| word.to_le_bytes()));
            }
            memory.resize(memory.len() + tail, 0);
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let mut file = File::from(rustix::fs::memfd_create("test", flags).unwrap());
            file.write_all(&memory).unwrap();
            rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
            let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
            let path = PathBuf::from(format!("/proc/self/fd/{descriptor}"));
            match CellTable::open(&path) {
                Ok(table) => {
                    prop_assert!(genuine && tail == 0 && table.links() == lines.len());
                    let cell = table.cell(lines.len() - 1).unwrap();
                    let before = cell.free_at_ns();
                    if let Some(slot) = cell.reserve(bytes.into(), ready_ns) {
                        prop_assert!(slot.start_ns >= before && slot.end_ns >= slot.start_ns);
                    }
                    cell.set(state(1_000, 5), ready_ns);
                    prop_assert_eq!(cell.state(), state(1_000, 5));
                    cell.count_arrival(u64::MAX, Some(u64::MAX));
                    cell.counters();
                }
                Err(error) => {
                    prop_assert!(!genuine || tail > 0);
                    prop_assert!(error.to_string().starts_with("use the link clocks"), "{error}");
                }
            }
        }
    }

    /// Sealed memory with a first line of our choice.
    fn sealed(bytes: u64, magic: u64, version: u64) -> (File, PathBuf) {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(rustix::fs::memfd_create("test", flags).unwrap());
        file.write_all(&magic.to_le_bytes()).unwrap();
        file.write_all(&version.to_le_bytes()).unwrap();
        file.set_len(bytes).unwrap();
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
        (file, PathBuf::from(format!("/proc/self/fd/{descriptor}")))
    }
}
