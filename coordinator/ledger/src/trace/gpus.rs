//! What GPUs did: jobs, in them iterations, in them actions.

use std::collections::BTreeMap;

use bace_api::{Action, ActionSpan, Iteration};

use super::event::{Args, Kind, Place};
use super::nanos::Nanos;
use super::out::{Out, Span};
use crate::starts::Start;
use crate::{StageIteration, StageLog};

/// Of a stage whose worker the ledger does not name.
const NOT_KNOWN: &str =
    "the ledger does not name the worker that it had; this GPU was nobody else's meanwhile";

/// A GPU that a stage has.
#[derive(Debug, Clone, Copy)]
pub(super) struct OfGpu {
    pub place: Place,
    /// When it has ended the job before.
    pub free: Nanos,
    /// Whether it may have been another one.
    pub is_guess: bool,
}

/// Writes one stage's slices; when its GPU has ended them.
pub(super) fn stage<E>(
    out: &mut Out<'_, E>,
    start: Start<'_>,
    (index, gpu): (usize, OfGpu),
    log_end_s: f64,
) -> Result<Nanos, E> {
    let Some(stage) = start.attempt.stages.get(index) else {
        return Ok(gpu.free);
    };
    let placed_s = start.attempt.placed_s;
    let iterations = stage.iterations.values();
    // Clocks of several hosts are known to some microseconds, so that a stage may end behind its release.
    let last_s = iterations
        .map(end_s)
        .fold(start.until_s(log_end_s), f64::max);
    let to = Nanos::of(last_s).max(gpu.free);
    if !out.wants(&start.job.name) {
        return Ok(to);
    }
    let common = Args {
        job: Some(&start.job.name),
        attempt: start.again(),
        stage: Some(index as u32),
        ..Args::default()
    };
    let whole = Args {
        layers: Some(stage.layers),
        seconds: Some(last_s - placed_s),
        why: gpu.is_guess.then_some(NOT_KNOWN),
        ..common.clone()
    };
    gpu.slice(out, (Kind::Job, &start.job.name), (placed_s, last_s), whole)?;
    // Most simulations take no time for it.
    if let Some(training_s) = start.attempt.training_s.filter(|at_s| *at_s > placed_s) {
        let set_up = Args {
            seconds: Some(training_s - placed_s),
            ..common.clone()
        };
        gpu.slice(out, (Kind::SetUp, "set-up"), (placed_s, training_s), set_up)?;
    }
    for (&number, iteration) in &stage.iterations {
        self::iteration(out, gpu, (number, iteration), &common)?;
    }
    Ok(to)
}

impl OfGpu {
    /// Writes what it did between two instants, as far as it was free then.
    fn slice<E>(
        self,
        out: &mut Out<'_, E>,
        (kind, name): (Kind, &str),
        (from_s, to_s): (f64, f64),
        args: Args<'_>,
    ) -> Result<(), E> {
        let from = Nanos::of(from_s);
        let (from, to) = out.behind(self.free, (from, Nanos::of(to_s).max(from)));
        let moved = from - Nanos::of(from_s);
        let span = Span {
            kind,
            from,
            to,
            args: Args {
                moved_s: (moved > Nanos::default()).then(|| moved.seconds()),
                ..args
            },
        };
        out.slice(self.place, name, span)
    }
}

fn begin_s(iteration: &StageIteration) -> f64 {
    let first = iteration.spans.first();
    let begin_s = iteration.record.from_s;
    first.map_or(begin_s, |span| begin_s.min(span.from_s))
}

fn end_s(iteration: &StageIteration) -> f64 {
    let last = iteration.spans.last();
    let end_s = iteration.record.to_s;
    last.map_or(end_s, |span| end_s.max(span.to_s))
}

fn iteration<E>(
    out: &mut Out<'_, E>,
    gpu: OfGpu,
    (number, iteration): (Iteration, &StageIteration),
    common: &Args<'_>,
) -> Result<(), E> {
    let (begin_s, end_s) = (begin_s(iteration), end_s(iteration));
    let span = (Nanos::of(begin_s), Nanos::of(end_s));
    if out.window.clip(span).is_none() {
        return Ok(());
    }
    let common = Args {
        iteration: Some(number.0),
        ..common.clone()
    };
    let record = &iteration.record;
    let whole = Args {
        seconds: Some(record.to_s - record.from_s),
        loss: record.loss,
        ..common.clone()
    };
    let name = format!("iteration {number}");
    gpu.slice(out, (Kind::Iteration, &name), (begin_s, end_s), whole)?;
    for span in &iteration.spans {
        action(out, gpu, span, &common)?;
    }
    Ok(())
}

/// Writes an action, if it took time.
fn action<E>(
    out: &mut Out<'_, E>,
    gpu: OfGpu,
    span: &ActionSpan,
    common: &Args<'_>,
) -> Result<(), E> {
    let (kind, name, micro_batch) = match span.action {
        Action::Forward(m) => (Kind::Forward, format!("forward {m}"), Some(m)),
        Action::Backward(m) => (Kind::Backward, format!("backward {m}"), Some(m)),
        Action::Step => (Kind::Step, "step".to_owned(), None),
        Action::ReceiveActivation(m) => (Kind::Wait, format!("wait for activation {m}"), Some(m)),
        Action::ReceiveGradient(m) => (Kind::Wait, format!("wait for gradient {m}"), Some(m)),
        Action::SendActivation(m) => (Kind::Send, format!("send activation {m}"), Some(m)),
        Action::SendGradient(m) => (Kind::Send, format!("send gradient {m}"), Some(m)),
    };
    let args = Args {
        micro_batch: micro_batch.map(|m| m.0),
        seconds: Some(span.seconds()),
        lease_wait_s: span.lease_wait_s,
        excess_s: span.excess_s,
        ..common.clone()
    };
    gpu.slice(out, (kind, &name), (span.from_s, span.to_s), args)
}

/// Of each micro-batch, where the action that `picks` names it stands; by it arrows find the slices they join.
pub(super) fn by_micro_batch(
    stage: &StageLog,
    iteration: Iteration,
    picks: impl Fn(Action) -> Option<u32>,
) -> BTreeMap<u32, (Nanos, Nanos)> {
    let spans = stage.iterations.get(&iteration).map(|of| of.spans.iter());
    let spans = spans.into_iter().flatten();
    let picked = spans.filter_map(|span| {
        let at = (Nanos::of(span.from_s), Nanos::of(span.to_s));
        picks(span.action).map(|m| (m, at))
    });
    picked.collect()
}
