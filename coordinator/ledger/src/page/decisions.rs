//! What was decided, and why.

use bace_api::{Attempt, InputRecord, PathOutcome, PathReason, PlacementReason, Record};
use serde::Deserialize;

use crate::{Figure, RunLog, path_text};

/// Decisions that still serve a person and keep a page within a few megabytes.
const MOST_DECISIONS: usize = 400;
/// Paths of one decision; a scheduler looks at one for each region.
const MOST_PATHS: usize = 24;

/// All that was decided, in order.
pub(super) struct Decisions {
    pub entries: Vec<Entry>,
    pub left_out: Option<String>,
}

/// One decision, or what it follows from.
pub(super) struct Entry {
    /// Seconds since the run's start.
    pub at: String,
    pub job: String,
    /// What became of the job: `placed`, `waits`, …
    pub what: &'static str,
    /// In words.
    pub why: String,
    /// Paths that were looked at.
    pub paths: Vec<Path>,
    pub more_paths: usize,
}

/// A path that was looked at.
pub(super) struct Path {
    pub path: String,
    pub iteration: String,
    pub cost: String,
    pub bottleneck: String,
    pub outcome: String,
    pub is_chosen: bool,
}

impl Decisions {
    /// Those of a ledger.
    pub fn of(log: &RunLog) -> Figure<Self> {
        let mut losses = Losses::default();
        let mut all = log
            .records
            .iter()
            .filter_map(|record| losses.entry(record).or_else(|| entry(record)));
        let entries: Vec<Entry> = all.by_ref().take(MOST_DECISIONS).collect();
        let more = all.count();
        if entries.is_empty() {
            return Figure::Unknown("nothing was decided".into());
        }
        Figure::Known(Self {
            left_out: (more > 0).then(|| {
                format!(
                    "{MOST_DECISIONS} of {} are shown; the ledger holds all.",
                    MOST_DECISIONS + more
                )
            }),
            entries,
        })
    }
}

