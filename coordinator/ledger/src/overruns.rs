//! Whether actions took the emulated GPU's time, and at which time scale they would have.

use std::collections::BTreeMap;

use bace_api::{Header, IterationRecord};
use bace_netem::TimeScale;

use crate::emulation::HANDFUL;
use crate::notes::duration;
use crate::percent::short_percent;

/// How the paced actions of a run fared.
#[derive(Debug, Clone, PartialEq)]
pub struct OverrunSummary {
    /// Share of a job's paced actions that may be overruns, and of their time that may be excess.
    pub allowed_share: f64,
    /// Each job with paced actions, in scenario order.
    pub jobs: Vec<JobOverruns>,
}

/// How the paced actions of a job fared.
#[derive(Debug, Clone, PartialEq)]
pub struct JobOverruns {
    /// Its name.
    pub job: String,
    /// Paced actions, of all stages.
    pub actions: u64,
    /// Those that took longer than the emulated GPU would have.
    pub overruns: u64,
    /// Worst such excess, seconds; 0 without overruns.
    pub worst_s: f64,
    /// All such excesses together, seconds.
    pub excess_s: f64,
    /// What all paced actions took, excesses included, seconds.
    pub paced_s: f64,
    /// Whether they are more, or longer, than may be.
    pub are_too_many: bool,
    /// The largest time scale that is known to have kept them within what may be, rounded down to two digits; absent where the
    /// run's own did, and where no time scale there is would have, as far as is known.
    pub largest_time_scale: Option<f64>,
}

/// What the records so far say of a job's paced actions.
#[derive(Debug, Clone, Default)]
pub(crate) struct OverrunFold {
    actions: u64,
    pub(crate) overruns: u64,
    pub(crate) worst_s: f64,
    excess_s: f64,
    paced_s: f64,
    /// Overruns of iterations by the time scale at which none would have been one, in steps of two digits, so that a job of any
    /// length has few of them. The bits of positive numbers are in the order of the numbers.
    by_time_scale: BTreeMap<u64, Excess>,
}

/// How often actions were too slow, and by how much together.
#[derive(Debug, Clone, Copy, Default)]
struct Excess {
    overruns: u64,
    /// Emulated seconds.
    excess_s: f64,
}

impl OverrunFold {
    /// Takes an iteration of a stage in, of a run at this time scale.
    pub(crate) fn add(&mut self, record: &IterationRecord, time_scale: f64) {
        let (actions, overruns) = (record.actions.unwrap_or(0), u64::from(record.overruns));
        self.actions = self.actions.saturating_add(actions.into());
        self.overruns = self.overruns.saturating_add(overruns);
        self.worst_s = self.worst_s.max(record.worst_overrun_s);
        if actions > 0 {
            self.paced_s += record.times.busy_s();
        }
        if overruns > 0 {
            let excess_s = record.overrun_s.unwrap_or(0.0);
            self.excess_s += excess_s;
            let needed = record.scale_without_overrun.unwrap_or(0.0) * time_scale;
            let at = self.by_time_scale.entry(rounded_down(needed).to_bits());
            let sum = at.or_default();
            sum.overruns = sum.overruns.saturating_add(overruns);
            sum.excess_s += excess_s;
        }
    }

    fn summary(&self, job: &str, share: f64) -> Option<JobOverruns> {
        let may_be = ((share * self.actions as f64).floor() as u64).max(HANDFUL - 1);
        let are_too_many = self.overruns > may_be || self.excess_s > share * self.paced_s;
        (self.actions > 0).then(|| JobOverruns {
            job: job.to_owned(),
            actions: self.actions,
            overruns: self.overruns,
            worst_s: self.worst_s,
            excess_s: self.excess_s,
            paced_s: self.paced_s,
            are_too_many,
            largest_time_scale: are_too_many
                .then(|| self.largest_time_scale(may_be, share))
                .flatten(),
        })
    }

