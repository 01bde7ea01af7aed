//! `bace trace`: a run as a trace that Perfetto and chrome://tracing open.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use bace_api::ClockKind;
use bace_engine::Scenario;
use bace_ledger::{Figure, Moved, Predicted, RegionFacts, RunLog, Trace, TraceCut};

use crate::attributed::prediction;
use crate::cli::TraceArgs;
use crate::output::say;
use crate::recorded::Recorded;
use crate::wrong_input::{OrWrongInput, WrongInput};

/// Beside the ledger, where nothing else is asked for.
const FILE: &str = "trace.json";

/// Writes the trace of a run.
pub fn trace(args: &TraceArgs) -> anyhow::Result<bool> {
    let log = RunLog::read(&args.run).or_wrong_input()?;
    check_request(args, &log)?;
    let is_measured = log.header.clock == ClockKind::Wall;
    let simulated = match is_measured && !args.measured_only {
        true => match prediction(&args.run, &log) {
            Figure::Known(simulated) => Some(simulated),
            Figure::Unknown(reason) => {
                without("the prediction", &reason);
                None
            }
        },
        false => None,
    };
    let predicted = simulated.as_ref().map(|Predicted(log)| Predicted(log));
    let mut trace = Trace {
        log: &log,
        predicted,
        facts: &[],
        cut: TraceCut {
            from_s: args.from,
            to_s: args.to,
            job: args.job.clone(),
        },
    };
    check_begin(args, &trace)?;
    let kept = Recorded::new(&args.run, &log.header).kept_scenario();
    let facts = kept.map_or_else(
        |error| {
            let reason = format!("failed to {}", bace_api::told(error.as_ref()));
            without("prices and power", &reason);
            Vec::new()
        },
        |loaded| facts(&loaded.scenario, trace.end_s()),
    );
    trace.facts = &facts;
    if has_no_actions(&log) {
        eprintln!(
            "bace: the ledger holds no actions, so that iterations are shown as wholes and tensors not at all"
        );
    }
    let path = args.out.clone().unwrap_or_else(|| beside(&args.run));
    let moved = write(&path, &trace).with_context(|| format!("write {}", path.display()))?;
    if moved.slices > 0 {
        eprintln!(
            "bace: {} slices show up to {:.6} s later than the ledger says, since their GPU's job before ended that much \
             later by another host's clock; their `moved_s` says how much",
            moved.slices, moved.most_s
        );
    }
    say!(
        "{}: open it in https://ui.perfetto.dev or chrome://tracing",
        path.display()
    );
    Ok(true)
}

fn write(path: &Path, trace: &Trace<'_>) -> std::io::Result<Moved> {
    let mut file = BufWriter::new(File::create(path)?);
    let moved = trace.write(&mut file)?;
    file.flush()?;
    Ok(moved)
}

fn beside(run: &Path) -> PathBuf {
    match run.is_dir() {
        true => run.join(FILE),
        false => run.with_file_name(FILE),
    }
}

/// Tells what the trace lacks, and why.
fn without(what: &str, reason: &str) {
    eprintln!("bace: {what} left out: {reason}");
}

/// Whether what is asked for makes sense of this run, as far as that is known before anything is simulated.
fn check_request(args: &TraceArgs, log: &RunLog) -> anyhow::Result<()> {
    if let (Some(from_s), Some(to_s)) = (args.from, args.to)
        && from_s >= to_s
    {
        return Err(WrongInput::error(format!(
            "cut from {from_s} s to {to_s} s: the end has to be behind the begin"
        )));
    }
    let jobs = &log.header.jobs;
    if let Some(name) = &args.job
        && !jobs.contains(name)
    {
        return Err(WrongInput::error(format!(
            "find the job {name} in {}: there are {}",
            args.run.display(),
            jobs.join(", ")
        )));
    }
    Ok(())
}

/// Whether anything is left behind the begin that is asked for.
fn check_begin(args: &TraceArgs, trace: &Trace<'_>) -> anyhow::Result<()> {
    let end_s = trace.end_s();
    if let Some(from_s) = args.from
        && from_s >= end_s
    {
        let what = match trace.predicted {
            Some(_) => "the run and its prediction end",
            None => "the run ends",
        };
        return Err(WrongInput::error(format!(
            "cut {} from {from_s} s on: {what} at {end_s:.3} s, so --from has to lie before that",
            args.run.display()
        )));
    }
    Ok(())
}

/// Whether iterations stand there without what they are made of.
fn has_no_actions(log: &RunLog) -> bool {
    let attempts = log.jobs.iter().flat_map(|job| &job.attempts);
    let stages = attempts.flat_map(|attempt| &attempt.stages);
    let mut iterations = stages.flat_map(|stage| stage.iterations.values());
    let first = iterations.next();
    first.is_some()
        && first
            .into_iter()
            .chain(iterations)
            .all(|of| of.spans.is_empty())
}

/// What the scenario says of its regions up to `end_s`.
fn facts(scenario: &Scenario, end_s: f64) -> Vec<RegionFacts> {
    let facts = scenario.regions.iter().map(|region| RegionFacts {
        name: region.name.clone(),
        price: region
            .price
            .steps_until(end_s)
            .map(|step| (step.from_s, step.value))
            .collect(),
        idle_w: region.gpu.idle_w,
        busy_w: region.gpu.busy_w,
    });
    facts.collect()
}
