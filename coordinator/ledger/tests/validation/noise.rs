//! The noise floor: what repeats are apart.

use proptest::prelude::*;
use serde_json::Value;

use crate::made_up::{Run, close, of_one, runs, validation};

#[test]
fn one_repeat_has_no_noise_floor_and_says_so() {
    let found = of_one(1.01, &[1.0]);
    assert!(found.passed());
    assert!(
        found
            .iterations
            .noise
            .reason()
            .unwrap()
            .contains("two repeats")
    );
    let json = found.to_json();
    assert_eq!(json["iterations"]["noise"], Value::Null);
    assert!(
        json["iterations"]["unknown"]["noise"]
            .as_str()
            .unwrap()
            .contains("two repeats")
    );
    assert_eq!(json["iterations"]["within_noise"], Value::Null);
    let told = found.render();
    assert!(
        told.contains("PASSED, but a policy has one repeat alone"),
        "{told}"
    );
    assert_eq!(json["reservations"].as_array().map(Vec::len), Some(1));
    let twice = of_one(1.01, &[1.0, 1.0]).render();
    assert!(twice.contains("PASSED: "), "{twice}");
}

#[test]
fn one_repeat_leaves_every_floor_absent_with_its_reason() {
    let found = of_one(1.01, &[1.0]);
    let policy = &found.policies[0];
    let (totals, job) = (&policy.totals, &policy.jobs[0]);
    let compared = [
        &totals.mean_jct_s,
        &totals.makespan_s,
        &totals.mean_queueing_s,
        &totals.cost_usd,
        &totals.energy_j,
        &job.jct_s,
        &job.queueing_s,
        &job.iteration_s,
        &job.cost_usd,
        &policy.kinds[0].duration_s,
        &policy.links[0].transit_s,
        &policy.stages[0].compute_s,
    ];
    let sides = compared.iter().flat_map(|of| [&of.shares, &of.differences]);
    let whole = [
        &found.iterations,
        &found.jcts,
        &policy.iterations,
        &policy.jcts,
    ];
    for accuracy in sides.chain(whole) {
        assert!(
            accuracy
                .noise
                .reason()
                .is_some_and(|why| why.contains("two repeats"))
        );
    }
    assert!(
        found
            .checks
            .iter()
            .all(|check| check.noise.reason().is_some())
    );
    let told = found.render();
    assert!(
        !told.contains("within noise.~") && !told.contains("0.00~"),
        "{told}"
    );
    assert!(
        told.contains("bace-pipe: no noise floor stands beside its errors"),
        "{told}"
    );
}

#[test]
fn a_policy_with_one_repeat_leaves_no_floor_for_all_together() {
    let twice = runs(&Run::of_one(1.0), &[Run::of_one(1.0), Run::of_one(1.01)]);
    let once = runs(
        &Run::of_one(1.0).under("lcf"),
        &[Run::of_one(1.0).under("lcf")],
    );
    let found = validation(&[twice, once]);
    assert!(found.policies[0].iterations.noise.known().is_some());
    assert!(found.policies[1].iterations.noise.known().is_none());
    for all in [&found.iterations, &found.jcts] {
        assert!(
            all.noise
                .reason()
                .is_some_and(|why| why.contains("of one policy"))
        );
    }
}

#[test]
fn a_verdict_that_noise_drowns_says_so_in_its_line() {
    // Both repeats are within 2 % of the prediction, and farther apart than that.
    let found = of_one(1.0, &[0.985, 1.015]);
    assert!(found.passed(), "{}", found.render());
    let told = found.render();
    assert!(
        told.contains("PASSED, but the repeats are farther apart than"),
        "{told}"
    );
}

#[test]
fn the_noise_floor_is_what_the_repeats_are_apart() {
    // 2 % off one another, the prediction between them.
    let found = of_one(1.01, &[1.0, 1.02]);
    let noise = found.iterations.noise.known().unwrap();
    assert!(
        close(noise.max, 0.02) && close(noise.mean, (0.02 + 0.02 / 1.02) / 2.0),
        "{noise:?}"
    );
    let within = found.iterations.within_noise().unwrap();
    assert!(within.mean && within.max && within.bias);
    let told = found.render();
    assert!(told.contains('~'), "{told}");
    // 1 % above both, which are 0.2 % apart: that can be claimed.
    let found = of_one(1.02, &[1.0, 1.002]);
    let within = found.iterations.within_noise().unwrap();
    assert!(!within.mean && !within.max && !within.bias);
}

#[test]
fn noise_above_a_bound_is_told() {
    let found = of_one(1.0, &[1.0, 1.2]);
    assert!(!found.passed());
    let drowned: Vec<&str> = found
        .checks
        .iter()
        .filter(|check| check.is_drowned())
        .map(|check| check.what)
        .collect();
    assert!(drowned.contains(&"iteration_mean"), "{drowned:?}");
    assert!(found.render().contains("too noisy to tell"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_order_of_repeats_changes_no_figure(factors in proptest::collection::vec(0.8..1.2_f64, 2..5), turn in 0..4_usize) {
        let mut turned = factors.clone();
        turned.rotate_left(turn % factors.len());
        let (one, two) = (of_one(1.0, &factors), of_one(1.0, &turned));
        prop_assert_eq!(one.passed(), two.passed());
        for (one, two) in [(&one.iterations, &two.iterations), (&one.jcts, &two.jcts)] {
            let pairs = [(&one.errors, &two.errors), (&one.noise, &two.noise)];
            for (one, two) in pairs.map(|(one, two)| (one.known().unwrap(), two.known().unwrap())) {
                prop_assert!(close(one.mean, two.mean) && close(one.median, two.median) && close(one.p95, two.p95));
                prop_assert!(close(one.max, two.max) && close(one.bias, two.bias));
            }
        }
    }
}
