//! What is farthest off, and which part of it differs most.

use std::collections::BTreeMap;
use std::fmt;

use bace_api::{Action, ActionSpan, StageIndex};

use super::Whereabouts;
use super::errors::Pairing;
use super::join::{IterationKey, JobJoin, Side};
use crate::{Figure, Measured, Predicted, StageIteration};

/// How many are kept of a sort.
pub(super) const KEPT: usize = 10;

/// One of the figures that are farthest off.
#[derive(Debug, Clone, PartialEq)]
pub struct Worst {
    /// Where; without an iteration it is a job's completion time, else the time of that iteration.
    pub place: Whereabouts,
    /// Seconds.
    pub predicted_s: Predicted<f64>,
    /// Seconds.
    pub measured_s: Measured<f64>,
    /// Share of what was measured; positive where the prediction is above it.
    pub error: f64,
    /// The part that differs most.
    pub differs_most: Figure<PartDifference>,
}

/// A part of an iteration or a job that differs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PartDifference {
    /// Which.
    pub part: Part,
    /// The stage; absent of what the job waits for as a whole.
    pub stage: Option<StageIndex>,
    /// Predicted less measured, seconds, over all actions of this sort.
    pub difference_s: f64,
}

/// What the time of an iteration or a job consists of. Waits in receives are not among it: what they wait for is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Waiting for GPUs.
    Queueing,
    /// From placement to the begin of the first iteration.
    SetUp,
    /// Forwards.
    Forward,
    /// Backwards.
    Backward,
    /// The optimizer's steps.
    Step,
    /// Activations that the stage receives, from when their link could serve them to their use.
    ActivationTransfer,
    /// Gradients that the stage receives, likewise.
    GradientTransfer,
    /// Waiting for room in the queue of a send.
    SendWait,
    /// Between actions.
    Host,
}

impl Part {
    /// In words for people; with underscores for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queueing => "queueing",
            Self::SetUp => "set-up",
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Step => "step",
            Self::ActivationTransfer => "activation transfer",
            Self::GradientTransfer => "gradient transfer",
            Self::SendWait => "send wait",
            Self::Host => "host",
        }
    }
}

impl fmt::Display for PartDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.part.name())?;
        if let Some(stage) = self.stage {
            write!(f, " of stage {stage}")?;
        }
        write!(f, " {:+.4} s", self.difference_s)
    }
}

/// Keeps the farthest off of `all`, those of one error in their order.
pub(super) fn keep(all: &mut Vec<Worst>) {
    all.sort_by(|one, two| two.error.abs().total_cmp(&one.error.abs()));
    all.truncate(KEPT);
}

