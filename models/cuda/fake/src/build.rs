//! Builds the fake, and starts programs that find it in place of the true driver.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The names under which programs look for the driver.
const NAMES: [&str; 2] = ["libcuda.so", "libcuda.so.1"];
const SOURCE: &str = include_str!("cuda.c");
/// Tells a test that it is the inner one of [`is_outer`].
const INNER: &str = "BACE_FAKE_CUDA_INNER";

/// What the library offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All that is asked of a driver.
    Whole,
    /// All but the timing of events.
    WithoutEventTiming,
    /// A file of the right name that is no library.
    Broken,
}

/// The fake in a folder.
#[derive(Debug, Clone)]
pub struct FakeCuda {
    folder: PathBuf,
}

impl FakeCuda {
    /// Compiles the fake into `folder`, with `cc`.
    ///
    /// # Panics
    /// Where there is no C compiler or the folder cannot be written: no test can go on then.
    pub fn build(folder: &Path, kind: Kind) -> Self {
        let library = folder.join(NAMES[1]);
        if kind == Kind::Broken {
            std::fs::write(&library, "no library").expect("the folder can be written");
        } else {
            let source = folder.join("cuda.c");
            std::fs::write(&source, SOURCE).expect("the folder can be written");
            let output = Command::new("cc")
                .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-pthread"])
                .arg(format!("-Wl,-soname,{}", NAMES[1]))
                .args((kind == Kind::WithoutEventTiming).then_some("-DWITHOUT_EVENT_TIMING"))
                .arg("-o")
                .args([&library, &source])
                .output()
                .expect("the C compiler starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
        }
        std::os::unix::fs::symlink(NAMES[1], folder.join(NAMES[0])).expect("the folder is fresh");
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Lets `command` find the fake, which shows `devices` GPUs.
    pub fn give<'a>(&self, command: &'a mut Command, devices: u32) -> &'a mut Command {
        command
            .env("LD_LIBRARY_PATH", &self.folder)
            .env("FAKE_CUDA_DEVICES", devices.to_string())
            .env_remove("CUDA_VISIBLE_DEVICES")
    }
}

/// Runs the test `name` of the test's own program once more, with the fake, one GPU and `settings`, since a program looks for
/// libraries where it was told to when it started. Whether this is the outer test, which has nothing left to do then.
///
/// # Panics
/// Where the inner test did not pass.
pub fn is_outer(name: &str, kind: Kind, settings: impl FnOnce(&mut Command)) -> bool {
    if std::env::var_os(INNER).is_some() {
        return false;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(std::env::current_exe().expect("a test has a path"));
    command
        .args(["--exact", name, "--nocapture"])
        .env(INNER, "1");
    FakeCuda::build(folder.path(), kind).give(&mut command, 1);
    settings(&mut command);
    let output = command.output().expect("the test starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let ran = String::from_utf8_lossy(&output.stdout);
    assert!(ran.contains("1 passed"), "{ran}");
    true
}
