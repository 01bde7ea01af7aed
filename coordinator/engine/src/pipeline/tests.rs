use bace_api::{Action, MicroBatch, Program, Schedule, StageIndex};
use bace_models::{StageMemory, StageSeconds};
use proptest::prelude::*;

use super::*;
use crate::golden::golden;

const SCHEDULES: [Schedule; 3] = [Schedule::GPipe, Schedule::OneFOneB, Schedule::Eager1F1B];

/// Stages whose GPU holds `in_flight` micro-batches.
fn rooms(stages: usize, in_flight: u64) -> Vec<StageRoom> {
    let memory = StageMemory {
        state_bytes: 100,
        activation_bytes: 10,
        working_bytes: 0,
    };
    let room = StageRoom {
        memory,
        memory_bytes: 100 + 10 * in_flight,
    };
    vec![room; stages]
}

fn boundaries(times: &[(f64, f64)]) -> Vec<BoundaryTime> {
    let time = |&(transfer_s, delay_s): &(f64, f64)| BoundaryTime {
        transfer_s,
        delay_s,
    };
    times.iter().map(time).collect()
}

/// 4 stages of 3 s, two of the boundaries 10 s long.
fn long_links(schedule: Schedule, micro_batches: u32) -> (Program, Timeline) {
    let boundaries = boundaries(&[(0.0, 10.0), (0.0, 0.0), (0.0, 10.0)]);
    let depths = depths(schedule, micro_batches, 3.0, &boundaries, &rooms(4, 1000)).depths;
    let program = generate(micro_batches, &depths);
    let timeline = timeline(&program, &[StageSeconds::by_formula(3.0); 4], &boundaries);
    (program, timeline)
}

#[test]
fn programs_read_as_their_schedules_say() {
    let mut text = String::new();
    for schedule in SCHEDULES {
        for (stages, micro_batches) in [(1, 3), (3, 4), (4, 2)] {
            let boundaries = boundaries(&vec![(0.1, 0.6); stages - 1]);
            let depths = depths(
                schedule,
                micro_batches,
                1.0,
                &boundaries,
                &rooms(stages, 99),
            );
            let program = generate(micro_batches, &depths.depths);
            text.push_str(&format!(
                "{schedule:?}, {stages} stages, {micro_batches} micro-batches, depths {:?}\n{}\n",
                depths.depths,
                program_text(&program)
            ));
        }
    }
    golden("programs.txt", &text);
}

#[test]
fn pictures_show_the_bubbles() {
    let mut text = String::new();
    for schedule in SCHEDULES {
        let depths = depths(
            schedule,
            6,
            3.0,
            &boundaries(&[(0.0, 0.0); 3]),
            &rooms(4, 99),
        );
        let program = generate(6, &depths.depths);
        let near = timeline(
            &program,
            &[StageSeconds::by_formula(3.0); 4],
            &boundaries(&[(0.0, 0.0); 3]),
        );
        let (_, far) = long_links(schedule, 12);
        text.push_str(&format!(
            "{schedule:?}\n{}{}\n",
            near.grid(100),
            far.grid(100)
        ));
    }
    golden("timelines.txt", &text);
}

#[test]
fn without_delay_an_iteration_takes_the_textbook_time() {
    for schedule in [Schedule::OneFOneB, Schedule::GPipe] {
        let depths = depths(
            schedule,
            8,
            3.0,
            &boundaries(&[(0.0, 0.0); 3]),
            &rooms(4, 99),
        );
        let timeline = timeline(
            &generate(8, &depths.depths),
            &[StageSeconds::by_formula(3.0); 4],
            &boundaries(&[(0.0, 0.0); 3]),
        );
        let expected = (8.0 + 3.0) * 3.0;
        assert!(
            (timeline.duration_s - expected).abs() < 1e-9,
            "{schedule:?}"
        );
        assert!(
            (timeline.bubble() - 3.0 / 11.0).abs() < 1e-9,
            "{schedule:?}"
        );
    }
}

