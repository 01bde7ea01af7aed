//! The starts of jobs, in the order in which they were placed.

use crate::{AttemptLog, JobLog, RunLog};

/// One start of a job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    pub job: &'a JobLog,
    pub attempt: &'a AttemptLog,
}

/// All starts of all jobs, by when they were placed, then in the header's order of jobs.
pub(super) fn runs(log: &RunLog) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    for job in &log.jobs {
        let attempts = job.attempts.iter();
        runs.extend(attempts.map(|attempt| Run { job, attempt }));
    }
    runs.sort_by(|a, b| a.attempt.placed_s.total_cmp(&b.attempt.placed_s));
    runs
}

impl Run<'_> {
    /// Which start it is, where it is not the only one's first.
    pub fn again(&self) -> Option<u32> {
        (self.attempt.attempt.0 > 0).then_some(self.attempt.attempt.0)
    }

    /// When its GPUs were free again, or the last that is known of it.
    pub fn until_s(&self, log_end_s: f64) -> f64 {
        self.attempt.released_s.unwrap_or(log_end_s)
    }
}
