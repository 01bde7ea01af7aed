//! Cores, memory and socket buffers.

use super::finding::Finding;
use crate::machine;

const BYTES_PER_GB: f64 = 1e9;
/// What a data connection asks for, bytes.
const SOCKET_BUFFER_BYTES: u64 = 4 << 20;

/// Threads that want to run, for each core, from which on measurements are disturbed.
const BUSY_SHARE: f64 = 0.5;

/// What of the machine itself a run depends on.
pub fn look() -> Vec<Finding> {
    vec![cores(), other_load(), memory(), socket_buffers()]
}

fn cores() -> Finding {
    match std::thread::available_parallelism() {
        Ok(count) if count.get() >= 2 => Finding::present(
            "cores",
            format!("{count}, as far as this process may use them"),
        ),
        Ok(count) => Finding::limited(
            "cores",
            format!("{count}"),
            "both ends of a link share it with all compute; expect late arrivals, and use two or more",
        ),
        Err(error) => Finding::absent(
            "cores",
            format!("their number cannot be read: {error}"),
            "allow this process to read its processor affinity",
        ),
    }
}

/// What runs beside, since everything that is measured here is measured beside it.
fn other_load() -> Finding {
    let name = "other load";
    let load = std::fs::read_to_string("/proc/loadavg").ok();
    let load = load.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let cores = machine::cores() as f64;
    match load {
        Some(load) if load > BUSY_SHARE * cores => Finding::limited(
            name,
            format!("{load} threads wanted to run on average during the last minute"),
            "what is measured below is measured beside them; look again when the machine is quiet",
        ),
        Some(load) => Finding::present(
            name,
            format!("{load} threads wanted to run on average during the last minute"),
        ),
        None => Finding::absent(name, "/proc/loadavg does not tell", "mount /proc"),
    }
}

fn memory() -> Finding {
    let gb = |bytes: u64| bytes as f64 / BYTES_PER_GB;
    match (machine::memory_bytes(), machine::available_memory_bytes()) {
        (Some(all), Some(free)) => Finding::present(
            "memory",
            format!("{:.1} GB, {:.1} GB of it available", gb(all), gb(free)),
        ),
        _ => Finding::absent(
            "memory",
            "/proc/meminfo does not tell",
            "mount /proc; without it no run can say what fits",
        ),
    }
}

/// The kernel silently cuts a socket's buffers to these limits, and the window of a connection with them.
fn socket_buffers() -> Finding {
    let limits = ["rmem_max", "wmem_max"].map(|name| {
        let path = format!("/proc/sys/net/core/{name}");
        let text = std::fs::read_to_string(&path).ok()?;
        Some((name, text.trim().parse::<u64>().ok()?))
    });
    let known: Vec<_> = limits.into_iter().flatten().collect();
    let words: Vec<_> = known
        .iter()
        .map(|(name, bytes)| format!("{name} {} KiB", bytes >> 10))
        .collect();
    let words = words.join(", ");
    if known.len() < 2 {
        // Network namespaces other than the first do not show them, and obey them all the same.
        return Finding::limited(
            "socket buffers",
            "net.core.rmem_max and wmem_max cannot be read here",
            "look at the measured QUIC rate below: it is what the buffers allow",
        );
    }
    if known.iter().all(|&(_, bytes)| bytes >= SOCKET_BUFFER_BYTES) {
        return Finding::present("socket buffers", words);
    }
    Finding::limited(
        "socket buffers",
        words,
        format!(
            "sysctl -w net.core.rmem_max={SOCKET_BUFFER_BYTES} net.core.wmem_max={SOCKET_BUFFER_BYTES} gives QUIC its full window"
        ),
    )
}
