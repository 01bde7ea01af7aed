//! One iteration of one job: what each stage did when.

use bace_api::{Action, ActionSpan, Iteration};

use super::axis::Axis;
use super::lanes::{Block, Lanes};
use super::table::TableView;
use super::words::{Side, length};
use crate::{AttemptLog, Figure, JobLog, LedgerError, RunLog, StageIteration};

/// Pixels of a stage's row.
const STAGE_PX: u32 = 30;
/// Pixels in which a micro-batch's number can be read.
const NUMBER_PX: f64 = 21.0;
/// Bounds of the plot's width.
const LEAST_PX: u32 = 620;
const MOST_PX: u32 = 4800;

/// Why no iteration can be drawn.
const NONE: &str = "the ledger holds no actions of any iteration: no job has ended one, or the run was made without them";

/// Which iteration of which job is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IterationChoice {
    /// The job's name.
    pub job: String,
    /// The iteration, from 0.
    pub iteration: Iteration,
}

/// The picture, that of the prediction beside it, and their tables.
pub(super) struct Pipeline {
    /// What is drawn, in a sentence.
    pub what: String,
    pub own: Part,
    pub predicted: Option<Figure<Part>>,
}

/// One side's picture and table.
pub(super) struct Part {
    pub side: Side,
    pub lanes: Lanes,
    pub table: TableView,
}

/// Why an iteration cannot be drawn.
enum Missing {
    /// There is none such.
    NoSuch(String),
    /// Nobody noted its actions.
    NoActions(String),
}

/// What both pictures share, so that equal times are equally wide in them.
#[derive(Debug, Clone, Copy)]
struct Scale {
    /// Seconds from one end of the plot to the other.
    length_s: f64,
    plot_px: u32,
}

/// What one stage did in an iteration.
struct Row<'a> {
    region: &'a str,
    of: &'a StageIteration,
}

impl Pipeline {
    /// The iteration that is asked for, else the median one of the longest job.
    ///
    /// # Errors
    /// If there is none such as is asked for.
    pub fn of(
        log: &RunLog,
        predicted: Option<Figure<&RunLog>>,
        choice: Option<&IterationChoice>,
    ) -> Result<Figure<Self>, LedgerError> {
        let (choice, why) = match choice {
            Some(choice) => (choice.clone(), "asked for"),
            None => match typical(log) {
                Some(choice) => (choice, "the median iteration of the longest job"),
                None => return Ok(Figure::Unknown(NONE.into())),
            },
        };
        let rows = match rows_of(log, &choice) {
            Ok(rows) => rows,
            Err(Missing::NoActions(reason)) => return Ok(Figure::Unknown(reason.into())),
            Err(Missing::NoSuch(reason)) => return Err(LedgerError::NoIteration(reason)),
        };
        let predicted_rows = predicted.map(|predicted| match predicted {
            Figure::Known(predicted) => match rows_of(predicted, &choice) {
                Ok(rows) => Figure::Known((predicted, rows)),
                Err(Missing::NoActions(why) | Missing::NoSuch(why)) => {
                    Figure::Unknown(format!("of the prediction, {why}").into())
                }
            },
            Figure::Unknown(reason) => Figure::Unknown(reason),
        });
        let beside = predicted_rows.as_ref().and_then(Figure::known);
        let scale = Scale::of(&rows, beside.map(|(_, rows)| rows.as_slice()));
        let own_s = span(&rows).1 - span(&rows).0;
        Ok(Figure::Known(Self {
            what: format!(
                "Iteration {} of job {} ({why}): {} from the first stage's begin to the last one's end, over {} stages.",
                choice.iteration,
                choice.job,
                length(own_s),
                rows.len()
            ),
            own: Part::of(&rows, &choice, Side::of(&log.header), scale),
            predicted: predicted_rows.map(|predicted| {
                predicted.map(|(log, rows)| Part::of(&rows, &choice, Side::of(&log.header), scale))
            }),
        }))
    }
}

impl Scale {
    fn of(rows: &[Row<'_>], beside: Option<&[Row<'_>]>) -> Self {
        let sides = || [Some(rows), beside].into_iter().flatten();
        let lengths_s = sides().map(|rows| span(rows).1 - span(rows).0);
        let length_s = lengths_s.fold(0.0, f64::max);
        let plots_px = sides().map(|rows| plot_px(rows, length_s));
        Self {
            length_s,
            plot_px: plots_px.fold(LEAST_PX, u32::max),
        }
    }
}

