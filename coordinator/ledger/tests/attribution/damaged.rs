//! What is missing, cut off or impossible.

use bace_ledger::{AttemptTimes, Cause, Figure, RunLog, attribute};
use serde_json::json;

use crate::made_up::{MadeUp, assert_sums, receive, span};

#[test]
fn without_actions_nothing_is_known() {
    let made_up = MadeUp::new(&["x", "y"], 3.0)
        .bare_iteration(0, 0, [0.0, 2.0])
        .bare_iteration(1, 0, [0.0, 2.0]);
    assert_eq!(
        made_up.reason(),
        "its ledger holds iterations and not their actions: they were left out, or an older program wrote it"
    );
    let attribution = made_up.attribution();
    assert_eq!(
        attribution.jobs[0].sums(),
        Figure::Unknown(made_up.reason().into())
    );
}

#[test]
fn a_frozen_ledger_has_no_attribution() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/ledger-v1");
    let attribution = attribute(&RunLog::read(&dir).unwrap());
    assert_eq!(attribution.jobs.len(), 3);
    for job in &attribution.jobs {
        assert!(job.sums().reason().is_some(), "{}", job.job);
    }
}

#[test]
fn gaps_in_a_ledger_are_named() {
    let some = || vec![span("F0", 0.0, 1.0)];
    let first = || MadeUp::new(&["x", "x"], 3.0).iteration(0, 0, [0.0, 1.0], some());
    assert_eq!(
        first().bare_iteration(1, 0, [0.0, 2.0]).reason(),
        "its ledger lacks the actions of iteration 0 of stage 1"
    );
    assert_eq!(first().reason(), "stage 1 ended no iteration");
    assert_eq!(
        first().iteration(1, 1, [0.0, 1.0], some()).reason(),
        "its ledger lacks iterations before iteration 1 of stage 1"
    );
    assert_eq!(
        first()
            .iteration(0, 1, [1.0, 2.0], some())
            .iteration(1, 0, [0.0, 1.0], some())
            .reason(),
        "its stages ended different numbers of iterations"
    );
    assert_eq!(
        first()
            .iteration(1, 0, [0.0, 2.0], vec![span("RA3", 0.0, 2.0)])
            .reason(),
        "RA3 of iteration 0 at stage 1 does not tell how its message came"
    );
    let backwards = receive("RA0", [0.0, 1.0], [0.0, 1.0, 0.0, 1.0]);
    assert_eq!(
        MadeUp::new(&["x"], 1.0)
            .iteration(0, 0, [0.0, 1.0], vec![backwards])
            .reason(),
        "RA0 of iteration 0 at stage 0 has no sender"
    );
}

#[test]
fn a_job_that_failed_is_told_as_far_as_all_its_stages_are_known() {
    let times = MadeUp::new(&["x", "y"], 10.0)
        .iteration(0, 0, [1.0, 3.0], vec![span("F0", 1.0, 3.0)])
        .iteration(0, 1, [3.0, 5.0], vec![span("F0", 3.0, 5.0)])
        .iteration(1, 0, [1.0, 4.0], vec![span("F0", 1.0, 4.0)])
        .failed()
        .times();
    assert_eq!((times.from_s, times.to_s), (0.0, 4.0));
    assert_eq!(times.unknown_s, Some(12.0));
    assert!(times.cut.unwrap().starts_with("it did not finish"));
    let expected = [(Cause::StartUp, 1.0), (Cause::Forward, 3.0)];
    for stage in &times.stages {
        assert_sums(&stage.sums, &expected);
    }
}

