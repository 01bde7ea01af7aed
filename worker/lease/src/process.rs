//! Whether a process still is the one it was.

use std::io;

/// Bits of a word that say the id: Linux has ids below 2^22.
const PID_BITS: u32 = 22;

/// A process of this host, told apart from a later one with the same id by the time at which it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub pid: u32,
    /// Clock ticks after the system's start.
    pub started: u64,
}

impl Process {
    /// This process.
    pub fn own() -> io::Result<Self> {
        let pid = std::process::id();
        let stat = read(pid)?;
        let (_, started) = parse(&stat).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("/proc/{pid}/stat says `{}`", stat.trim()),
            )
        })?;
        Ok(Self { pid, started })
    }

    /// Both in 61 bits: 39 bits of clock ticks are more than a hundred years.
    pub fn word(self) -> u64 {
        self.started << PID_BITS | u64::from(self.pid)
    }

    /// The process of a word.
    pub fn of(word: u64) -> Self {
        Self {
            pid: (word & ((1 << PID_BITS) - 1)) as u32,
            started: word >> PID_BITS,
        }
    }

    /// Whether it is known to be gone. What cannot be read may well live.
    pub fn is_gone(self) -> bool {
        match read(self.pid) {
            Ok(stat) => {
                parse(&stat).is_some_and(|(state, started)| {
                    // A zombie runs nothing any more.
                    started != self.started || matches!(state, 'Z' | 'X')
                })
            }
            // The process can also go between opening and reading.
            Err(error) => {
                error.kind() == io::ErrorKind::NotFound
                    || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
            }
        }
    }
}

fn read(pid: u32) -> io::Result<String> {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
}

/// State and start of a line of `/proc/PID/stat`.
fn parse(stat: &str) -> Option<(char, u64)> {
    // The name, in parentheses, may hold anything.
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // The state is field 3 of the manual, the start field 22.
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_confuse() {
        let stat = "12 (a) S (b)) T 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 98765 20 21";
        assert_eq!(parse(stat), Some(('T', 98765)));
        assert_eq!(parse("12 (sh"), None);
        assert_eq!(parse("12 (sh) S 1 2"), None);
    }

    #[test]
    fn who_has_ended_is_gone() {
        let own = Process::own().unwrap();
        assert!(!own.is_gone());
        assert_eq!(Process::of(own.word()), own);
        assert_eq!(own.word() >> 61, 0);
        let started = own.started + 1;
        assert!(Process { started, ..own }.is_gone());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        let (_, started) = parse(&read(pid).unwrap()).unwrap();
        let process = Process { pid, started };
        while !process.is_gone() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(process.is_gone());
    }
}
