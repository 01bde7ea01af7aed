//! Who held which GPUs when, and who waited.

use std::collections::BTreeMap;

use bace_api::Record;

use super::axis::Axis;
use super::lanes::{Block, Lanes};
use super::lost::{Lost, lost};
use super::table::TableView;
use super::words::{Side, job_class};
use crate::seats::{Seat, Seats};
use crate::starts::{Start, starts};
use crate::{AttemptLog, Figure, JobLog, RunEnd, RunLog, Summary};

/// Pixels of a GPU's row where there are few, and of all rows of GPUs where there are many.
const GPU_PX: u32 = 24;
const ALL_GPUS_PX: u32 = 720;
/// Pixels below which a row holds no text, so that neighbouring GPUs of a job are drawn as one block.
const TEXT_PX: u32 = 16;
/// Pixels of a row of waiting jobs.
const WAIT_PX: u32 = 22;
/// Rows of jobs that wait at the same time.
const MOST_WAITING: usize = 20;
/// Pixels of the plot, at the least.
const PLOT_PX: u32 = 620;

/// The picture and its table.
pub(super) struct Timeline {
    pub lanes: Lanes,
    pub table: TableView,
}

/// GPUs of a region that a start of a job held.
pub(super) struct Held<'a> {
    job: usize,
    name: &'a str,
    attempt: &'a AttemptLog,
    region: usize,
    pub from_s: f64,
    pub until_s: f64,
    /// Stages there, by the rows of their GPUs, with these.
    pub stages: Vec<(usize, usize)>,
    /// Whether they may have been other GPUs of the region.
    is_guess: bool,
}

/// A time in which a job waited for GPUs.
struct Waited<'a> {
    name: &'a str,
    from_s: f64,
    until_s: f64,
}

impl Timeline {
    /// The jobs of `log` over its regions.
    pub fn of(log: &RunLog, summary: &Summary, side: &Side) -> Figure<Self> {
        let end_s = end_s(log, summary);
        let starts = starts(log);
        let seats = Seats::assign(log, &starts, end_s);
        let held = held(&starts, &seats, log.header.regions.len(), end_s);
        let waited = waited(log, end_s);
        if held.is_empty() && waited.is_empty() {
            return Figure::Unknown("no job was submitted".into());
        }
        let axis = Axis::of_time((0.0, end_s), 0.0, "run time");
        let name = format!(
            "Which job held which GPUs, and which waited, over {} ({})",
            super::words::length(end_s),
            side.word()
        );
        let mut lanes = Lanes::new(name, axis, PLOT_PX);
        let table = table(&held, &waited, log, side);
        draw_waiting(&mut lanes, &waited, &table);
        draw_regions(&mut lanes, log, (&seats, &held), end_s);
        keys(&mut lanes, log);
        lanes.bound(&table.reach());
        Figure::Known(Self { lanes, table })
    }
}

fn end_s(log: &RunLog, summary: &Summary) -> f64 {
    let ended = log.jobs.iter().flat_map(|job| {
        let released = job.attempts.iter().filter_map(|start| start.released_s);
        released.chain(job.finished_s).chain(job.submitted_s)
    });
    let last = match summary.end {
        RunEnd::CutOff { last_s } => last_s,
        _ => 0.0,
    };
    ended.fold(last, f64::max)
}

fn held<'a>(starts: &[Start<'a>], seats: &Seats, regions: usize, end_s: f64) -> Vec<Held<'a>> {
    let mut held = Vec::new();
    for (start, own) in starts.iter().zip(&seats.of_starts) {
        let mut by_region: BTreeMap<usize, Vec<(usize, Seat)>> = BTreeMap::new();
        for (stage, &seat) in own.iter().enumerate() {
            if seat.region < regions {
                by_region
                    .entry(seat.region)
                    .or_default()
                    .push((stage, seat));
            }
        }
        held.extend(by_region.into_iter().map(|(region, mut stages)| {
            stages.sort_by_key(|(_, seat)| seat.gpu);
            Held {
                job: start.index,
                name: &start.job.name,
                attempt: start.attempt,
                region,
                from_s: start.attempt.placed_s,
                until_s: start.until_s(end_s),
                is_guess: stages.iter().any(|(_, seat)| seat.is_guess),
                stages: stages
                    .into_iter()
                    .map(|(stage, seat)| (stage, seat.gpu))
                    .collect(),
            }
        }));
    }
    held
}

