//! Which processes share memory and a monotonic clock.

use crate::SocketError;

/// Identifies the running kernel and its view of time: processes with the same answer can share link clocks.
///
/// # Errors
/// When the system does not tell.
pub fn host_id() -> Result<String, SocketError> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_err(SocketError::system("read the kernel's boot id"))?;
    // A container may have a monotonic clock of its own.
    let time = std::fs::read_link("/proc/self/ns/time")
        .map_err(SocketError::system("read the time namespace"))?;
    Ok(format!("{} {}", boot.trim(), time.display()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_agrees_with_itself() {
        assert_eq!(super::host_id().unwrap(), super::host_id().unwrap());
    }
}
