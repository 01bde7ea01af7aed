use std::collections::BTreeMap;

use bace_api::{Header, PlacedRegion, Record};
use serde_json::{Value, json};

use super::measure::Measure;
use super::{Climbed, Ladder, LadderRun, LadderRung};
use crate::Summary;

fn run(iteration_s: f64, region: &str) -> LadderRun {
    let placed = PlacedRegion {
        region: region.to_owned(),
        gpus: 2,
    };
    LadderRun {
        iteration_s: BTreeMap::from([("a".to_owned(), iteration_s)]),
        jct_s: BTreeMap::from([("a".to_owned(), 10.0 * iteration_s)]),
        makespan_s: Some(20.0 * iteration_s),
        cost_usd: Some(0.01),
        placements: vec![("a".to_owned(), vec![placed])],
        unfinished: None,
        valid: None,
        faults: Vec::new(),
    }
}

fn ladder(rungs: &[(LadderRung, &[f64])]) -> Ladder {
    let rungs = rungs.iter().map(|&(rung, times)| {
        let climbed = match times {
            [] => Climbed::NotPossible("it cannot".to_owned()),
            times => Climbed::whole(times.iter().map(|&s| run(s, "north")).collect()),
        };
        (rung, climbed)
    });
    Ladder {
        scenario: "s".to_owned(),
        policy: "lcf".to_owned(),
        rungs: rungs.collect(),
    }
}

#[test]
fn the_largest_step_is_to_blame_and_its_share_is_of_the_rung_below() {
    let ladder = ladder(&[
        (LadderRung::Analytic, &[1.0]),
        (LadderRung::Event, &[1.25]),
        (LadderRung::Modelled, &[1.25]),
        (LadderRung::Paced, &[1.0]),
        (LadderRung::Packet, &[1.4]),
    ]);
    let shares: Vec<f64> = ladder
        .steps()
        .iter()
        .map(|step| step.changes[0].unwrap().share)
        .collect();
    assert_eq!(shares, [0.25, 0.0, -0.2, 0.3999999999999999]);
    let (step, measure, _) = ladder.blamed().unwrap();
    assert_eq!(
        (step.from, step.rung),
        (LadderRung::Paced, LadderRung::Packet)
    );
    assert_eq!(measure, Measure::Iteration);
    assert_eq!(
        ladder.sentence(),
        "The largest step is paced → packet: mean iteration time +40.00 %; the network is to blame, unless it is \
         chance: this is one run, and --repeats 2 or more tell."
    );
    assert!(ladder.succeeded());
}

#[test]
fn a_rung_that_is_left_out_is_stepped_over_and_says_why() {
    let ladder = ladder(&[
        (LadderRung::Event, &[2.0]),
        (LadderRung::Modelled, &[]),
        (LadderRung::Paced, &[3.0]),
        (LadderRung::Native, &[9.0]),
    ]);
    let steps = ladder.steps();
    // Native stands beside what a profile predicts, and beside nothing without.
    assert_eq!(steps.len(), 1);
    assert_eq!(
        (steps[0].from, steps[0].rung),
        (LadderRung::Event, LadderRung::Paced)
    );
    let text = ladder.render();
    assert!(
        text.contains("! modelled is not possible here: it cannot"),
        "{text}"
    );
    assert!(text.contains("event → paced"), "{text}");
    assert_eq!(ladder.to_json()["rungs"][1]["not_possible"], "it cannot");
}

#[test]
fn what_repeats_cannot_tell_from_chance_is_nobodys_fault() {
    let noisy = ladder(&[
        (LadderRung::Event, &[1.0]),
        (LadderRung::Modelled, &[0.9, 1.0, 1.2]),
    ]);
    assert_eq!(noisy.blamed(), None);
    assert!(noisy.sentence().starts_with("No step differs"));
    let steady = ladder(&[
        (LadderRung::Event, &[1.0]),
        (LadderRung::Modelled, &[1.099, 1.1, 1.101]),
    ]);
    let (_, _, change) = steady.blamed().unwrap();
    assert!((change.share - 0.1).abs() < 1e-12);
    // Student's t for three values, over their deviation and the root of three.
    let noise = 4.3027 * 0.001 / 3.0_f64.sqrt();
    assert!((change.noise.unwrap() - noise).abs() < 1e-6);
}