impl Part {
    fn of(rows: &[Row<'_>], choice: &IterationChoice, side: Side, scale: Scale) -> Self {
        let (from_s, _) = span(rows);
        let axis = Axis::of_time((from_s, from_s + scale.length_s), from_s, "since its begin");
        let name = format!(
            "Pipeline of job {}, iteration {}: {} stages, {}",
            choice.job,
            choice.iteration,
            rows.len(),
            side.word()
        );
        let mut lanes = Lanes::new(name, axis, scale.plot_px);
        for (stage, row) in rows.iter().enumerate() {
            let top = lanes.lane(&format!("stage {stage}"), row.region, STAGE_PX);
            lanes.gap(4);
            for span in row.of.spans.iter().filter(|span| span.seconds() > 0.0) {
                let block = block(&lanes, span, top);
                lanes.blocks.push(block);
            }
        }
        for (class, text) in [
            ("forward", "forward"),
            ("backward", "backward"),
            ("step", "optimizer step"),
            ("receive", "waits for a tensor"),
            ("late", "waits for a late tensor"),
            ("send", "waits for room to send"),
        ] {
            if lanes.blocks.iter().any(|block| block.class == class) {
                lanes.key(class, text);
            }
        }
        let table = table(rows, &side, from_s);
        lanes.bound(&table.reach());
        Self { side, lanes, table }
    }
}

/// The stages of an iteration with their actions, or why there are none.
fn rows_of<'a>(log: &'a RunLog, choice: &IterationChoice) -> Result<Vec<Row<'a>>, Missing> {
    let IterationChoice { job, iteration } = choice;
    let Some(of) = log.job(job) else {
        let names: Vec<&str> = log.jobs.iter().map(|job| job.name.as_str()).collect();
        return Err(Missing::NoSuch(format!(
            "the ledger names no job {job}; there are {}",
            names.join(", ")
        )));
    };
    // An iteration that a start lost with its GPUs is done again by the next.
    let mut is_there = false;
    for start in of.attempts.iter().rev() {
        match rows_of_start(start, *iteration) {
            Ok(rows) => return Ok(rows),
            Err(without_actions) => is_there |= without_actions,
        }
    }
    Err(if is_there {
        Missing::NoActions(format!(
            "the ledger holds no actions of iteration {iteration} of job {job}"
        ))
    } else {
        Missing::NoSuch(format!(
            "the ledger holds no iteration {iteration} of job {job} that every stage has ended"
        ))
    })
}

/// Or whether the iteration is there, without its actions.
fn rows_of_start(start: &AttemptLog, iteration: Iteration) -> Result<Vec<Row<'_>>, bool> {
    let stages = start.stages.iter().map(|stage| {
        let of = stage.iterations.get(&iteration)?;
        Some(Row {
            region: &stage.region,
            of,
        })
    });
    let rows: Option<Vec<Row<'_>>> = stages.collect();
    let rows = rows.filter(|rows| !rows.is_empty()).ok_or(false)?;
    match rows.iter().all(|row| !row.of.spans.is_empty()) {
        true => Ok(rows),
        false => Err(true),
    }
}

/// The median iteration of the job that took longest.
fn typical(log: &RunLog) -> Option<IterationChoice> {
    let took_s = |job: &JobLog| {
        let starts = job
            .attempts
            .iter()
            .filter_map(|start| start.released_s.map(|end_s| end_s - start.placed_s));
        starts.sum::<f64>()
    };
    let mut whole: Vec<(&JobLog, Vec<(f64, Iteration)>)> = log
        .jobs
        .iter()
        .map(|job| (job, iterations(job)))
        .filter(|(_, iterations)| !iterations.is_empty())
        .collect();
    whole.sort_by(|one, two| took_s(one.0).total_cmp(&took_s(two.0)));
    let (job, mut iterations) = whole.pop()?;
    iterations.sort_by(|one, two| one.0.total_cmp(&two.0).then(one.1.cmp(&two.1)));
    Some(IterationChoice {
        job: job.name.clone(),
        iteration: iterations[(iterations.len() - 1) / 2].1,
    })
}

