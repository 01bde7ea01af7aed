//! How long stages need before they can train.

use anyhow::Context;
use bace_models::{FEW_LAYERS, MANY_LAYERS, SetUpRound, StagePlace, median};

use super::subject::Workshop;

/// How often each stage is set up behind the first one; the median counts.
const REPEATS: usize = 3;

/// Sets a stage up as the first that this process holds, and then stages in turn, one at a time, as a worker does from job to job.
pub fn measure(workshop: &Workshop<'_>) -> anyhow::Result<SetUpRound> {
    let seconds = |layers, place| workshop.set_up(layers, place).context("set a stage up");
    let fresh_s = seconds(FEW_LAYERS, StagePlace::Middle)?;
    let mut found: [Vec<f64>; 4] = Default::default();
    for _ in 0..REPEATS {
        for (found, (layers, place)) in found.iter_mut().zip([
            (FEW_LAYERS, StagePlace::Middle),
            (MANY_LAYERS, StagePlace::Middle),
            (FEW_LAYERS, StagePlace::First),
            (FEW_LAYERS, StagePlace::Last),
        ]) {
            found.push(seconds(layers, place)?);
        }
    }
    let [few_s, many_s, first_s, last_s] = found.map(|seconds| median(&seconds));
    Ok(SetUpRound {
        fresh_s,
        few_s,
        many_s,
        first_s,
        last_s,
    })
}
