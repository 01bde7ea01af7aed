//! The machine a run was made on, in words.

/// Processor, cores, memory and kernel; parts that cannot be read say so.
pub fn describe() -> String {
    let processor = read("/proc/cpuinfo")
        .as_deref()
        .and_then(|text| field(text, "model name"))
        .unwrap_or_else(|| "unknown processor".to_owned());
    let cores = std::thread::available_parallelism().map_or_else(
        |_| "unknown cores".to_owned(),
        |count| format!("{count} cores"),
    );
    let memory = memory_bytes().map_or_else(
        || "unknown memory".to_owned(),
        |bytes| format!("{} GiB", bytes >> 30),
    );
    let kernel = read("/proc/sys/kernel/osrelease").map_or_else(
        || "unknown kernel".to_owned(),
        |text| format!("Linux {}", text.trim()),
    );
    format!("{processor}, {cores}, {memory}, {kernel}")
}

/// Cores that this process may use; one where the system does not tell.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// All of its memory, where the system tells.
pub fn memory_bytes() -> Option<u64> {
    meminfo("MemTotal")
}

/// Memory that programs can still have without swapping, where the system tells.
pub fn available_memory_bytes() -> Option<u64> {
    meminfo("MemAvailable")
}

fn meminfo(name: &str) -> Option<u64> {
    let text = read("/proc/meminfo")?;
    let kib: u64 = field(&text, name)?
        .trim_end_matches(" kB")
        .trim()
        .parse()
        .ok()?;
    kib.checked_mul(1 << 10)
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The value of the first `name : value` line.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: other\n";
        assert_eq!(
            field(text, "model name").as_deref(),
            Some("Some CPU @ 2 GHz")
        );
        assert_eq!(field(text, "flags"), None);
    }

    #[test]
    fn this_machine_has_a_description() {
        assert_eq!(describe().split(", ").count(), 4);
    }
}
