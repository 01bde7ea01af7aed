//! The stories of jobs, as `bace explain` tells them of simulations: golden files, renewed by `UPDATE_GOLDEN=1`.

mod common;

use std::path::Path;

use common::{succeeds, text};
use tempfile::TempDir;

/// The story of a job of a scenario file under a policy, against `golden/explain/{golden}.txt`.
#[track_caller]
fn tells(scenario: &str, policy: &str, job: &str, golden: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = TempDir::new().expect("a folder");
    let run = dir.path().join("run");
    let scenario = root.join(scenario);
    let simulate = ["simulate", text(&scenario), "--policy", policy];
    succeeds(&[&simulate[..], &["--out", text(&run)]].concat());
    let told = succeeds(&["explain", text(&run), job]);
    let file = root
        .join("tests/golden/explain")
        .join(golden)
        .with_extension("txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &told).expect("written");
    }
    let expected = std::fs::read_to_string(&file).expect("a golden file");
    assert_eq!(told, expected, "{golden}");
}

const CHANGING: &str = "tests/common/changing.toml";
const QUEUE: &str = "../tests/scenarios/held-out/queue.toml";
const SHARED: &str = "../tests/scenarios/held-out/shared-link.toml";

#[test]
fn of_a_job_that_waits_for_gpus() {
    tells(CHANGING, "bace-pipe", "patient", "waits");
}

#[test]
fn of_a_job_whose_gpus_are_taken_away() {
    tells(CHANGING, "bace-pipe", "moved", "taken-away");
}

#[test]
fn of_a_job_over_a_link_that_another_uses() {
    tells(SHARED, "bace-pipe", "second", "shares-a-link");
}
#[test]
fn of_a_job_behind_one_that_nobody_may_overtake() {
    tells(QUEUE, "lcf", "e", "held-up");
}

/// A simulation that says it was a real run under another policy: its prediction places the job elsewhere.
#[test]
fn of_a_job_that_its_prediction_places_elsewhere() {
    let dir = TempDir::new().expect("a folder");
    let run = dir.path().join("run");
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join(CHANGING);
    let simulate = ["simulate", text(&scenario), "--policy", "lcf"];
    succeeds(&[&simulate[..], &["--out", text(&run)]].concat());
    let file = run.join("ledger.jsonl");
    let ledger = std::fs::read_to_string(&file).expect("a ledger");
    let real = ledger.replacen(r#""clock":"virtual""#, r#""clock":"wall""#, 1);
    let real = real.replacen(r#""policy":"lcf""#, r#""policy":"bace-pipe""#, 1);
    std::fs::write(&file, real).expect("written");
    let told = succeeds(&["explain", text(&run), "patient"]);
    let told = told.replace('\n', " ");
    let reason = "What one takes by the event model is unknown: its simulation has this start on north×2 → south×2.";
    assert!(told.contains(reason), "{told}");
    std::fs::remove_file(run.join("scenario.toml")).expect("it is there");
    let told = succeeds(&["explain", text(&run), "patient"]);
    let told = told.replace('\n', " ");
    let reason = "What one takes by the event model is unknown: failed to ";
    assert!(
        told.contains(reason) && told.contains("scenario.toml"),
        "{told}"
    );
}
