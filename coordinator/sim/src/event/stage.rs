//! One stage of a running job.

use std::collections::VecDeque;

use bace_api::{
    Action, Iteration, MessageTimes, StageIndex, StageProgram, StageTimes, StageWalk, TensorKind,
};
use bace_models::StageSeconds;

use super::spans::{SpanLog, Spans};

/// Two shares of busy time this close, relative, are one.
const SAME_SHARE: f64 = 1e-10;
/// Two ends this close, relative, are one.
const SAME_TIME: f64 = 1e-12;

/// A stage's walk and where its time went. Times are seconds since the job's last iteration end.
#[derive(Debug)]
pub(super) struct Stage {
    pub walk: StageWalk,
    /// Arrived and not received: activations, gradients.
    pub inbox: [VecDeque<MessageTimes>; 2],
    pub log: SpanLog,
    index: StageIndex,
    takes: StageSeconds,
    computing: Option<Computing>,
    /// The iteration's step is computed, and the walk still stands at it.
    is_stepped: bool,
    waiting_since_s: Option<f64>,
    iteration_from_s: f64,
    times: StageTimes,
    last: Option<StageIteration>,
    /// Up to when busy seconds are in `spans`.
    noted_s: f64,
    busy_s: f64,
}

#[derive(Debug, Clone, Copy)]
struct Computing {
    from_s: f64,
    to_s: f64,
    action: Action,
    work: Work,
}

#[derive(Debug, Clone, Copy)]
enum Work {
    Forward,
    Backward,
    Step,
}

/// An iteration of a stage.
#[derive(Debug, Clone)]
pub(super) struct StageIteration {
    pub stage: StageIndex,
    /// Counted from this start of the job.
    pub iteration: Iteration,
    pub from_s: f64,
    pub to_s: f64,
    pub times: StageTimes,
    /// What was done when; absent where nobody wants it.
    pub spans: Option<Spans>,
}

/// A span in which a stage was busy for part of the time.
#[derive(Debug, Clone, Copy)]
pub(super) struct BusySpan {
    pub from_s: f64,
    pub to_s: f64,
    pub busy_s: f64,
}

/// What a stage does next.
pub(super) enum Doing {
    /// Computes until then.
    Computing(f64),
    /// Waits for a tensor, or has ended its last step.
    Nothing,
    /// Hands over a tensor and goes on at once.
    Sending(TensorKind),
    /// Has ended an iteration and goes on at once.
    Stepped(StageIteration),
}

impl Stage {
    /// A stage before its first action.
    pub fn new(index: u32, program: StageProgram, takes: StageSeconds, iterations: u32) -> Self {
        Self {
            walk: StageWalk::new(program, iterations),
            inbox: Default::default(),
            log: SpanLog::default(),
            index: StageIndex(index),
            takes,
            computing: None,
            is_stepped: false,
            waiting_since_s: None,
            iteration_from_s: 0.0,
            times: StageTimes::default(),
            last: None,
            noted_s: 0.0,
            busy_s: 0.0,
        }
    }

    /// The last iteration that it has ended.
    pub fn last(&self) -> Option<&StageIteration> {
        self.last.as_ref()
    }

    /// Actions that an iteration adds to its record; 0 where nobody wants them.
    pub fn kept_actions(&self) -> usize {
        let last = self.last.as_ref();
        let spans = last.and_then(|last| last.spans.as_ref());
        spans.map_or(0, Spans::len)
    }

    /// Does the walk's action, or begins it.
    pub fn act(&mut self, now_s: f64) -> Doing {
        if self.computing.is_some() {
            return Doing::Nothing;
        }
        let Some(action) = self.walk.action() else {
            return Doing::Nothing;
        };
        match action {
            Action::Forward(_) => self.compute(action, Work::Forward, now_s),
            Action::Backward(_) => self.compute(action, Work::Backward, now_s),
            Action::ReceiveActivation(_) => self.receive(action, TensorKind::Activation, now_s),
            Action::ReceiveGradient(_) => self.receive(action, TensorKind::Gradient, now_s),
            Action::SendActivation(_) => self.send(action, TensorKind::Activation, now_s),
            Action::SendGradient(_) => self.send(action, TensorKind::Gradient, now_s),
            // A step without a time of its own is no event: nothing may come between it and the last backward.
            Action::Step if self.takes.step_s > 0.0 && !self.is_stepped => {
                self.compute(action, Work::Step, now_s)
            }
            Action::Step => Doing::Stepped(self.end_iteration(now_s)),
        }
    }

    /// The compute in progress has ended.
    pub fn computed(&mut self) {
        let Some(done) = self.computing.take() else {
            return;
        };
        let takes_s = self.seconds_of(done.work);
        *match done.work {
            Work::Forward => &mut self.times.forward_s,
            Work::Backward => &mut self.times.backward_s,
            Work::Step => &mut self.times.step_s,
        } += takes_s;
        // What was noted before its end has been counted.
        self.busy_s += if self.noted_s > done.from_s {
            done.to_s - self.noted_s
        } else {
            takes_s
        };
        match done.work {
            Work::Forward | Work::Backward => {
                self.log.note(done.action, done.to_s, None);
                self.walk.advance();
            }
            Work::Step => self.is_stepped = true,
        }
    }

