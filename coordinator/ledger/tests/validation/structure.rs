//! Whether both sides decided and did the same, and what still joins where they did not.

use serde_json::{Value, json};

use crate::made_up::{Job, Run, runs, two_after_each_other, validation};

#[test]
fn a_placement_that_differs_is_shown_with_what_led_to_it() {
    let predicted = two_after_each_other();
    let mut measured = predicted.clone();
    measured.jobs[1].path = vec![("y", 1)];
    let found = validation(&[runs(&predicted, &[predicted.clone(), measured])]);
    assert!(!found.passed());
    let policy = &found.policies[0];
    assert_eq!(policy.differences.len(), 1, "{:?}", policy.differences);
    let difference = &policy.differences[0];
    assert_eq!(
        (difference.place.repeat, difference.what.as_str()),
        (2, "decision 2")
    );
    let state = &difference.predicted.state;
    assert_eq!(state.at_s, 8.0);
    assert!(state.running.is_empty());
    assert_eq!(
        (state.waiting[0].job.as_str(), state.waiting[0].since_s),
        ("b", 1.0)
    );
    assert_eq!(state.free_gpus, [("x".to_owned(), 4), ("y".to_owned(), 4)]);
    assert_eq!(
        difference.measured.did.as_deref(),
        Some("placed b on y×1, K 1, layers 5, 1f1b, depths 1")
    );
    assert_eq!(difference.measured.reason["k_min"], 1);
    // `b` is left out of the second repeat alone, and all else joins.
    assert_eq!(policy.left_out.len(), 1);
    assert_eq!(
        (policy.left_out[0].repeat, policy.left_out[0].job.as_str()),
        (2, "b")
    );
    assert_eq!(policy.iterations.errors.known().unwrap().count, 12);
    let told = found.render();
    assert!(
        told.contains("decision 2 differs") && told.contains("b since 1.000 s"),
        "{told}"
    );
    assert!(
        told.contains("because k_min 1; k_star 1; paths x×1 chosen"),
        "{told}"
    );
}

#[test]
fn running_jobs_are_told_with_their_progress() {
    let predicted = Run::new([Job::new("a", 0.0), Job::new("b", 5.0)]);
    let mut measured = predicted.clone();
    measured.jobs[1].layers = vec![2, 3];
    let found = validation(&[runs(&predicted, &[measured])]);
    let state = &found.policies[0].differences[0].measured.state;
    let running = &state.running[0];
    assert_eq!((running.job.as_str(), running.iterations), ("a", 2));
    assert_eq!(state.free_gpus, [("x".to_owned(), 3), ("y".to_owned(), 3)]);
}

#[test]
fn decisions_in_another_order_differ_and_their_jobs_still_join() {
    let mut predicted = Run::new([Job::new("a", 0.0), Job::new("b", 0.0)]);
    (predicted.jobs[0].placed_s, predicted.jobs[1].placed_s) = (1.0, 2.0);
    let mut measured = predicted.clone();
    (measured.jobs[0].placed_s, measured.jobs[1].placed_s) = (2.0, 1.0);
    let found = validation(&[runs(&predicted, &[measured])]);
    assert_eq!(found.policies[0].differences[0].what, "decision 1");
    assert!(found.policies[0].left_out.is_empty());
    assert_eq!(found.iterations.errors.known().unwrap().count, 8);
    assert!(!found.passed());
}

#[test]
fn depths_are_decided_too() {
    let mut measured = Run::of_one(1.0);
    measured.jobs[0].depths = vec![1, 1];
    let found = validation(&[runs(&Run::of_one(1.0), &[measured])]);
    assert!(!found.passed());
    assert_eq!(found.policies[0].left_out.len(), 1);
    assert_eq!(found.iterations.errors.reason(), Some("no iteration joins"));
    let check = &found.checks[0];
    assert!(!check.passed() && check.error.known().is_none());
}