/// Which jobs lose their GPUs when a region loses some: those whose accounts are closed before anything else comes.
#[derive(Default)]
struct Losses<'a> {
    /// When a region lost GPUs, and which.
    since: Option<(f64, &'a str)>,
    /// The start that was told of last.
    told: Option<(&'a str, Attempt)>,
}

impl<'a> Losses<'a> {
    /// The loss that a record tells of.
    fn entry(&mut self, record: &'a Record) -> Option<Entry> {
        match record {
            Record::Input { at_s, input } => {
                self.since = match input {
                    InputRecord::GpusChanged { region, .. } => Some((*at_s, region)),
                    _ => None,
                };
                None
            }
            Record::Energy(of) => {
                let (at_s, region) = self.since?;
                let start = (of.job.as_str(), of.attempt);
                if self.told.replace(start) == Some(start) {
                    return None;
                }
                let why = format!("its GPUs, since {region} has too few left; it waits again");
                Some(Entry::plain((at_s, &of.job), "lost", why))
            }
            _ => None,
        }
    }
}

fn entry(record: &Record) -> Option<Entry> {
    match record {
        Record::Placed { .. } => placed(record),
        Record::PassedOver {
            at_s,
            job,
            why,
            reason,
        } => {
            let why = match why.is_empty() {
                true => reason.to_string(),
                false => why.clone(),
            };
            Some(Entry::plain((*at_s, job), "waits", why))
        }
        Record::Refused { at_s, job, reason } => {
            Some(Entry::plain((*at_s, job), "refused", reason.clone()))
        }
        Record::JobFinished { at_s, job } => {
            Some(Entry::plain((*at_s, job), "finished", String::new()))
        }
        Record::JobFailed { at_s, job, reason } => {
            Some(Entry::plain((*at_s, job), "failed", reason.clone()))
        }
        Record::WorkerLost {
            at_s,
            worker,
            reason,
        } => {
            let why = format!("worker {worker} is gone: {reason}");
            Some(Entry::plain((*at_s, ""), "change", why))
        }
        Record::Input { at_s, input } => told(*at_s, input),
        _ => None,
    }
}

/// Inputs that decisions follow from.
fn told(at_s: f64, input: &InputRecord) -> Option<Entry> {
    match input {
        InputRecord::Submitted { job } => Some(Entry::plain((at_s, job), "arrived", String::new())),
        InputRecord::GpusChanged { region, gpus } => {
            let why = format!("{region} has {gpus} GPUs from now on");
            Some(Entry::plain((at_s, ""), "change", why))
        }
        InputRecord::LinkChanged {
            from,
            to,
            bandwidth_bps,
            one_way_delay_s,
        } => {
            let delay = one_way_delay_s.map(|delay_s| format!(" and {:.3} ms", delay_s * 1e3));
            let why = format!(
                "{from} → {to} has {:.3} Mbit/s{} from now on",
                bandwidth_bps / 1e6,
                delay.unwrap_or_default()
            );
            Some(Entry::plain((at_s, ""), "change", why))
        }
        _ => None,
    }
}

fn placed(record: &Record) -> Option<Entry> {
    let Record::Placed {
        at_s,
        job,
        k,
        k_star,
        path,
        layers,
        iteration_s,
        reason,
        ..
    } = record
    else {
        return None;
    };
    let path = path_text(path.iter().map(|part| (part.region.as_str(), part.gpus)));
    let layers: Vec<String> = layers.iter().map(u32::to_string).collect();
    let mut why = format!(
        "on {path}; K = {k}, K* = {k_star}; {} layers a stage; an iteration takes {iteration_s:.4} s by formula",
        layers.join(", ")
    );
    let paths = match PlacementReason::deserialize(reason) {
        Ok(reason) => {
            why.push_str(&terms(&reason));
            reason.paths
        }
        Err(error) => {
            why.push_str(&format!("; its reason cannot be read: {error}"));
            Vec::new()
        }
    };
    Some(Entry {
        more_paths: paths.len().saturating_sub(MOST_PATHS),
        paths: paths.iter().take(MOST_PATHS).map(Path::of).collect(),
        ..Entry::plain((*at_s, job), "placed", why)
    })
}

/// What bounded the job's stages, and what gave it its place in the order.
fn terms(reason: &PlacementReason) -> String {
    let mut terms = String::new();
    if let Some(k_full) = reason.k_full {
        terms.push_str(&format!("; K° = {k_full}"));
    }
    terms.push_str(&format!("; at least {} by memory", reason.k_min));
    if let Some(of) = &reason.priority {
        terms.push_str(&format!(
            "; priority {:.4} (α {:.4}, I {:.4}, S {:.4}, aging {:.4})",
            of.priority, of.alpha, of.intensity, of.sensitivity, of.aging
        ));
    }
    terms
}

impl Entry {
    fn plain((at_s, job): (f64, &str), what: &'static str, why: String) -> Self {
        Self {
            at: format!("{at_s:.3}"),
            job: job.to_owned(),
            what,
            why,
            paths: Vec::new(),
            more_paths: 0,
        }
    }
}

impl Path {
    fn of(path: &PathReason) -> Self {
        let regions = path
            .regions
            .iter()
            .map(|(region, gpus)| (region.as_str(), *gpus));
        let dash = || crate::table::UNKNOWN.to_owned();
        Self {
            path: path_text(regions),
            iteration: path.iteration_s.map_or_else(dash, |s| format!("{s:.4}")),
            cost: path.cost_usd.map_or_else(dash, |usd| format!("{usd:.6}")),
            bottleneck: path
                .bottleneck_bps
                .map_or_else(dash, |bps| format!("{:.1}", bps / 1e6)),
            outcome: words(&path.outcome),
            is_chosen: matches!(path.outcome, PathOutcome::Chosen),
        }
    }
}

fn words(outcome: &PathOutcome) -> String {
    match outcome {
        PathOutcome::Chosen => "chosen".to_owned(),
        PathOutcome::TooSlow { limit_s } => format!("too slow: more than {limit_s:.4} s"),
        PathOutcome::Dearer => "dearer than the chosen one".to_owned(),
        PathOutcome::Tied => "as good, found later".to_owned(),
        PathOutcome::Stopped { shortfall } => shortfall.to_string(),
    }
}
