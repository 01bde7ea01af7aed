//! What stages need before they can train, process by process.

use bace_api::{ProfileReply, ProfileRequest, ProfileTask};
use bace_models::{SetUp, SetUpRound};

use crate::run::ask_worker_for_profile;

/// Processes that time it, one after the other: each is fresh once. The median counts.
const PROCESSES: usize = 5;

/// A set-up and from how many processes it is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeasuredSetUp {
    /// The medians.
    pub set_up: SetUp,
    /// How many processes timed it.
    pub processes: u32,
}

/// Times the set-up of what `request` names.
pub fn measure(request: &ProfileRequest) -> anyhow::Result<MeasuredSetUp> {
    let request = ProfileRequest {
        task: ProfileTask::SetUp,
        ..request.clone()
    };
    let mut rounds: Vec<SetUpRound> = Vec::with_capacity(PROCESSES);
    for _ in 0..PROCESSES {
        match ask_worker_for_profile(&request)? {
            ProfileReply::SetUp(round) => rounds.push(round),
            ProfileReply::Times(_) | ProfileReply::Memory(_) => {
                anyhow::bail!("ask bace-worker for set-ups: it told something else")
            }
        }
    }
    Ok(MeasuredSetUp {
        set_up: SetUp::of(&rounds).expect("there is at least one process"),
        processes: PROCESSES as u32,
    })
}

/// The line that tells it to people.
pub fn line(measured: &MeasuredSetUp) -> String {
    const MILLISECONDS: f64 = 1e3;

    let SetUp {
        layer_s,
        embedding_s,
        head_s,
        stage_s,
        fresh_s,
    } = measured.set_up;
    let [layer, embedding, head, stage, fresh] =
        [layer_s, embedding_s, head_s, stage_s, fresh_s].map(|seconds| seconds * MILLISECONDS);
    format!(
        "set-up, ms: a layer {layer:.2}, embedding {embedding:.2}, head {head:.2}, every stage {stage:.2}, the first of a process \
         {fresh:.2} more ({} processes)",
        measured.processes
    )
}
