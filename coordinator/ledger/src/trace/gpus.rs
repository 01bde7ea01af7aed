//! What GPUs did: jobs, in them iterations, in them actions.

use std::collections::BTreeMap;

use bace_api::{Action, ActionSpan, Iteration};

use super::event::{Args, Kind, Place};
use super::nanos::Nanos;
use super::out::{Out, Span};
use super::runs::Run;
use crate::{StageIteration, StageLog};

/// Writes one stage's slices, from `free` on, when its GPU has ended the job before; when it has ended this one.
pub(super) fn stage<E>(
    out: &mut Out<'_, E>,
    run: Run<'_>,
    (index, place): (usize, Place),
    (free, log_end_s): (Nanos, f64),
) -> Result<Nanos, E> {
    let Some(stage) = run.attempt.stages.get(index) else {
        return Ok(free);
    };
    let iterations = stage.iterations.values();
    // Clocks of several hosts are known to some microseconds, so that a stage may end behind its release.
    let last_s = iterations.map(end_s).fold(run.until_s(log_end_s), f64::max);
    let from = Nanos::of(run.attempt.placed_s).max(free);
    let to = Nanos::of(last_s).max(from);
    if !out.wants(&run.job.name) {
        return Ok(to);
    }
    let common = Args {
        job: Some(&run.job.name),
        attempt: run.again(),
        stage: Some(index as u32),
        ..Args::default()
    };
    let whole = Span {
        kind: Kind::Job,
        from,
        to,
        args: Args {
            layers: Some(stage.layers),
            seconds: Some(last_s - run.attempt.placed_s),
            ..common.clone()
        },
    };
    out.slice(place, &run.job.name, whole)?;
    if let Some(training_s) = run.attempt.training_s {
        let set_up = Span {
            kind: Kind::SetUp,
            from,
            to: Nanos::of(training_s).max(from),
            args: Args {
                seconds: Some(training_s - run.attempt.placed_s),
                ..common.clone()
            },
        };
        out.slice(place, "set-up", set_up)?;
    }
    for (&number, iteration) in &stage.iterations {
        self::iteration(out, place, (number, iteration), &common)?;
    }
    Ok(to)
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
    place: Place,
    (number, iteration): (Iteration, &StageIteration),
    common: &Args<'_>,
) -> Result<(), E> {
    let (from, to) = (Nanos::of(begin_s(iteration)), Nanos::of(end_s(iteration)));
    if out.window.clip((from, to)).is_none() {
        return Ok(());
    }
    let common = Args {
        iteration: Some(number.0),
        ..common.clone()
    };
    let record = &iteration.record;
    let whole = Span {
        kind: Kind::Iteration,
        from,
        to,
        args: Args {
            seconds: Some(record.to_s - record.from_s),
            loss: record.loss,
            ..common.clone()
        },
    };
    out.slice(place, &format!("iteration {number}"), whole)?;
    for span in &iteration.spans {
        action(out, place, span, &common)?;
    }
    Ok(())
}

/// Writes an action; of sends and receives only what took time, since arrows show the others.
fn action<E>(
    out: &mut Out<'_, E>,
    place: Place,
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
    let (from, to) = (Nanos::of(span.from_s), Nanos::of(span.to_s));
    if from == to && matches!(kind, Kind::Wait | Kind::Send) {
        return Ok(());
    }
    let args = Args {
        micro_batch: micro_batch.map(|m| m.0),
        seconds: Some(span.seconds()),
        lease_wait_s: span.lease_wait_s,
        excess_s: span.excess_s,
        ..common.clone()
    };
    let shown = Span {
        kind,
        from,
        to,
        args,
    };
    out.slice(place, &name, shown)
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
