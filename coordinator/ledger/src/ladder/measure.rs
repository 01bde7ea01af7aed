//! What is compared from rung to rung.

use std::collections::{BTreeMap, BTreeSet};

use super::LadderRun;
use crate::Sample;

/// A figure of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    Iteration,
    Jct,
    Makespan,
    Cost,
}

impl Measure {
    pub const ALL: [Self; 4] = [Self::Iteration, Self::Jct, Self::Makespan, Self::Cost];

    /// Its key in JSON, with its unit.
    pub fn key(self) -> &'static str {
        match self {
            Self::Iteration => "mean_iteration_s",
            Self::Jct => "mean_jct_s",
            Self::Makespan => "makespan_s",
            Self::Cost => "cost_usd",
        }
    }

    /// Its heading, without its unit.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Iteration => "iteration",
            Self::Jct => "mean JCT",
            Self::Makespan => "makespan",
            Self::Cost => "cost",
        }
    }

    /// Its unit.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Iteration | Self::Jct | Self::Makespan => "s",
            Self::Cost => "$",
        }
    }

    /// Over the runs that know it, each with all its jobs.
    pub fn sample(self, runs: &[LadderRun]) -> Option<Sample> {
        let values: Vec<f64> = runs.iter().filter_map(|run| self.of(run, None)).collect();
        Sample::of(&values)
    }

    /// Of the runs of two rungs, over the same jobs: those that finished in every run in which any did. Makespan and cost are of
    /// the same work only where every job finished.
    pub fn samples(self, low: &[LadderRun], high: &[LadderRun]) -> Option<(Sample, Sample)> {
        let all = || low.iter().chain(high);
        let common = match self {
            Self::Iteration | Self::Jct => {
                let mut known = all().filter_map(|run| self.by_job(run));
                let known = known.by_ref().filter(|jobs| !jobs.is_empty());
                let mut names = known.map(|jobs| jobs.keys().collect::<BTreeSet<_>>());
                let first = names.next()?;
                Some(names.fold(first, |common, names| &common & &names))
            }
            Self::Makespan | Self::Cost if all().any(|run| run.unfinished.is_some()) => {
                return None;
            }
            Self::Makespan | Self::Cost => None,
        };
        let sample = |runs: &[LadderRun]| {
            let values = runs.iter().filter_map(|run| self.of(run, common.as_ref()));
            Sample::of(&values.collect::<Vec<f64>>())
        };
        Some((sample(low)?, sample(high)?))
    }

    /// Of one run, over the jobs that are `among` these; all where nothing is said.
    fn of(self, run: &LadderRun, among: Option<&BTreeSet<&String>>) -> Option<f64> {
        let Some(jobs) = self.by_job(run) else {
            return match self {
                Self::Cost => run.cost_usd,
                _ => run.makespan_s,
            };
        };
        let counted = jobs
            .iter()
            .filter(|(name, _)| among.is_none_or(|among| among.contains(name)));
        let values: Vec<f64> = counted.map(|(_, value)| *value).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    /// Its values by job; absent for figures of the whole run.
    fn by_job(self, run: &LadderRun) -> Option<&BTreeMap<String, f64>> {
        match self {
            Self::Iteration => Some(&run.iteration_s),
            Self::Jct => Some(&run.jct_s),
            Self::Makespan | Self::Cost => None,
        }
    }
}
