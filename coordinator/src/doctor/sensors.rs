//! Sensors of energy: NVML for GPUs, RAPL for processors.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::finding::Finding;

const NVML: &str = "libnvidia-ml.so.1";
/// Where distributions put a driver's libraries.
const LIBRARY_FOLDERS: [&str; 6] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/lib/wsl/lib",
    "/usr/local/nvidia/lib64",
    "/run/opengl-driver/lib",
];
const DRIVER_VERSION: &str = "/sys/module/nvidia/version";
const POWERCAP: &str = "/sys/class/powercap";
/// Zones of processor packages, with Intel's and AMD's processors alike.
const RAPL_PREFIX: &str = "intel-rapl:";

/// Sensors; a run without them reports the modelled energy alone.
pub fn look() -> Vec<Finding> {
    vec![nvml(), rapl(Path::new(POWERCAP))]
}

fn nvml() -> Finding {
    let own = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = std::env::split_paths(&own).chain(LIBRARY_FOLDERS.map(PathBuf::from));
    let library = folders
        .map(|folder| folder.join(NVML))
        .find(|path| path.is_file());
    let driver = fs::read_to_string(DRIVER_VERSION).ok();
    match (library, driver) {
        (Some(path), Some(version)) => Finding::present(
            "NVML",
            format!("{} with driver {}", path.display(), version.trim()),
        ),
        (Some(path), None) => Finding::absent(
            "NVML",
            format!(
                "{} is there, and no driver ({DRIVER_VERSION} is missing)",
                path.display()
            ),
            "load the NVIDIA driver, or give the container its GPUs; CPU runs do not need it",
        ),
        (None, driver) => Finding::absent(
            "NVML",
            match driver {
                Some(version) => format!("driver {} without {NVML}", version.trim()),
                None => format!("no {NVML} and no NVIDIA driver"),
            },
            "install the NVIDIA driver to use GPUs; CPU runs do not need it",
        ),
    }
}

fn rapl(powercap: &Path) -> Finding {
    let zones = fs::read_dir(powercap).into_iter().flatten().flatten();
    let zones: Vec<PathBuf> = zones
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            // Packages only: `intel-rapl:0`, without the parts `intel-rapl:0:1`.
            name.strip_prefix(RAPL_PREFIX)
                .is_some_and(|rest| !rest.is_empty() && !rest.contains(':'))
        })
        .map(|entry| entry.path().join("energy_uj"))
        .collect();
    let Some(first) = zones.first() else {
        return Finding::absent(
            "RAPL",
            format!("no {RAPL_PREFIX}N in {}", powercap.display()),
            "virtual machines rarely have it; on hardware modprobe intel_rapl_msr",
        );
    };
    match fs::read_to_string(first) {
        Ok(_) => Finding::present("RAPL", format!("{} package(s), readable", zones.len())),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Finding::limited(
            "RAPL",
            format!("{} is for root alone", first.display()),
            "kernels hide it since energy tells what others compute (CVE-2020-8694); run as root, or chmod o+r it on a machine that is yours alone",
        ),
        Err(error) => Finding::absent(
            "RAPL",
            format!("{} cannot be read: {error}", first.display()),
            "the kernel shows the zone and not its counter; measure energy elsewhere",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn rapl_is_found_by_its_packages() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(rapl(folder.path()).state, State::Absent);
        let part = folder.path().join("intel-rapl:0:0");
        fs::create_dir(&part).expect("a folder");
        assert_eq!(rapl(folder.path()).state, State::Absent);
        let package = folder.path().join("intel-rapl:0");
        fs::create_dir(&package).expect("a folder");
        let no_counter = rapl(folder.path());
        assert_eq!(no_counter.state, State::Absent);
        assert!(
            no_counter.found.contains("cannot be read"),
            "{no_counter:?}"
        );
        fs::write(package.join("energy_uj"), "12\n").expect("a file");
        assert_eq!(rapl(folder.path()).found, "1 package(s), readable");
    }
}
