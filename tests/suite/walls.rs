//! The walls between the crates: which may know which.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A crate, its folder, and the crates of this workspace it may name. Arrows only downwards.
const ROOMS: &[(&str, &str, &[&str])] = &[
    ("bace-models", "models", &[]),
    ("bace-cuda", "models/cuda", &[]),
    ("bace-netem", "netem", &[]),
    ("bace-meter", "worker/meter", &[]),
    (
        "bace-api",
        "coordinator/api",
        &["bace-models", "bace-netem"],
    ),
    (
        "bace-engine",
        "coordinator/engine",
        &["bace-api", "bace-models", "bace-netem"],
    ),
    (
        "bace-ledger",
        "coordinator/ledger",
        &["bace-api", "bace-models", "bace-netem"],
    ),
    (
        "bace-sim",
        "coordinator/sim",
        &["bace-api", "bace-engine", "bace-models", "bace-netem"],
    ),
    ("bace-socket", "netem/socket", &["bace-netem"]),
    ("bace-torch", "models/torch", &["bace-cuda", "bace-models"]),
    ("bace-lease", "worker/lease", &["bace-socket"]),
    (
        "worker",
        "worker",
        &[
            "bace-api",
            "bace-cuda",
            "bace-models",
            "bace-stage",
            "bace-torch",
        ],
    ),
    (
        "bace-stage",
        "worker/stage",
        &[
            "bace-api",
            "bace-lease",
            "bace-models",
            "bace-netem",
            "bace-socket",
        ],
    ),
    (
        "coordinator",
        "coordinator",
        &[
            "bace-api",
            "bace-cuda",
            "bace-engine",
            "bace-lease",
            "bace-ledger",
            "bace-meter",
            "bace-models",
            "bace-netem",
            "bace-sim",
            "bace-socket",
            "bace-stage",
        ],
    ),
];

/// Crates that know no clock, thread or file.
const PURE: [&str; 5] = [
    "bace-models",
    "bace-netem",
    "bace-api",
    "bace-engine",
    "bace-sim",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Names of all crates that `package` is built from, or only those it names.
fn dependencies(package: &str, depth: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--offline",
            "--locked",
            "--edges",
            "normal",
            "--prefix",
            "none",
        ])
        .args(["--format", "{p}", "--package", package])
        .args(depth)
        .current_dir(root())
        .output()
        .expect("cargo starts, since it started this test");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let text = String::from_utf8(output.stdout).expect("cargo tree prints text");
    let names = text.lines().filter_map(|line| line.split(' ').next());
    names
        .map(str::to_owned)
        .filter(|name| name != package)
        .collect()
}

#[test]
fn the_coordinator_needs_no_libtorch() {
    let all = dependencies("coordinator", &[]);
    assert!(all.contains("bace-engine"), "{all:?}");
    for torch in ["torch-sys", "tch", "bace-torch"] {
        assert!(!all.contains(torch), "coordinator is built from {torch}");
    }
}

#[test]
fn arrows_point_only_downwards() {
    let rooms: BTreeSet<&str> = ROOMS.iter().map(|(name, _, _)| *name).collect();
    for (name, _, allowed) in ROOMS {
        for dependency in dependencies(name, &["--depth", "1"]) {
            let wall =
                rooms.contains(dependency.as_str()) && !allowed.contains(&dependency.as_str());
            assert!(!wall, "{name} must not know {dependency}");
        }
    }
}

#[test]
fn pure_crates_know_no_clock_thread_or_file() {
    for (name, folder, _) in ROOMS.iter().filter(|(name, _, _)| PURE.contains(name)) {
        let all = dependencies(name, &[]);
        for impure in ["tokio", "quinn", "rayon", "tempfile", "rustix"] {
            assert!(!all.contains(impure), "{name} is built from {impure}");
        }
        let rules = std::fs::read_to_string(root().join(folder).join("clippy.toml"))
            .expect("a pure crate has its clippy.toml");
        for forbidden in ["Instant::now", "SystemTime::now", "HashMap", "HashSet"] {
            assert!(
                rules.contains(forbidden),
                "{folder}/clippy.toml allows {forbidden}"
            );
        }
    }
}
