//! What passes and what fails.

use bace_ledger::{Check, Tolerances, Validator};
use proptest::prelude::*;
use serde_json::json;

use crate::made_up::{Run, close, of_one, runs, validation};

#[test]
fn a_bound_that_is_just_met_passes_and_one_just_missed_fails() {
    let judged = |factor: f64| -> Vec<bool> {
        let found = of_one(factor, &[1.0]);
        found.checks[..4].iter().map(Check::passed).collect()
    };
    assert_eq!(judged(1.0199), [true; 4]);
    assert_eq!(judged(1.0201), [false, true, true, true]);
    assert_eq!(judged(1.0299), [false, true, true, true]);
    assert_eq!(judged(1.0301), [false, true, false, true]);
    assert_eq!(judged(1.1001), [false; 4]);
    // Exactly on the bound, in numbers that are exact.
    let mut validator = Validator::new(Tolerances {
        iteration_mean: 0.25,
        iteration_max: 0.25,
        jct_mean: 0.25,
        jct_max: 0.25,
    });
    validator.add(&runs(&Run::of_one(1.25), &[Run::of_one(1.0)]));
    assert!(validator.finish().passed());
}

#[test]
fn every_policy_must_pass_and_all_together() {
    let good = runs(
        &Run::of_one(1.0).under("lcf"),
        &[Run::of_one(1.0).under("lcf")],
    );
    let bad = runs(&Run::of_one(1.025), &[Run::of_one(1.0)]);
    let found = validation(&[good, bad]);
    let failed: Vec<_> = found
        .checks
        .iter()
        .filter(|check| !check.passed())
        .map(|check| (check.policy.as_deref(), check.what))
        .collect();
    assert_eq!(failed, [(Some("bace-pipe"), "iteration_mean")]);
    assert!(!found.passed());
    assert!(close(found.iterations.errors.known().unwrap().mean, 0.0125));
}

#[test]
fn a_run_that_is_not_valid_fails_the_set() {
    let untrue = json!({
        "kind": "receipt", "at_s": 0.0, "phase": "before", "from": "x", "to": "y", "attempts": 1, "figures": [], "messages": 1,
        "late_arrivals": 0, "worst_late_s": 0.0, "verdict": "untrue", "reason": "its rate is half of what it should be",
    });
    let mut measured = Run::of_one(1.0);
    measured.header = json!({"receipts": "full"});
    measured.others.push((0.0, untrue));
    let found = validation(&[runs(&Run::of_one(1.0), &[measured])]);
    assert!(!found.passed());
    assert!(
        found
            .faults
            .iter()
            .any(|it| it.contains("repeat 1: emulation not valid")),
        "{:?}",
        found.faults
    );
    // Every error is within its bound nevertheless.
    assert!(found.checks.iter().all(Check::passed));
    // Where it is not known, that is named and fails nothing.
    let unknown = of_one(1.0, &[1.0]);
    assert!(unknown.passed());
    assert!(
        unknown.remarks.iter().any(|it| it.contains("is not known")),
        "{:?}",
        unknown.remarks
    );
}

#[test]
fn a_run_that_is_not_valid_is_one_line_however_many_reasons_it_has() {
    let untrue = |to: &str| {
        json!({
            "kind": "receipt", "at_s": 0.0, "phase": "before", "from": "x", "to": to, "attempts": 1, "figures": [], "messages": 1,
            "late_arrivals": 0, "worst_late_s": 0.0, "verdict": "untrue", "reason": "its rate is half of what it should be",
        })
    };
    let mut measured = Run::of_one(1.0);
    measured.header = json!({"receipts": "full"});
    measured.others.push((0.0, untrue("y")));
    let mut back = untrue("x");
    back["from"] = "y".into();
    measured.others.push((0.0, back));
    let found = validation(&[runs(&Run::of_one(1.0), &[measured])]);
    assert_eq!(found.faults.len(), 1, "{:?}", found.faults);
    assert!(
        found.faults[0].ends_with("and 1 more reason."),
        "{:?}",
        found.faults
    );
}

#[test]
fn a_run_that_failed_fails_the_set() {
    let mut all = runs(&Run::of_one(1.0), &[Run::of_one(1.0)]);
    all.failed
        .push("repeat 2: failed to start the workers".to_owned());
    let found = validation(&[all]);
    assert!(!found.passed());
    assert_eq!(
        found.faults,
        ["bace-pipe, repeat 2: failed to start the workers."]
    );
}

#[test]
fn nothing_to_compare_never_passes() {
    let none = validation(&[]);
    assert!(!none.passed());
    assert!(none.faults[0].contains("nothing to compare"));
    assert!(none.render().contains("FAILED"));
    assert_eq!(none.to_json()["passed"], false);
    let unmeasured = validation(&[runs(&Run::of_one(1.0), &[])]);
    assert!(!unmeasured.passed());
    assert!(
        unmeasured.faults[0].contains("no real run came to its end"),
        "{:?}",
        unmeasured.faults
    );
    let no_jobs = validation(&[runs(&Run::new([]), &[Run::new([])])]);
    assert!(!no_jobs.passed());
    assert_eq!(
        no_jobs.iterations.errors.reason(),
        Some("no iteration joins")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_prediction_that_comes_true_passes(factor in 0.01..100.0_f64, repeats in 1..4_usize) {
        let found = of_one(factor, &vec![factor; repeats]);
        prop_assert!(found.passed(), "{}", found.render());
        prop_assert_eq!(found.iterations.errors.known().unwrap().max, 0.0);
        prop_assert_eq!(found.jcts.errors.known().unwrap().max, 0.0);
    }
}
