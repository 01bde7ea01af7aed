//! What stages need before they can train: measured process by process, and kept.

use anyhow::{Context, bail};
use bace_api::{ProfileReply, ProfileRequest, ProfileTask};
use bace_models::{Percentiles, SetUp, SetUpFit, SetUpRound, SetUpStage};
use serde::{Deserialize, Serialize};

use super::file::{MICROSECONDS, PERCENT, microseconds, rounded};
use crate::run::ask_worker_for_profile;

/// How many processes begin with each of the stages, so that what a process touches for the first time is known of all of them.
const TURNS: usize = 2;

const MILLISECONDS: f64 = 1e3;

/// The parts of a set-up in a file, microseconds: what follows from medians over processes, with the 5th and the 95th percentile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetUpTimes {
    layer_us: f64,
    layer_p5_us: f64,
    layer_p95_us: f64,
    embedding_us: f64,
    embedding_p5_us: f64,
    embedding_p95_us: f64,
    head_us: f64,
    head_p5_us: f64,
    head_p95_us: f64,
    stage_us: f64,
    stage_p5_us: f64,
    stage_p95_us: f64,
    /// Of the first stage that a process holds, beyond.
    fresh_us: f64,
    fresh_p5_us: f64,
    fresh_p95_us: f64,
    error_percent: f64,
    processes: u32,
}

/// Times the set-up of what `request` names, in one fresh process after the other.
pub fn measure(request: &ProfileRequest) -> anyhow::Result<SetUpFit> {
    let mut rounds: Vec<SetUpRound> = Vec::with_capacity(TURNS * SetUpStage::ALL.len());
    for begins_with in std::iter::repeat_n(SetUpStage::ALL, TURNS).flatten() {
        let request = ProfileRequest {
            task: ProfileTask::SetUp { begins_with },
            ..request.clone()
        };
        match ask_worker_for_profile(&request)? {
            ProfileReply::SetUp(round) => rounds.push(round),
            ProfileReply::Times(_) | ProfileReply::Memory(_) => {
                bail!("ask bace-worker for set-ups: it told something else")
            }
        }
    }
    Ok(SetUpFit::of(&rounds).expect("there is at least one process"))
}

/// The line that tells it to people.
pub fn line(fit: &SetUpFit) -> String {
    let told = |seconds: Percentiles| {
        let [median, p5, p95] =
            [seconds.median, seconds.p5, seconds.p95].map(|seconds| seconds * MILLISECONDS);
        format!("{median:.2} ({p5:.2} - {p95:.2})")
    };
    let SetUp {
        layer_s,
        embedding_s,
        head_s,
        stage_s,
        fresh_s,
    } = fit.parts.map(told);
    format!(
        "set-up, ms (p5-p95): a layer {layer_s}, embedding {embedding_s}, head {head_s}, every stage {stage_s}, the first of a process \
         {fresh_s} more; {} processes, one layer in a fresh one is known to {:.1} %",
        fit.processes,
        fit.error_share * PERCENT
    )
}

/// Refuses a set-up that is not known well enough to predict anything from.
///
/// A job is set up once and then trains for many iterations, and a set-up is what a process does for the first time: `most_residual`
/// is the bound of what a prediction may be off by as a whole.
pub fn judge(fit: &SetUpFit, most_residual: f64) -> anyhow::Result<()> {
    const ADVICE: &str = "let nothing else run beside, and measure larger models";

    if fit.error_share.abs() > most_residual || fit.error_share.is_nan() {
        bail!(
            "keep them: the set-up of one layer in a fresh process is uncertain by {:.1} %, more than {:.1} %; {ADVICE}, or allow \
             more with --most-residual",
            fit.error_share * PERCENT,
            most_residual * PERCENT
        );
    }
    let set_up = fit.parts.map(|times| times.median);
    set_up
        .check()
        .with_context(|| format!("keep them: set-ups are lost in noise; {ADVICE}"))
}

impl From<&SetUpFit> for SetUpTimes {
    fn from(fit: &SetUpFit) -> Self {
        let SetUp {
            layer_s,
            embedding_s,
            head_s,
            stage_s,
            fresh_s,
        } = fit.parts.map(microseconds);
        Self {
            layer_us: layer_s.median,
            layer_p5_us: layer_s.p5,
            layer_p95_us: layer_s.p95,
            embedding_us: embedding_s.median,
            embedding_p5_us: embedding_s.p5,
            embedding_p95_us: embedding_s.p95,
            head_us: head_s.median,
            head_p5_us: head_s.p5,
            head_p95_us: head_s.p95,
            stage_us: stage_s.median,
            stage_p5_us: stage_s.p5,
            stage_p95_us: stage_s.p95,
            fresh_us: fresh_s.median,
            fresh_p5_us: fresh_s.p5,
            fresh_p95_us: fresh_s.p95,
            error_percent: rounded(fit.error_share * PERCENT),
            processes: fit.processes,
        }
    }
}

impl SetUpTimes {
    /// The medians, seconds.
    pub fn medians(&self) -> SetUp<f64> {
        SetUp {
            layer_s: self.layer_us,
            embedding_s: self.embedding_us,
            head_s: self.head_us,
            stage_s: self.stage_us,
            fresh_s: self.fresh_us,
        }
        .map(|us| us / MICROSECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::file::tests::set_up;

    #[test]
    fn a_set_up_that_is_not_known_well_enough_is_refused_with_advice() {
        let known = set_up(0.001);
        judge(&known, 0.25).unwrap();
        let told = judge(&known, 0.01).unwrap_err().to_string();
        assert!(
            told.contains("uncertain by 2.0 %, more than 1.0 %"),
            "{told}"
        );
        assert!(told.contains("--most-residual"), "{told}");
        let mut lost = known;
        lost.parts.layer_s.median = -1e-4;
        let told = bace_api::told(judge(&lost, 0.25).unwrap_err().as_ref());
        assert!(
            told.contains("set-ups are lost in noise; let nothing"),
            "{told}"
        );
        assert!(told.contains("a layer's set-up takes -0.0001 s"), "{told}");
    }

    #[test]
    fn the_line_tells_each_part_with_its_spread() {
        let told = line(&set_up(0.001));
        for words in [
            "a layer 1.00 (0.90 - 1.10)",
            "the first of a process 10.00 (9.00 - 11.00) more; 8 processes",
            "known to 2.0 %",
        ] {
            assert!(told.contains(words), "{words}: {told}");
        }
    }
}
