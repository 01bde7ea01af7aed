//! What the scripts say on a machine that lacks something.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const TOOLS: [&str; 13] = [
    "bash", "basename", "dirname", "uname", "sed", "cut", "sort", "awk", "df", "cat", "cc", "c++",
    "env",
];

/// A machine with a `PATH` of its own.
struct Machine {
    bin: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Machine {
    /// One on which `cargo` would start to build.
    fn complete() -> Self {
        let bin = tempfile::tempdir().expect("a temporary folder");
        let machine = Self {
            bin,
            environment: Vec::new(),
        };
        for tool in TOOLS {
            let real = ["/usr/bin", "/bin"]
                .map(|folder| Path::new(folder).join(tool))
                .into_iter()
                .find(|path| path.exists())
                .expect("a machine that runs tests has these tools");
            symlink(real, machine.path(tool)).expect("a link");
        }
        machine.cargo("1.95.0")
    }

    fn path(&self, tool: &str) -> PathBuf {
        self.bin.path().join(tool)
    }

    fn without(self, tool: &str) -> Self {
        fs::remove_file(self.path(tool)).expect("the tool was there");
        self
    }

    /// Replaces a tool by a script.
    fn with(self, tool: &str, script: &str) -> Self {
        let path = self.path(tool);
        let _ = fs::remove_file(&path);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
        self
    }

    /// A cargo that tells its version and where it builds, and does nothing else.
    fn cargo(self, version: &str) -> Self {
        let target = self.path("target").display().to_string();
        self.with(
            "cargo",
            &format!(
                "case $1 in\n--version) echo 'cargo {version} (abc 2026-01-01)';;\n\
                 metadata) echo '{{\"target_directory\":\"{target}\"}}';;\n*) exit 9;;\nesac"
            ),
        )
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What a script says before it ends with status 1: one line, its own.
    fn complaint(&self, script: &str) -> String {
        let stderr = self.said(script, &[]);
        assert!(stderr.starts_with(&format!("{script}: ")), "{stderr}");
        stderr
    }

    /// What is said before a script ends with status 1: one line.
    fn said(&self, script: &str, arguments: &[&str]) -> String {
        self.ended(script, arguments, 1)
    }

    /// What is said before a script ends with `status`: one line.
    fn ended(&self, script: &str, arguments: &[&str], status: i32) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../scripts")
            .join(script);
        let output = Command::new("/bin/bash")
            .arg(path)
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().cloned())
            .env("PATH", self.bin.path())
            .current_dir("/")
            .output()
            .expect("bash starts");
        let stderr = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(status), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        stderr
    }
}

