//! Steps from rung to rung, and the one to blame.

use super::measure::Measure;
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
    /// It was tried: once where it is simulated, repeat by repeat where it is real.
    Runs {
        /// Those that came to an end of their own.
        runs: Vec<LadderRun>,
        /// Why the others did not, each a phrase that follows "a run".
        failed: Vec<String>,
        /// Why some did not begin or were cut short, such as `interrupted by Ctrl-C`.
        stopped: Option<String>,
    },
    /// This machine or the scenario does not allow it, and nobody asked for it by name: words that follow a colon.
    NotPossible(String),
}

impl Climbed {
    /// A rung all of whose runs came to their ends.
    pub fn whole(runs: Vec<LadderRun>) -> Self {
        Self::Runs {
            runs,
            failed: Vec::new(),
            stopped: None,
        }
    }

    /// Runs that came to an end of their own.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::NotPossible(_) => 0,
            Self::Runs { runs, .. } => runs.len(),
        }
    }

    fn succeeded(&self) -> bool {
        match self {
            Self::NotPossible(_) => true,
            Self::Runs {
                runs,
                failed,
                stopped,
            } => {
                let good = |run: &LadderRun| run.unfinished.is_none() && run.valid != Some(false);
                failed.is_empty() && stopped.is_none() && runs.iter().all(good)
            }
        }
    }
}

/// A rung beside one below it.
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
    /// Whether no run of either was found to be something else than the scenario says.
    pub valid: bool,
}

/// A difference, and how much of it may be chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    /// A share of the rung below.
    pub share: f64,
    /// Half of the 95 % interval that the repeats of both rungs leave, likewise: 0 between simulations, which have no chance in
    /// them, absent where a real rung has one run.
    pub noise: Option<f64>,
}

impl Change {
    /// Whether it may be more than chance; one run cannot tell.
    fn may_be_seen(self) -> bool {
        self.share.abs() > self.noise.unwrap_or(0.0)
    }
}

impl Step {
    /// All that the rung adds to the one it is compared with, from there upwards.
    pub fn between(&self) -> Vec<&'static str> {
        let up_to = |rung: &LadderRung| rung.below().filter(|&below| below != self.from);
        let rungs = std::iter::successors(Some(self.rung), up_to);
        let mut added: Vec<_> = rungs.filter_map(LadderRung::blamed).collect();
        added.reverse();
        added
    }

    /// Iteration time, or mean JCT where that is not known.
    pub fn judged(&self) -> Option<(Measure, Change)> {
        let [iteration, jct, ..] = self.changes;
        let iteration = iteration.map(|change| (Measure::Iteration, change));
        iteration.or_else(|| jct.map(|change| (Measure::Jct, change)))
    }

    /// Whether its difference is of the same decisions, and of runs that were what the scenario says.
    pub fn is_comparable(&self) -> bool {
        self.same_placements && self.valid
    }
}

/// Half of the 95 % interval of a sample of `rung`: 0 of a simulation, in which there is no chance, absent of one real run.
fn half_width(rung: LadderRung, sample: &Sample) -> Option<f64> {
    let simulated = rung.is_simulated().then_some(0.0);
    simulated.or(sample.half_width)
}

/// The same as a share of the sample's mean.
pub(super) fn share_of_chance(rung: LadderRung, sample: &Sample) -> Option<f64> {
    let half_width = half_width(rung, sample)?;
    (sample.mean > 0.0).then(|| half_width / sample.mean)
}

impl Ladder {
    /// The runs of `rung`; absent where it has none.
    pub(super) fn runs(&self, rung: LadderRung) -> Option<&[LadderRun]> {
        self.rungs.iter().find_map(|(of, climbed)| match climbed {
            Climbed::Runs { runs, .. } if *of == rung && !runs.is_empty() => Some(runs.as_slice()),
            _ => None,
        })
    }

    /// A measure over the runs of a rung that know it.
    pub(super) fn sample(&self, rung: LadderRung, measure: Measure) -> Option<Sample> {
        measure.sample(self.runs(rung)?)
    }

    /// Whether the runs of a rung were what the scenario says: false if one was not, absent where one does not know.
    pub(super) fn valid(&self, rung: LadderRung) -> Option<bool> {
        let runs = self.runs(rung)?;
        if runs.iter().any(|run| run.valid == Some(false)) {
            return Some(false);
        }
        runs.iter()
            .all(|run| run.valid == Some(true))
            .then_some(true)
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
            valid: [from, rung]
                .iter()
                .all(|&rung| self.valid(rung) != Some(false)),
        })
    }

    fn change(&self, (from, to): (LadderRung, LadderRung), measure: Measure) -> Option<Change> {
        let (low, high) = measure.samples(self.runs(from)?, self.runs(to)?)?;
        if low.mean <= 0.0 {
            return None;
        }
        // Both are independent, so that their variances add up.
        let noise = half_width(from, &low)
            .zip(half_width(to, &high))
            .map(|(below, above)| below.hypot(above) / low.mean);
        Some(Change {
            share: (high.mean - low.mean) / low.mean,
            noise,
        })
    }

    /// The step whose iteration time, or JCT where that is not known, differs most, of those that can be compared and that are
    /// not within chance.
    pub(super) fn blamed(&self) -> Option<(Step, Measure, Change)> {
        let comparable = self.steps().into_iter().filter(Step::is_comparable);
        let seen = comparable.filter_map(|step| {
            let (measure, change) = step.judged()?;
            change.may_be_seen().then_some((step, measure, change))
        });
        seen.max_by(|a, b| a.2.share.abs().total_cmp(&b.2.share.abs()))
    }

    /// Whether every run that was asked for came to its end, finished every job, and was not found to be something else than the
    /// scenario says.
    pub fn succeeded(&self) -> bool {
        let mut rungs = self.rungs.iter();
        rungs.any(|(rung, _)| self.runs(*rung).is_some())
            && self.rungs.iter().all(|(_, climbed)| climbed.succeeded())
    }
}
