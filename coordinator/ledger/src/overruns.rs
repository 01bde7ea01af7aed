//! Whether actions took the emulated GPU's time, and at which time scale they would have.

use std::collections::BTreeMap;

use bace_api::{Header, IterationRecord};

use crate::emulation::HANDFUL;
use crate::notes::duration;

/// How the paced actions of a run fared.
#[derive(Debug, Clone, PartialEq)]
pub struct OverrunSummary {
    /// Share of a job's paced actions that may be overruns.
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
    /// Whether they are more than may be.
    pub are_too_many: bool,
    /// The largest time scale that is known to have kept them within what may be, rounded down to two digits; absent where the
    /// run's own did, and where none is known.
    pub largest_time_scale: Option<f64>,
}

/// What the records so far say of a job's paced actions.
#[derive(Debug, Clone, Default)]
pub(crate) struct OverrunFold {
    actions: u64,
    pub(crate) overruns: u64,
    pub(crate) worst_s: f64,
    /// Overruns of iterations by the time scale at which none would have been one, in steps of two digits, so that a job of any
    /// length has few of them. The bits of positive numbers are in the order of the numbers.
    by_time_scale: BTreeMap<u64, u64>,
}

impl OverrunFold {
    /// Takes an iteration of a stage in, of a run at this time scale.
    pub(crate) fn add(&mut self, record: &IterationRecord, time_scale: f64) {
        let (actions, overruns) = (record.actions.unwrap_or(0), u64::from(record.overruns));
        self.actions = self.actions.saturating_add(actions.into());
        self.overruns = self.overruns.saturating_add(overruns);
        self.worst_s = self.worst_s.max(record.worst_overrun_s);
        if overruns > 0 {
            let needed = record.scale_without_overrun.unwrap_or(0.0) * time_scale;
            let at = self.by_time_scale.entry(rounded_down(needed).to_bits());
            let sum = at.or_default();
            *sum = sum.saturating_add(overruns);
        }
    }

    fn summary(&self, job: &str, share: f64) -> Option<JobOverruns> {
        let may_be = ((share * self.actions as f64).floor() as u64).max(HANDFUL - 1);
        let are_too_many = self.overruns > may_be;
        (self.actions > 0).then(|| JobOverruns {
            job: job.to_owned(),
            actions: self.actions,
            overruns: self.overruns,
            worst_s: self.worst_s,
            are_too_many,
            largest_time_scale: are_too_many
                .then(|| self.largest_time_scale(may_be))
                .flatten(),
        })
    }

    /// The largest time scale at which at most `may_be` actions would have been overruns: a slower one makes none of those that
    /// were in time late, so that the worst iterations can be left out as long as they have no more overruns than that.
    fn largest_time_scale(&self, may_be: u64) -> Option<f64> {
        let mut left_out = 0u64;
        let first_that_counts = self.by_time_scale.iter().find(|(_, overruns)| {
            left_out = left_out.saturating_add(**overruns);
            left_out > may_be
        });
        let (bits, _) = first_that_counts?;
        Some(f64::from_bits(*bits)).filter(|&scale| scale > 0.0)
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
        too_many.map(|job| {
            let remedy = job.largest_time_scale.map_or_else(
                || "Use".to_owned(),
                |scale| format!("Run it with a time_scale of at most {scale}, or use"),
            );
            format!(
                "{} of {} paced actions of job {} ({}) took longer here than on the emulated GPU, the worst by {}; \
                 more than {} are no emulation of it. {remedy} fewer or slower emulated GPUs, or more cores or devices.",
                job.overruns,
                job.actions,
                job.job,
                percent(job.overruns as f64 / job.actions as f64),
                duration(job.worst_s),
                percent(self.allowed_share),
            )
        })
    }

    /// A job's overruns that are within what may be, and the share that may.
    pub(crate) fn tolerated(&self, job: &str) -> Option<(&JobOverruns, String)> {
        let job = self.jobs.iter().find(|of| of.job == job)?;
        (!job.are_too_many).then(|| (job, percent(self.allowed_share)))
    }

