//! Puts a page together and writes it.

use std::path::Path;

use anyhow::Context;
use bace_api::{ClockKind, told};
use bace_ledger::{
    Figure, IterationChoice, Measured, Page, Predicted, RepeatedRuns, RunLog, Summary, summarise,
};

use super::folder::{Folder, Repeats};
use super::spending::spending;
use crate::predicted::predicted;
use crate::wrong_input::OrWrongInput;

/// Writes the page of `folder`'s run, which `summary` is of, into `file`.
///
/// # Errors
/// If a ledger cannot be read, the iteration that is asked for is not there, or the file cannot be written.
pub fn write_page(
    folder: &Folder,
    summary: &Summary,
    iteration: Option<&IterationChoice>,
    file: &Path,
) -> anyhow::Result<()> {
    let log = RunLog::read(&folder.run).or_wrong_input()?;
    let is_measured = log.header.clock == ClockKind::Wall;
    let prediction = is_measured.then(|| absent(predicted(&folder.run, &log)));
    let mut policies = Vec::new();
    if is_measured {
        for repeats in &folder.policies {
            policies.push(runs(repeats, folder, &log, prediction.as_ref())?);
        }
    }
    let spent = absent(spending(&folder.run, &log));
    let page = Page {
        log: &log,
        summary,
        predicted: prediction
            .as_ref()
            .map(|of| by_reference(of).map(|log| Predicted(&log.0))),
        policies: &policies,
        spending: by_reference(&spent),
        iteration,
    };
    let html = page.html().or_wrong_input()?;
    std::fs::write(file, html).with_context(|| format!("write {}", file.display()))
}

/// A policy's runs, with the prediction of its first; that of the page's own run is at hand.
fn runs(
    repeats: &Repeats,
    folder: &Folder,
    own: &RunLog,
    own_prediction: Option<&Figure<Predicted<RunLog>>>,
) -> anyhow::Result<RepeatedRuns> {
    let mut measured = Vec::new();
    for run in &repeats.runs {
        measured.push(Measured(summarise(run).or_wrong_input()?));
    }
    let fold = |log: &RunLog| Predicted(Summary::from_records(&log.header, &log.records));
    let first = repeats.runs.first().context("find a run of the policy")?;
    let (policy, predicted) = match own_prediction {
        Some(prediction) if *first == folder.run => (
            own.header.policy.clone(),
            by_reference(prediction).map(|log| fold(&log.0)),
        ),
        _ => {
            let log = RunLog::read(first).or_wrong_input()?;
            let prediction = absent(predicted(first, &log));
            (log.header.policy, prediction.map(|log| fold(&log.0)))
        }
    };
    Ok(RepeatedRuns {
        policy,
        measured,
        predicted,
    })
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
