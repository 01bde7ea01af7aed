//! What a stage did in one iteration, action by action, in reality and in a simulation alike.

use bace_netem::{TimeScale, Timing};
use serde::{Deserialize, Serialize};

use crate::{Action, Attempt, Iteration, StageIndex};

const NANOS_PER_SECOND: f64 = 1e9;

/// The most actions of one iteration of one stage that are recorded: those of some ten thousand micro-batches. Behind real
/// networks a line of the ledger, whose length is bounded too, takes some 150 bytes for each.
pub const MOST_SPANS: usize = 1 << 16;

/// The actions of one iteration of one stage, in the order of its program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionsRecord {
    /// The job.
    pub job: String,
    /// Which start of the job.
    pub attempt: Attempt,
    /// The stage.
    pub stage: StageIndex,
    /// The iteration.
    pub iteration: Iteration,
    /// One for each action of the stage's program, sends included, which take no time of their own unless their queue is full.
    pub spans: Vec<ActionSpan>,
}

/// One action. Times are emulated seconds from the start of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionSpan {
    /// What was done.
    #[serde(with = "crate::action::text")]
    pub action: Action,
    /// Begin; what lies between the end of the action before and this is the host's doing.
    pub from_s: f64,
    /// End.
    pub to_s: f64,
    /// Part of the time between in which the stage waited for its turn on its device, for the step before it included where that
    /// took no time of its own; absent where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_wait_s: Option<f64>,
    /// Part of the time between that the emulated GPU would not have taken, of a paced forward or backward that is an overrun,
    /// the wait for the device included; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess_s: Option<f64>,
    /// Of a receive: how the tensor came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageTimes>,
}

/// How a tensor crossed a stage boundary, as its receiver knows it. Emulated seconds from the start of the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MessageTimes {
    /// Its sender could have sent it.
    pub ready_s: f64,
    /// Its last bit left the link's near end; absent where nothing clocked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_s: Option<f64>,
    /// Of the time until then, what the link gave to others than the job that sent it, seconds: where each message counts as a
    /// flow, to other messages too. Absent where nothing clocked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_s: Option<f64>,
    /// The link delivered it; where no clock timed it, its arrival.
    pub due_s: f64,
    /// Its last byte was here where that was after `due_s`: the host could not keep up with the link. Absent in simulations,
    /// and where it came in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_until_s: Option<f64>,
}

/// An action as its worker tells of it, in nanoseconds of its host's monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionReport {
    /// What was done.
    pub action: Action,
    /// Begin.
    pub from_ns: u64,
    /// End.
    pub to_ns: u64,
    /// As [`ActionSpan::lease_wait_s`].
    pub lease_wait_ns: Option<u64>,
    /// As [`ActionSpan::excess_s`].
    pub excess_ns: Option<u64>,
    /// Of a receive: when the tensor was where.
    pub message: Option<Timing>,
}

impl ActionReport {
    /// What was told, in emulated seconds; `seconds` turns the worker's clock into those of the run.
    pub fn emulated(&self, scale: TimeScale, seconds: impl Fn(u64) -> f64) -> ActionSpan {
        let lasting = |ns: u64| scale.emulated_seconds(ns as f64 / NANOS_PER_SECOND);
        ActionSpan {
            action: self.action,
            from_s: seconds(self.from_ns),
            to_s: seconds(self.to_ns),
            lease_wait_s: self.lease_wait_ns.map(lasting),
            excess_s: self.excess_ns.map(lasting),
            message: self.message.map(|timing| MessageTimes {
                ready_s: seconds(timing.ready_ns),
                left_s: timing.departure.map(|of| seconds(of.left_ns)),
                queued_s: timing.departure.map(|of| lasting(of.queued_ns)),
                due_s: seconds(timing.deliver_at_ns),
                late_until_s: (timing.arrived_ns > timing.deliver_at_ns)
                    .then(|| seconds(timing.arrived_ns)),
            }),
        }
    }
}

impl ActionSpan {
    /// Seconds from begin to end.
    pub fn seconds(&self) -> f64 {
        self.to_s - self.from_s
    }
}

impl MessageTimes {
    /// When its receiver could use it.
    pub fn usable_s(&self) -> f64 {
        self.late_until_s
            .map_or(self.due_s, |late_until_s| late_until_s.max(self.due_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MicroBatch;

    #[test]
    fn spans_name_their_actions_in_text() {
        let span = ActionSpan {
            action: Action::ReceiveGradient(MicroBatch(3)),
            from_s: 1.0,
            to_s: 1.5,
            lease_wait_s: None,
            excess_s: None,
            message: Some(MessageTimes {
                ready_s: 0.5,
                left_s: Some(1.25),
                queued_s: Some(0.0),
                due_s: 1.5,
                late_until_s: None,
            }),
        };
        let text = serde_json::to_string(&span).unwrap();
        assert_eq!(
            text,
            r#"{"action":"RG3","from_s":1.0,"to_s":1.5,"message":{"ready_s":0.5,"left_s":1.25,"queued_s":0.0,"due_s":1.5}}"#
        );
        assert_eq!(serde_json::from_str::<ActionSpan>(&text).unwrap(), span);
    }
}
