//! The starts of jobs, in the order in which they were placed.

use crate::{AttemptLog, JobLog, RunLog};

/// One start of a job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'a> {
    /// The job's place in the run.
    pub index: usize,
    pub job: &'a JobLog,
    pub attempt: &'a AttemptLog,
}

/// All starts of all jobs, by when they were placed, then in the header's order of jobs.
pub(crate) fn starts(log: &RunLog) -> Vec<Start<'_>> {
    let mut starts: Vec<Start<'_>> = Vec::new();
    for (index, job) in log.jobs.iter().enumerate() {
        let attempts = job.attempts.iter();
        starts.extend(attempts.map(|attempt| Start {
            index,
            job,
            attempt,
        }));
    }
    starts.sort_by(|a, b| a.attempt.placed_s.total_cmp(&b.attempt.placed_s));
    starts
}

impl Start<'_> {
    /// Which start it is, where it is not the only one's first.
    pub fn again(&self) -> Option<u32> {
        (self.attempt.attempt.0 > 0).then_some(self.attempt.attempt.0)
    }

    /// When its GPUs were free again, or the last that is known of it.
    pub fn until_s(&self, log_end_s: f64) -> f64 {
        self.attempt.released_s.unwrap_or(log_end_s)
    }
}