#[test]
fn a_start_that_loses_its_gpus_before_it_trains_was_set_up() {
    let lost = || MadeUp::new(&["x", "y"], 10.0).failed();
    let assert_set_up = |times: &AttemptTimes, seconds: f64| {
        assert_eq!(times.stages.len(), 2);
        for stage in &times.stages {
            assert_sums(&stage.sums, &[(Cause::StartUp, seconds)]);
        }
    };
    let real = lost().times();
    assert_set_up(&real, 10.0);
    assert_eq!((&real.cut, real.unknown_s), (&None, Some(0.0)));
    // It trained from 4 s on, and ended no iteration.
    let training = json!({"kind": "training", "at_s": 4.0, "job": "a", "attempt": 0, "workers": ["w0", "w1"], "parameters": 1});
    let trained = lost().record(training).times();
    assert_set_up(&trained, 4.0);
    assert_eq!(trained.unknown_s, Some(12.0));
    assert!(trained.cut.unwrap().contains("in training is not recorded"));
    // A simulation whose GPUs were never busy was set up to its end; where one was, nobody knows since when.
    let simulated = lost().header("clock", json!("virtual"));
    assert_set_up(&simulated.times(), 10.0);
    let mut log = simulated.log();
    let energy = log.jobs[0].attempts[0].stages[0].energy.as_mut();
    energy.unwrap().busy_s = 1.0;
    let found = attribute(&log);
    let times = &found.jobs[0].attempts[0].times;
    assert!(
        times.reason().unwrap().contains("until when it was set up"),
        "{times:?}"
    );
    // A ledger that ends before it does.
    let mut log = lost().log();
    log.jobs[0].attempts[0].released_s = None;
    assert!(attribute(&log).jobs[0].sums().reason().is_some());
}

#[test]
fn a_ledger_that_was_cut_off_tells_up_to_there() {
    let mut log = MadeUp::new(&["x"], 9.0)
        .iteration(0, 0, [0.0, 2.0], vec![span("F0", 0.0, 2.0)])
        .log();
    log.jobs[0].finished_s = None;
    log.jobs[0].attempts[0].released_s = None;
    let attribution = attribute(&log);
    let times = attribution.jobs[0].attempts[0]
        .times
        .known()
        .unwrap()
        .clone();
    assert_eq!((times.to_s, times.unknown_s), (2.0, None));
    log.jobs[0].finished_s = Some(2.5);
    let attribution = attribute(&log);
    let times = attribution.jobs[0].attempts[0].times.known().unwrap();
    assert_eq!(
        times.cut.as_deref(),
        Some("its ledger does not tell when its GPUs were free")
    );
}

#[test]
fn stages_that_wait_for_each_other_wait_for_nobody() {
    let times = MadeUp::new(&["x", "y", "z"], 5.0)
        .iteration(
            0,
            0,
            [0.0, 5.0],
            vec![receive("RG0", [0.0, 5.0], [5.0, 5.0, 0.0, 5.0])],
        )
        .iteration(
            1,
            0,
            [0.0, 5.0],
            vec![receive("RA0", [0.0, 5.0], [5.0, 5.0, 0.0, 5.0])],
        )
        .iteration(
            2,
            0,
            [0.0, 5.0],
            vec![receive("RA0", [0.0, 5.0], [5.0, 5.0, 0.0, 5.0])],
        )
        .times();
    for stage in &times.stages {
        assert_sums(&stage.sums, &[(Cause::Bubble, 5.0)]);
    }
}

#[test]
fn times_out_of_their_order_are_counted_once() {
    let spans = vec![
        span("F0", 0.0, 3.0),
        // Overlaps what was before it, and ends before it begins.
        span("F1", 1.0, 2.0),
        span("B0", 4.0, 3.5),
        span("B1", 3.5, 20.0),
    ];
    let times = MadeUp::new(&["x"], 10.0)
        .iteration(0, 0, [-1.0, 20.0], spans)
        .times();
    assert_sums(
        &times.stages[0].sums,
        &[
            (Cause::Forward, 3.0),
            (Cause::HostOverhead, 1.0),
            (Cause::Backward, 6.0),
        ],
    );
}

#[test]
fn a_message_that_came_before_it_left_is_taken_as_if_in_order() {
    let mut received = receive("RA0", [0.0, 4.0], [3.0, 2.0, 9.0, 1.0]);
    received["message"]["late_until_s"] = json!(0.5);
    let times = MadeUp::new(&["x", "y"], 4.0)
        .iteration(0, 0, [0.0, 4.0], vec![span("F0", 0.0, 4.0)])
        .iteration(1, 0, [0.0, 4.0], vec![received])
        .times();
    assert_sums(
        &times.stages[1].sums,
        &[(Cause::Bubble, 3.0), (Cause::HostOverhead, 1.0)],
    );
}
