//! Errors within iterations: by kind of action, by link, by stage.

use std::collections::BTreeMap;

use bace_api::{Action, ActionSpan, Attempt, MessageTimes, StageIndex};

use super::Compared;
use super::actions::same_actions;
use super::errors::Pairing;
use super::join::{IterationKey, JobJoin, NO_ITERATIONS};
use crate::{Measured, Predicted, StageIteration};

/// What an action is, whichever micro-batch it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ActionKind {
    /// Computes a forward.
    Forward,
    /// Computes a backward.
    Backward,
    /// Applies the optimizer.
    Step,
    /// Waits for an activation.
    ReceiveActivation,
    /// Waits for a gradient.
    ReceiveGradient,
    /// Waits for room in the queue of activations to send.
    SendActivation,
    /// Waits for room in the queue of gradients to send.
    SendGradient,
}

impl From<Action> for ActionKind {
    fn from(action: Action) -> Self {
        match action {
            Action::Forward(_) => Self::Forward,
            Action::Backward(_) => Self::Backward,
            Action::SendActivation(_) => Self::SendActivation,
            Action::ReceiveActivation(_) => Self::ReceiveActivation,
            Action::SendGradient(_) => Self::SendGradient,
            Action::ReceiveGradient(_) => Self::ReceiveGradient,
            Action::Step => Self::Step,
        }
    }
}

impl ActionKind {
    /// In words for people; with underscores for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Step => "step",
            Self::ReceiveActivation => "receive activation",
            Self::ReceiveGradient => "receive gradient",
            Self::SendActivation => "send activation",
            Self::SendGradient => "send gradient",
        }
    }
}

/// Durations of one kind of action.
#[derive(Debug, Clone, PartialEq)]
pub struct KindAccuracy {
    /// The kind.
    pub kind: ActionKind,
    /// Seconds of each.
    pub duration_s: Compared,
}

/// Messages over one directed link, or over the fabric of a region, whose two ends are the same.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkAccuracy {
    /// The sender's region.
    pub from: String,
    /// The receiver's region.
    pub to: String,
    /// From when a message could be sent until the link delivered it, seconds.
    pub transit_s: Compared,
    /// Of it, while the link served other jobs, seconds.
    pub queued_s: Compared,
    /// How many measured messages came later than the link delivered them, all repeats together.
    pub late: Late,
}

/// Messages that came later than their link delivered them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Late {
    /// All messages.
    pub messages: usize,
    /// Those that were late at all.
    pub late: usize,
    /// By how much, all together, seconds.
    pub total_s: f64,
    /// By how much at most, seconds.
    pub worst_s: f64,
}

/// A stage of a job, iteration by iteration.
#[derive(Debug, Clone, PartialEq)]
pub struct StageAccuracy {
    /// The job.
    pub job: String,
    /// The stage.
    pub stage: StageIndex,
    /// Forwards, backwards and the step of an iteration, seconds.
    pub compute_s: Compared,
    /// Waits in receives of an iteration, seconds.
    pub wait_s: Compared,
}

/// Errors within the iterations of a policy's jobs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parts {
    pub kinds: Vec<KindAccuracy>,
    pub links: Vec<LinkAccuracy>,
    pub stages: Vec<StageAccuracy>,
}

/// Pairs under collection.
#[derive(Default)]
struct Collected {
    kinds: BTreeMap<ActionKind, Vec<Pairing>>,
    links: BTreeMap<(String, String), OfLink>,
    stages: Vec<StageAccuracy>,
}

#[derive(Default)]
struct OfLink {
    transit: Vec<Pairing>,
    queued: Vec<Pairing>,
    late: Late,
}

