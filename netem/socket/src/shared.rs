//! Memory that processes of one host share: lines of atomic words in a sealed memfd.
//!
//! One process makes the memory and others of its user open it by the maker's descriptor, `/proc/PID/fd/N`: no file system
//! holds it, so that nothing is left behind however a run ends. Sections of lines follow each other; a directory in front says
//! where each begins, so that what shares a memory need not know of each other.
#![expect(
    unsafe_code,
    reason = "this file alone views mapped memory as atomic words"
)]

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, Mode, SealFlags};

use crate::SocketError;

/// "bacehost", little-endian: the first word of the memory.
const MAGIC: u64 = u64::from_le_bytes(*b"bacehost");
/// Version of the directory.
const VERSION: u64 = 1;
const LINE_BYTES: usize = 128;

// Words of the first line, which says how many lines of the directory follow.
const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 1;
const SECTIONS_AT: usize = 2;
// Words of a line of the directory.
const NAME_AT: usize = 0;
const SECTION_VERSION_AT: usize = 1;
const FIRST_AT: usize = 2;
const COUNT_AT: usize = 3;

/// A line that no other shares a cache line with, nor the pair of cache lines that a processor fetches together.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Line {
    /// Counters and states; what each means is up to the section.
    pub words: [AtomicU64; 15],
    /// What a process can sleep at until another rings it.
    pub bell: AtomicU32,
}

const _: () = assert!(size_of::<Line>() == LINE_BYTES);

/// A run of lines that serve one purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// What the lines are.
    pub name: [u8; 8],
    /// Version of their layout; other versions do not understand each other.
    pub version: u64,
    /// How many there are.
    pub lines: usize,
}

/// Shared memory; clones are the same.
#[derive(Debug, Clone)]
pub struct SharedMemory {
    map: Arc<Mapping>,
}

/// The lines of a section.
#[derive(Debug, Clone)]
pub struct SharedLines {
    map: Arc<Mapping>,
    first: usize,
    count: usize,
}

/// The mapped lines, and the descriptor others open them by.
#[derive(Debug)]
struct Mapping {
    map: MmapRaw,
    _file: File,
}

impl SharedMemory {
    /// Memory with these sections, all words 0, and the path by which other processes of this user open it for as long as
    /// this process holds it.
    ///
    /// # Errors
    /// When the system gives no memory.
    pub fn create(sections: &[Section]) -> Result<(Self, PathBuf), SocketError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("bace-host", flags)
            .map(File::from)
            .map_err(|error| SocketError::system("create shared memory")(error.into()))?;
        let directory = 1 + sections.len();
        let lines = directory + sections.iter().map(|section| section.lines).sum::<usize>();
        rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR)
            .and_then(|()| rustix::fs::ftruncate(&file, (lines * LINE_BYTES) as u64))
            .and_then(|()| {
                let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
                rustix::fs::fcntl_add_seals(&file, seals)
            })
            .map_err(|error| SocketError::system("size shared memory")(error.into()))?;
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
        let path = PathBuf::from(format!("/proc/{}/fd/{descriptor}", std::process::id()));
        let map = Mapping::new(file).map_err(SocketError::system("map shared memory"))?;
        let (head, entries) = (&map.lines()[0], &map.lines()[1..directory]);
        let mut first = directory;
        for (entry, section) in entries.iter().zip(sections) {
            let name = u64::from_le_bytes(section.name);
            entry.words[NAME_AT].store(name, Ordering::Relaxed);
            entry.words[SECTION_VERSION_AT].store(section.version, Ordering::Relaxed);
            entry.words[FIRST_AT].store(first as u64, Ordering::Relaxed);
            entry.words[COUNT_AT].store(section.lines as u64, Ordering::Relaxed);
            first += section.lines;
        }
        head.words[VERSION_AT].store(VERSION, Ordering::Relaxed);
        head.words[SECTIONS_AT].store(sections.len() as u64, Ordering::Relaxed);
        head.words[MAGIC_AT].store(MAGIC, Ordering::Release);
        Ok((Self { map: Arc::new(map) }, path))
    }

    /// The memory that another process made.
    ///
    /// # Errors
    /// When there is nothing at `path`, or no shared memory of this version.
    pub fn open(path: &Path) -> Result<Self, SocketError> {
        let open_error = |source| SocketError::OpenShared {
            path: path.to_owned(),
            source,
        };
        let not_shared = |reason: String| SocketError::NotShared {
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
            return Err(not_shared("it is not sealed shared memory".into()));
        }
        let bytes = file.metadata().map_err(open_error)?.len();
        if bytes == 0 || bytes % LINE_BYTES as u64 != 0 {
            return Err(not_shared(format!(
                "its {bytes} bytes are no whole number of {LINE_BYTES}-byte lines"
            )));
        }
        let map = Mapping::new(file).map_err(open_error)?;
        map.check().map_err(not_shared)?;
        Ok(Self { map: Arc::new(map) })
    }

    /// The lines of the section called `name`.
    ///
    /// # Errors
    /// When the memory has no such section, or one of another version.
    pub fn section(&self, name: [u8; 8], version: u64) -> Result<SharedLines, SocketError> {
        let text = String::from_utf8_lossy(&name).into_owned();
        let entry = self.map.directory().find(|entry| entry.name == name);
        let entry = entry.ok_or_else(|| SocketError::NoSection(text.clone()))?;
        if entry.version != version {
            return Err(SocketError::SectionVersion {
                section: text,
                version: entry.version,
                known: version,
            });
        }
        Ok(SharedLines {
            map: Arc::clone(&self.map),
            first: entry.first,
            count: entry.count,
        })
    }
}

