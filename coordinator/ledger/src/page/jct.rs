//! Job completion times: predicted against measured.

use plotters::element::Circle;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::drawing::{Drawing, FAINT, INK, SERIES, TEXT, short};
use super::html::RepeatedRuns;
use super::table::TableView;
use super::words::{Side, shortened, signed_percent};
use crate::svg::{Area, Drawn};
use crate::{Figure, JobSummary, LedgerError, Measured, Predicted};

const SIZE: (u32, u32) = (600, 480);
/// Points that are named in the picture; more would cover each other.
const MOST_NAMED: usize = 12;
/// Jobs without a point whose reasons still serve a person.
const MOST_MISSING: usize = 60;
/// Letters of a name in the picture.
const MOST_LETTERS: usize = 18;
/// Points of the picture.
const MOST_POINTS: usize = 2000;

/// The picture and its table.
pub(super) struct Jct {
    pub drawing: Drawing,
    pub table: TableView,
    /// What the noise bars are, or why there are none.
    pub noise: String,
    pub left_out: Option<String>,
    /// What has no point, or not of every repeat, and why.
    pub missing: Vec<String>,
    /// The policies, in the order of their looks; empty for one alone.
    pub policies: Vec<String>,
}

struct Point {
    policy: usize,
    job: String,
    predicted_s: f64,
    /// Of each repeat in which the job finished; not empty.
    measured_s: Vec<f64>,
}

impl Point {
    fn mean_s(&self) -> f64 {
        self.measured_s.iter().sum::<f64>() / self.measured_s.len() as f64
    }

    /// Lowest and highest of the repeats.
    fn range_s(&self) -> (f64, f64) {
        let fold =
            |start, pick: fn(f64, f64) -> f64| self.measured_s.iter().copied().fold(start, pick);
        (
            fold(f64::INFINITY, f64::min),
            fold(f64::NEG_INFINITY, f64::max),
        )
    }
}

impl Jct {
    /// Of all jobs of `runs` that finished on both sides.
    ///
    /// # Errors
    /// If the picture cannot be laid out.
    pub fn of(runs: &[RepeatedRuns]) -> Result<Figure<Self>, LedgerError> {
        let points: Vec<Point> = runs.iter().enumerate().flat_map(points).collect();
        if points.is_empty() {
            let reason = missing(runs).join("; ");
            return Ok(Figure::Unknown(match reason.as_str() {
                "" => "there is no job".into(),
                _ => reason.into(),
            }));
        }
        let repeats = runs.iter().map(|of| of.measured.len()).max().unwrap_or(0);
        let noise = if repeats > 1 {
            format!(
                "Points are means over up to {repeats} repeats; the bars reach from the lowest to the highest of them."
            )
        } else {
            "A single run tells nothing of noise, so that there are no noise bars; `bace validate` repeats runs.".to_owned()
        };
        let drawing = draw(&points)?;
        let table = table(runs, &points);
        Ok(Figure::Known(Self {
            drawing,
            missing: missing(runs),
            noise,
            left_out: (points.len() > MOST_POINTS).then(|| {
                let count = points.len();
                format!(
                    "{MOST_POINTS} of {count} points are drawn; {}.",
                    table.reach()
                )
            }),
            table,
            policies: match runs {
                [_] => Vec::new(),
                many => many.iter().map(|of| of.policy.clone()).collect(),
            },
        }))
    }
}

fn points((policy, of): (usize, &RepeatedRuns)) -> Vec<Point> {
    let Figure::Known(predicted) = &of.predicted else {
        return Vec::new();
    };
    let jobs = predicted.0.jobs.iter().filter_map(|job| {
        let predicted_s = *job.jct_s.known()?;
        let runs = of.measured.iter();
        let measured_s: Vec<f64> = runs
            .filter_map(|run| {
                let own = run.0.jobs.iter().find(|own| own.name == job.name)?;
                own.jct_s.known().copied()
            })
            .collect();
        (!measured_s.is_empty()).then(|| Point {
            policy,
            job: job.name.clone(),
            predicted_s,
            measured_s,
        })
    });
    jobs.collect()
}

/// Policies and jobs that have no point, or none of some repeats, and why.
fn missing(runs: &[RepeatedRuns]) -> Vec<String> {
    let mut all: Vec<String> = runs.iter().flat_map(missing_of).collect();
    if all.len() > MOST_MISSING {
        let more = all.len() - MOST_MISSING;
        all.truncate(MOST_MISSING);
        all.push(format!("{more} more; `bace report` lists every job"));
    }
    all
}

fn missing_of(of: &RepeatedRuns) -> Vec<String> {
    let predicted = match &of.predicted {
        Figure::Known(predicted) => &predicted.0.jobs,
        Figure::Unknown(reason) => {
            return vec![format!("policy {} is not predicted: {reason}", of.policy)];
        }
    };
    let mut names: Vec<&str> = predicted.iter().map(|job| job.name.as_str()).collect();
    for job in of.measured.iter().flat_map(|run| &run.0.jobs) {
        if !names.contains(&job.name.as_str()) {
            names.push(&job.name);
        }
    }
    let missing = names.into_iter().filter_map(|name| {
        let jct = |jobs: &'_ [JobSummary]| {
            let job = jobs.iter().find(|job| job.name == name);
            job.map_or_else(
                || Some("there is no such job".to_owned()),
                |job| job.jct_s.reason().map(str::to_owned),
            )
        };
        let runs = of.measured.iter();
        let lacked: Vec<String> = runs.filter_map(|run| jct(&run.0.jobs)).collect();
        let not_measured = lacked.first().map(|reason| {
            let (lacked, all) = (lacked.len(), of.measured.len());
            format!("not measured in {lacked} of {all} runs: {reason}")
        });
        let not_predicted = jct(predicted).map(|reason| format!("not predicted: {reason}"));
        let reasons: Vec<String> = [not_predicted, not_measured]
            .into_iter()
            .flatten()
            .collect();
        let is_missing = !reasons.is_empty();
        is_missing.then(|| format!("{}, {name}: {}", of.policy, reasons.join("; ")))
    });
    missing.collect()
}

