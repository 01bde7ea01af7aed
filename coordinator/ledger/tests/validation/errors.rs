//! Errors of iteration and job completion times, and the parts that they come from.

use bace_ledger::validation::Part;

use crate::made_up::{Job, Run, close, of_one, runs, validation};
use bace_ledger::Cause;
use serde_json::json;

#[test]
fn equal_runs_have_no_error_and_pass() {
    let found = of_one(1.0, &[1.0, 1.0]);
    assert!(found.passed(), "{}", found.render());
    let errors = found.iterations.errors.known().unwrap();
    assert_eq!(
        (errors.count, errors.mean, errors.max, errors.bias),
        (8, 0.0, 0.0, 0.0)
    );
    assert_eq!(found.jcts.errors.known().unwrap().count, 2);
    assert_eq!(found.checks.len(), 8);
    let policy = &found.policies[0];
    assert_eq!(policy.kinds.len(), 7, "{:?}", policy.kinds);
    let ends: Vec<_> = policy
        .links
        .iter()
        .map(|link| (link.from.as_str(), link.to.as_str()))
        .collect();
    assert_eq!(ends, [("x", "y"), ("y", "x")]);
    assert_eq!(policy.stages.len(), 2);
    assert!(close(
        policy.links[0].transit_s.predicted.known().unwrap().0,
        0.2
    ));
    assert!(policy.differences.is_empty() && policy.left_out.is_empty());
}

#[test]
fn one_percent_on_one_job_is_found_there() {
    let predicted = Run::new([Job::new("a", 0.0).times(1.01), Job::new("b", 0.0)]);
    let measured = Run::new([Job::new("a", 0.0), Job::new("b", 0.0)]);
    let found = validation(&[runs(&predicted, &[measured])]);
    assert!(found.passed(), "{}", found.render());
    let errors = found.iterations.errors.known().unwrap();
    assert!(
        close(errors.mean, 0.005) && close(errors.max, 0.01) && close(errors.bias, 0.005),
        "{errors:?}"
    );
    let jobs = &found.policies[0].jobs;
    assert!(close(
        jobs[0].jct_s.shares.errors.known().unwrap().bias,
        0.01
    ));
    assert_eq!(jobs[1].jct_s.shares.errors.known().unwrap().bias, 0.0);
    let worst = &found.worst_iterations[0];
    assert_eq!(worst.place.job.as_deref(), Some("a"));
    // 0.25 of an iteration is the largest part of any stage.
    let part = worst.differs_most.known().unwrap();
    assert_eq!(
        (part.part, part.stage.map(|stage| stage.0)),
        (Part::Backward, Some(0))
    );
    assert!(close(part.difference_s, 0.25 * 0.02), "{part:?}");
    assert_eq!(found.worst_iterations.len(), 8);
    assert_eq!(found.worst_jcts.len(), 2);
}

#[test]
fn set_up_is_in_completion_times_and_not_in_iterations() {
    let mut job = Job::new("a", 0.0);
    job.set_up_s = 2.0;
    let found = validation(&[runs(&Run::of_one(1.0), &[Run::new([job])])]);
    assert_eq!(found.iterations.errors.known().unwrap().max, 0.0);
    let errors = found.jcts.errors.known().unwrap();
    assert!(close(errors.bias, -0.2), "{errors:?}");
    assert_eq!(
        found.worst_jcts[0].differs_most.known().unwrap().part,
        Part::SetUp
    );
    let set_up = &found.policies[0].jobs[0].set_up_s;
    assert_eq!(set_up.predicted.known().unwrap().0, 0.0);
    assert_eq!(set_up.repeats[0].unwrap().0, 2.0);
    assert!(!found.passed());
}

#[test]
fn ledgers_without_actions_still_give_iterations_and_stages() {
    let bare = Run::of_one(1.0).edited(|records| records.retain(|it| it["kind"] != "actions"));
    let found = validation(&[runs(&Run::of_one(1.02), &[bare])]);
    assert!(found.policies[0].differences.is_empty());
    assert!(found.policies[0].kinds.is_empty());
    assert!(
        found
            .remarks
            .iter()
            .any(|it| it.contains("no actions join")),
        "{:?}",
        found.remarks
    );
    let compute = &found.policies[0].stages[0].compute_s;
    assert!(close(compute.shares.errors.known().unwrap().mean, 0.02));
    assert!(close(found.iterations.errors.known().unwrap().mean, 0.02));
}

#[test]
fn times_that_are_not_above_zero_fail_and_are_not_averaged() {
    let mut predicted = Run::of_one(1.0);
    let mut measured = Run::of_one(1.0);
    predicted.jobs[0].iterations[1] = 0.0;
    measured.jobs[0].iterations[1] = 0.0;
    let found = validation(&[runs(&predicted, &[measured])]);
    assert_eq!(found.iterations.errors.known().unwrap().count, 3);
    assert!(!found.passed());
    assert!(
        found.faults[0].contains("1 iteration times have no error"),
        "{:?}",
        found.faults
    );
    // Waits of no length are no fault: they are compared in seconds.
    let kinds = &found.policies[0].kinds;
    assert!(
        kinds
            .iter()
            .all(|kind| kind.duration_s.differences.errors.known().unwrap().mean == 0.0)
    );
}

