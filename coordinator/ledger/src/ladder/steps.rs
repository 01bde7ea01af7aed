//! Steps from rung to rung, and the one to blame.

use super::{LadderRun, LadderRung};
use crate::Sample;

/// A scenario on the rungs that were asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Ladder {
    /// The scenario's name.
    pub scenario: String,
    /// Who decides.
    pub policy: String,
    /// Rung by rung, in the order of [`LadderRung::ALL`].
    pub rungs: Vec<(LadderRung, Climbed)>,
}

/// What came of a rung.
#[derive(Debug, Clone, PartialEq)]
pub enum Climbed {
    /// Its runs: one of a simulation, the repeats of a real one.
    Runs(Vec<LadderRun>),
    /// Why there is none: words that follow a colon.
    Absent(String),
}

/// What is compared from rung to rung.
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

    /// Its heading, with its unit.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Iteration => "iteration (s)",
            Self::Jct => "mean JCT (s)",
            Self::Makespan => "makespan (s)",
            Self::Cost => "cost ($)",
        }
    }

    fn of(self, run: &LadderRun) -> Option<f64> {
        match self {
            Self::Iteration => run.iteration_s,
            Self::Jct => run.mean_jct_s,
            Self::Makespan => run.makespan_s,
            Self::Cost => run.cost_usd,
        }
    }
}

/// A rung beside the one below it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub rung: LadderRung,
    /// The nearest one below that was climbed.
    pub from: LadderRung,
    /// By how much each measure, in the order of [`Measure::ALL`], is above the rung below, as a share of that; absent where one
    /// of the two is not known.
    pub changes: [Option<Change>; 4],
    /// Whether all jobs ran at the same places in all runs of both.
    pub same_placements: bool,
}

/// A difference, and how much of it may be chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    /// A share of the rung below.
    pub share: f64,
    /// Half of the 95 % interval that the repeats of both rungs leave, likewise; absent where none was repeated.
    pub noise: Option<f64>,
}

impl Change {
    /// Whether it is more than chance; one run cannot tell.
    pub fn is_seen(self) -> bool {
        self.noise.is_none_or(|noise| self.share.abs() > noise)
    }
}

impl Ladder {
    /// What came of `rung`; absent where it was not asked for.
    pub(super) fn runs(&self, rung: LadderRung) -> Option<&[LadderRun]> {
        self.rungs.iter().find_map(|(of, climbed)| match climbed {
            Climbed::Runs(runs) if *of == rung && !runs.is_empty() => Some(runs.as_slice()),
            _ => None,
        })
    }

    /// A measure over the runs of a rung that know it.
    pub(super) fn sample(&self, rung: LadderRung, measure: Measure) -> Option<Sample> {
        let runs = self.runs(rung)?.iter();
        let values: Vec<f64> = runs.filter_map(|run| measure.of(run)).collect();
        Sample::of(&values)
    }

    /// Every rung that was climbed beside the nearest below it that was.
    pub(super) fn steps(&self) -> Vec<Step> {
        let climbed = self.rungs.iter().map(|(rung, _)| *rung);
        let climbed = climbed.filter(|&rung| self.runs(rung).is_some());
        climbed.filter_map(|rung| self.step(rung)).collect()
    }

    fn step(&self, rung: LadderRung) -> Option<Step> {
        let mut from = rung.below()?;
        while self.runs(from).is_none() {
            from = from.below()?;
        }
        let (low, high) = (self.runs(from)?, self.runs(rung)?);
        let first = &low.first()?.placements;
        let same = |run: &LadderRun| run.placements == *first;
        Some(Step {
            rung,
            from,
            changes: Measure::ALL.map(|measure| self.change((from, rung), measure)),
            same_placements: low.iter().chain(high).all(same),
        })
    }

    fn change(&self, (from, to): (LadderRung, LadderRung), measure: Measure) -> Option<Change> {
        let (low, high) = (self.sample(from, measure)?, self.sample(to, measure)?);
        if low.mean <= 0.0 {
            return None;
        }
        let widths = [low.half_width, high.half_width].into_iter().flatten();
        // Both are independent, so that their variances add up.
        let squares: Vec<f64> = widths.map(|width| (width / low.mean).powi(2)).collect();
        Some(Change {
            share: (high.mean - low.mean) / low.mean,
            noise: (!squares.is_empty()).then(|| squares.iter().sum::<f64>().sqrt()),
        })
    }

    /// The step whose iteration time, or JCT where that is not known, differs most, if it is more than chance.
    pub(super) fn blamed(&self) -> Option<(Step, Measure, Change)> {
        let steps = self.steps();
        let of = |step: &Step| {
            let known = step.changes[0].map(|change| (Measure::Iteration, change));
            known.or_else(|| step.changes[1].map(|change| (Measure::Jct, change)))
        };
        let seen = steps.into_iter().filter_map(|step| {
            let (measure, change) = of(&step)?;
            (change.is_seen() && change.share != 0.0).then_some((step, measure, change))
        });
        seen.max_by(|a, b| a.2.share.abs().total_cmp(&b.2.share.abs()))
    }

    /// Whether every job of every run finished.
    pub fn succeeded(&self) -> bool {
        let runs = self.rungs.iter().filter_map(|(rung, _)| self.runs(*rung));
        let mut runs = runs.flatten().peekable();
        runs.peek().is_some() && runs.all(|run| run.unfinished.is_none())
    }
}