/// Iterations of which all stages tell their actions, with their lengths.
fn iterations(job: &JobLog) -> Vec<(f64, Iteration)> {
    let Some(start) = job.attempts.last() else {
        return Vec::new();
    };
    let Some(first) = start.stages.first() else {
        return Vec::new();
    };
    let whole = first.iterations.keys().filter_map(|&iteration| {
        let rows = rows_of_start(start, iteration).ok()?;
        let (from_s, to_s) = span(&rows);
        Some((to_s - from_s, iteration))
    });
    whole.collect()
}

/// From the first begin to the last end.
fn span(rows: &[Row<'_>]) -> (f64, f64) {
    let from = rows.iter().map(|row| row.of.record.from_s);
    let to = rows.iter().map(|row| row.of.record.to_s);
    (
        from.fold(f64::INFINITY, f64::min),
        to.fold(f64::NEG_INFINITY, f64::max),
    )
}

/// Pixels in which a typical forward has room for its number.
fn plot_px(rows: &[Row<'_>], length_s: f64) -> u32 {
    let spans = rows.iter().flat_map(|row| &row.of.spans);
    let mut forwards: Vec<f64> = spans
        .filter(|span| matches!(span.action, Action::Forward(_)))
        .map(ActionSpan::seconds)
        .collect();
    forwards.sort_by(f64::total_cmp);
    let median_s = forwards.get(forwards.len() / 2).copied().unwrap_or(0.0);
    if median_s <= 0.0 {
        return LEAST_PX;
    }
    let wanted_px = (NUMBER_PX * length_s / median_s).ceil();
    wanted_px.clamp(LEAST_PX.into(), MOST_PX.into()) as u32
}

fn block(lanes: &Lanes, span: &ActionSpan, top: u32) -> Block {
    let (left, width) = lanes.axis.span(span.from_s, span.to_s);
    let (class, text) = match span.action {
        Action::Forward(m) => ("forward", m.to_string()),
        Action::Backward(m) => ("backward", m.to_string()),
        Action::Step => ("step", "step".to_owned()),
        Action::SendActivation(_) | Action::SendGradient(_) => ("send", String::new()),
        Action::ReceiveActivation(_) | Action::ReceiveGradient(_) => {
            let late = span.message.and_then(|message| message.late_until_s);
            let is_late = late.is_some_and(|until_s| until_s > span.from_s);
            (if is_late { "late" } else { "receive" }, String::new())
        }
    };
    let text = lanes.fitting(width, &[&text]);
    Block {
        left,
        width,
        top: top + 1,
        height: STAGE_PX - 2,
        class: class.to_owned(),
        text,
        title: format!("{}: {}", words(span.action), length(span.seconds())),
    }
}

/// An action for people.
fn words(action: Action) -> String {
    match action {
        Action::Forward(m) => format!("forward of micro-batch {m}"),
        Action::Backward(m) => format!("backward of micro-batch {m}"),
        Action::SendActivation(m) => format!("sends the activation of micro-batch {m}"),
        Action::ReceiveActivation(m) => format!("waits for the activation of micro-batch {m}"),
        Action::SendGradient(m) => format!("sends the gradient of micro-batch {m}"),
        Action::ReceiveGradient(m) => format!("waits for the gradient of micro-batch {m}"),
        Action::Step => "optimizer step".to_owned(),
    }
}

fn table(rows: &[Row<'_>], side: &Side, from_s: f64) -> TableView {
    let mut table = TableView::new(
        format!(
            "Actions by stage, {}; times in ms since the iteration's begin",
            side.label()
        ),
        &[
            "stage|",
            "action|",
            "begin (ms)",
            "end (ms)",
            "took (ms)",
            "tensor ready (ms)",
            "left (ms)",
            "due (ms)",
            "late until (ms)",
        ],
    );
    let ms = |at_s: f64| format!("{:.3}", (at_s - from_s) * 1e3);
    for (stage, row) in rows.iter().enumerate() {
        for span in &row.of.spans {
            let message = span.message;
            let cells = [
                stage.to_string(),
                words(span.action),
                ms(span.from_s),
                ms(span.to_s),
                format!("{:.3}", span.seconds() * 1e3),
                message.map(|of| ms(of.ready_s)).unwrap_or_default(),
                message.and_then(|of| of.left_s).map(ms).unwrap_or_default(),
                message.map(|of| ms(of.due_s)).unwrap_or_default(),
                message
                    .and_then(|of| of.late_until_s)
                    .map(ms)
                    .unwrap_or_default(),
            ];
            let cells = cells.map(|text| table.cell(text));
            table.row(cells.into());
        }
    }
    table
}
