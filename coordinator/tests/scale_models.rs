//! Scale models as people use them: what decides does not see them, and what cannot emulate them is refused.

mod common;

use std::fs;
use std::path::Path;

use common::{bace, succeeds, text as text_of};
use serde_json::Value;

const KEY: &str = "scale_model = { width = 32, tokens = 16 }\n";

/// The ledger of a simulation of `scenario`, without its header, which tells one file from another.
fn ledger(dir: &Path, scenario: &str, policy: &str) -> String {
    let file = dir.join("s.toml");
    fs::write(&file, scenario).expect("a file can be written");
    let out = dir.join("out");
    let arguments = [
        "simulate",
        text_of(&file),
        "--policy",
        policy,
        "--out",
        text_of(&out),
    ];
    succeeds(&arguments);
    let ledger = fs::read_to_string(out.join("ledger.jsonl")).expect("a ledger");
    fs::remove_dir_all(&out).expect("it can be removed");
    let (header, records) = ledger.split_once('\n').expect("records behind the header");
    assert!(header.contains("\"kind\":\"header\"") && !header.contains("scale_models"));
    records.to_owned()
}

#[test]
fn decisions_and_predictions_are_the_same_with_and_without() {
    let dir = tempfile::tempdir().expect("a folder");
    let scaled = succeeds(&["scenario", "show", "paper-scale"]);
    assert_eq!(scaled.matches(KEY).count(), 8);
    let plain = scaled.replace(KEY, "");
    for policy in ["bace-pipe", "lcf", "cr-ldf"] {
        let ledger = |scenario| ledger(dir.path(), scenario, policy);
        let (scaled, plain) = (ledger(&scaled), ledger(&plain));
        assert!(scaled.lines().count() > 100);
        assert!(scaled == plain, "{policy}");
    }
}

#[test]
fn the_cut_down_paper_keeps_what_it_says_of_itself() {
    let compared = succeeds(&["compare", "paper-scale", "--json"]);
    let compared: Value = serde_json::from_str(&compared).expect("results are JSON");
    let rows = compared["points"][0]["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 8);
    let mut jcts = Vec::new();
    for row in rows {
        assert_eq!(row["finished"], 8, "{row}");
        let makespan_s = row["makespan_s"]["mean"].as_f64().expect("it ends");
        assert!((60.0..120.0).contains(&makespan_s), "{row}");
        jcts.push(row["mean_jct_s"]["mean"].as_f64().expect("it ends"));
    }
    jcts.sort_by(f64::total_cmp);
    // Policies differ by more than what a real run adds.
    assert!(jcts[7] > 1.2 * jcts[0], "{jcts:?}");
    let simulated = succeeds(&["simulate", "paper-scale", "--json"]);
    let simulated: Value = serde_json::from_str(&simulated).expect("results are JSON");
    let jobs = simulated["jobs"].as_array().expect("jobs");
    let wanted = jobs.iter().filter_map(|job| job["k_star"].as_u64());
    assert_eq!(wanted.sum::<u64>(), 27);
    assert!(
        jobs.iter()
            .any(|job| job["queueing_s"].as_f64() > Some(1.0))
    );
    assert!(jobs.iter().any(|job| job["link_bytes"].as_u64() > Some(0)));
}

#[test]
fn rungs_on_which_a_small_model_stands_for_nothing_are_refused() {
    for (arguments, told) in [
        (
            ["--network", "packet"],
            "back end `packet`: they carry the small tensors' own datagrams",
        ),
        (
            ["--network", "kernel"],
            "back end `kernel`: it sees the small tensors' own bytes",
        ),
        (
            ["--compute", "native"],
            "the small model's own time stands for nothing; use paced or modelled",
        ),
    ] {
        let called = bace(&[&["run", "paper-scale"], &arguments[..]].concat());
        assert_eq!(called.status, 2, "{}", called.err);
        assert!(called.err.contains(told), "{}", called.err);
        assert!(called.err.contains("job `llama-70b`"), "{}", called.err);
    }
}
