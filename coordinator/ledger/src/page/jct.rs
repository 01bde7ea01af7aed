//! Job completion times: predicted against measured.

use plotters::element::Circle;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::drawing::{Area, Drawing, Drawn, FAINT, INK, SERIES, TEXT, short};
use super::html::RepeatedRuns;
use super::table::TableView;
use super::words::signed_percent;
use crate::{Figure, LedgerError, Measured, Predicted};

const SIZE: (u32, u32) = (600, 480);
/// Points that are named in the picture; more would cover each other.
const MOST_NAMED: usize = 12;
/// Points of the picture; the table lists more.
const MOST_POINTS: usize = 2000;

/// The picture and its table.
pub(super) struct Jct {
    pub drawing: Drawing,
    pub table: TableView,
    /// What the noise bars are, or why there are none.
    pub noise: String,
    pub left_out: Option<String>,
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
            let reasons = runs.iter().filter_map(|of| of.predicted.reason());
            let reason = reasons.map(str::to_owned).next().unwrap_or_else(|| {
                "no job has finished both in reality and in the prediction".to_owned()
            });
            return Ok(Figure::Unknown(reason.into()));
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
        Ok(Figure::Known(Self {
            drawing,
            table: table(runs, &points),
            noise,
            left_out: (points.len() > MOST_POINTS)
                .then(|| format!("{MOST_POINTS} of {} points are drawn.", points.len())),
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
            area.draw_text(&point.job, &style, (x - base_x, y - base_y))?;
        }
    }
    Ok(())
}

fn table(runs: &[RepeatedRuns], points: &[Point]) -> TableView {
    let mut table = TableView::new(
        "Job completion times; error = (predicted − measured) ÷ measured",
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
