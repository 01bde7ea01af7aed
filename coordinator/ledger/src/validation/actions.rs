//! Whether both sides did the same: every job its outcome, every stage its iterations, every iteration its actions.

use bace_api::{ActionSpan, Attempt, Iteration, Record, StageIndex};
use serde_json::Value;

use super::Whereabouts;
use super::difference::{Difference, Moment};
use super::join::Side;
use super::state::State;
use crate::{AttemptLog, RunLog, StageIteration, StageLog};

/// The first difference in what became of a job and in what its stages did.
pub(super) fn difference(
    place: Whereabouts,
    predicted: Side<'_>,
    measured: Side<'_>,
) -> Option<Difference> {
    outcome(&place, predicted, measured).or_else(|| {
        let both_hold = holds_actions(predicted.log) && holds_actions(measured.log);
        let (one, two) = (predicted.job?, measured.job?);
        let pairs = one.attempts.iter().zip(&two.attempts);
        let mut found = pairs.filter_map(|pair| {
            let last = one.attempts.len() == pair.0.attempt.index() + 1
                && predicted.finished()
                && measured.finished();
            let difference = Comparison {
                place: &place,
                sides: [predicted, measured],
                attempt: pair.0.attempt,
                is_whole: last,
                actions: both_hold,
            };
            difference.of(pair)
        });
        found.next()
    })
}

/// Whether a ledger says what stages did action by action.
pub(super) fn holds_actions(log: &RunLog) -> bool {
    let attempts = log.jobs.iter().flat_map(|job| &job.attempts);
    let mut stages = attempts.flat_map(|attempt| &attempt.stages);
    stages.any(|stage| {
        stage
            .iterations
            .values()
            .any(|ended| !ended.spans.is_empty())
    })
}

/// Whether both lists name the same actions in the same order.
pub(super) fn same_actions(one: &[ActionSpan], two: &[ActionSpan]) -> bool {
    let (one, two) = (
        one.iter().map(|span| span.action),
        two.iter().map(|span| span.action),
    );
    one.eq(two)
}

fn outcome(place: &Whereabouts, predicted: Side<'_>, measured: Side<'_>) -> Option<Difference> {
    let statuses = [predicted, measured].map(|side| side.summary().map(|job| &job.status));
    let words = statuses.map(|status| status.map_or("unknown", |status| status.word()));
    if words[0] == words[1] {
        return None;
    }
    let moment = |side: Side<'_>, place: usize| {
        let reason = statuses[place].and_then(|status| status.reason());
        Moment {
            did: Some(match reason {
                Some(reason) => format!("{} {}: {reason}", side.name, words[place]),
                None => format!("{} {}", side.name, words[place]),
            }),
            reason: Value::Null,
            state: State::at(side.log, side.ended_s()),
        }
    };
    Some(Difference {
        place: place.clone(),
        what: "the outcome".to_owned(),
        predicted: moment(predicted, 0),
        measured: moment(measured, 1),
    })
}

impl Side<'_> {
    fn finished(self) -> bool {
        self.job.is_some_and(|job| job.finished_s.is_some())
    }

    /// When the job ended, or else when the engine was last told something.
    fn ended_s(self) -> f64 {
        let failed_s = || self.job?.failed.as_ref().map(|(at_s, _)| *at_s);
        let ended = self.job.and_then(|job| job.finished_s).or_else(failed_s);
        let told = self
            .log
            .records
            .iter()
            .rev()
            .find_map(|record| match record {
                Record::Input { at_s, .. } => Some(*at_s),
                _ => None,
            });
        ended.or(told).unwrap_or(0.0)
    }
}

/// One start of a job on both sides.
struct Comparison<'a> {
    place: &'a Whereabouts,
    sides: [Side<'a>; 2],
    attempt: Attempt,
    /// Whether it ran to the job's end on both. One that lost its GPUs may have come further on one side, and where the next one
    /// begins follows from it: that is a matter of time.
    is_whole: bool,
    /// Whether both ledgers hold actions.
    actions: bool,
}

impl Comparison<'_> {
    /// The earliest over all stages, since what others did otherwise may follow from it.
    fn of(&self, (one, two): (&AttemptLog, &AttemptLog)) -> Option<Difference> {
        let stages = one
            .stages
            .iter()
            .zip(&two.stages)
            .zip((0..).map(StageIndex));
        let found = stages.filter_map(|((one, two), stage)| {
            let iterations = one.iterations.keys().chain(two.iterations.keys());
            let iterations: std::collections::BTreeSet<Iteration> = iterations.copied().collect();
            let mut found = iterations
                .into_iter()
                .filter_map(|iteration| self.of_iteration(stage, iteration, [one, two]));
            found.next()
        });
        let begin_s = |it: &Difference| it.predicted.state.at_s.min(it.measured.state.at_s);
        found.min_by(|one, two| begin_s(one).total_cmp(&begin_s(two)))
    }

    fn of_iteration(
        &self,
        stage: StageIndex,
        iteration: Iteration,
        stages: [&StageLog; 2],
    ) -> Option<Difference> {
        let ended = stages.map(|stage| stage.iterations.get(&iteration));
        let (what, did, action, at_s) = match ended {
            [Some(one), Some(two)] => {
                if !self.actions || same_actions(&one.spans, &two.spans) {
                    return None;
                }
                let mut pairs = (0..).map(|index| [one.spans.get(index), two.spans.get(index)]);
                let index = pairs.position(|[one, two]| {
                    one.map(|span| span.action) != two.map(|span| span.action)
                })?;
                let spans = [one.spans.get(index), two.spans.get(index)];
                let did = spans.map(|span| span.map(|span| span.action.to_string()));
                let at_s = [(spans[0], one), (spans[1], two)]
                    .map(|(span, ended)| span.map_or(ended.record.to_s, |span| span.from_s));
                ("the action", did, Some(index), at_s)
            }
            [one, two] => {
                if self.may_lack(iteration, stages) {
                    return None;
                }
                let did = [one, two].map(|ended| ended.map(|_| "ended the iteration".to_owned()));
                let other_s = one.or(two).map(|ended| ended.record.to_s)?;
                let at_s = [one, two]
                    .map(|ended| ended.map_or(other_s, |ended: &StageIteration| ended.record.to_s));
                ("the iteration", did, None, at_s)
            }
        };
        let moments = [0, 1].map(|side: usize| Moment {
            did: did[side].clone(),
            reason: Value::Null,
            state: State::at(self.sides[side].log, at_s[side]),
        });
        let [predicted, measured] = moments;
        Some(Difference {
            place: Whereabouts {
                attempt: Some(self.attempt),
                iteration: Some(iteration),
                stage: Some(stage),
                action,
                ..self.place.clone()
            },
            what: what.to_owned(),
            predicted,
            measured,
        })
    }

    /// Whether one side may lack an iteration: before the first or behind the last that both have, of a start that was cut short or
    /// follows one.
    fn may_lack(&self, iteration: Iteration, stages: [&StageLog; 2]) -> bool {
        let firsts = stages.map(|stage| stage.iterations.keys().next());
        let lasts = stages.map(|stage| stage.iterations.keys().next_back());
        let is_before = firsts
            .iter()
            .any(|first| first.is_some_and(|first| iteration < *first));
        let is_behind = lasts
            .iter()
            .any(|last| last.is_none_or(|last| iteration > *last));
        (is_before && self.attempt.0 > 0) || (is_behind && !self.is_whole)
    }
}