    /// Whether a job has more overruns than may be.
    pub(crate) fn are_too_many(&self, job: &str) -> bool {
        self.jobs.iter().any(|of| of.job == job && of.are_too_many)
    }
}

fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent > 0.0 && percent < 0.1 {
        format!("{percent:.3} %")
    } else {
        // As short as it is.
        format!("{} %", (percent * 10.0).round() / 10.0)
    }
}

/// The largest number of two digits that is not above `value`; 0 for what is no positive number.
fn rounded_down(value: f64) -> f64 {
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

    fn iteration(actions: u32, overruns: u32, scale: Option<f64>) -> IterationRecord {
        IterationRecord {
            job: "a".to_owned(),
            attempt: Attempt(1),
            stage: StageIndex(0),
            iteration: Iteration(0),
            from_s: 0.0,
            to_s: 1.0,
            times: StageTimes::default(),
            loss: None,
            tokens: None,
            device_s: None,
            lease_wait_s: None,
            actions: Some(actions),
            overruns,
            worst_overrun_s: 0.25 * f64::from(overruns),
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
        assert_eq!((job.are_too_many, job.worst_s), (true, 1.25));
        assert_eq!(job.largest_time_scale, Some(0.45));
        // Relative to the scale that the run had.
        assert_eq!(judged(&run, 0.1).largest_time_scale, Some(0.045));
    }

    #[test]
    fn a_handful_says_nothing() {
        let few = judged(&[(20, 4, 0.1)], 1.0);
        assert_eq!((few.are_too_many, few.largest_time_scale), (false, None));
        let many = judged(&[(20, 5, 0.1)], 1.0);
        assert_eq!(
            (many.are_too_many, many.largest_time_scale),
            (true, Some(0.1))
        );
        let hopeless = judged(&[(20, 5, 0.0)], 1.0);
        assert_eq!(hopeless.largest_time_scale, None);
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
            "125 of 1000 paced actions of job a (12.5 %) took longer here than on the emulated GPU, the worst by 31.25 s; more \
             than 1 % are no emulation of it. Run it with a time_scale of at most 0.25, or use fewer or slower emulated GPUs, \
             or more cores or devices.\n\
             125 of 1000 paced actions of job a (12.5 %) took longer here than on the emulated GPU, the worst by 31.25 s; more \
             than 1 % are no emulation of it. Use fewer or slower emulated GPUs, or more cores or devices."
        );
    }

    proptest! {
        #[test]
        fn rounding_loses_little(value in prop_oneof![1e-12f64..1e12, 0.001f64..10.0]) {
            let rounded = rounded_down(value);
            prop_assert!(rounded <= value && rounded > 0.9 * value);
            prop_assert_eq!(rounded_down(rounded), rounded);
        }

        /// Each action as the scale up to which it would have been in time.
        #[test]
        fn what_is_suggested_would_have_served(
            iterations in prop::collection::vec(prop::collection::vec(0.05f64..3.0, 1..40), 1..40),
        ) {
            let mut fold = OverrunFold::default();
            for actions in &iterations {
                let overruns = actions.iter().filter(|&&scale| scale < 1.0).count();
                let least = actions.iter().copied().fold(f64::INFINITY, f64::min);
                fold.add(&iteration(actions.len() as u32, overruns as u32, Some(least)), 1.0);
            }
            let all: Vec<f64> = iterations.concat();
            let may_be = ((0.01 * all.len() as f64) as usize).max(4);
            let overruns_at = |scale: f64| all.iter().filter(|&&of| of < scale).count();
            let job = fold.summary("a", 0.01).unwrap();
            prop_assert_eq!(job.are_too_many, overruns_at(1.0) > may_be);
            if let Some(scale) = job.largest_time_scale {
                prop_assert!(scale < 1.0 && overruns_at(scale) <= may_be);
            } else {
                prop_assert!(!job.are_too_many);
            }
        }
    }
}