#[test]
fn what_comes_at_one_instant_may_come_in_any_order() {
    let link = |at_s: f64, from: &str, to: &str, mbps: f64| {
        (
            at_s,
            json!({"kind": "input", "input": "link_changed", "at_s": at_s, "from": from, "to": to,
                      "bandwidth_bps": mbps * 1e6, "one_way_delay_s": 0.01}),
        )
    };
    let with = |changes: Vec<(f64, Value)>| {
        let mut run = Run::of_one(1.0);
        run.others = changes;
        run
    };
    let predicted = with(vec![link(3.0, "x", "y", 5.0), link(3.0, "y", "x", 6.0)]);
    let swapped = with(vec![
        link(3.0001, "y", "x", 6.0),
        link(3.0001, "x", "y", 5.0),
    ]);
    let found = validation(&[runs(&predicted, &[swapped])]);
    assert!(found.passed(), "{}", found.render());
    let other = with(vec![
        link(3.0001, "y", "x", 6.5),
        link(3.0001, "x", "y", 5.0),
    ]);
    let found = validation(&[runs(&predicted, &[other])]);
    let difference = &found.policies[0].differences[0];
    assert_eq!(difference.what, "event 3");
    assert_eq!(
        difference.predicted.did.as_deref(),
        Some("y → x became 6.000 Mbit/s and 10.000 ms")
    );
    // A change that the scenario has in store for when the other run is over was not told there.
    let late = with(vec![
        link(3.0, "x", "y", 5.0),
        link(3.0, "y", "x", 6.0),
        link(8.0, "x", "y", 1.0),
    ]);
    assert!(validation(&[runs(&late, std::slice::from_ref(&predicted))]).passed());
    let early = with(vec![
        link(3.0, "x", "y", 5.0),
        link(3.0, "y", "x", 6.0),
        link(7.0, "x", "y", 1.0),
    ]);
    assert!(!validation(&[runs(&early, &[predicted])]).passed());
}

#[test]
fn an_action_that_is_missing_is_found_and_its_iteration_still_counts() {
    let measured = Run::of_one(1.0).edited(|records| {
        let actions = records
            .iter_mut()
            .find(|it| it["kind"] == "actions" && it["iteration"] == 2 && it["stage"] == 1);
        let spans = actions.unwrap()["spans"].as_array_mut().unwrap();
        spans.remove(2);
    });
    let found = validation(&[runs(&Run::of_one(1.0), &[measured])]);
    assert!(!found.passed());
    let difference = &found.policies[0].differences[0];
    assert_eq!(
        difference.place.to_string(),
        "bace-pipe, repeat 1, job a, iteration 2, stage 1, action 2"
    );
    assert_eq!(
        (
            difference.predicted.did.as_deref(),
            difference.measured.did.as_deref()
        ),
        (Some("B0"), Some("SG0"))
    );
    assert_eq!(found.iterations.errors.known().unwrap().count, 4);
    // Of four iterations of a stage that received activations, three join.
    let policy = &found.policies[0];
    let joined = policy
        .links
        .iter()
        .take(2)
        .map(|link| link.transit_s.differences.errors.known().unwrap().count);
    assert_eq!(joined.collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn an_iteration_that_is_missing_is_a_difference() {
    let measured = Run::of_one(1.0).edited(|records| records.retain(|it| it["iteration"] != 1));
    let found = validation(&[runs(&Run::of_one(1.0), &[measured])]);
    let difference = &found.policies[0].differences[0];
    assert_eq!(
        difference.place.iteration.map(|iteration| iteration.0),
        Some(1)
    );
    assert_eq!(
        (difference.what.as_str(), difference.measured.did.as_deref()),
        ("the iteration", None)
    );
    // Behind the gap, the time from one end to the next is not known either.
    assert_eq!(found.iterations.errors.known().unwrap().count, 2);
    assert_eq!(found.policies[0].unjoined_iterations, 2);
}

#[test]
fn jobs_that_end_otherwise_differ() {
    let measured = Run::of_one(1.0).edited(|records| {
        for record in records.iter_mut().filter(|it| it["kind"] == "job_finished") {
            *record = json!({"kind": "job_failed", "at_s": record["at_s"], "job": "a", "reason": "out of memory"});
        }
    });
    let found = validation(&[runs(&Run::of_one(1.0), &[measured])]);
    let difference = &found.policies[0].differences[0];
    assert_eq!(difference.what, "the outcome");
    assert_eq!(
        difference.measured.did.as_deref(),
        Some("a failed: out of memory")
    );
    assert_eq!(
        found.jcts.errors.reason(),
        Some("no job that finished on both sides joins")
    );
    assert!(!found.passed());
}

#[test]
fn of_stages_that_differ_the_earliest_is_told() {
    // Stage 1 differs in iteration 1, stage 0 in iteration 3.
    let measured = Run::of_one(1.0).edited(|records| {
        for (iteration, stage) in [(3, 0), (1, 1)] {
            let actions = records.iter_mut().find(|it| {
                it["kind"] == "actions" && it["iteration"] == iteration && it["stage"] == stage
            });
            actions.unwrap()["spans"].as_array_mut().unwrap().remove(0);
        }
    });
    let found = validation(&[runs(&Run::of_one(1.0), &[measured])]);
    let place = found.policies[0].differences[0].place.to_string();
    assert!(place.contains("iteration 1, stage 1"), "{place}");
}
