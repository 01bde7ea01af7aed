use bace_api::PlacedRegion;

use super::steps::Measure;
use super::{Climbed, Ladder, LadderRun, LadderRung};

fn run(iteration_s: f64, region: &str) -> LadderRun {
    let placed = PlacedRegion {
        region: region.to_owned(),
        gpus: 2,
    };
    LadderRun {
        iteration_s: Some(iteration_s),
        mean_jct_s: Some(10.0 * iteration_s),
        makespan_s: Some(20.0 * iteration_s),
        cost_usd: Some(0.01),
        placements: vec![("a".to_owned(), vec![placed])],
        unfinished: None,
    }
}

fn ladder(rungs: &[(LadderRung, &[f64])]) -> Ladder {
    let rungs = rungs.iter().map(|&(rung, times)| {
        let climbed = match times {
            [] => Climbed::Absent("it cannot".to_owned()),
            times => Climbed::Runs(times.iter().map(|&s| run(s, "north")).collect()),
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
        "The largest step is paced → packet: mean iteration time +40.00 %; the network is to blame."
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
        text.contains("! modelled was left out: it cannot"),
        "{text}"
    );
    assert!(text.contains("event → paced"), "{text}");
    assert_eq!(ladder.to_json()["rungs"][1]["absent"], "it cannot");
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

#[test]
fn other_placements_and_unknown_figures_are_told() {
    let mut ladder = ladder(&[(LadderRung::Event, &[1.0]), (LadderRung::Modelled, &[1.5])]);
    if let Climbed::Runs(runs) = &mut ladder.rungs[1].1 {
        runs[0] = LadderRun {
            iteration_s: None,
            unfinished: Some("job a is failed".to_owned()),
            ..run(1.5, "south")
        };
    }
    let steps = ladder.steps();
    assert!(!steps[0].same_placements);
    assert_eq!(steps[0].changes[0], None);
    let (_, measure, change) = ladder.blamed().unwrap();
    assert_eq!((measure, change.share), (Measure::Jct, 0.5));
    assert!(!ladder.succeeded());
    assert!(ladder.render().contains("! modelled: job a is failed."));
    assert!(ladder.svg().unwrap().contains("event"));
}