/// The rungs of both sides; all runs of a page stand on the same.
fn sides(runs: &[RepeatedRuns]) -> String {
    let measured = runs.iter().flat_map(|of| &of.measured).next();
    let predicted = runs.iter().find_map(|of| of.predicted.known());
    let summaries = [measured.map(|of| &of.0), predicted.map(|of| &of.0)];
    let labels = summaries.into_iter().flatten();
    let labels: Vec<String> = labels.map(|of| Side::of(&of.header).label()).collect();
    labels.join("; ")
}

fn draw(points: &[Point]) -> Result<Drawing, LedgerError> {
    let drawn = &points[..points.len().min(MOST_POINTS)];
    let name = format!(
        "Scatter of {} job completion times, predicted against measured, in seconds",
        drawn.len()
    );
    Drawing::new(name, SIZE, |area| draw_points(area, drawn))
}

fn draw_points(area: &Area<'_>, points: &[Point]) -> Drawn {
    let largest = points
        .iter()
        .map(|point| point.predicted_s.max(point.range_s().1))
        .fold(0.0, f64::max);
    let highest = if largest > 0.0 { largest * 1.1 } else { 1.0 };
    let text = TEXT.into_text_style(area).color(&INK);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .margin_right(24)
        .x_label_area_size(46)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..highest, 0.0..highest)?;
    chart
        .configure_mesh()
        .x_labels(7)
        .y_labels(7)
        .x_desc("predicted (s)")
        .y_desc("measured (s)")
        .x_label_formatter(&|value| short(*value, highest))
        .y_label_formatter(&|value| short(*value, highest))
        .label_style(text.clone())
        .axis_desc_style(text.clone())
        .axis_style(INK)
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .draw()?;
    let equal = vec![(0.0, 0.0), (highest, highest)];
    chart.draw_series([PathElement::new(equal, INK.stroke_width(1))])?;
    for (place, point) in points.iter().enumerate() {
        let colour = SERIES[point.policy % SERIES.len()];
        let (mean_s, (low_s, high_s)) = (point.mean_s(), point.range_s());
        if point.measured_s.len() > 1 {
            let (x, tick) = (point.predicted_s, highest * 0.008);
            let line = |points: Vec<(f64, f64)>| PathElement::new(points, colour.stroke_width(2));
            chart.draw_series([
                line(vec![(x, low_s), (x, high_s)]),
                line(vec![(x - tick, low_s), (x + tick, low_s)]),
                line(vec![(x - tick, high_s), (x + tick, high_s)]),
            ])?;
        }
        chart.draw_series([Circle::new((point.predicted_s, mean_s), 5, colour.filled())])?;
        if points.len() <= MOST_NAMED {
            // Behind and above the line in turn, so that neighbours' names stay apart.
            let (x, y) = chart.backend_coord(&(point.predicted_s, mean_s));
            let (base_x, base_y) = area.get_base_pixel();
            let is_left = place % 2 == 1 || point.predicted_s > highest * 0.85;
            let (side, x) = if is_left {
                (HPos::Right, x - 10)
            } else {
                (HPos::Left, x + 10)
            };
            let style = text.clone().pos(Pos::new(side, VPos::Center));
            area.draw_text(
                &shortened(&point.job, MOST_LETTERS),
                &style,
                (x - base_x, y - base_y),
            )?;
        }
    }
    Ok(())
}

fn table(runs: &[RepeatedRuns], points: &[Point]) -> TableView {
    let mut table = TableView::new(
        format!(
            "Job completion times, {}; error = (predicted − measured) ÷ measured",
            sides(runs)
        ),
        &[
            "job|",
            "policy|",
            "predicted (s)",
            "measured, mean (s)",
            "error (%)",
            "repeats",
            "lowest (s)",
            "highest (s)",
        ],
    );
    for point in points {
        let mean_s = point.mean_s();
        let error = Predicted(point.predicted_s).error(Measured(mean_s));
        let error = Figure::new(error, "the measured time is 0");
        let spread = |value: f64| {
            let single = "a single run has no spread";
            Figure::new((point.measured_s.len() > 1).then_some(value), single)
        };
        let cells = vec![
            table.cell(&point.job),
            table.cell(&runs[point.policy].policy),
            table.cell(format!("{:.3}", point.predicted_s)),
            table.cell(format!("{mean_s:.3}")),
            table.figure(&error, |error| signed_percent(*error)),
            table.cell(point.measured_s.len().to_string()),
            table.figure(&spread(point.range_s().0), |low_s| format!("{low_s:.3}")),
            table.figure(&spread(point.range_s().1), |high_s| format!("{high_s:.3}")),
        ];
        table.row(cells);
    }
    table
}
