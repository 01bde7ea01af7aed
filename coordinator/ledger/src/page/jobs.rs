//! All jobs in figures, measured beside predicted.

use super::table::TableView;
use super::words::{Side, signed_percent};
use crate::table::Scale;
use crate::{Figure, JobSummary, Measured, Predicted, Summary, path_text};

/// The table of jobs.
pub(super) fn jobs(
    summary: &Summary,
    side: &Side,
    predicted: Option<&Figure<Predicted<Summary>>>,
) -> TableView {
    let own = side.word();
    let energy = Scale::energy(summary.jobs.iter().map(|job| &job.energy_j));
    let dollars = Scale::dollars(summary.jobs.iter().map(|job| &job.cost_usd));
    let mut headings = vec![
        "job|".to_owned(),
        "status|".to_owned(),
        "arrival (s)".to_owned(),
    ];
    headings.push(format!("JCT, {own} (s)"));
    if predicted.is_some() {
        headings.extend(["JCT, predicted (s)", "error (%)"].map(str::to_owned));
    }
    headings.push(format!("wait, {own} (s)"));
    if predicted.is_some() {
        headings.push("wait, predicted (s)".to_owned());
    }
    headings.extend(["K/K*", "path|"].map(str::to_owned));
    let accounted = match side.is_measured() {
        true => "accounted from measured times",
        false => own,
    };
    headings.push(format!("energy, {accounted} ({})", energy.unit()));
    headings.push(format!("cost, {accounted} ($)"));
    if predicted.is_some() {
        headings.push("cost, predicted ($)".to_owned());
    }
    headings.push("loss (nats)".to_owned());
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut table = TableView::new(caption(side, predicted), &headings);
    for job in &summary.jobs {
        let other = predicted.map(|predicted| Other::of(predicted, job));
        row(&mut table, job, (&energy, &dollars), other.as_ref());
    }
    table
}

fn caption(side: &Side, predicted: Option<&Figure<Predicted<Summary>>>) -> String {
    let other = predicted.and_then(Figure::known);
    let other = other.map(|of| Side::of(&of.0.header));
    let jobs = format!("Jobs, {}", side.beside(other.as_ref()));
    match side.is_measured() {
        true => format!(
            "{jobs}; energy and cost are accounted from measured times by the GPUs' nominal power and the regions' prices"
        ),
        false => jobs,
    }
}

/// What is predicted of a job.
struct Other {
    jct_s: Figure,
    wait_s: Figure,
    usd: Figure,
    error: Figure,
}

impl Other {
    fn of(predicted: &Figure<Predicted<Summary>>, job: &JobSummary) -> Self {
        let absent = |reason: &str| Figure::Unknown(reason.to_owned().into());
        let (jct_s, wait_s, usd) = match predicted {
            Figure::Unknown(reason) => (absent(reason), absent(reason), absent(reason)),
            Figure::Known(predicted) => {
                match predicted.0.jobs.iter().find(|of| of.name == job.name) {
                    Some(of) => (of.jct_s.clone(), of.queueing_s.clone(), of.cost_usd.clone()),
                    None => {
                        let reason = "the prediction has no such job";
                        (absent(reason), absent(reason), absent(reason))
                    }
                }
            }
        };
        let error = match (&jct_s, &job.jct_s) {
            (Figure::Known(predicted_s), Figure::Known(measured_s)) => Figure::new(
                Predicted(*predicted_s).error(Measured(*measured_s)),
                "the measured time is 0",
            ),
            (Figure::Unknown(reason), _) | (_, Figure::Unknown(reason)) => {
                Figure::Unknown(reason.clone())
            }
        };
        Self {
            jct_s,
            wait_s,
            usd,
            error,
        }
    }
}

fn row(
    table: &mut TableView,
    job: &JobSummary,
    (energy, dollars): (&Scale, &Scale),
    other: Option<&Other>,
) {
    let seconds = |value: &f64| format!("{value:.3}");
    let status = match job.status.reason() {
        Some(reason) => format!("{}: {reason}", job.status.word()),
        None => job.status.word().to_owned(),
    };
    let mut cells = vec![
        table.cell(&job.name),
        table.cell(status).with_class("wrap"),
        table.figure(&job.submitted_s, seconds),
        table.figure(&job.jct_s, seconds),
    ];
    if let Some(other) = other {
        cells.push(table.figure(&other.jct_s, seconds));
        cells.push(table.figure(&other.error, |error| signed_percent(*error)));
    }
    cells.push(table.figure(&job.queueing_s, seconds));
    if let Some(other) = other {
        cells.push(table.figure(&other.wait_s, seconds));
    }
    let placed = Figure::new(job.placed.as_ref(), "it never had a place");
    cells.push(table.figure(&placed, |placed| format!("{}/{}", placed.k, placed.k_star)));
    cells.push(table.figure(&placed, |placed| {
        path_text(
            placed
                .path
                .iter()
                .map(|part| (part.region.as_str(), part.gpus)),
        )
    }));
    // A job that never held a GPU has used none; a zero of it would be noise.
    let used = |figure: &Figure| match &placed {
        Figure::Known(_) => figure.clone(),
        Figure::Unknown(reason) => Figure::Unknown(reason.clone()),
    };
    let show = |scale: &Scale, value: &f64| scale.show(&Figure::Known(*value));
    cells.push(table.figure(&used(&job.energy_j), |joules| show(energy, joules)));
    cells.push(table.figure(&used(&job.cost_usd), |usd| show(dollars, usd)));
    if let Some(other) = other {
        cells.push(table.figure(&other.usd, |usd| show(dollars, usd)));
    }
    let loss = match (&job.loss_first, &job.loss_last) {
        (Figure::Known(first), Figure::Known(last)) => {
            Figure::Known(format!("{first:.3} → {last:.3}"))
        }
        (Figure::Unknown(reason), _) | (_, Figure::Unknown(reason)) => {
            Figure::Unknown(reason.clone())
        }
    };
    cells.push(table.figure(&loss, String::clone));
    table.row(cells);
}
