//! What a ladder keeps of a run.

use std::collections::BTreeMap;

use bace_api::PlacedRegion;

use crate::{JobStatus, JobSummary, Summary};

/// One run of a rung. Times are emulated seconds; a figure that is not known is absent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LadderRun {
    /// What an iteration took each finished job, its set-up left out, by the job's name.
    pub iteration_s: BTreeMap<String, f64>,
    /// JCT of each finished job, likewise.
    pub jct_s: BTreeMap<String, f64>,
    /// When the last job ended.
    pub makespan_s: Option<f64>,
    /// Dollars.
    pub cost_usd: Option<f64>,
    /// Where each job that was placed ran, in the scenario's order.
    pub placements: Vec<(String, Vec<PlacedRegion>)>,
    /// Why not every job finished; absent where all did.
    pub unfinished: Option<String>,
    /// Whether the emulation was what the scenario says; absent where nobody measured that.
    pub valid: Option<bool>,
    /// Why it was not, a sentence each.
    pub faults: Vec<String>,
}

impl LadderRun {
    /// What is kept of `summary`, whose jobs have so many `iterations`, by name.
    pub fn of(summary: &Summary, iterations: &BTreeMap<String, u32>) -> Self {
        let by_formula = summary.header.is_by_formula();
        let took = summary.jobs.iter().filter_map(|job| {
            let count = iterations.get(&job.name).filter(|&&count| count > 0)?;
            let iteration_s = trained_s(job, by_formula)? / f64::from(*count);
            Some((job.name.clone(), iteration_s))
        });
        let finished = summary
            .jobs
            .iter()
            .filter(|job| job.status == JobStatus::Finished);
        let jcts = finished.filter_map(|job| Some((job.name.clone(), *job.jct_s.known()?)));
        let placed = summary.jobs.iter().filter_map(|job| {
            let placed = job.placed.as_ref()?;
            Some((job.name.clone(), placed.path.clone()))
        });
        let unfinished = summary
            .jobs
            .iter()
            .find(|job| job.status != JobStatus::Finished);
        Self {
            iteration_s: took.collect(),
            jct_s: jcts.collect(),
            makespan_s: summary.totals.makespan_s.known().copied(),
            cost_usd: summary.totals.cost_usd.known().copied(),
            placements: placed.collect(),
            unfinished: unfinished.map(|job| format!("job {} is {}", job.name, job.status.word())),
            valid: summary.emulation.valid.known().copied(),
            faults: summary.emulation.faults.clone(),
        }
    }
}

/// From the begin of a job's first iteration to its end; absent where it did not finish, or was started more than once. A simulation
/// by formula knows no set-up: there iterations begin with the placement.
fn trained_s(job: &JobSummary, by_formula: bool) -> Option<f64> {
    if job.status != JobStatus::Finished {
        return None;
    }
    let begin = if by_formula {
        &job.started_s
    } else {
        &job.iterates_s
    };
    let begin_s = begin.known()?;
    let once = job.placed.as_ref().is_some_and(|placed| placed.starts == 1);
    let end_s = job.finished_s.known()?;
    once.then(|| end_s - begin_s)
}
