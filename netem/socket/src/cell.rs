//! Link clocks in shared memory: one line of 64 bytes a directed link.
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
use std::sync::atomic::{AtomicU64, Ordering};

use bace_netem::{BitRate, Slot};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, Mode, SealFlags};

use crate::SocketError;

/// "bacelink", little-endian.
const MAGIC: u64 = u64::from_le_bytes(*b"bacelink");
const VERSION: u64 = 1;
const LINE_BYTES: usize = 64;

/// One link's line. All zero but the first two words is an idle link that is down.
#[derive(Debug, Default)]
#[repr(C, align(64))]
struct Line {
    magic: AtomicU64,
    version: AtomicU64,
    bits_per_second: AtomicU64,
    free_at_ns: AtomicU64,
    bytes: AtomicU64,
    reservations: AtomicU64,
    late_arrivals: AtomicU64,
    late_max_ns: AtomicU64,
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
    /// Payload bytes of all reservations.
    pub bytes: u64,
    /// Chunks.
    pub reservations: u64,
    /// Messages that were complete later than the link would have delivered them.
    pub late_arrivals: u64,
    /// The most by which one was late, ns.
    pub late_max_ns: u64,
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
    /// An idle link of this process alone: the fabric inside a region, which no two stage
    /// boundaries share.
    pub fn private(rate: BitRate) -> Self {
        let line = Line::default();
        line.bits_per_second
            .store(rate.whole_bps(), Ordering::Relaxed);
        Self(Home::Private(Arc::new(line)))
    }

    /// Whether other processes may use this link.
    pub fn is_shared(&self) -> bool {
        matches!(self.0, Home::Shared { .. })
    }

    /// Reserves the link for `bytes` that became ready at `ready_ns`, after all earlier
    /// reservations; lock-free. `None` while the link is down, and then nothing is reserved.
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
            let rate = line.bits_per_second.load(Ordering::Acquire);
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
                    line.bytes.fetch_add(bytes, Ordering::Relaxed);
                    line.reservations.fetch_add(1, Ordering::Relaxed);
                    return Ok(slot);
                }
                Err(current) => free_at_ns = current,
            }
        }
    }

    /// The link's rate at present.
    pub fn rate(&self) -> BitRate {
        let rate = self.line().bits_per_second.load(Ordering::Acquire);
        BitRate::from_bps(rate as f64).expect("a whole number is a rate")
    }

    /// Sets the rate of the reservations to come, for all processes; those made keep their slots.
    /// The time that a link was down (rate 0) cannot be reserved once it is up again: `now_ns` is
    /// the earliest start.
    pub fn set_rate(&self, rate: BitRate, now_ns: u64) {
        let line = self.line();
        if line.bits_per_second.load(Ordering::Acquire) == 0 {
            line.free_at_ns.fetch_max(now_ns, Ordering::AcqRel);
        }
        line.bits_per_second
            .store(rate.whole_bps(), Ordering::Release);
    }

    /// When the link is free of all reservations made so far, ns.
    pub fn free_at_ns(&self) -> u64 {
        self.line().free_at_ns.load(Ordering::Acquire)
    }

    /// Counts a message that was complete `late_ns` after the link would have delivered it.
    pub fn count_late(&self, late_ns: u64) {
        let line = self.line();
        line.late_arrivals.fetch_add(1, Ordering::Relaxed);
        line.late_max_ns.fetch_max(late_ns, Ordering::Relaxed);
    }

    /// What the link has carried; the counters are read one after the other, not at one instant.
    pub fn counters(&self) -> CellCounters {
        let line = self.line();
        CellCounters {
            bytes: line.bytes.load(Ordering::Relaxed),
            reservations: line.reservations.load(Ordering::Relaxed),
            late_arrivals: line.late_arrivals.load(Ordering::Relaxed),
            late_max_ns: line.late_max_ns.load(Ordering::Relaxed),
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

    use super::*;

    fn rate(bps: f64) -> BitRate {
        BitRate::from_bps(bps).unwrap()
    }

    #[test]
    fn two_tables_of_one_memory_share_every_link() {
        let (made, path) = CellTable::create(3).unwrap();
        let opened = CellTable::open(&path).unwrap();
        assert_eq!(opened.links(), 3);
        let ours = made.cell(1).unwrap();
        let theirs = opened.cell(1).unwrap();
        assert_eq!(theirs.reserve(1, 0), None);
        ours.set_rate(rate(8e9), 100);
        assert_eq!(theirs.rate(), rate(8e9));
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
        theirs.count_late(7);
        theirs.count_late(5);
        assert_eq!(
            ours.counters(),
            CellCounters {
                bytes: 2_000,
                reservations: 2,
                late_arrivals: 2,
                late_max_ns: 7
            }
        );
        assert_eq!(made.cell(0).unwrap().counters(), CellCounters::default());
    }

    #[test]
    fn what_would_wait_too_long_reserves_nothing() {
        let cell = LinkCell::private(rate(8e9));
        let by = |latest_ns| cell.reserve_by(1_000, 50, move |_| latest_ns);
        assert_eq!(
            by(50),
            Ok(Slot {
                start_ns: 50,
                end_ns: 1_050
            })
        );
        assert_eq!(by(1_049), Err(Unreserved::Full));
        assert_eq!(cell.counters().bytes, 1_000);
        assert!(by(1_050).is_ok());
        cell.set_rate(BitRate::ZERO, 0);
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
        plain.write_all(&[0; 64]).unwrap();
        let unsealed = CellTable::open(plain.path()).unwrap_err().to_string();
        assert!(unsealed.contains("not sealed"), "{unsealed}");

        for (bytes, magic, version, expected) in [
            (100, MAGIC, VERSION, "no whole number"),
            (64, MAGIC + 1, VERSION, "does not hold link clocks"),
            (64, MAGIC, 9, "version 9, this program knows 1"),
        ] {
            let (_file, path) = sealed(bytes, magic, version);
            let error = CellTable::open(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn threads_that_share_a_link_get_slots_that_never_overlap() {
        let (table, path) = CellTable::create(1).unwrap();
        table.cell(0).unwrap().set_rate(rate(1e9), 0);
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
        assert_eq!(table.cell(0).unwrap().counters().bytes, 6_000 * 65_536);
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