#[test]
fn eager_hides_round_trips_that_stall_plain_1f1b() {
    let analytic = (32.0 + 3.0) * 3.0 + 2.0 * 20.0;
    let (_, plain) = long_links(Schedule::OneFOneB, 32);
    let (_, eager) = long_links(Schedule::Eager1F1B, 32);
    assert!(plain.duration_s > 2.0 * analytic, "{}", plain.duration_s);
    assert!(eager.duration_s < 1.1 * analytic, "{}", eager.duration_s);
}

#[test]
fn depths_follow_the_round_trips() {
    let boundaries = boundaries(&[(0.5, 1.0), (0.0, 0.02), (f64::INFINITY, 0.0)]);
    // From the end: 1; a dead link takes all of M; already at M.
    let found = depths(Schedule::Eager1F1B, 20, 1.0, &boundaries, &rooms(4, 99));
    assert_eq!(found.depths, [20, 20, 20, 1]);
    // A round trip of 0.04 stage times is within the slack, one of 3 asks for three more.
    let found = depths(
        Schedule::Eager1F1B,
        20,
        1.0,
        &boundaries[..2],
        &rooms(3, 99),
    );
    assert_eq!((found.depths, found.cuts), (vec![6, 2, 1], vec![]));
}

#[test]
fn memory_cuts_depths_down_to_plain_1f1b() {
    let boundaries = boundaries(&[(0.5, 1.0), (0.5, 1.0)]);
    let cut = |stage, wanted, granted, fits| DepthCut {
        stage,
        wanted,
        granted,
        fits,
    };
    let found = depths(Schedule::Eager1F1B, 20, 1.0, &boundaries, &rooms(3, 4));
    assert_eq!(found.depths, [4, 4, 1]);
    assert_eq!(found.cuts, [cut(0, 9, 4, 4), cut(1, 5, 4, 4)]);
    assert_eq!(
        found.cuts[0].to_string(),
        "stage 0 starts with 4 forwards instead of 9: its GPU's memory, or that of a stage before it, holds no more \
         (here 4 micro-batches in flight)"
    );
    let found = depths(Schedule::Eager1F1B, 20, 1.0, &boundaries, &rooms(3, 0));
    assert_eq!(found.depths, [3, 2, 1]);
    assert_eq!(found.cuts, [cut(0, 9, 3, 0), cut(1, 5, 2, 0)]);
}

#[test]
fn what_a_program_may_not_do_is_found() {
    let good = generate(2, &[2, 1]);
    let broken = |stage: usize, change: &dyn Fn(&mut Vec<Action>)| {
        let mut program = good.clone();
        change(&mut program.stages[stage]);
        check(&program).unwrap_err()
    };
    let swap = |a: Action, b: Action| {
        move |actions: &mut Vec<Action>| {
            let place = |wanted| actions.iter().position(|&action| action == wanted).unwrap();
            let (a, b) = (place(a), place(b));
            actions.swap(a, b);
        }
    };
    let m = MicroBatch;
    let (first, second) = (StageIndex(0), StageIndex(1));
    assert_eq!(
        check(&Program { stages: vec![] }),
        Err(ProgramError::Empty(first))
    );
    assert_eq!(
        broken(1, &|actions| actions.clear()),
        ProgramError::Empty(second)
    );
    assert_eq!(
        broken(0, &|actions| actions.truncate(4)),
        ProgramError::Step(first)
    );
    assert_eq!(
        broken(1, &|actions| actions
            .insert(0, Action::ReceiveGradient(m(0)))),
        ProgramError::NoNeighbour(second, Action::ReceiveGradient(m(0)))
    );
    assert_eq!(
        broken(0, &|actions| actions.insert(0, Action::Forward(m(0)))),
        ProgramError::Twice(first, Action::Forward(m(0)))
    );
    assert_eq!(
        broken(1, &|actions| {
            actions.remove(0);
        }),
        ProgramError::Missing {
            stage: second,
            action: Action::Forward(m(0)),
            missing: Action::ReceiveActivation(m(0))
        }
    );
    assert_eq!(
        broken(
            1,
            &swap(
                Action::ReceiveActivation(m(0)),
                Action::ReceiveActivation(m(1))
            )
        ),
        ProgramError::Missing {
            stage: second,
            action: Action::Forward(m(0)),
            missing: Action::ReceiveActivation(m(0))
        }
    );
    assert_eq!(
        broken(
            0,
            &swap(Action::SendActivation(m(0)), Action::SendActivation(m(1)))
        ),
        ProgramError::Missing {
            stage: first,
            action: Action::SendActivation(m(1)),
            missing: Action::Forward(m(1))
        }
    );
    let backwards = |m: MicroBatch| [Action::ReceiveGradient(m), Action::Backward(m)];
    assert_eq!(
        broken(0, &|actions| {
            for (a, b) in backwards(m(0)).into_iter().zip(backwards(m(1))) {
                swap(a, b)(actions);
            }
        }),
        ProgramError::BackwardOrder(first, Action::Backward(m(1)))
    );
    assert_eq!(
        broken(0, &|actions| actions
            .retain(|action| *action != Action::SendActivation(m(1)))),
        ProgramError::Unmatched {
            from: first,
            to: second
        }
    );
    assert_eq!(
        broken(0, &|actions| actions
            .retain(|action| *action != Action::Backward(m(1)))),
        ProgramError::Incomplete {
            stage: first,
            expected: 2,
            found: 1
        }
    );
}

