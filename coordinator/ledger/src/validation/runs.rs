//! What is compared: one prediction of a policy's run, and the real runs of it.

use crate::{Measured, Predicted, RunLog};

/// The runs of one scenario under one policy.
#[derive(Debug, Clone)]
pub struct PolicyRuns {
    /// The policy's name.
    pub policy: String,
    /// Its simulation, with `event` iterations.
    pub predicted: Predicted<RunLog>,
    /// Its real runs, the repeats, all on one rung.
    pub measured: Vec<Measured<RunLog>>,
    /// Real runs that did not come to their end: which and why, a phrase each, such as `repeat 3: failed to …`.
    pub failed: Vec<String>,
}
