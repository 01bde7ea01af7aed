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

/// The story of `patient` where its ledger says that training began half a second after the placement, with `more` in that record.
fn story_of_a_start(more: &str) -> String {
    let dir = TempDir::new().expect("a folder");
    let run = dir.path().join("run");
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join(CHANGING);
    succeeds(&["simulate", text(&scenario), "--out", text(&run)]);
    let file = run.join("ledger.jsonl");
    let ledger = std::fs::read_to_string(&file).expect("a ledger");
    let pipeline = r#"{"kind":"pipeline","at_s":8.0,"job":"patient""#;
    assert_eq!(ledger.matches(pipeline).count(), 1, "{ledger}");
    let training = format!(
        r#"{{"kind":"training","at_s":8.5,"job":"patient","attempt":0,"workers":["w0","w1","w2","w3"],"parameters":1{more}}}"#
    );
    let ledger = ledger.replace(pipeline, &format!("{training}\n{pipeline}"));
    std::fs::write(&file, ledger).expect("written");
    succeeds(&["explain", text(&run), "patient"]).replace('\n', " ")
}

#[test]
fn a_start_up_is_told_by_its_slowest_stage() {
    const BEGIN: &str = "Its start-up took 0.500 s; training began at 8.500 s. ";
    let quick = r#"{"connect_s":0.002,"load_s":0.02,"rehearse_s":0.003}"#;
    let slow = r#"{"connect_s":0.002,"load_s":0.3,"lease_wait_s":0.0125,"rehearse_s":0.125}"#;
    let told = story_of_a_start(&format!(r#","set_up":[{quick},{quick},{slow},{quick}]"#));
    // Connecting was less than a hundredth.
    let slowest = "Of it, stage 2, the slowest, took 300.000 ms to load, 12.500 ms to get its turn on its device and 125.000 ms \
                   to rehearse. 10 iterations took";
    assert!(told.contains(&format!("{BEGIN}{slowest}")), "{told}");
    // Where a stage does not tell, nobody knows which was the slowest.
    for partly in [
        String::new(),
        format!(r#","set_up":[{quick},{quick},{slow}]"#),
    ] {
        let told = story_of_a_start(&partly);
        assert!(
            told.contains(&format!("{BEGIN}10 iterations took")),
            "{told}"
        );
    }
}
