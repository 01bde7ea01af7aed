//! Where the time of each job's stages went.

use super::axis::Axis;
use super::lanes::{Block, Lanes};
use super::table::TableView;
use super::words::Side;
use crate::{Attribution, Cause, Figure, JobAttribution, RunLog, Sums, attribute};

const BAR_PX: u32 = 22;
const PLOT_PX: u32 = 620;
/// Jobs whose bars still serve a person.
const MOST_JOBS: usize = 40;

/// The picture and its table.
pub(super) struct Causes {
    pub lanes: Lanes,
    pub table: TableView,
    /// Jobs of which it is not known, and why.
    pub missing: Vec<String>,
}

/// A job's sums on one side.
struct Bar<'a> {
    job: &'a JobAttribution,
    side: &'static str,
    sums: Sums,
}

impl Causes {
    /// That of a run, beside its prediction.
    pub fn of(log: &RunLog, predicted: Option<&RunLog>, side: &Side) -> Figure<Self> {
        let (own, beside) = (attribute(log), predicted.map(attribute));
        let other = predicted.map(|log| Side::of(&log.header));
        let missing: Vec<String> = own
            .jobs
            .iter()
            .filter_map(|job| Some(format!("{}: {}", job.job, job.sums().reason()?)))
            .collect();
        let bars = bars(&own, beside.as_ref(), side);
        if bars.is_empty() {
            let reason = match missing.into_iter().next() {
                Some(reason) => reason.into(),
                None => "no job was placed".into(),
            };
            return Figure::Unknown(reason);
        }
        let table = table(&bars, side, other.as_ref());
        Figure::Known(Self {
            lanes: lanes(&bars, side, &table),
            table,
            missing,
        })
    }
}

fn bars<'a>(own: &'a Attribution, beside: Option<&'a Attribution>, side: &Side) -> Vec<Bar<'a>> {
    let bar = |job: &'a JobAttribution, side| match job.sums() {
        Figure::Known(sums) => Some(Bar { job, side, sums }),
        Figure::Unknown(_) => None,
    };
    let mut bars = Vec::new();
    for job in &own.jobs {
        bars.extend(bar(job, side.word()));
        let other = beside.and_then(|beside| beside.job(&job.job));
        bars.extend(other.and_then(|job| bar(job, "predicted")));
    }
    bars
}

/// What the style sheet calls a cause.
fn class(cause: Cause) -> &'static str {
    match cause {
        Cause::Forward => "forward",
        Cause::Backward => "backward",
        Cause::Step => "step",
        Cause::Bubble => "bubble",
        Cause::LinkSerialisation => "serialisation",
        Cause::Propagation => "propagation",
        Cause::Queued => "queued",
        Cause::ReceiveLate => "late",
        Cause::LeaseWait => "lease",
        Cause::HostOverhead => "host",
        Cause::StartUp => "startup",
    }
}

fn lanes(bars: &[Bar<'_>], side: &Side, table: &TableView) -> Lanes {
    let longest = bars
        .iter()
        .map(|bar| bar.sums.total_s())
        .fold(0.0, f64::max);
    let axis = Axis::of_figures((0.0, longest.max(f64::MIN_POSITIVE)), "stage-seconds");
    let name = format!(
        "Where the stage-seconds of each job went, by cause ({})",
        side.word()
    );
    let mut lanes = Lanes::new(name, axis, PLOT_PX);
    let mut last = None;
    let mut drawn = 0;
    for bar in bars {
        let is_next = last.replace(&bar.job.job) == Some(&bar.job.job);
        if !is_next {
            if drawn == MOST_JOBS {
                lanes.left_out = Some(format!(
                    "The first {MOST_JOBS} jobs are drawn; {}.",
                    table.reach()
                ));
                break;
            }
            drawn += 1;
            lanes.gap(8);
        }
        let label = if is_next { "" } else { &bar.job.job };
        let top = lanes.lane(label, bar.side, if is_next { BAR_PX } else { BAR_PX + 10 });
        draw(&mut lanes, bar, if is_next { top } else { top + 5 });
    }
    for cause in Cause::ALL {
        if bars.iter().any(|bar| bar.sums.seconds(cause) > 0.0) {
            lanes.key(class(cause), cause.name());
        }
    }
    lanes
}

fn draw(lanes: &mut Lanes, bar: &Bar<'_>, top: u32) {
    let mut from_s = 0.0;
    for cause in Cause::ALL {
        let seconds = bar.sums.seconds(cause);
        if seconds <= 0.0 {
            continue;
        }
        let (left, width) = lanes.axis.span(from_s, from_s + seconds);
        from_s += seconds;
        let share = bar.sums.share(cause).unwrap_or(0.0) * 100.0;
        // Hatched grounds hold no text that could be read.
        let text = match cause {
            Cause::Bubble | Cause::ReceiveLate => String::new(),
            _ => lanes.fitting(width, &[&format!("{share:.1} %")]),
        };
        lanes.blocks.push(Block {
            left,
            width,
            top: top + 1,
            height: BAR_PX - 2,
            class: class(cause).to_owned(),
            text,
            title: format!(
                "{}, {}: {} {seconds:.3} stage-seconds, {share:.2} %",
                bar.job.job,
                bar.side,
                cause.name()
            ),
        });
    }
}

/// Every job, and every stage of its starts, in seconds by cause.
fn table(bars: &[Bar<'_>], side: &Side, other: Option<&Side>) -> TableView {
    let causes: Vec<Cause> = Cause::ALL
        .into_iter()
        .filter(|&cause| bars.iter().any(|bar| bar.sums.seconds(cause) > 0.0))
        .collect();
    let mut headings = vec![
        "job|".to_owned(),
        "side|".to_owned(),
        "stage|".to_owned(),
        "all (s)".to_owned(),
    ];
    headings.extend(causes.iter().map(|cause| format!("{} (s)", cause.name())));
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut table = TableView::new(
        format!("Stage-seconds by cause, {}", side.beside(other)),
        &headings,
    );
    for bar in bars {
        let mut add = |stage: String, sums: &Sums| {
            let mut cells = vec![
                table.cell(&bar.job.job),
                table.cell(bar.side),
                table.cell(stage),
            ];
            cells.push(table.cell(format!("{:.3}", sums.total_s())));
            let seconds = causes
                .iter()
                .map(|&cause| format!("{:.3}", sums.seconds(cause)));
            cells.extend(seconds.map(|text| table.cell(text)));
            table.row(cells);
        };
        add("all".to_owned(), &bar.sums);
        for attempt in &bar.job.attempts {
            let Figure::Known(times) = &attempt.times else {
                continue;
            };
            for (index, stage) in times.stages.iter().enumerate() {
                let start = match bar.job.attempts.len() {
                    1 => String::new(),
                    _ => format!("start {}, ", attempt.attempt.0 + 1),
                };
                add(format!("{start}{index} in {}", stage.region), &stage.sums);
            }
        }
    }
    table
}