/// How `check-cuda-link` ends where `cargo` and `python3` are these scripts, and what it says.
fn cuda_link(cargo: &str, python: &str, libtorch: Option<&str>) -> (Option<i32>, String) {
    let machine = Machine::complete()
        .with("cargo", cargo)
        .with("python3", python)
        // Disk enough, and a C library new enough.
        .with("df", "echo head; echo 'disk 1 1 99000000 1% /'")
        .with("getconf", "echo glibc 2.39");
    for tool in ["mktemp", "realpath", "rm", "mkdir", "seq"] {
        symlink(Path::new("/usr/bin").join(tool), machine.path(tool)).expect("a link");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/check-cuda-link");
    let mut command = Command::new("/bin/bash");
    command
        .arg(script)
        .env_clear()
        .env("PATH", machine.bin.path())
        .current_dir("/");
    command.envs(libtorch.map(|folder| ("LIBTORCH", folder)));
    let output = command.output().expect("bash starts");
    (
        output.status.code(),
        String::from_utf8(output.stderr).expect("text"),
    )
}

#[test]
fn a_link_that_cannot_be_fetched_is_left_out_and_one_that_fails_is_not() {
    let offline = "case \"$*\" in *' install '*) echo 'no network' >&2; exit 1;; esac";
    let (status, said) = cuda_link("exit 0", offline, None);
    assert!(said.contains("left out: libtorch with CUDA"), "{said}");
    assert!(said.contains("no network"), "{said}");
    assert_eq!(status, Some(0));
    let (status, said) = cuda_link("exit 101", offline, None);
    assert!(said.contains("left out: cargo could not fetch"), "{said}");
    assert_eq!(status, Some(0));
    // pip that succeeds without bringing the library.
    let (status, said) = cuda_link("exit 0", "exit 0", None);
    assert!(said.contains("holds no libtorch_cuda.so"), "{said}");
    assert_eq!(status, Some(1));
    let (status, said) = cuda_link("exit 0", "exit 0", Some("/nowhere"));
    assert!(said.contains("LIBTORCH=/nowhere"), "{said}");
    assert_eq!(status, Some(1));
}

/// Both scripts say `expected` on `machine`.
fn both_say(machine: &Machine, expected: &str) {
    for script in ["run", "test"] {
        let complaint = machine.complaint(script);
        assert!(complaint.contains(expected), "{complaint}");
    }
}

#[test]
fn missing_tools_are_named_in_one_line() {
    both_say(
        &Machine::complete().without("cargo"),
        "no cargo; install Rust",
    );
    both_say(&Machine::complete().without("c++"), "no C++ compiler 'c++'");
    both_say(&Machine::complete().without("cc"), "no C compiler 'cc'");
}

#[test]
fn a_cargo_that_is_too_old_or_broken_is_told() {
    both_say(
        &Machine::complete().cargo("1.70.0"),
        "cargo 1.70.0 is too old",
    );
    both_say(
        &Machine::complete().with("cargo", "exit 1"),
        "cargo does not start",
    );
}

#[test]
fn other_systems_are_told() {
    both_say(
        &Machine::complete().with("uname", "echo Darwin"),
        "only Linux on x86-64",
    );
}

#[test]
fn a_full_disk_is_told_before_anything_is_built() {
    let full = "printf 'Filesystem 1024-blocks Used Available Capacity Mounted\\n/dev/x 9 8 70000 99%% /\\n'";
    both_say(&Machine::complete().with("df", full), "70 MB are free");
}

#[test]
fn the_peer_of_the_benchmark_needs_a_python_with_venv() {
    let complaint = Machine::complete().complaint("bench-torch");
    assert!(complaint.contains("no python3; install"), "{complaint}");
    let old = "case $1 in --version) echo 'Python 3.8.1';; *) exit 1;; esac";
    let complaint = Machine::complete()
        .with("python3", old)
        .complaint("bench-torch");
    assert!(
        complaint.contains("Python 3.8.1 is too old; torch"),
        "{complaint}"
    );
    let bare = "case $2 in *venv*) exit 1;; esac";
    let complaint = Machine::complete()
        .with("python3", bare)
        .complaint("bench-torch");
    assert!(
        complaint.contains("no venv with pip; install it"),
        "{complaint}"
    );
}

#[test]
fn the_benchmark_tells_how_it_is_used() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/bench-torch");
    let output = Command::new("bash")
        .arg(script)
        .arg("--help")
        .output()
        .expect("bash starts");
    assert!(output.status.success());
    let told = String::from_utf8(output.stdout).expect("text");
    for word in [
        "scripts/bench-torch",
        "torch.distributed.pipelining",
        "3 GB",
    ] {
        assert!(told.contains(word), "no {word} in {told}");
    }
}

#[test]
fn networks_are_put_up_and_taken_down_by_the_program_that_was_built() {
    let machine = Machine::complete();
    for script in ["netem-up", "netem-down"] {
        let unbuilt = Machine::complete().env("CARGO_TARGET_DIR", "/nonexistent");
        let complaint = unbuilt.complaint(script);
        assert!(
            complaint.contains("no bace in /nonexistent; build it"),
            "{complaint}"
        );
    }
    let target = machine.path("target");
    fs::create_dir_all(target.join("debug")).expect("a folder");
    let built = machine
        .with("target/debug/bace", "echo \"$@\" >&2; exit 1")
        .env("CARGO_TARGET_DIR", &target.display().to_string());
    let told = built.said("netem-down", &["my.toml"]);
    assert_eq!(told, "netem down -- my.toml\n");
    assert_eq!(built.said("netem-up", &[]), "netem up -- three-regions\n");
    let complaint = built.said("netem-up", &["a", "b"]);
    assert_eq!(complaint, "netem-up: takes one scenario at most\n");
}