/// The runs of the second rung, to be changed.
fn upper(ladder: &mut Ladder) -> &mut Vec<LadderRun> {
    match &mut ladder.rungs[1].1 {
        Climbed::Runs { runs, .. } => runs,
        Climbed::NotPossible(why) => panic!("the rung has runs: {why}"),
    }
}

#[test]
fn steps_over_rungs_name_all_that_lies_between() {
    let ladder = ladder(&[
        (LadderRung::Event, &[2.0]),
        (LadderRung::Packet, &[3.0, 3.0]),
    ]);
    let (step, ..) = ladder.blamed().unwrap();
    let between = ["the runtime", "the machine's compute", "the network"];
    assert_eq!(step.between(), between);
    assert_eq!(
        ladder.sentence(),
        "The largest step is event → packet: mean iteration time +50.00 %; the runtime, the machine's compute and the network \
         together are to blame."
    );
    assert_eq!(
        ladder.to_json()["blame"]["blamed"],
        serde_json::json!(between)
    );
}

#[test]
fn one_run_of_a_real_rung_leaves_chance_unknown_and_simulations_have_none() {
    let ladder = ladder(&[
        (LadderRung::Analytic, &[1.0]),
        (LadderRung::Event, &[1.5]),
        (LadderRung::Modelled, &[1.6]),
        (LadderRung::Paced, &[1.7, 1.7]),
    ]);
    let steps = ladder.steps();
    let noise = steps.iter().map(|step| step.changes[0].unwrap().noise);
    assert_eq!(noise.collect::<Vec<_>>(), [Some(0.0), None, None]);
    assert_eq!(ladder.to_json()["blame"]["may_be_chance"], false);
}

#[test]
fn other_placements_and_unfinished_jobs_are_told_and_nobody_is_blamed() {
    let mut ladder = ladder(&[(LadderRung::Event, &[1.0]), (LadderRung::Modelled, &[1.5])]);
    upper(&mut ladder)[0] = LadderRun {
        iteration_s: BTreeMap::new(),
        unfinished: Some("job a is failed".to_owned()),
        ..run(1.5, "south")
    };
    let steps = ladder.steps();
    assert!(!steps[0].same_placements);
    assert_eq!(steps[0].changes[0], None);
    let (measure, change) = steps[0].judged().unwrap();
    assert_eq!((measure, change.share), (Measure::Jct, 0.5));
    // A makespan without a job is of less work.
    assert_eq!(steps[0].changes[2], None);
    assert_eq!(ladder.blamed(), None);
    assert!(ladder.sentence().contains("decisions differ"));
    assert!(!ladder.succeeded());
    assert!(ladder.render().contains("! modelled: job a is failed."));
    assert!(ladder.svg().unwrap().contains("event"));
}

#[test]
fn times_are_of_the_jobs_that_finished_on_both_rungs() {
    let mut ladder = ladder(&[(LadderRung::Event, &[1.0]), (LadderRung::Modelled, &[1.5])]);
    upper(&mut ladder)[0]
        .iteration_s
        .insert("b".to_owned(), 100.0);
    assert_eq!(ladder.steps()[0].changes[0].unwrap().share, 0.5);
    upper(&mut ladder)[0].iteration_s.remove("a");
    assert_eq!(ladder.steps()[0].changes[0], None);
}

