//! Action lists from depths.

use bace_api::{Action, MicroBatch, Program, StageProgram};

/// The program of a pipeline whose stage i begins with `min(micro_batches, depths[i])` forwards, then alternates
/// one backward and one forward, then drains.
///
/// GPipe, 1F1B and eager 1F1B differ in their depths alone. A depth below 1, or above that of the stage before, would
/// never get its first gradient; it counts as the nearest depth that does.
pub fn generate(micro_batches: u32, depths: &[u32]) -> Program {
    let last = depths.len().saturating_sub(1);
    let mut deepest = u32::MAX;
    let stages = depths.iter().enumerate().map(|(stage, &depth)| {
        deepest = depth.max(1).min(deepest);
        stage_program(micro_batches, deepest, stage > 0, stage < last)
    });
    Program {
        stages: stages.collect(),
    }
}

/// One stage's list; `before` and `behind` say whether it has neighbours there.
fn stage_program(micro_batches: u32, depth: u32, before: bool, behind: bool) -> StageProgram {
    let mut actions = Vec::with_capacity(6 * micro_batches as usize + 1);
    let forward = |m: u32, actions: &mut StageProgram| {
        let m = MicroBatch(m);
        if before {
            actions.push(Action::ReceiveActivation(m));
        }
        actions.push(Action::Forward(m));
        if behind {
            actions.push(Action::SendActivation(m));
        }
    };
    let backward = |m: u32, actions: &mut StageProgram| {
        let m = MicroBatch(m);
        if behind {
            actions.push(Action::ReceiveGradient(m));
        }
        actions.push(Action::Backward(m));
        if before {
            actions.push(Action::SendGradient(m));
        }
    };
    let warm = depth.min(micro_batches);
    for m in 0..warm {
        forward(m, &mut actions);
    }
    for m in 0..micro_batches {
        backward(m, &mut actions);
        if warm + m < micro_batches {
            forward(warm + m, &mut actions);
        }
    }
    actions.push(Action::Step);
    actions
}