fn waited(log: &RunLog, end_s: f64) -> Vec<Waited<'_>> {
    let mut waited = Vec::new();
    for of in &log.jobs {
        let mut since_s = of.submitted_s;
        let mut add = |from_s: Option<f64>, until_s: f64| {
            if let Some(from_s) = from_s.filter(|from_s| until_s > *from_s) {
                let name = of.name.as_str();
                waited.push(Waited {
                    name,
                    from_s,
                    until_s,
                });
            }
        };
        for attempt in &of.attempts {
            add(since_s, attempt.placed_s);
            since_s = attempt.released_s;
        }
        let is_over = of.finished_s.is_some() || of.failed.is_some() || is_refused(log, of);
        let is_held = of
            .attempts
            .last()
            .is_some_and(|last| last.released_s.is_none());
        if !is_over && !is_held {
            add(since_s, end_s);
        }
    }
    waited.sort_by(|one, two| one.from_s.total_cmp(&two.from_s));
    waited
}

fn is_refused(log: &RunLog, of: &JobLog) -> bool {
    let mut records = log.records.iter();
    records.any(|record| matches!(record, Record::Refused { job, .. } if *job == of.name))
}

fn draw_waiting(lanes: &mut Lanes, waited: &[Waited<'_>], table: &TableView) {
    if waited.is_empty() {
        return;
    }
    let mut free_from: Vec<f64> = Vec::new();
    let top = lanes.height;
    for of in waited {
        let row = free_from.iter().position(|free_s| *free_s <= of.from_s);
        let row = row.unwrap_or(free_from.len());
        if row >= MOST_WAITING {
            let sentence = format!(
                "At most {MOST_WAITING} waiting jobs are drawn at a time; {}.",
                table.reach()
            );
            lanes.left_out = Some(sentence);
            continue;
        }
        if row == free_from.len() {
            free_from.push(0.0);
        }
        free_from[row] = of.until_s;
        let (left, width) = lanes.axis.span(of.from_s, of.until_s);
        let text = lanes.fitting_name(width, &[of.name]);
        lanes.blocks.push(Block {
            left,
            width,
            top: top + row as u32 * WAIT_PX + 2,
            height: WAIT_PX - 4,
            class: "waiting".to_owned(),
            text,
            title: format!(
                "{} waited from {:.3} s to {:.3} s",
                of.name, of.from_s, of.until_s
            ),
        });
    }
    lanes.lane("waiting", "for GPUs", free_from.len() as u32 * WAIT_PX);
    lanes.gap(8);
}

fn draw_regions(lanes: &mut Lanes, log: &RunLog, (seats, held): (&Seats, &[Held<'_>]), end_s: f64) {
    let rows_used = |region: usize| {
        let stages = held.iter().filter(move |of| of.region == region);
        let rows = stages.flat_map(|of| of.stages.iter().map(|&(_, row)| row as u32 + 1));
        rows.max().unwrap_or(0)
    };
    let named = log.header.gpus.clone();
    let gpus: Vec<u32> = (0..log.header.regions.len())
        .map(|region| {
            named
                .get(region)
                .copied()
                .unwrap_or(0)
                .max(rows_used(region))
        })
        .collect();
    let all = gpus.iter().sum::<u32>().max(1);
    let gpu_px = (ALL_GPUS_PX / all).clamp(2, GPU_PX);
    for (region, name) in log.header.regions.iter().enumerate() {
        let height = (gpus[region] * gpu_px).max(TEXT_PX + 4);
        let more = match gpus[region] {
            1 => "1 GPU".to_owned(),
            gpus => format!("{gpus} GPUs"),
        };
        let top = lanes.lane(name, &more, height);
        lanes.gap(8);
        let here: Vec<&Held<'_>> = held.iter().filter(|of| of.region == region).collect();
        // Below the jobs: what still runs stays in sight.
        let rows = &seats.regions[region].gpus;
        for of in lost(log, (name, gpus[region], rows), &here, end_s) {
            draw_lost(lanes, &of, (top, gpu_px));
        }
        for of in here {
            draw_held(lanes, of, (top, gpu_px));
        }
    }
}

fn draw_held(lanes: &mut Lanes, of: &Held<'_>, (top, gpu_px): (u32, u32)) {
    let (left, width) = lanes.axis.span(of.from_s, of.until_s);
    let inset = u32::from(gpu_px >= TEXT_PX);
    for run in runs(&of.stages, gpu_px) {
        let stages: Vec<String> = run.iter().map(|(stage, _)| stage.to_string()).collect();
        let stages = match stages.as_slice() {
            [one] => format!("stage {one}"),
            many => format!("{} stages", many.len()),
        };
        let long = format!("{} · {stages}", of.name);
        let (row_top, height) = (
            top + run[0].1 as u32 * gpu_px + inset,
            run.len() as u32 * gpu_px - 2 * inset,
        );
        let text = match height + 2 * inset >= TEXT_PX {
            true => lanes.fitting_name(width, &[&long, of.name]),
            false => String::new(),
        };
        let which = match of.is_guess {
            true => " (which GPUs of the region the ledger does not say)",
            false => "",
        };
        let title = format!(
            "{long}, held from {:.3} s to {:.3} s{which}",
            of.from_s, of.until_s
        );
        lanes.blocks.push(Block {
            left,
            width,
            top: row_top,
            height,
            class: job_class(of.job),
            text,
            title,
        });
        if let Some(training_s) = of.attempt.training_s.filter(|at_s| *at_s > of.from_s) {
            let (left, width) = lanes.axis.span(of.from_s, training_s);
            let title = format!("{}: start-up, {:.3} s", of.name, training_s - of.from_s);
            lanes.blocks.push(Block {
                left,
                width,
                top: row_top,
                height,
                class: "loading".to_owned(),
                text: String::new(),
                title,
            });
        }
    }
}

/// Rows that are drawn as one: each of its own where it can hold text, neighbours together else.
fn runs(stages: &[(usize, usize)], gpu_px: u32) -> Vec<Vec<(usize, usize)>> {
    let mut runs: Vec<Vec<(usize, usize)>> = Vec::new();
    for &(stage, row) in stages {
        match runs.last_mut() {
            Some(run) if gpu_px < TEXT_PX && run.last().is_some_and(|last| last.1 + 1 == row) => {
                run.push((stage, row));
            }
            _ => runs.push(vec![(stage, row)]),
        }
    }
    runs
}

fn draw_lost(lanes: &mut Lanes, of: &Lost, (top, gpu_px): (u32, u32)) {
    let (left, width) = lanes.axis.span(of.from_s, of.until_s);
    // Hatched grounds hold no text that could be read.
    lanes.blocks.extend(of.rows.iter().map(|&row| Block {
        left,
        width,
        top: top + row as u32 * gpu_px,
        height: gpu_px,
        class: "lost".to_owned(),
        text: String::new(),
        title: of.title.clone(),
    }));
}

fn keys(lanes: &mut Lanes, log: &RunLog) {
    for (job, of) in log.jobs.iter().enumerate().take(super::words::JOB_CLASSES) {
        lanes.key(&job_class(job), &of.name);
    }
    if log.jobs.len() > super::words::JOB_CLASSES {
        lanes.key(
            "none",
            "further jobs repeat these colours; their blocks and the table name them",
        );
    }
    for (class, text) in [
        ("waiting", "waiting for GPUs"),
        (
            "loading",
            "start-up: connecting, loading, waiting for the device, rehearsing",
        ),
        ("lost", "GPUs that the region had lost"),
    ] {
        if lanes.blocks.iter().any(|block| block.class == class) {
            lanes.key(class, text);
        }
    }
}

fn table(held: &[Held<'_>], waited: &[Waited<'_>], log: &RunLog, side: &Side) -> TableView {
    let mut table = TableView::new(
        format!("Placements and waits, {}", side.label()),
        &[
            "job|",
            "what|",
            "region|",
            "GPUs",
            "stages|",
            "from (s)",
            "until (s)",
        ],
    );
    for of in waited {
        let row = [
            of.name.to_owned(),
            "waited".to_owned(),
            String::new(),
            String::new(),
            String::new(),
            format!("{:.3}", of.from_s),
            format!("{:.3}", of.until_s),
        ];
        let cells = row.map(|text| table.cell(text));
        table.row(cells.into());
    }
    for of in held {
        let mut stages: Vec<usize> = of.stages.iter().map(|&(stage, _)| stage).collect();
        stages.sort_unstable();
        let (first, last) = (stages[0], stages[stages.len() - 1]);
        let row = [
            of.name.to_owned(),
            format!("held, start {}", of.attempt.attempt.0 + 1),
            log.header.regions[of.region].clone(),
            stages.len().to_string(),
            match first == last {
                true => first.to_string(),
                false => format!("{first} to {last}"),
            },
            format!("{:.3}", of.from_s),
            format!("{:.3}", of.until_s),
        ];
        let cells = row.map(|text| table.cell(text));
        table.row(cells.into());
    }
    table
}