#[test]
fn what_was_not_valid_is_not_blamed_and_fails_the_ladder() {
    let mut ladder = ladder(&[
        (LadderRung::Event, &[1.0]),
        (LadderRung::Modelled, &[1.5]),
        (LadderRung::Paced, &[1.6]),
    ]);
    upper(&mut ladder)[0].valid = Some(false);
    upper(&mut ladder)[0].faults = vec!["The link was late.".to_owned()];
    assert_eq!(ladder.blamed(), None);
    assert!(!ladder.succeeded());
    let text = ladder.render();
    assert!(
        text.contains("! modelled is not valid: The link was late."),
        "{text}"
    );
    let sentence = ladder.sentence();
    assert!(sentence.starts_with("No step can be judged."), "{sentence}");
    assert!(sentence.contains("event → modelled: an emulation was not valid"));
    let json = ladder.to_json();
    assert_eq!(json["rungs"][1]["valid"], false);
    assert_eq!(
        json["rungs"][1]["validity"][0]["reasons"][0],
        "The link was late."
    );
    assert_eq!(json["steps"][1]["valid"], false);
}

#[test]
fn what_failed_and_what_was_stopped_say_so_and_fail_the_ladder() {
    let good = ladder(&[(LadderRung::Event, &[1.0]), (LadderRung::Modelled, &[])]);
    assert!(
        good.succeeded(),
        "a rung that is not possible harms nothing"
    );
    assert!(good.sentence().starts_with("There is no step"));
    let with = |failed: &[&str], stopped: Option<&str>| {
        let mut ladder = good.clone();
        ladder.rungs[1].1 = Climbed::Runs {
            runs: Vec::new(),
            failed: failed.iter().map(|&why| why.to_owned()).collect(),
            stopped: stopped.map(str::to_owned),
        };
        ladder
    };
    let failed = with(&["failed to start a worker"], None);
    assert!(!failed.succeeded());
    let text = failed.render();
    assert!(
        text.contains("! modelled failed: a run failed to start a worker."),
        "{text}"
    );
    assert_eq!(
        failed.to_json()["rungs"][1]["failed"][0],
        "failed to start a worker"
    );
    let stopped = with(&[], Some("stopped: the ladder was interrupted by Ctrl-C"));
    assert!(!stopped.succeeded());
    assert!(
        stopped
            .render()
            .contains("! modelled was stopped: the ladder")
    );
    assert!(stopped.to_json()["rungs"][1]["stopped"].is_string());
}

/// All rungs, with times far apart, so that no column can be narrow by luck.
fn whole_ladder(repeats: usize) -> Ladder {
    let rungs = LadderRung::ALL.into_iter().zip(1..).map(|(rung, place)| {
        let runs = if rung.is_simulated() { 1 } else { repeats };
        let times = (0..runs).map(|repeat| 131.0 * f64::from(place) + 3.7 * repeat as f64);
        let runs = times.map(|s| run(s, "north")).collect();
        match rung {
            LadderRung::Kernel => (rung, Climbed::NotPossible("no namespaces".to_owned())),
            _ => (rung, Climbed::whole(runs)),
        }
    });
    Ladder {
        scenario: "s".to_owned(),
        policy: "lcf".to_owned(),
        rungs: rungs.collect(),
    }
}

#[test]
fn tables_fit_into_80_columns_and_break_no_name() {
    for repeats in [1, 2, 9] {
        let text = whole_ladder(repeats).render();
        let tables = text.split("\n\n").filter(|part| part.contains('─'));
        let lines: Vec<&str> = tables.flat_map(str::lines).collect();
        let widest = lines.iter().map(|line| line.chars().count()).max();
        assert!(widest <= Some(80), "{widest:?} columns:\n{text}");
        let starts = |name: &str| lines.iter().filter(|line| line.starts_with(name)).count();
        for rung in LadderRung::ALL {
            assert_eq!(
                starts(&format!("{} ", rung.name())),
                rung_lines(rung),
                "{text}"
            );
        }
        assert_eq!(starts("profiled → native "), 1, "{text}");
        assert_eq!(text.contains('±'), repeats > 1, "{text}");
    }
}

