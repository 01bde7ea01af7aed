//! How long stages need before they can train.

use anyhow::Context;
use bace_models::{SetUpRound, SetUpStage, median};

use super::subject::Workshop;

/// How often each stage is set up behind the first one; the median counts.
const REPEATS: usize = 3;

/// Sets up `begins_with` as the first stage that this process holds, and then all stages in turn, one at a time, as a worker does
/// from job to job.
pub fn measure(workshop: &Workshop<'_>, begins_with: SetUpStage) -> anyhow::Result<SetUpRound> {
    let seconds = |stage: SetUpStage| {
        let set_up = workshop.set_up(stage.layers(), stage.place());
        set_up.context("set a stage up")
    };
    let begun_s = seconds(begins_with)?;
    let mut found = SetUpStage::ALL.map(|stage| (stage, Vec::with_capacity(REPEATS)));
    for _ in 0..REPEATS {
        for (stage, found) in &mut found {
            found.push(seconds(*stage)?);
        }
    }
    let medians = found.map(|(stage, seconds)| (stage, median(&seconds)));
    let again = medians.iter().find(|(stage, _)| *stage == begins_with);
    let (_, again_s) = again.context("set up again the stage that was first")?;
    let [few_s, many_s, first_s, last_s] = medians.map(|(_, seconds)| seconds);
    Ok(SetUpRound {
        fresh_s: begun_s - again_s,
        few_s,
        many_s,
        first_s,
        last_s,
    })
}
