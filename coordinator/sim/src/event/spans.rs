//! What a stage does in an iteration, action by action.

use std::sync::Arc;

use bace_api::{Action, ActionSpan, MessageTimes};

/// The spans of the iteration that a stage is at, on the run's clock; each begins where the one before ended.
#[derive(Debug, Default)]
pub(super) struct SpanLog {
    /// Whether somebody wants them.
    pub is_kept: bool,
    spans: Vec<ActionSpan>,
    /// Where the next span begins.
    from_s: f64,
}

/// The spans of a whole iteration.
#[derive(Debug, Clone)]
pub(super) struct Spans {
    spans: Arc<[ActionSpan]>,
    /// By how much they lie later than written.
    later_s: f64,
}

impl SpanLog {
    /// An action has ended.
    pub fn note(&mut self, action: Action, to_s: f64, message: Option<MessageTimes>) {
        if !self.is_kept {
            return;
        }
        self.spans.push(ActionSpan {
            action,
            from_s: self.from_s,
            to_s,
            lease_wait_s: None,
            excess_s: None,
            message,
        });
        self.from_s = to_s;
    }

    /// The spans of the iteration that ends at `now_s`, when the next one begins.
    pub fn end_iteration(&mut self, now_s: f64) -> Option<Spans> {
        self.from_s = now_s;
        self.is_kept.then(|| Spans {
            spans: self.spans.drain(..).collect(),
            later_s: 0.0,
        })
    }

    /// The next iteration begins at `now_s`; those before are known without a log.
    pub fn begin_at(&mut self, now_s: f64) {
        self.from_s = now_s;
    }

    /// Moves the origin of times to `origin_s`.
    pub fn rebase(&mut self, origin_s: f64) {
        self.from_s -= origin_s;
        for span in &mut self.spans {
            *span = later(span, -origin_s);
        }
    }
}

impl Spans {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Moves all of them.
    pub fn shift(&mut self, by_s: f64) {
        self.later_s += by_s;
    }

    /// All of them, in order.
    pub fn to_vec(&self) -> Vec<ActionSpan> {
        let spans = self.spans.iter();
        spans.map(|span| later(span, self.later_s)).collect()
    }
}

fn later(span: &ActionSpan, by_s: f64) -> ActionSpan {
    let message = span.message.map(|message| MessageTimes {
        ready_s: message.ready_s + by_s,
        left_s: message.left_s.map(|left_s| left_s + by_s),
        queued_s: message.queued_s,
        due_s: message.due_s + by_s,
        late_until_s: message.late_until_s.map(|late_until_s| late_until_s + by_s),
    });
    ActionSpan {
        from_s: span.from_s + by_s,
        to_s: span.to_s + by_s,
        message,
        ..span.clone()
    }
}