/// Lines of the tables that begin with a rung: its figures, and each step from it.
fn rung_lines(rung: LadderRung) -> usize {
    let climbed = LadderRung::ALL
        .into_iter()
        .filter(|&of| of != LadderRung::Kernel);
    1 + climbed.filter(|of| of.below() == Some(rung)).count()
}

#[test]
fn rungs_that_cannot_be_climbed_have_a_row_and_a_reason() {
    let ladder = whole_ladder(2);
    let text = ladder.render();
    let row = text.lines().find(|line| line.starts_with("kernel "));
    let cells: Vec<&str> = row.expect("a row").split_whitespace().collect();
    assert!(cells[1..].iter().all(|&cell| cell == "–"), "{cells:?}");
    assert!(text.contains("\nmodelled ×2 "), "{text}");
    assert!(text.contains("\nevent "), "{text}");
    assert!(
        text.contains("! kernel is not possible here: no namespaces."),
        "{text}"
    );
}

/// What a ladder keeps of a run whose job `a` is placed at 1 s and has two iterations of 2 s from 4 s on, of which it tells `told`.
fn kept(header: &Value, told: &[Value]) -> LadderRun {
    let mut whole = json!({
        "format": 1, "scenario": "s", "scenario_hash": "00", "policy": "lcf", "seed": 1, "version": "0.1.0", "machine": "m",
        "clock": "virtual", "compute": "modelled", "network": "modelled", "regions": ["x"], "gpus": [1], "jobs": ["a"],
    });
    for (key, value) in header.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let header: Header = serde_json::from_value(whole).unwrap();
    let mut lines = vec![
        json!({"kind": "input", "input": "submitted", "at_s": 0.5, "job": "a"}),
        json!({"kind": "placed", "at_s": 1.0, "job": "a", "attempt": 0, "k": 1, "k_star": 1, "layers": [1], "iteration_s": 1.0,
               "path": [{"region": "x", "gpus": 1}], "reason": null}),
    ];
    lines.extend_from_slice(told);
    lines.push(json!({"kind": "job_finished", "at_s": 8.0, "job": "a"}));
    let records = lines.into_iter().map(serde_json::from_value);
    let records: Vec<Record> = records.collect::<Result<_, _>>().unwrap();
    let summary = Summary::from_records(&header, &records);
    LadderRun::of(&summary, &BTreeMap::from([("a".to_owned(), 2)]))
}

#[test]
fn an_iteration_holds_no_set_up_on_any_rung() {
    let iteration = |iteration: u32, from_s: f64| {
        json!({"kind": "iteration", "job": "a", "attempt": 0, "stage": 0, "iteration": iteration, "from_s": from_s,
               "to_s": from_s + 2.0, "times": {"forward_s": 1.0, "backward_s": 1.0, "step_s": 0.0, "stall_s": 0.0, "send_wait_s": 0.0}})
    };
    let iterations = [iteration(0, 4.0), iteration(1, 6.0)];
    let simulated = kept(&json!({"iteration_model": "event"}), &iterations);
    let training = json!({"kind": "training", "at_s": 3.5, "job": "a", "attempt": 0, "workers": ["w0"], "parameters": 1});
    let native = [&[training][..], &iterations].concat();
    let native = kept(&json!({"clock": "wall", "compute": "native"}), &native);
    for run in [&simulated, &native] {
        assert_eq!((run.iteration_s["a"], run.jct_s["a"]), (2.0, 7.5));
    }
    // A formula knows no set-up: there the job trains from its placement on.
    let by_formula = kept(&json!({"iteration_model": "analytic"}), &[]);
    assert_eq!(by_formula.iteration_s["a"], 3.5);
    // Nobody knows when training began.
    assert!(
        kept(&json!({"iteration_model": "event"}), &[])
            .iteration_s
            .is_empty()
    );
}
