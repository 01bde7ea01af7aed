//! `bace plan` as people call it.

mod common;

use std::fs;

use common::{bace, succeeds, text};
use tempfile::TempDir;

#[test]
fn a_placement_tells_all_three_numbers_of_stages() {
    let told = succeeds(&["plan", "three-regions", "--job", "wide"]);
    assert!(told.contains("(K = 4, K* = 4, K° = 4)"), "{told}");
}

#[test]
fn an_instant_is_a_finite_number_of_seconds() {
    for at in ["-1", "nan", "inf", "soon"] {
        let at = format!("--at={at}");
        let called = bace(&["plan", "three-regions", &at]);
        assert_eq!(called.status, 2, "{at}");
        assert!(called.err.contains("0 or more"), "{}", called.err);
    }
}

#[test]
fn a_job_that_fits_nowhere_is_a_failure() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("wide.toml");
    let scenario = succeeds(&["scenario", "show", "three-regions"]);
    fs::write(
        &file,
        scenario.replace("memory_gb = 0.008", "memory_gb = 0.0035"),
    )
    .unwrap();
    let called = bace(&["plan", text(&file), "--policy", "lcf"]);
    assert_eq!(called.status, 1, "{}", called.out);
    assert!(called.out.contains(": refused; "), "{}", called.out);
}