    /// The largest time scale at which at most `may_be` actions would have been overruns, and their excess at most `share` of
    /// what actions take: a slower one makes none of those that were in time late, and none of the others later, so that the
    /// worst iterations can be left out as long as they have no more overruns and no more excess than that.
    fn largest_time_scale(&self, may_be: u64, share: f64) -> Option<f64> {
        // What is left of the actions' time where nothing is too slow.
        let may_be_s = share * (self.paced_s - self.excess_s).max(0.0);
        let mut left_out = Excess::default();
        let first_that_counts = self.by_time_scale.iter().find(|(_, at)| {
            left_out.overruns = left_out.overruns.saturating_add(at.overruns);
            left_out.excess_s += at.excess_s;
            left_out.overruns > may_be || left_out.excess_s > may_be_s
        });
        let (bits, _) = first_that_counts?;
        Some(f64::from_bits(*bits)).filter(|&scale| scale >= TimeScale::LEAST)
    }
}

/// How the jobs of a run fared; absent where nothing was judged.
pub(crate) fn summary<'a>(
    header: &Header,
    jobs: impl Iterator<Item = (&'a str, &'a OverrunFold)>,
) -> Option<OverrunSummary> {
    let allowed_share = header.overrun_share?;
    Some(OverrunSummary {
        allowed_share,
        jobs: jobs
            .filter_map(|(job, fold)| fold.summary(job, allowed_share))
            .collect(),
    })
}

impl OverrunSummary {
    /// What is wrong, a sentence for each job with more overruns than may be.
    pub(crate) fn faults(&self) -> impl Iterator<Item = String> {
        let too_many = self.jobs.iter().filter(|job| job.are_too_many);
        let faults = too_many.map(|job| {
            let remedy = job.largest_time_scale.map_or_else(
                || "Use".to_owned(),
                |scale| format!("Run it with a time_scale of at most {scale}, or use"),
            );
            format!(
                "{} of {} paced actions of job {} ({}) took longer here than on the emulated GPU, the worst by {}, \
                 all together by {} of {}; more than {} of either are no emulation of it. {remedy} fewer or slower \
                 emulated GPUs, or more cores or devices.",
                job.overruns,
                job.actions,
                job.job,
                short_percent(job.overruns as f64 / job.actions as f64),
                duration(job.worst_s),
                duration(job.excess_s),
                duration(job.paced_s),
                short_percent(self.allowed_share),
            )
        });
        faults.chain(self.of_the_run())
    }

    /// The time scale for all jobs together, where that of no single one's sentence says it.
    fn of_the_run(&self) -> Option<String> {
        let several = self.jobs.iter().filter(|job| job.are_too_many).count() > 1;
        let scale = self.largest_time_scale().filter(|_| several)?;
        Some(format!(
            "For all of these jobs together the run needs a time_scale of at most {scale}."
        ))
    }

    /// The largest time scale that is known to have kept every job within what may be, rounded down to two digits; absent where
    /// the run's own did, and where none is known for one of the jobs.
    pub fn largest_time_scale(&self) -> Option<f64> {
        let too_many = self.jobs.iter().filter(|job| job.are_too_many);
        let scales: Option<Vec<f64>> = too_many.map(|job| job.largest_time_scale).collect();
        scales?.into_iter().reduce(f64::min)
    }

    /// A job's overruns that are within what may be, and the share that may.
    pub(crate) fn tolerated(&self, job: &str) -> Option<(&JobOverruns, String)> {
        let job = self.jobs.iter().find(|of| of.job == job)?;
        (!job.are_too_many).then(|| (job, short_percent(self.allowed_share)))
    }

    /// Whether a job has more overruns than may be.
    pub(crate) fn are_too_many(&self, job: &str) -> bool {
        self.jobs.iter().any(|of| of.job == job && of.are_too_many)
    }
}

/// The largest number of two digits that is not above `value`; 0 for what is no positive number.
pub(crate) fn rounded_down(value: f64) -> f64 {
    // Nobody runs anything slower, and smaller ones have no two digits.
    if !(value.is_finite() && value > 1e-300) {
        return 0.0;
    }
    let exponent = value.log10().floor() as i32 - 1;
    // Read as people write it: 0.3 is no multiple of 0.01 in binary.
    let number = |digits: i64| -> f64 {
        let text = format!("{digits}e{exponent}");
        text.parse().expect("digits and an exponent are a number")
    };
    let mut digits = (value / 10f64.powi(exponent)).floor() as i64 + 1;
    while number(digits) > value {
        digits -= 1;
    }
    number(digits)
}

#[cfg(test)]
mod tests {
    use bace_api::{Attempt, Iteration, StageIndex, StageTimes};
    use proptest::prelude::*;

