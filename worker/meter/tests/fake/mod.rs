//! Fakes that are loaded and read through the same paths as the real ones.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bace_meter::Places;
use tempfile::TempDir;

pub const OK: i32 = 0;
pub const NOT_SUPPORTED: i32 = 3;
pub const NO_PERMISSION: i32 = 4;
pub const DRIVER_NOT_LOADED: i32 = 9;
pub const GPU_IS_LOST: i32 = 15;

/// Longest wait for a sample, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// One board of the fake library.
#[derive(Debug, Clone)]
pub struct Board {
    pub uuid: &'static str,
    pub energy_code: i32,
    pub energy_mj: u64,
    pub power_code: i32,
    pub power_mw: u32,
    pub watts: u32,
    pub refresh_ms: u32,
}

impl Board {
    /// A board whose counter shows `energy_mj` until it is told otherwise.
    pub fn new(uuid: &'static str, energy_mj: u64) -> Self {
        Self {
            uuid,
            energy_code: OK,
            energy_mj,
            power_code: OK,
            power_mw: 100_000,
            watts: 0,
            refresh_ms: 100,
        }
    }
}

/// A machine of its own: an NVML library and a powercap tree.
pub struct Machine {
    folder: TempDir,
}

impl Machine {
    /// One without boards and without zones.
    pub fn new() -> Self {
        let machine = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        fs::create_dir(machine.powercap()).expect("a folder");
        machine
    }

    /// One with these boards.
    pub fn with_boards(boards: &[Board]) -> Self {
        let machine = Self::new();
        machine.show(boards);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake/nvml.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(machine.library())
            .arg(format!("-DSTATE=\"{}\"", machine.state().display()))
            .arg(source)
            .output()
            .expect("a C compiler, cc, is installed");
        assert!(compiled.status.success(), "{compiled:?}");
        machine
    }

    /// The boards are these from now on.
    pub fn show(&self, boards: &[Board]) {
        self.show_driver(OK, boards);
    }

    /// The same, and the driver answers with `code` when it is asked to begin.
    pub fn show_driver(&self, code: i32, boards: &[Board]) {
        let mut text = format!("driver {code}\n");
        for board in boards {
            text.push_str(&format!(
                "board {} Fake-1000 {} {} {} {} {} {}\n",
                board.uuid,
                board.energy_code,
                board.energy_mj,
                board.power_code,
                board.power_mw,
                board.watts,
                board.refresh_ms
            ));
        }
        replace(&self.state(), &text);
    }

    /// Waits until every one of `boards` boards has been read twice more.
    pub fn wait_for_samples(&self, boards: u64) {
        let reads =
            || fs::metadata(self.folder.path().join("state.reads")).map_or(0, |it| it.len());
        let upto = reads() + 2 * boards + 1;
        let begin = Instant::now();
        while reads() < upto {
            assert!(begin.elapsed() < PATIENCE, "nobody reads the boards");
            sleep(Duration::from_millis(5));
        }
    }

    /// A zone `id` below `parent` named `name`, whose counter shows `energy_uj`.
    pub fn zone(&self, parent: &str, id: &str, name: &str, energy_uj: u64) {
        let folder = self.powercap().join(parent).join(id);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("name"), format!("{name}\n")).expect("a file is written");
        fs::write(folder.join("max_energy_range_uj"), "262143328850\n").expect("a file is written");
        fs::write(folder.join("energy_uj"), format!("{energy_uj}\n")).expect("a file is written");
        if !parent.is_empty() {
            // As the kernel does: parts are linked beside their packages.
            let link = self.powercap().join(id);
            if !link.exists() {
                std::os::unix::fs::symlink(&folder, link).expect("a link");
            }
        }
    }

    pub fn powercap(&self) -> PathBuf {
        self.folder.path().join("powercap")
    }

    pub fn library(&self) -> OsString {
        self.folder.path().join("libnvidia-ml.so.1").into()
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn places(&self) -> Places {
        Places {
            nvml_library: self.library(),
            powercap: self.powercap(),
        }
    }
}

/// Replaces a file at once, so that nobody reads half of it.
fn replace(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).expect("a file is written");
    fs::rename(draft, path).expect("a file is replaced");
}