#[test]
fn what_no_prediction_holds_is_told_where_it_is_most_of_a_completion_times_error() {
    let predicted = Run::new([Job::new("a", 0.0), Job::new("b", 0.0), Job::new("c", 0.0)]);
    let mut measured = predicted.clone();
    // `a` is late for its start-up alone; `b` for its iterations, by 0.8 s, and a little for its start-up.
    measured.jobs[0].set_up_s = 0.25;
    measured.jobs[1] = measured.jobs[1].clone().times(1.1);
    measured.jobs[1].set_up_s = 0.1;
    let found = validation(&[runs(&predicted, &[measured.clone(), measured])]);
    let overheads = |place: usize| found.policies[0].jobs[place].overheads.known().unwrap();
    let start_up = |place: usize| overheads(place).seconds(Cause::StartUp).unwrap();
    assert!(
        close(overheads(0).longer_s, 0.25) && close(start_up(0), 0.25),
        "{:?}",
        overheads(0)
    );
    assert!(overheads(0).are_most_of_it());
    assert!(close(overheads(1).longer_s, 0.9) && close(start_up(1), 0.1));
    assert!(!overheads(1).are_most_of_it());
    assert!(!overheads(2).are_most_of_it());
    let told = found.render();
    let (_, table) = told
        .split_once("Jobs that took longer than predicted")
        .unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(3)
        .map(|row| row.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 1, "{told}");
    assert_eq!(rows[0][..4], ["bace-pipe", "a", "0.250", "0.250"]);
    let json = found.to_json();
    let jobs = &json["policies"][0]["jobs"];
    assert_eq!(jobs[0]["overheads"]["are_most_of_it"], true);
    assert!(close(
        jobs[1]["overheads"]["start_up_s"].as_f64().unwrap(),
        0.1
    ));
    // Without actions, nothing is known of where time went, and the reason stands there.
    let bare = Run::of_one(1.0).edited(|records| records.retain(|it| it["kind"] != "actions"));
    let found = validation(&[runs(&Run::of_one(1.0), &[bare])]);
    assert!(found.policies[0].jobs[0].overheads.reason().is_some());
    assert!(!found.render().contains("Jobs that took longer"));
}

#[test]
fn start_up_is_no_overhead_where_a_profile_predicts_it() {
    let profile = json!({"used": {"path": "p", "hash": "aa", "device": "d"}});
    let mut predicted = Run::of_one(1.0);
    predicted.header = json!({ "profile": profile });
    predicted.jobs[0].set_up_s = 1.0;
    let mut measured = predicted.clone();
    measured.header["compute"] = "native".into();
    measured.jobs[0].set_up_s = 1.25;
    let found = validation(&[runs(&predicted, &[measured.clone()])]);
    let job = &found.policies[0].jobs[0];
    assert_eq!(job.set_up_s.predicted.known().unwrap().0, 1.0);
    assert_eq!(job.set_up_s.repeats[0].unwrap().0, 1.25);
    let overheads = job.overheads.known().unwrap();
    assert!(close(overheads.longer_s, 0.25) && overheads.total_s() == 0.0);
    assert_eq!(overheads.seconds(Cause::StartUp), None);
    assert!(!overheads.are_most_of_it());
    assert!(!found.render().contains("Jobs that took longer"));
    // A profile that knows no set-up predicts none.
    let lacks = |run: &Run| {
        let mut run = run.clone();
        run.header["profile"]["used"]["lacks_set_up"] =
            "the profile p knows no set-up of `m`".into();
        run
    };
    let found = validation(&[runs(&lacks(&predicted), &[lacks(&measured)])]);
    let overheads = found.policies[0].jobs[0].overheads.known().unwrap();
    assert!(close(overheads.seconds(Cause::StartUp).unwrap(), 0.25));
    // The first forward takes all of its 0.4 s besides, and the next stage waits for it.
    let slow = measured.edited(|records| {
        let mut actions = records
            .iter_mut()
            .filter(|it| it["kind"] == "actions" && it["stage"] == 0);
        actions.next().unwrap()["spans"][0]["excess_s"] = 0.4.into();
    });
    let found = validation(&[runs(&predicted, &[slow])]);
    let job = &found.to_json()["policies"][0]["jobs"][0]["overheads"];
    assert!(
        close(job["host_overhead_s"].as_f64().unwrap(), 0.4),
        "{job}"
    );
    assert_eq!(
        (job.get("start_up_s"), &job["are_most_of_it"]),
        (None, &json!(true))
    );
    let told = found.render();
    let (_, table) = told
        .split_once("Jobs that took longer than predicted")
        .unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    assert!(
        table.contains("0.400") && !table.contains("start-up"),
        "{told}"
    );
}