impl Parts {
    /// Those of all that joins.
    pub fn of(jobs: &[JobJoin<'_>]) -> Self {
        let mut collected = Collected::default();
        for job in jobs {
            collected.add_job(job);
        }
        let no_queue = "the link's clock did not tell on both sides";
        Self {
            kinds: collected
                .kinds
                .into_iter()
                .map(|(kind, pairs)| KindAccuracy {
                    kind,
                    duration_s: Compared::of(&pairs, NO_ACTIONS),
                })
                .collect(),
            links: collected
                .links
                .into_iter()
                .map(|((from, to), of)| LinkAccuracy {
                    from,
                    to,
                    transit_s: Compared::of(&of.transit, NO_ACTIONS),
                    queued_s: Compared::of(&of.queued, no_queue),
                    late: of.late,
                })
                .collect(),
            stages: collected.stages,
        }
    }
}

/// Why nothing is known of actions.
pub(super) const NO_ACTIONS: &str = "no actions join: the ledgers do not hold them, or differ";

impl Collected {
    fn add_job(&mut self, job: &JobJoin<'_>) {
        let attempts = job
            .predicted
            .0
            .job
            .map_or(&[][..], |job| job.attempts.as_slice());
        let stages = attempts
            .iter()
            .map(|attempt| attempt.stages.len())
            .max()
            .unwrap_or(0);
        for stage in (0..).map(StageIndex).take(stages) {
            let (mut compute, mut wait) = (Vec::new(), Vec::new());
            for attempt in attempts {
                let Some(log) = attempt.stages.get(stage.index()) else {
                    continue;
                };
                for &iteration in log.iterations.keys() {
                    let key = (attempt.attempt, iteration);
                    let times = |pick: fn(&StageIteration) -> f64| {
                        job.pair(|side| Some(pick(side.stage_iteration(stage, key)?)))
                    };
                    compute.extend(times(compute_s));
                    wait.extend(times(|ended| ended.record.times.stall_s));
                    self.add_actions(job, stage, key);
                }
            }
            self.stages.push(StageAccuracy {
                job: job.name.to_owned(),
                stage,
                compute_s: Compared::of(&compute, NO_ITERATIONS),
                wait_s: Compared::of(&wait, NO_ITERATIONS),
            });
        }
    }

    /// Pairs the actions of one iteration of a stage by their places.
    fn add_actions(&mut self, job: &JobJoin<'_>, stage: StageIndex, key: IterationKey) {
        let Some(predicted) = job.predicted.0.stage_iteration(stage, key) else {
            return;
        };
        let measured = job.measured.iter().map(|side| {
            let ended = side.as_ref()?.0.stage_iteration(stage, key)?;
            same_actions(&predicted.spans, &ended.spans).then_some(ended.spans.as_slice())
        });
        let measured: Vec<Option<&[ActionSpan]>> = measured.collect();
        if measured.iter().all(Option::is_none) {
            return;
        }
        for (index, span) in predicted.spans.iter().enumerate() {
            let repeats: Vec<Option<&ActionSpan>> = measured
                .iter()
                .map(|spans| spans.and_then(|spans| spans.get(index)))
                .collect();
            let durations = pairing(span, &repeats, |span| Some(span.seconds()));
            self.kinds
                .entry(span.action.into())
                .or_default()
                .extend(durations);
            if let Some(ends) = ends(job, stage, key.0, span.action) {
                self.links.entry(ends).or_default().add(span, &repeats);
            }
        }
    }
}

impl OfLink {
    fn add(&mut self, predicted: &ActionSpan, measured: &[Option<&ActionSpan>]) {
        let message = |span: &ActionSpan, pick: fn(&MessageTimes) -> Option<f64>| {
            span.message.as_ref().and_then(pick)
        };
        self.transit.extend(pairing(predicted, measured, |span| {
            message(span, |times| Some(times.due_s - times.ready_s))
        }));
        self.queued.extend(pairing(predicted, measured, |span| {
            message(span, |times| times.queued_s)
        }));
        for times in measured.iter().flatten().filter_map(|span| span.message) {
            self.late.messages += 1;
            let late_s = times.usable_s() - times.due_s;
            if late_s > 0.0 {
                self.late.late += 1;
                self.late.total_s += late_s;
                self.late.worst_s = self.late.worst_s.max(late_s);
            }
        }
    }
}

fn pairing(
    predicted: &ActionSpan,
    measured: &[Option<&ActionSpan>],
    figure: impl Fn(&ActionSpan) -> Option<f64>,
) -> Option<Pairing> {
    let repeats = measured
        .iter()
        .map(|span| Some(Measured(figure((*span)?)?)));
    Some(Pairing {
        measured: repeats.collect(),
        predicted: Predicted(figure(predicted)?),
    })
}

/// Regions of the sender and the receiver of what an action receives.
fn ends(
    job: &JobJoin<'_>,
    stage: StageIndex,
    attempt: Attempt,
    action: Action,
) -> Option<(String, String)> {
    let sender = match action {
        Action::ReceiveActivation(_) => stage.0.checked_sub(1)?,
        Action::ReceiveGradient(_) => stage.0.checked_add(1)?,
        _ => return None,
    };
    let stages = job.predicted.0.stages(attempt);
    let region = |stage: StageIndex| stages.get(stage.index()).map(|stage| stage.region.clone());
    Some((region(StageIndex(sender))?, region(stage)?))
}

/// What a stage computed in an iteration.
pub(super) fn compute_s(ended: &StageIteration) -> f64 {
    let times = &ended.record.times;
    times.forward_s + times.backward_s + times.step_s
}
