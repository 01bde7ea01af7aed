//! What the engine wants done.

use bace_api::{Attempt, JobId, Placement};
use bace_models::StageSeconds;

/// Why a driver fails a job that can never get any further.
pub const DEAD_LINK: &str = "a link on its path carries nothing any more";

/// An order to whoever executes the stages.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Train a job.
    Start(Box<Start>),
    /// A running job's shares of its links changed.
    Rates(Rates),
    /// Drop a job: it lost GPUs and is back in the queue.
    Cancel {
        /// The job.
        job: JobId,
        /// Which start of it.
        attempt: Attempt,
        /// Why, as a sentence.
        reason: String,
    },
}

/// A job to train, with all that its programs and predictions follow from.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// The job.
    pub job: JobId,
    /// Which start of it.
    pub attempt: Attempt,
    /// Where its stages run.
    pub placement: Placement,
    /// What each stage takes on its GPU.
    pub stage_seconds: Vec<StageSeconds>,
    /// The iteration to begin with: how many are done.
    pub first_iteration: u32,
    /// Predicted seconds of an iteration by the analytic formula at this instant's shares; infinite on a dead link.
    pub iteration_s: f64,
    /// Bits per second of each stage boundary, K − 1 of them: the fabric's rate inside a region, the job's
    /// share on links between regions.
    pub rates: Vec<f64>,
    /// Seconds from a bit's leaving to its arrival over each stage boundary, in the direction of activations.
    pub delays_s: Vec<f64>,
}

/// A running job's shares from now on.
#[derive(Debug, Clone, PartialEq)]
pub struct Rates {
    /// The job.
    pub job: JobId,
    /// Which start of it.
    pub attempt: Attempt,
    /// Seconds of an iteration by the analytic formula at these shares; infinite on a dead link.
    pub iteration_s: f64,
    /// Bits per second of each stage boundary, as in [`Start`].
    pub rates: Vec<f64>,
}
