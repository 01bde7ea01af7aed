//! `bace replay`: the same inputs bring about the same decisions, and any other is found.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{bace, succeeds, text};
use tempfile::TempDir;

const POLICIES: [&str; 8] = [
    "bace-pipe",
    "lcf",
    "ldf",
    "cr-lcf",
    "cr-ldf",
    "no-priority",
    "no-pathfinder",
    "no-cost-min",
];

/// A simulated run of `three-regions`.
fn simulated(dir: &TempDir, policy: &str, model: &str) -> PathBuf {
    let run = dir.path().join(format!("{policy}-{model}"));
    succeeds(&[
        "simulate",
        "three-regions",
        "--policy",
        policy,
        "--iteration-model",
        model,
        "--seed",
        "11",
        "--out",
        text(&run),
    ]);
    run
}

fn change(run: &Path, change: impl FnOnce(String) -> String) {
    let ledger = run.join("ledger.jsonl");
    let records = fs::read_to_string(&ledger).expect("the run left a ledger");
    fs::write(ledger, change(records)).expect("the ledger can be written");
}

#[test]
fn every_policy_decides_again_as_it_did() {
    let dir = TempDir::new().unwrap();
    for policy in POLICIES {
        for model in ["analytic", "event"] {
            let run = simulated(&dir, policy, model);
            let told = succeeds(&["replay", text(&run)]);
            assert!(told.contains("bring about the same"), "{told}");
        }
    }
}

#[test]
fn the_first_decision_that_differs_is_shown_with_both_sides() {
    let dir = TempDir::new().unwrap();
    let run = simulated(&dir, "bace-pipe", "event");
    change(&run, |records| {
        records.replacen(
            "\"path\":[{\"region\":\"us-east\"",
            "\"path\":[{\"region\":\"eu-west\"",
            1,
        )
    });
    let called = bace(&["replay", text(&run)]);
    assert_eq!(called.status, 1);
    for part in [
        "line 4 of",
        "ledger: {\"kind\":\"placed\"",
        "engine: {\"kind\":\"placed\"",
    ] {
        assert!(called.err.contains(part), "{}", called.err);
    }
}

#[test]
fn a_ledger_cut_off_anywhere_agrees_as_far_as_it_goes() {
    let dir = TempDir::new().unwrap();
    let run = simulated(&dir, "bace-pipe", "analytic");
    let whole = fs::read_to_string(run.join("ledger.jsonl")).unwrap();
    for share in 1..8 {
        let header = whole.find('\n').unwrap() + 1;
        let end = header + (whole.len() - header) * share / 8;
        change(&run, |_| whole[..end].to_owned());
        let told = succeeds(&["replay", text(&run)]);
        assert!(told.contains("ends before the run did"), "{told}");
    }
}

#[test]
fn what_is_no_ledger_or_of_another_scenario_is_a_wrong_input() {
    let dir = TempDir::new().unwrap();
    let run = simulated(&dir, "lcf", "analytic");
    let scenario = run.join("scenario.toml");
    let wrong = |told: &str, args: &[&str]| {
        let called = bace(args);
        assert_eq!(called.status, 2, "{}", called.err);
        assert!(called.err.contains(told), "{}", called.err);
    };
    wrong("not a ledger", &["replay", text(&scenario)]);
    wrong("holds no ledger.jsonl", &["replay", text(dir.path())]);

    let whole = fs::read_to_string(run.join("ledger.jsonl")).unwrap();
    change(&run, |records| {
        records.replacen("\"format\":1", "\"format\":2", 1)
    });
    wrong("format version 2", &["replay", text(&run)]);
    wrong("format version 2", &["report", text(&run)]);
    change(&run, |_| whole);

    let kept = fs::read_to_string(&scenario).unwrap();
    fs::write(&scenario, kept.clone() + "# changed\n").unwrap();
    wrong("is not the scenario of this run", &["replay", text(&run)]);
    fs::remove_file(&scenario).unwrap();
    wrong("name it with --scenario", &["replay", text(&run)]);
    succeeds(&["replay", text(&run), "--scenario", "three-regions"]);
}

#[test]
fn a_header_or_an_end_that_the_run_cannot_have_fails() {
    let dir = TempDir::new().unwrap();
    let run = simulated(&dir, "lcf", "analytic");
    let whole = fs::read_to_string(run.join("ledger.jsonl")).unwrap();
    let fails = |told: &str, records: String| {
        change(&run, |_| records);
        let called = bace(&["replay", text(&run)]);
        assert_eq!(called.status, 1, "{}", called.err);
        assert!(called.err.contains(told), "{}", called.err);
    };
    fails(
        "header says gpus [9, 2, 2], the scenario [2, 2, 2]",
        whole.replacen("\"gpus\":[2,", "\"gpus\":[9,", 1),
    );
    let last = whole.lines().last().unwrap();
    fails("behind the end of the run", format!("{whole}{last}\n"));
}