#[test]
fn a_machine_without_a_gpu_is_told_before_anything_is_downloaded() {
    if Path::new("/proc/driver/nvidia/version").exists() {
        eprintln!("not tested: this machine has an NVIDIA driver");
        return;
    }
    let complaint = Machine::complete().complaint("gpu-check");
    assert!(complaint.contains("no NVIDIA GPU here"), "{complaint}");
}

#[test]
fn the_cuda_link_is_left_out_where_disk_is_short() {
    let full = Machine::complete().with("df", "printf 'h\\n/dev/x 100 90 1000000 1%% /\\n'");
    let said = full.ended("check-cuda-link", &[], 0);
    assert!(said.contains("left out: it needs 30 GB"), "{said}");
    assert!(said.contains("1 GB are free"), "{said}");
}

#[test]
fn a_name_that_fits_no_held_out_scenario_is_refused() {
    for names in ["narrow-*", "wide"] {
        let told = ["--repeats", "2", "--scenarios", names];
        assert_eq!(
            Machine::complete().said("held-out", &told),
            format!("held-out: no file tests/scenarios/held-out/{names}.toml\n")
        );
    }
}

/// A `bace` that passes one scenario, fails another, and comes to no verdict on a third.
const JUDGES: &str = r#"
mkdir -p "$6"
case $2 in *weather*) echo 'bace: no link' >&2; exit 1;; esac
passed=false errors=null
case $2 in *near-pair*) passed=true errors='{"count":4,"mean_share":0.0123,"max_share":0.02}';; esac
echo "{\"plan\":{\"policies\":[\"$4\"],\"repeats\":$8},\"runs\":[{\"valid\":$passed},{\"valid\":null}],
  \"iterations\":{\"errors\":$errors,\"noise\":null},\"jcts\":{\"errors\":$errors,\"noise\":null},
  \"passed\":$passed}" >"$6/validation.json"
[ $passed = true ]
"#;

#[test]
fn held_out_tells_every_verdict_and_what_came_to_none() {
    let machine = Machine::complete();
    let target = machine.path("target").display().to_string();
    let machine = machine.with(
        "cargo",
        &format!(
            "case $1 in\n--version) echo 'cargo 1.95.0';;\n\
             metadata) echo '{{\"target_directory\":\"{target}\"}}';;\nesac"
        ),
    );
    for tool in ["python3", "mkdir", "rm", "getconf", "realpath", "flock"] {
        symlink(Path::new("/usr/bin").join(tool), machine.path(tool)).expect("a link");
    }
    fs::create_dir_all(machine.path("target/release")).expect("a folder");
    let machine = machine.with("target/release/bace", JUDGES);
    let place = tempfile::tempdir().expect("a temporary folder");
    // What an earlier call left there.
    let before = place.path().join("out/weather");
    fs::create_dir_all(&before).expect("a folder");
    fs::write(before.join("validation.json"), "{}").expect("a file");

    let output = Command::new("/bin/bash")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/held-out"))
        .args(["--repeats", "2", "--out", "out", "--scenarios", "*r"])
        .env_clear()
        .env("PATH", machine.bin.path())
        .envs(std::env::var("LIBTORCH").map(|folder| ("LIBTORCH", folder)))
        .current_dir(place.path())
        .output()
        .expect("bash starts");
    let said = String::from_utf8(output.stderr).expect("text");
    let table = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    let rows: Vec<&str> = table.lines().skip(2).collect();
    assert_eq!(
        rows,
        [
            "| jitter | bace-pipe | 2 | 0 | – | – | – | 0 | – | – | – | 1 of 2 | FAILED |",
            "| near-pair | bace-pipe | 2 | 4 | 1.23 | 2.00 | – | 4 | 1.23 | 2.00 | – | 0 of 2 | passed |",
            "| weather | – | – | – | – | – | – | – | – | – | – | – | no verdict |",
        ],
        "{said}"
    );
    assert!(said.contains("bace: no link"), "{said}");
    assert!(said.contains("weather came to no verdict"), "{said}");
}
