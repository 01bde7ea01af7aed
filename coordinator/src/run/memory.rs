//! What a process of this host holds in memory.

use bace_api::{MemoryPhase, Record, ResidentMemory, WorkerId, WorkerMemory};

/// What the ledger tells of the memory of a worker whose process has this id.
pub fn record(worker: WorkerId, id: Option<u32>, (at_s, phase): (f64, MemoryPhase)) -> Record {
    let read = match id {
        Some(id) => resident(id),
        None => Err("its process ended at once".to_owned()),
    };
    Record::WorkerMemory(WorkerMemory {
        at_s,
        worker: worker.certificate_name(),
        phase,
        memory: read.as_ref().ok().copied(),
        reason: read.err(),
    })
}

/// The physical memory of the process `id`; else why it cannot be told, as words that follow a colon.
fn resident(id: u32) -> Result<ResidentMemory, String> {
    let read = |file: &str| {
        let path = format!("/proc/{id}/{file}");
        std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))
    };
    let (pages, status) = (read("smaps_rollup")?, read("status")?);
    parse(&pages, &status).ok_or_else(|| {
        format!("/proc/{id}: `smaps_rollup` or `status` lacks a line that Linux writes since 4.14")
    })
}

/// From the texts of `smaps_rollup` and `status`.
fn parse(pages: &str, status: &str) -> Option<ResidentMemory> {
    Some(ResidentMemory {
        resident_bytes: bytes(pages, "Rss")?,
        proportional_bytes: bytes(pages, "Pss")?,
        private_bytes: bytes(pages, "Private_Clean")? + bytes(pages, "Private_Dirty")?,
        peak_bytes: bytes(status, "VmHWM")?,
    })
}

/// What the line `key: N kB` says.
fn bytes(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name == key).then_some(value)
    })?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: &str = "5600-7ffc ---p 00000000 00:00 0    [rollup]\nRss:     5000 kB\nPss:     3100 kB\nPss_Dirty: 9 kB\n\
        Shared_Clean:  2000 kB\nPrivate_Clean:  700 kB\nPrivate_Dirty:  2300 kB\n";

    #[test]
    fn lines_are_found_by_their_whole_name() {
        let read = parse(PAGES, "VmPeak:\t 9 kB\nVmHWM:\t 6000 kB\n").unwrap();
        assert_eq!(read.resident_bytes, 5000 << 10);
        assert_eq!(read.proportional_bytes, 3100 << 10);
        assert_eq!(read.private_bytes, 3000 << 10);
        assert_eq!(read.peak_bytes, 6000 << 10);
        assert_eq!(parse(PAGES, "VmPeak: 9 kB"), None);
    }

    #[test]
    fn this_process_holds_something_and_one_that_is_not_there_tells_why() {
        let own = resident(std::process::id()).unwrap();
        assert!(own.private_bytes > 0 && own.private_bytes <= own.resident_bytes);
        let error = resident(u32::MAX).unwrap_err();
        assert!(error.starts_with("/proc/4294967295/"), "{error}");
    }
}