#[test]
fn stages_that_wait_for_each_other_are_found() {
    // The second stage wants two activations before it gives a gradient, the first gives one.
    let program = Program {
        stages: vec![
            generate(2, &[1, 1]).stages[0].clone(),
            generate(2, &[2, 2]).stages[1].clone(),
        ],
    };
    assert_eq!(
        check(&program),
        Err(ProgramError::Deadlock(
            StageIndex(0),
            Action::ReceiveGradient(MicroBatch(0))
        ))
    );
}

#[test]
fn facts_of_1f1b() {
    let facts = check(&generate(8, &[4, 3, 2, 1])).unwrap();
    assert_eq!(
        (facts.micro_batches, &facts.in_flight[..]),
        (8, &[4, 3, 2, 1][..])
    );
    let activations: Vec<u32> = facts.backlog.iter().map(|b| b.activations).collect();
    let gradients: Vec<u32> = facts.backlog.iter().map(|b| b.gradients).collect();
    assert_eq!(activations, [4, 3, 2]);
    assert_eq!(gradients, [4, 3, 2]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_depths_make_a_sound_program(
        micro_batches in 1u32..=32,
        depths in prop::collection::vec(0u32..40, 1..=8),
    ) {
        let facts = check(&generate(micro_batches, &depths)).unwrap();
        prop_assert_eq!(facts.micro_batches, micro_batches);
        for (&in_flight, &depth) in facts.in_flight.iter().zip(&depths) {
            prop_assert!(in_flight <= depth.max(1));
        }
        // Whatever waits at a boundary is held by the stage that sent the activations anyway.
        for (backlog, &in_flight) in facts.backlog.iter().zip(&facts.in_flight) {
            prop_assert!(backlog.activations <= in_flight);
            prop_assert!(backlog.gradients <= in_flight);
        }
    }

    #[test]
    fn every_schedule_makes_a_sound_program(
        schedule in prop::sample::select(&SCHEDULES[..]),
        micro_batches in 1u32..=32,
        times in prop::collection::vec((0.0..5.0, 0.0..5.0), 0..8),
        in_flight in 0u64..20,
    ) {
        let boundaries = boundaries(&times);
        let stages = times.len() + 1;
        let found = depths(schedule, micro_batches, 1.0, &boundaries, &rooms(stages, in_flight));
        let program = generate(micro_batches, &found.depths);
        let facts = check(&program).unwrap();
        let bounded: Vec<u32> = found.depths.iter().map(|&depth| depth.min(micro_batches)).collect();
        prop_assert_eq!(facts.in_flight, bounded);
        let timeline = timeline(&program, &vec![StageSeconds::by_formula(1.0); stages], &boundaries);
        let spans = timeline.stages.iter().map(Vec::len).sum::<usize>();
        prop_assert_eq!(spans, 2 * stages * micro_batches as usize);
        prop_assert!((0.0..1.0).contains(&timeline.bubble()));
    }
}