/// The iterations of a policy's jobs that are farthest off.
pub(super) fn iterations(policy: &str, jobs: &[JobJoin<'_>]) -> Vec<Worst> {
    let joined = jobs.iter().flat_map(|job| {
        let iterations = job.iterations().into_iter();
        iterations.map(move |(key, pairing)| (job, Some(key), pairing))
    });
    of_all(policy, joined)
}

/// The completion times of a policy's jobs that are farthest off.
pub(super) fn jcts(policy: &str, jobs: &[JobJoin<'_>]) -> Vec<Worst> {
    let joined = jobs.iter().filter_map(|job| {
        let pairing = job.pair(|side| side.job?.jct_s())?;
        Some((job, None, pairing))
    });
    of_all(policy, joined)
}

type Joined<'a, 'b> = (&'a JobJoin<'b>, Option<IterationKey>, Pairing);

fn of_all<'a, 'b: 'a>(policy: &str, joined: impl Iterator<Item = Joined<'a, 'b>>) -> Vec<Worst> {
    let mut found: Vec<(Worst, Side<'_>, Side<'_>)> = Vec::new();
    for (job, key, pairing) in joined {
        for (repeat, (side, measured)) in job.measured.iter().zip(&pairing.measured).enumerate() {
            let (Some(Measured(side)), Some(measured_s)) = (*side, *measured) else {
                continue;
            };
            let error = pairing
                .predicted
                .error(measured_s)
                .filter(|error| error.is_finite());
            let Some(error) = error else { continue };
            let worst = Worst {
                place: Whereabouts {
                    policy: policy.to_owned(),
                    repeat: repeat + 1,
                    job: Some(job.name.to_owned()),
                    attempt: key.map(|(attempt, _)| attempt),
                    iteration: key.map(|(_, iteration)| iteration),
                    ..Whereabouts::default()
                },
                predicted_s: pairing.predicted,
                measured_s,
                error,
                differs_most: Figure::Unknown("not looked for".into()),
            };
            found.push((worst, job.predicted.0, side));
        }
        // Only now and then, since sorting every time would take the square of the iterations.
        if found.len() > 64 * KEPT {
            keep_found(&mut found);
        }
    }
    keep_found(&mut found);
    let told = found.into_iter().map(|(worst, predicted, measured)| {
        let key = worst.place.attempt.zip(worst.place.iteration);
        let differs_most = Figure::new(
            largest(&parts(predicted, key), &parts(measured, key)),
            "no part of it differs",
        );
        Worst {
            differs_most,
            ..worst
        }
    });
    told.collect()
}

fn keep_found(found: &mut Vec<(Worst, Side<'_>, Side<'_>)>) {
    found.sort_by(|one, two| two.0.error.abs().total_cmp(&one.0.error.abs()));
    found.truncate(KEPT);
}

type Parts = BTreeMap<(Part, Option<StageIndex>), f64>;

fn largest(predicted: &Parts, measured: &Parts) -> Option<PartDifference> {
    let both = predicted
        .keys()
        .filter_map(|key| Some((key, predicted[key] - measured.get(key)?)));
    let (&(part, stage), difference_s) = both
        .filter(|(_, difference_s)| difference_s.is_finite() && *difference_s != 0.0)
        .max_by(|one, two| one.1.abs().total_cmp(&two.1.abs()))?;
    Some(PartDifference {
        part,
        stage,
        difference_s,
    })
}

/// Parts of one iteration, or of a job from its submission on, seconds.
fn parts(side: Side<'_>, key: Option<IterationKey>) -> Parts {
    let mut parts = Parts::new();
    if key.is_none() {
        let queueing_s = side
            .summary()
            .and_then(|job| job.queueing_s.known().copied());
        parts.extend(queueing_s.map(|queueing_s| ((Part::Queueing, None), queueing_s)));
        parts.extend(
            side.set_up_s()
                .map(|set_up_s| ((Part::SetUp, None), set_up_s)),
        );
    }
    for attempt in side.job.iter().flat_map(|job| &job.attempts) {
        for (stage, log) in (0..).map(StageIndex).zip(&attempt.stages) {
            let wanted = |iteration| key.is_none_or(|key| key == (attempt.attempt, iteration));
            let ended = log
                .iterations
                .iter()
                .filter(|(iteration, _)| wanted(**iteration));
            for (_, ended) in ended {
                add_stage(&mut parts, stage, ended);
            }
        }
    }
    parts
}

fn add_stage(parts: &mut Parts, stage: StageIndex, ended: &StageIteration) {
    let mut add = |part, seconds: f64| *parts.entry((part, Some(stage))).or_default() += seconds;
    let times = &ended.record.times;
    add(Part::Forward, times.forward_s);
    add(Part::Backward, times.backward_s);
    add(Part::Step, times.step_s);
    add(Part::SendWait, times.send_wait_s);
    if ended.spans.is_empty() {
        return;
    }
    let actions_s: f64 = ended.spans.iter().map(ActionSpan::seconds).sum();
    add(
        Part::Host,
        ended.record.to_s - ended.record.from_s - actions_s,
    );
    let mut free_s = [f64::NEG_INFINITY; 2];
    for span in &ended.spans {
        let (part, direction) = match span.action {
            Action::ReceiveActivation(_) => (Part::ActivationTransfer, 0),
            Action::ReceiveGradient(_) => (Part::GradientTransfer, 1),
            _ => continue,
        };
        let Some(message) = &span.message else {
            continue;
        };
        // What is behind another message in its direction has to wait for that, which counts there.
        add(
            part,
            message.usable_s() - message.ready_s.max(free_s[direction]),
        );
        free_s[direction] = message.left_s.unwrap_or(message.due_s);
    }
}