    use super::*;

    /// Actions of a second each, of which some took ten milliseconds more.
    fn iteration(actions: u32, overruns: u32, scale: Option<f64>) -> IterationRecord {
        let excess_s = 0.01 * f64::from(overruns);
        IterationRecord {
            job: "a".to_owned(),
            attempt: Attempt(1),
            stage: StageIndex(0),
            iteration: Iteration(0),
            from_s: 0.0,
            to_s: 1.0,
            times: StageTimes {
                forward_s: f64::from(actions) + excess_s,
                ..StageTimes::default()
            },
            loss: None,
            tokens: None,
            device_s: None,
            lease_wait_s: None,
            actions: Some(actions),
            overruns,
            worst_overrun_s: 0.01 * f64::from(overruns.min(1)),
            overrun_s: Some(excess_s),
            scale_without_overrun: scale,
        }
    }

    fn judged(iterations: &[(u32, u32, f64)], time_scale: f64) -> JobOverruns {
        let mut fold = OverrunFold::default();
        for &(actions, overruns, scale) in iterations {
            fold.add(&iteration(actions, overruns, Some(scale)), time_scale);
        }
        fold.summary("a", 0.01).unwrap()
    }

    #[test]
    fn two_digits_are_never_above() {
        for (value, expected) in [
            (0.4287, 0.42),
            (0.999, 0.99),
            (9.96, 9.9),
            (10.0, 10.0),
            (0.00099999, 0.00099),
            (1.0, 1.0),
            (0.3, 0.3),
            (123.0, 120.0),
            (0.0, 0.0),
            (f64::NAN, 0.0),
            (f64::INFINITY, 0.0),
            (5e-324, 0.0),
        ] {
            assert_eq!(rounded_down(value), expected, "{value}");
        }
    }

    #[test]
    fn the_worst_iterations_are_left_out_as_long_as_that_may_be() {
        // 10 of 1000 may be. The first two have 9 together; with the third they have 12.
        let run = [
            (400, 4, 0.2),
            (300, 5, 0.31),
            (200, 3, 0.4567),
            (100, 2, 0.9),
        ];
        let job = judged(&run, 1.0);
        assert_eq!((job.actions, job.overruns), (1000, 14));
        assert_eq!((job.are_too_many, job.worst_s), (true, 0.01));
        assert_eq!(job.largest_time_scale, Some(0.45));
        // Relative to the scale that the run had.
        assert_eq!(judged(&run, 0.1).largest_time_scale, Some(0.045));
    }

    #[test]
    fn a_handful_says_nothing_unless_it_is_long() {
        let few = judged(&[(20, 4, 0.1)], 1.0);
        assert_eq!((few.are_too_many, few.largest_time_scale), (false, None));
        let many = judged(&[(20, 5, 0.1)], 1.0);
        assert_eq!(
            (many.are_too_many, many.largest_time_scale),
            (true, Some(0.1))
        );
        let hopeless = judged(&[(20, 5, 0.0)], 1.0);
        assert_eq!(hopeless.largest_time_scale, None);
        // Nobody can run anything that slowly.
        assert_eq!(judged(&[(20, 5, 0.0009)], 1.0).largest_time_scale, None);
    }

    /// What actions of a second each amount to whose overruns took so much longer.
    fn with_excess(actions: u32, overruns: u32, excess_s: f64) -> JobOverruns {
        let mut record = iteration(actions, overruns, Some(0.25));
        record.times.forward_s = f64::from(actions) + excess_s;
        record.overrun_s = Some(excess_s);
        let mut fold = OverrunFold::default();
        fold.add(&record, 1.0);
        fold.summary("a", 0.01).unwrap()
    }

    #[test]
    fn few_actions_that_are_far_too_slow_are_too_many() {
        for (actions, overruns, excess_s, too_many) in [
            (4, 4, 12.0, true),
            (4, 4, 0.01, false),
            (1000, 1, 60.0, true),
            (1000, 1, 9.9, false),
        ] {
            let job = with_excess(actions, overruns, excess_s);
            let told = (job.are_too_many, job.largest_time_scale);
            let expected = (too_many, too_many.then_some(0.25));
            assert_eq!(told, expected, "{overruns} of {actions}, {excess_s} s");
        }
    }

