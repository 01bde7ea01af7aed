//! Which runs may stand beside each other.

use serde_json::{Value, json};

use crate::made_up::{Made, Run, runs, validation};

#[test]
fn runs_that_are_not_of_one_kind_are_not_compared_silently() {
    let faults = |predicted: &Run, measured: &Run| {
        validation(&[runs(predicted, std::slice::from_ref(measured))]).faults
    };
    let with = |header: Value| {
        let mut run = Run::of_one(1.0);
        run.header = header;
        run
    };
    let plain = with(json!({}));
    assert!(faults(&plain, &plain).is_empty());
    assert!(faults(&plain, &with(json!({"scenario_hash": "beef"})))[0].contains("hash beef"));
    let read = |hash: &str| with(json!({"sources": {"night.csv": hash}}));
    assert!(faults(&read("aa"), &read("aa")).is_empty());
    assert!(
        faults(&read("aa"), &read("bb"))[0].contains("night.csv, which its scenario reads, is bb")
    );
    assert!(faults(&plain, &with(json!({"seed": 2})))[0].contains("seed is 2"));
    assert!(
        faults(&plain, &with(json!({"clock": "virtual"})))[0].contains("simulated, not measured")
    );
    assert!(faults(&plain, &with(json!({"policy": "lcf"})))[0].contains("ran under lcf"));
    assert!(
        faults(&with(json!({"iteration_model": "analytic"})), &plain)[0].contains("event alone")
    );
    let other = with(json!({"compute": "native"}));
    let mixed = validation(&[runs(&plain, &[plain.clone(), other])]);
    assert!(
        mixed.faults[0].contains("repeat 2: its rung is"),
        "{:?}",
        mixed.faults
    );
}

#[test]
fn program_and_profile_have_to_be_those_of_the_prediction() {
    let with = |header: Value| {
        let mut run = Run::of_one(1.0);
        run.header = header;
        run
    };
    let used = |hash: &str| json!({"compute": "native", "profile": {"used": {"path": "p", "hash": hash, "device": "d"}}});
    let judged = |predicted: Value, measured: Value| {
        validation(&[runs(&with(predicted), &[with(measured)])])
    };
    let version = judged(json!({}), json!({"version": "9.9.9"}));
    assert!(
        version.faults[0].contains("by version 9.9.9"),
        "{:?}",
        version.faults
    );
    let profile = judged(used("aa"), used("bb"));
    assert!(
        profile.faults[0].contains("its profile is bb, the prediction's aa"),
        "{:?}",
        profile.faults
    );
    assert!(judged(used("aa"), used("aa")).passed());
    let none = judged(json!({"compute": "native"}), json!({"compute": "native"}));
    assert!(
        none.passed() && none.remarks.iter().any(|it| it.contains("no profile")),
        "{:?}",
        none.remarks
    );
}

#[test]
fn a_repeat_without_actions_is_named() {
    let bare = Run::of_one(1.0).edited(|records| records.retain(|it| it["kind"] != "actions"));
    let found = validation(&[runs(&Run::of_one(1.0), &[Run::of_one(1.0), bare])]);
    let named = "bace-pipe, repeat 2: its ledger holds no actions";
    assert!(
        found.remarks.iter().any(|it| it.starts_with(named)),
        "{:?}",
        found.remarks
    );
}

#[test]
fn a_simulation_cannot_stand_for_a_measurement() {
    // The types forbid it in code; a ledger that is not what its place says is found by its header.
    let mut swapped = runs(&Run::of_one(1.0), &[Run::of_one(1.0)]);
    swapped.predicted.0 = Run::of_one(1.0).log(Made::Real);
    let found = validation(&[swapped]);
    assert!(
        found
            .faults
            .iter()
            .any(|it| it.contains("measured, not simulated")),
        "{:?}",
        found.faults
    );
}