impl std::ops::Deref for SharedLines {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        &self.map.lines()[self.first..self.first + self.count]
    }
}

/// A line of the directory.
struct Entry {
    name: [u8; 8],
    version: u64,
    first: usize,
    count: usize,
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

    fn directory(&self) -> impl Iterator<Item = Entry> {
        let lines = self.lines();
        let sections = lines[0].words[SECTIONS_AT].load(Ordering::Relaxed);
        let sections = usize::try_from(sections).unwrap_or(usize::MAX);
        lines.iter().skip(1).take(sections).map(|line| {
            let word = |at: usize| line.words[at].load(Ordering::Relaxed);
            Entry {
                name: word(NAME_AT).to_le_bytes(),
                version: word(SECTION_VERSION_AT),
                first: usize::try_from(word(FIRST_AT)).unwrap_or(usize::MAX),
                count: usize::try_from(word(COUNT_AT)).unwrap_or(usize::MAX),
            }
        })
    }

    /// What keeps the memory from being used.
    fn check(&self) -> Result<(), String> {
        let lines = self.lines();
        if lines[0].words[MAGIC_AT].load(Ordering::Acquire) != MAGIC {
            return Err("it is no memory of a run".to_owned());
        }
        let version = lines[0].words[VERSION_AT].load(Ordering::Relaxed);
        if version != VERSION {
            return Err(format!(
                "it has version {version}, this program knows {VERSION}"
            ));
        }
        let beyond = |entry: &Entry| {
            let end = entry.first.checked_add(entry.count);
            end.is_none_or(|end| end > lines.len())
        };
        if self.directory().any(|entry| beyond(&entry)) {
            return Err("a section of it lies beyond its end".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    const ONE: Section = Section {
        name: *b"testones",
        version: 3,
        lines: 2,
    };

    #[test]
    fn sections_are_apart_and_shared() {
        let none = Section {
            name: *b"testnone",
            version: 1,
            lines: 0,
        };
        let other = Section {
            name: *b"testtwos",
            ..ONE
        };
        let (made, path) = SharedMemory::create(&[ONE, none, other]).unwrap();
        let opened = SharedMemory::open(&path).unwrap();
        assert!(made.section(none.name, 1).unwrap().is_empty());
        let (ours, theirs) = (
            made.section(ONE.name, 3).unwrap(),
            opened.section(ONE.name, 3).unwrap(),
        );
        let apart = made.section(other.name, 3).unwrap();
        assert_eq!((ours.len(), apart.len()), (2, 2));
        ours[1].words[14].store(7, Ordering::Relaxed);
        assert_eq!(theirs[1].words[14].load(Ordering::Relaxed), 7);
        let sum = |lines: &[Line]| -> u64 {
            let words = lines.iter().flat_map(|line| &line.words);
            words.map(|word| word.load(Ordering::Relaxed)).sum()
        };
        assert_eq!(sum(&apart), 0);
        assert_eq!(
            made.section(*b"testmore", 3).unwrap_err().to_string(),
            "find testmore in the host's shared memory: it was made without"
        );
        assert_eq!(
            opened.section(ONE.name, 2).unwrap_err().to_string(),
            "use testones in the host's shared memory: it has version 3, this program knows 2"
        );
    }

    #[test]
    fn another_process_opens_it() {
        let (_memory, path) = SharedMemory::create(&[ONE]).unwrap();
        let mut head = std::process::Command::new("head");
        let head = head.arg("-c8").arg(&path).output().unwrap();
        assert_eq!(head.stdout, b"bacehost");
    }

    #[test]
    fn what_is_no_shared_memory_is_told_apart() {
        let missing = SharedMemory::open(Path::new("/proc/0/fd/1")).unwrap_err();
        assert!(missing.to_string().contains("/proc/0/fd/1: No such file"));

        let mut plain = tempfile::NamedTempFile::new().unwrap();
        plain.write_all(&[0; 128]).unwrap();
        let unsealed = SharedMemory::open(plain.path()).unwrap_err().to_string();
        assert!(unsealed.contains("not sealed"), "{unsealed}");

        for (bytes, words, expected) in [
            (100, [MAGIC, VERSION, 0], "no whole number"),
            (128, [MAGIC + 1, VERSION, 0], "no memory of a run"),
            (128, [MAGIC, 9, 0], "version 9, this program knows 1"),
        ] {
            let (_file, path) = sealed(&words, bytes);
            let error = SharedMemory::open(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_sealed_memory_is_refused_or_serves(
            lines in prop::collection::vec(prop::collection::vec(0u64..8, LINE_BYTES / 8), 1..5),
            wild: Option<u64>,
            genuine: bool,
            sections in 0u64..6,
            tail in prop_oneof![3 => Just(0usize), 1 => 1usize..LINE_BYTES],
        ) {
            let mut words: Vec<u64> = lines.concat();
            if genuine {
                (words[0], words[1], words[2]) = (MAGIC, VERSION, sections);
            }
            if let (Some(wild), Some(word)) = (wild, words.get_mut(16 + FIRST_AT)) {
                *word = wild;
            }
            let (_file, path) = sealed(&words, (words.len() * 8 + tail) as u64);
            match SharedMemory::open(&path) {
                Ok(memory) => {
                    prop_assert!(genuine && tail == 0);
                    for entry in memory.map.directory().collect::<Vec<_>>() {
                        if let Ok(lines) = memory.section(entry.name, entry.version) {
                            let words = lines.iter().flat_map(|line| &line.words);
                            words.for_each(|word| word.store(1, Ordering::Relaxed));
                        }
                    }
                }
                Err(error) => {
                    prop_assert!(error.to_string().starts_with("use the shared memory"), "{error}");
                }
            }
        }
    }

    /// Sealed memory of so many bytes that begins with these words.
    fn sealed(words: &[u64], bytes: u64) -> (File, PathBuf) {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(rustix::fs::memfd_create("test", flags).unwrap());
        for word in words {
            file.write_all(&word.to_le_bytes()).unwrap();
        }
        file.set_len(bytes).unwrap();
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
        (file, PathBuf::from(format!("/proc/self/fd/{descriptor}")))
    }
}