    #[test]
    fn the_run_needs_the_least_of_its_jobs_scales() {
        let run = |jobs| OverrunSummary {
            allowed_share: 0.01,
            jobs,
        };
        let bad = |scale| judged(&[(1000, 125, scale)], 1.0);
        let fine = judged(&[(1000, 3, 0.01)], 1.0);
        assert_eq!(run(vec![fine.clone()]).largest_time_scale(), None);
        let both = run(vec![bad(0.25), fine, bad(0.125)]);
        assert_eq!(both.largest_time_scale(), Some(0.12));
        assert_eq!(
            both.faults().last().unwrap(),
            "For all of these jobs together the run needs a time_scale of at most 0.12."
        );
        let hopeless = run(vec![bad(0.25), bad(0.0)]);
        assert_eq!(hopeless.largest_time_scale(), None);
        assert_eq!(hopeless.faults().count(), 2);
    }

    #[test]
    fn the_fault_names_job_share_excess_and_remedy() {
        let jobs = vec![
            judged(&[(1000, 125, 0.25)], 1.0),
            judged(&[(1000, 3, 0.25)], 1.0),
            judged(&[(1000, 125, 0.0)], 1.0),
        ];
        let summary = OverrunSummary {
            allowed_share: 0.01,
            jobs,
        };
        let faults: Vec<String> = summary.faults().collect();
        assert_eq!(
            faults.join("\n").replace('\u{a0}', " "),
            "125 of 1000 paced actions of job a (12.5 %) took longer here than on the emulated GPU, the worst by 10.00 ms, \
             all together by 1.25 s of 1001.25 s; more than 1 % of either are no emulation of it. Run it with a time_scale of at most 0.25, or use fewer or slower emulated GPUs, \
             or more cores or devices.\n\
             125 of 1000 paced actions of job a (12.5 %) took longer here than on the emulated GPU, the worst by 10.00 ms, \
             all together by 1.25 s of 1001.25 s; more than 1 % of either are no emulation of it. Use fewer or slower emulated GPUs, or more cores or devices."
        );
    }

    /// By how much these actions would have been too slow together, emulated seconds.
    fn excess_at(scale: f64, actions: &[f64]) -> f64 {
        actions.iter().map(|of| (scale / of - 1.0).max(0.0)).sum()
    }

    proptest! {
        #[test]
        fn rounding_loses_little(value in prop_oneof![1e-12f64..1e12, 0.001f64..10.0]) {
            let rounded = rounded_down(value);
            prop_assert!(rounded <= value && rounded > 0.9 * value);
            prop_assert_eq!(rounded_down(rounded), rounded);
        }

        /// Each action as the scale up to which it would have been in time; the emulated GPU takes a second for each.
        #[test]
        fn what_is_suggested_would_have_served(
            iterations in prop::collection::vec(prop::collection::vec(0.05f64..3.0, 1..40), 1..40),
            share in prop_oneof![0.0f64..0.05, 0.05f64..1.0],
        ) {
            let mut fold = OverrunFold::default();
            for actions in &iterations {
                let overruns = actions.iter().filter(|&&scale| scale < 1.0).count();
                let least = actions.iter().copied().fold(f64::INFINITY, f64::min);
                let mut record = iteration(actions.len() as u32, overruns as u32, Some(least));
                let excess_s = excess_at(1.0, actions);
                record.overrun_s = Some(excess_s);
                record.times.forward_s = actions.len() as f64 + excess_s;
                fold.add(&record, 1.0);
            }
            let all: Vec<f64> = iterations.concat();
            let may_be = ((share * all.len() as f64) as usize).max(4);
            let is_too_much_at = |scale: f64| {
                let excess_s = excess_at(scale, &all);
                let overruns = all.iter().filter(|&&of| of < scale).count();
                overruns > may_be || excess_s > share * (all.len() as f64 + excess_s) + 1e-9
            };
            let job = fold.summary("a", share).unwrap();
            prop_assert_eq!(job.are_too_many, is_too_much_at(1.0));
            if let Some(scale) = job.largest_time_scale {
                prop_assert!(scale < 1.0 && !is_too_much_at(scale));
            } else {
                prop_assert!(!job.are_too_many);
            }
        }
    }
}
