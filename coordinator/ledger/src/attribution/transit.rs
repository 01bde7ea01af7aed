//! How messages crossed the directions of a start's stage boundaries.

use bace_api::{Action, ActionSpan, MessageTimes};

use super::LinkName;
use super::link_rates::LinkRates;
use crate::AttemptLog;

/// One direction of a boundary between two stages.
#[derive(Debug)]
pub(super) struct Direction {
    /// The link it runs over.
    pub link: LinkName,
    /// Its messages, in the order in which they left.
    pub transits: Vec<Transit>,
    /// When the link carried which of them: in order, one after another.
    carried: Vec<Carried>,
}

/// How a message came: its parts follow each other without gaps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Transit {
    /// Until then its sender had not made it.
    pub ready_s: f64,
    /// Until then it, and what was sent before it, left.
    pub left_s: f64,
    /// Until then it was on its way.
    pub due_s: f64,
    /// Until then the machine was late with it.
    pub usable_s: f64,
}

/// A time in which a link had a message to carry.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Carried {
    from_s: f64,
    to_s: f64,
    /// The part of it in which the link served other jobs.
    queued_share: f64,
}

/// Place of a direction: activations over boundary k stand at 2k, gradients at 2k + 1.
pub(super) fn direction_of(stage: usize, action: Action) -> Option<usize> {
    match action {
        Action::SendActivation(_) => Some(2 * stage),
        Action::ReceiveGradient(_) => Some(2 * stage + 1),
        Action::ReceiveActivation(_) => Some(2 * stage.checked_sub(1)?),
        Action::SendGradient(_) => Some(2 * stage.checked_sub(1)? + 1),
        Action::Forward(_) | Action::Backward(_) | Action::Step => None,
    }
}

/// All directions of a start, with the messages that were received.
///
/// # Errors
/// If a receive does not tell how its message came, or has no sender; words that follow a colon.
pub(super) fn directions(
    job: &str,
    attempt: &AttemptLog,
    rates: &LinkRates,
) -> Result<Vec<Direction>, String> {
    let mut directions = Vec::with_capacity(2 * attempt.stages.len());
    for boundary in attempt.stages.windows(2) {
        let (near, far) = (&boundary[0].region, &boundary[1].region);
        directions.push(Direction::between(near, far));
        directions.push(Direction::between(far, near));
    }
    let bytes = rates.message_bytes(job, attempt.attempt);
    for (index, stage) in attempt.stages.iter().enumerate() {
        for (iteration, done) in &stage.iterations {
            for span in &done.spans {
                if !is_receive(span.action) {
                    continue;
                }
                let place =
                    direction_of(index, span.action).filter(|&place| place < directions.len());
                let of = || format!("{} of iteration {iteration} at stage {index}", span.action);
                let place = place.ok_or_else(|| format!("{} has no sender", of()))?;
                let times = told(span)
                    .ok_or_else(|| format!("{} does not tell how its message came", of()))?;
                directions[place].arrive(
                    times,
                    rates,
                    bytes.and_then(|bytes| bytes.get(&place).copied()),
                );
            }
        }
    }
    Ok(directions)
}

pub(super) fn is_receive(action: Action) -> bool {
    matches!(
        action,
        Action::ReceiveActivation(_) | Action::ReceiveGradient(_)
    )
}

/// The times of a receive's message, where they are numbers.
fn told(span: &ActionSpan) -> Option<&MessageTimes> {
    let times = span.message.as_ref()?;
    let all = [Some(times.ready_s), times.left_s, times.queued_s];
    let rest = [Some(times.due_s), times.late_until_s];
    let numbers = all.into_iter().chain(rest).flatten();
    numbers.into_iter().all(f64::is_finite).then_some(times)
}

impl Direction {
    fn between(from: &str, to: &str) -> Self {
        let (from, to) = (from.to_owned(), to.to_owned());
        Self {
            link: LinkName { from, to },
            transits: Vec::new(),
            carried: Vec::new(),
        }
    }

    /// Takes the next message of the direction in. Damaged times are taken as if they stood in their order.
    fn arrive(&mut self, times: &MessageTimes, rates: &LinkRates, bytes: Option<f64>) {
        let before_s = self
            .carried
            .last()
            .map_or(f64::NEG_INFINITY, |last| last.to_s);
        let begin_s = times.ready_s.max(before_s);
        let (left_s, due_s) = match times.left_s {
            Some(left_s) => (left_s.max(begin_s), times.due_s),
            None => {
                let leaves = bytes.and_then(|bytes| rates.leaves(&self.link, begin_s, bytes));
                unclocked(begin_s, times.due_s, leaves)
            }
        };
        let due_s = due_s.max(left_s);
        let carried_s = left_s - begin_s;
        self.carried.push(Carried {
            from_s: begin_s,
            to_s: left_s,
            queued_share: if carried_s > 0.0 {
                (times.queued_s.unwrap_or(0.0) / carried_s).clamp(0.0, 1.0)
            } else {
                0.0
            },
        });
        self.transits.push(Transit {
            ready_s: times.ready_s,
            left_s,
            due_s,
            usable_s: times.usable_s().max(due_s),
        });
    }

    /// The time from `from_s` to `to_s` in parts, each until when and how much of it the link gave to other jobs; absent where
    /// the link had no message of the direction to carry.
    pub fn parts(&self, from_s: f64, to_s: f64) -> impl Iterator<Item = (f64, Option<f64>)> {
        let first = self.carried.partition_point(|one| one.to_s <= from_s);
        let carried = self.carried[first..].iter();
        let within = carried.take_while(move |one| one.from_s < to_s);
        let parts = within.flat_map(move |one| {
            [
                (one.from_s.min(to_s), None),
                (one.to_s.min(to_s), Some(one.queued_share)),
            ]
        });
        parts.chain(std::iter::once((to_s, None)))
    }
}

/// When a message that no clock timed had left its link, not before `begin_s`, and would have been delivered, by what the link was
/// to give; all of its time is the link's carrying where that is not known.
///
/// The delay is kept where the message was faster than rate and delay together: bits may leave in a burst, and none arrives
/// before its time.
fn unclocked(begin_s: f64, arrived_s: f64, leaves: Option<(f64, f64)>) -> (f64, f64) {
    let Some((left_s, delay_s)) = leaves else {
        return (arrived_s.max(begin_s), arrived_s);
    };
    let left_s = left_s.min(arrived_s - delay_s).max(begin_s);
    (left_s, (left_s + delay_s).min(arrived_s))
}
