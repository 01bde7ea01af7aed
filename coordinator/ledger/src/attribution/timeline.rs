//! What a stage did, second by second.

use bace_api::{Action, ActionSpan, ComputeRung};

use super::Cause;
use super::transit::{Direction, Transit, direction_of};
use crate::StageLog;

/// What a stage did for some time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Doing {
    /// Something of its own.
    Own(Cause),
    /// Waited for the stage of this index, which had not made what it needed.
    Awaits(usize),
    /// Waited for a link to bring or deliver something.
    Link {
        /// Which part of that.
        cause: Cause,
        /// Place of the direction.
        direction: usize,
    },
    /// Waited while a link had something of its job's to carry.
    Carried {
        /// Place of the direction.
        direction: usize,
        /// How much of the time the link gave to other jobs.
        queued_share: f64,
    },
}

/// Doings that follow each other without gaps.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Timeline {
    /// Begin of the first.
    pub from_s: f64,
    /// Each with its end; none is empty, and ends rise.
    pub doings: Vec<(f64, Doing)>,
}

/// A start, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// Its placement.
    pub from_s: f64,
    /// When the last of its stages ended its last iteration.
    pub trained_s: f64,
    /// Up to when it is looked at.
    pub to_s: f64,
}

/// Stages of a start and what they have in common.
pub(super) struct Start<'a> {
    /// Its directions.
    pub directions: &'a [Direction],
    /// Its time.
    pub extent: Extent,
    /// Who took the time of compute.
    pub compute: ComputeRung,
}

impl Start<'_> {
    /// What the stage of `index` did.
    pub fn timeline(&self, index: usize, stage: &StageLog) -> Timeline {
        let mut line = Line {
            start: self,
            index,
            now_s: self.extent.from_s,
            doings: Vec::new(),
            received: vec![0; self.directions.len()],
        };
        for (place, done) in stage.iterations.values().enumerate() {
            let before = if place == 0 {
                Cause::StartUp
            } else {
                Cause::HostOverhead
            };
            line.until(done.record.from_s, Doing::Own(before));
            for span in &done.spans {
                line.until(span.from_s, Doing::Own(Cause::HostOverhead));
                line.act(span);
            }
            line.until(done.record.to_s, Doing::Own(Cause::HostOverhead));
        }
        if stage.iterations.is_empty() {
            line.until(self.extent.to_s, Doing::Own(Cause::StartUp));
        }
        line.until(self.extent.trained_s, Doing::Own(Cause::Bubble));
        line.until(self.extent.to_s, Doing::Own(Cause::HostOverhead));
        Timeline {
            from_s: self.extent.from_s,
            doings: line.doings,
        }
    }
}

/// A timeline under construction.
struct Line<'a> {
    start: &'a Start<'a>,
    index: usize,
    now_s: f64,
    doings: Vec<(f64, Doing)>,
    /// Messages received so far, by direction.
    received: Vec<usize>,
}

impl Line<'_> {
    /// Goes on to `to_s`, not beyond the start's end; an instant that has passed changes nothing.
    fn until(&mut self, to_s: f64, doing: Doing) {
        let to_s = to_s.min(self.start.extent.to_s);
        if to_s <= self.now_s {
            return;
        }
        match self.doings.last_mut() {
            Some((end_s, last)) if *last == doing => *end_s = to_s,
            _ => self.doings.push((to_s, doing)),
        }
        self.now_s = to_s;
    }

    fn act(&mut self, span: &ActionSpan) {
        match span.action {
            Action::Forward(_) => self.compute(span, Cause::Forward),
            Action::Backward(_) => self.compute(span, Cause::Backward),
            Action::Step => self.compute(span, Cause::Step),
            Action::SendActivation(_) | Action::SendGradient(_) => {
                match direction_of(self.index, span.action) {
                    Some(place) if place < self.start.directions.len() => {
                        self.carry(place, span.to_s, Doing::Own(Cause::HostOverhead));
                    }
                    // No stage is there to send to: only a damaged ledger says so.
                    _ => self.until(span.to_s, Doing::Own(Cause::HostOverhead)),
                }
            }
            Action::ReceiveActivation(_) | Action::ReceiveGradient(_) => self.receive(span),
        }
    }

    /// What the action should have taken comes first: what else it took is why it ended late.
    fn compute(&mut self, span: &ActionSpan, cause: Cause) {
        let seconds = span.seconds().max(0.0);
        let waited_s = span.lease_wait_s.unwrap_or(0.0).max(0.0);
        let excess_s = match span.excess_s {
            Some(excess_s) => excess_s.clamp(0.0, seconds),
            None if self.start.compute == ComputeRung::Native => waited_s.min(seconds),
            // The wait was over before the emulated GPU would have been done.
            None => 0.0,
        };
        let waited_s = waited_s.min(excess_s);
        self.until(span.to_s - excess_s, Doing::Own(cause));
        self.until(
            span.to_s - (excess_s - waited_s),
            Doing::Own(Cause::LeaseWait),
        );
        self.until(span.to_s, Doing::Own(Cause::HostOverhead));
    }

    fn receive(&mut self, span: &ActionSpan) {
        let Some((direction, transit)) = self.next_transit(span.action) else {
            self.until(span.to_s, Doing::Own(Cause::HostOverhead));
            return;
        };
        let sender = match span.action {
            Action::ReceiveActivation(_) => self.index - 1,
            _ => self.index + 1,
        };
        let within = |at_s: f64| at_s.min(span.to_s);
        self.until(within(transit.ready_s), Doing::Awaits(sender));
        let link = |cause| Doing::Link { cause, direction };
        self.carry(
            direction,
            within(transit.left_s),
            link(Cause::LinkSerialisation),
        );
        self.until(within(transit.due_s), link(Cause::Propagation));
        self.until(within(transit.usable_s), link(Cause::ReceiveLate));
        self.until(span.to_s, Doing::Own(Cause::HostOverhead));
    }

    /// The message that a receive took: the next of its direction.
    fn next_transit(&mut self, action: Action) -> Option<(usize, Transit)> {
        let place = direction_of(self.index, action)?;
        let taken = self.received.get_mut(place)?;
        let transit = *self.start.directions[place].transits.get(*taken)?;
        *taken += 1;
        Some((place, transit))
    }

    /// Until `to_s`: what the link carried, and `idle` where it carried nothing.
    fn carry(&mut self, direction: usize, to_s: f64, idle: Doing) {
        if to_s <= self.now_s {
            return;
        }
        for (end_s, queued_share) in self.start.directions[direction].parts(self.now_s, to_s) {
            let carried = queued_share.map(|queued_share| Doing::Carried {
                direction,
                queued_share,
            });
            self.until(end_s, carried.unwrap_or(idle));
        }
    }
}