    /// Busy seconds since the last note.
    pub fn note(&mut self, now_s: f64) -> BusySpan {
        if let Some(computing) = self.computing {
            self.busy_s +=
                (now_s.min(computing.to_s) - computing.from_s.max(self.noted_s)).max(0.0);
        }
        let span = BusySpan {
            from_s: self.noted_s,
            to_s: now_s,
            busy_s: self.busy_s,
        };
        self.noted_s = now_s;
        self.busy_s = 0.0;
        span
    }

    /// `count` further iterations like the last one, `duration_s` each.
    pub fn repeat(&mut self, count: u32, duration_s: f64) -> Option<BusySpan> {
        let last = self.last.as_ref()?;
        let passed_s = f64::from(count) * duration_s;
        let span = BusySpan {
            from_s: last.to_s,
            to_s: last.to_s + passed_s,
            busy_s: f64::from(count) * last.times.busy_s(),
        };
        self.walk.skip(count);
        let end = last.later(count, passed_s);
        self.iteration_from_s = end.to_s;
        self.log.begin_at(end.to_s);
        self.noted_s = end.to_s;
        self.waiting_since_s = self.waiting_since_s.map(|_| end.to_s);
        self.last = Some(end);
        Some(span)
    }

    /// Moves the origin of the stage's times to `origin_s`.
    pub fn rebase(&mut self, origin_s: f64) {
        self.iteration_from_s -= origin_s;
        self.noted_s -= origin_s;
        if let Some(computing) = &mut self.computing {
            computing.from_s -= origin_s;
            computing.to_s -= origin_s;
        }
        if let Some(since_s) = &mut self.waiting_since_s {
            *since_s -= origin_s;
        }
        if let Some(last) = &mut self.last {
            last.shift(-origin_s);
        }
        self.log.rebase(origin_s);
    }

    fn compute(&mut self, action: Action, work: Work, now_s: f64) -> Doing {
        let to_s = now_s + self.seconds_of(work);
        self.computing = Some(Computing {
            from_s: now_s,
            to_s,
            action,
            work,
        });
        Doing::Computing(to_s)
    }

    fn seconds_of(&self, work: Work) -> f64 {
        match work {
            Work::Forward => self.takes.forward_s,
            Work::Backward => self.takes.backward_s(),
            Work::Step => self.takes.step_s,
        }
    }

    fn receive(&mut self, action: Action, kind: TensorKind, now_s: f64) -> Doing {
        let Some(message) = self.inbox[slot(kind)].pop_front() else {
            self.waiting_since_s.get_or_insert(now_s);
            return Doing::Nothing;
        };
        if let Some(since_s) = self.waiting_since_s.take() {
            self.times.stall_s += now_s - since_s;
        }
        self.log.note(action, now_s, Some(message));
        self.walk.advance();
        self.act(now_s)
    }

    fn send(&mut self, action: Action, kind: TensorKind, now_s: f64) -> Doing {
        self.log.note(action, now_s, None);
        self.walk.advance();
        Doing::Sending(kind)
    }

    fn end_iteration(&mut self, now_s: f64) -> StageIteration {
        self.log.note(Action::Step, now_s, None);
        let ended = StageIteration {
            stage: self.index,
            iteration: self.walk.iteration(),
            from_s: self.iteration_from_s,
            to_s: now_s,
            times: std::mem::take(&mut self.times),
            spans: self.log.end_iteration(now_s),
        };
        self.walk.advance();
        self.is_stepped = false;
        self.iteration_from_s = now_s;
        self.last = Some(ended.clone());
        ended
    }
}

impl StageIteration {
    /// The like of it `count` iterations and `passed_s` later.
    pub fn later(&self, count: u32, passed_s: f64) -> Self {
        let mut later = self.clone();
        later.iteration.0 += count;
        later.shift(passed_s);
        later
    }

    /// Moves all times of it.
    pub fn shift(&mut self, by_s: f64) {
        self.from_s += by_s;
        self.to_s += by_s;
        if let Some(spans) = &mut self.spans {
            spans.shift(by_s);
        }
    }
}

impl BusySpan {
    /// Takes `next` in if it follows and is as busy; says whether it did.
    pub fn extend(&mut self, next: BusySpan) -> bool {
        let share = |span: &BusySpan| span.busy_s / (span.to_s - span.from_s);
        let alike = (next.from_s - self.to_s).abs() <= SAME_TIME * self.to_s
            && (share(self) - share(&next)).abs() <= SAME_SHARE * share(self);
        if alike {
            self.to_s = next.to_s;
            self.busy_s += next.busy_s;
        }
        alike
    }
}

/// Place of a kind in an inbox.
pub(super) fn slot(kind: TensorKind) -> usize {
    match kind {
        TensorKind::Activation => 0,
        TensorKind::Gradient => 1,
    }
}
