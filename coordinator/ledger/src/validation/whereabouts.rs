//! Where in a set of runs something was found.

use std::fmt;

use bace_api::{Attempt, Iteration, StageIndex};

/// A place in the runs of a policy, as exact as is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Whereabouts {
    /// The policy.
    pub policy: String,
    /// The repeat, from 1.
    pub repeat: usize,
    /// The job.
    pub job: Option<String>,
    /// Which start of it.
    pub attempt: Option<Attempt>,
    /// The iteration.
    pub iteration: Option<Iteration>,
    /// The stage.
    pub stage: Option<StageIndex>,
    /// Place of the action in the stage's iteration, from 0.
    pub action: Option<usize>,
}

impl fmt::Display for Whereabouts {
    /// `bace-pipe, repeat 2, job a, iteration 3, stage 1`; the first start of a job is not named.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, repeat {}", self.policy, self.repeat)?;
        if let Some(job) = &self.job {
            write!(f, ", job {job}")?;
        }
        if let Some(attempt) = self.attempt.filter(|attempt| attempt.0 > 0) {
            write!(f, ", attempt {attempt}")?;
        }
        if let Some(iteration) = self.iteration {
            write!(f, ", iteration {iteration}")?;
        }
        if let Some(stage) = self.stage {
            write!(f, ", stage {stage}")?;
        }
        match self.action {
            Some(action) => write!(f, ", action {action}"),
            None => Ok(()),
        }
    }
}
