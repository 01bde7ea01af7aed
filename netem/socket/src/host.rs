//! Which processes share memory and a monotonic clock.

use std::io;
use std::path::PathBuf;

use crate::SocketError;

/// Identifies the running kernel, its view of time and of processes: those with the same answer can share link clocks,
/// which they find by a process's id.
///
/// # Errors
/// When the system does not tell.
pub fn host_id() -> Result<String, SocketError> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_err(SocketError::system("read the kernel's boot id"))?;
    // A container may have a monotonic clock of its own.
    let time = time_namespace(std::fs::read_link("/proc/self/ns/time"))
        .map_err(SocketError::system("read the time namespace"))?;
    let processes = std::fs::read_link("/proc/self/ns/pid")
        .map_err(SocketError::system("read the process namespace"))?;
    Ok(format!(
        "{} {} {}",
        boot.trim(),
        time.display(),
        processes.display()
    ))
}

/// What stands for the time namespace; kernels before 5.6 know none, so that all their processes
/// have one clock.
fn time_namespace(link: io::Result<PathBuf>) -> io::Result<PathBuf> {
    match link {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok("no time namespaces".into()),
        link => link,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_agrees_with_itself() {
        assert_eq!(host_id().unwrap(), host_id().unwrap());
    }

    #[test]
    fn a_kernel_without_time_namespaces_has_one_clock() {
        let found = |kind: io::ErrorKind| time_namespace(Err(kind.into()));
        let none = found(io::ErrorKind::NotFound).unwrap();
        assert_eq!(none.to_str(), Some("no time namespaces"));
        assert!(found(io::ErrorKind::PermissionDenied).is_err());
        let known = PathBuf::from("time:[4026531834]");
        assert_eq!(time_namespace(Ok(known.clone())).unwrap(), known);
    }
}
