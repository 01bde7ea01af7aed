//! Puts a page together and writes it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use bace_api::{ClockKind, Header, told};
use bace_ledger::{
    Figure, IterationChoice, Measured, Page, Predicted, RepeatedRuns, RunLog, Summary, summarise,
};

use super::folder::Folder;
use super::spending::spending;
use crate::attributed::prediction;
use crate::wrong_input::{OrWrongInput, WrongInput};

/// Writes the page of `folder`'s run, which `log` was read from, beside its prediction, into `file`.
///
/// # Errors
/// If a ledger cannot be read, runs that stand beside each other are not of the same, the iteration that is asked for is not
/// there, or the file cannot be written.
pub fn write_page(
    folder: &Folder,
    (log, prediction): (&RunLog, &Figure<Predicted<RunLog>>),
    iteration: Option<&IterationChoice>,
    file: &Path,
) -> anyhow::Result<()> {
    let is_measured = log.header.clock == ClockKind::Wall;
    let mut policies = Vec::new();
    if is_measured {
        for repeats in &folder.policies {
            policies.push(repeated(repeats, folder, (log, prediction))?);
        }
    }
    let spent = absent(spending(&folder.run, log));
    let page = Page {
        log,
        summary: &log.summary,
        predicted: is_measured.then(|| by_reference(prediction).map(|of| Predicted(&of.0))),
        policies: &policies,
        spending: by_reference(&spent),
        iteration,
    };
    let html = page.html().or_wrong_input()?;
    std::fs::write(file, html).with_context(|| format!("write {}", file.display()))
}

/// A policy's runs, with what is predicted of them; that of the page's own run is at hand.
fn repeated(
    runs: &[PathBuf],
    folder: &Folder,
    (own, own_prediction): (&RunLog, &Figure<Predicted<RunLog>>),
) -> anyhow::Result<RepeatedRuns> {
    let own_run = (folder.run.as_path(), &own.header);
    let (first, others) = runs.split_first().context("find a run of the policy")?;
    let read = |run: &Path| -> anyhow::Result<Summary> {
        let summary = summarise(run).or_wrong_input()?;
        agree(own_run, (run, &summary.header), Sameness::Rung)?;
        Ok(summary)
    };
    let first_summary = read(first)?;
    let header = first_summary.header.clone();
    let mut measured = vec![Measured(first_summary)];
    for run in others {
        let summary = read(run)?;
        agree((first, &header), (run, &summary.header), Sameness::Policy)?;
        measured.push(Measured(summary));
    }
    let predicted = if runs.contains(&folder.run) {
        by_reference(own_prediction).map(|of| Predicted(of.0.summary.clone()))
    } else {
        let log = RunLog::read(first).or_wrong_input()?;
        prediction(first, &log).map(|of| Predicted(of.0.summary))
    };
    Ok(RepeatedRuns {
        policy: header.policy,
        measured,
        predicted,
    })
}

/// How far two runs have to be the same to stand beside each other; all have to be of one scenario and seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sameness {
    /// Runs of several policies.
    Rung,
    /// Repeats of one policy, which are on one rung already.
    Policy,
}

fn agree(
    (first, one): (&Path, &Header),
    (second, two): (&Path, &Header),
    sameness: Sameness,
) -> anyhow::Result<()> {
    let rung = |header: &Header| {
        let scale = header.time_scale.unwrap_or(1.0);
        let (compute, network) = (header.compute.name(), header.network.name());
        let clock = match header.clock {
            ClockKind::Wall => "wall",
            ClockKind::Virtual => "virtual",
        };
        format!("clock {clock} × compute {compute} × network {network} × time scale {scale}")
    };
    let sides = [
        (
            "scenario_hash",
            one.scenario_hash.clone(),
            two.scenario_hash.clone(),
        ),
        ("seed", one.seed.to_string(), two.seed.to_string()),
        match sameness {
            Sameness::Rung => ("rung", rung(one), rung(two)),
            Sameness::Policy => ("policy", one.policy.clone(), two.policy.clone()),
        },
    ];
    match sides.into_iter().find(|(_, one, two)| one != two) {
        None => Ok(()),
        Some((key, one, two)) => Err(WrongInput::error(format!(
            "set {} beside {}: `{key}` in their headers is {two} there and {one} here; a page shows runs of the same, so put \
             the other ones into a folder of their own",
            second.display(),
            first.display()
        ))),
    }
}

/// What is there, or why it is not: a page without it still tells the rest.
fn absent<T>(found: anyhow::Result<T>) -> Figure<T> {
    match found {
        Ok(found) => Figure::Known(found),
        Err(error) => Figure::Unknown(format!("failed to {}", told(error.as_ref())).into()),
    }
}

fn by_reference<T>(figure: &Figure<T>) -> Figure<&T> {
    match figure {
        Figure::Known(value) => Figure::Known(value),
        Figure::Unknown(reason) => Figure::Unknown(reason.clone()),
    }
}
