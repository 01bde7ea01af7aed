//! Whether a prediction is good enough.

use super::{Accuracy, Tolerances};
use crate::Figure;

/// An error held against its bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// The policy; absent for all policies together.
    pub policy: Option<String>,
    /// What is judged: the name of a field of [`Tolerances`].
    pub what: &'static str,
    /// The absolute error, a share of what was measured.
    pub error: Figure,
    /// Its noise floor.
    pub noise: Figure,
    /// The most that the error may be.
    pub bound: f64,
}

impl Check {
    /// Whether the error is known and within its bound. Noise excuses nothing.
    pub fn passed(&self) -> bool {
        self.error.known().is_some_and(|error| *error <= self.bound)
    }

    /// Whether the repeats are farther apart than the prediction may be off, so that the machine cannot tell.
    pub fn is_drowned(&self) -> bool {
        self.noise.known().is_some_and(|noise| *noise > self.bound)
    }
}

/// All checks of a policy, or of all policies together.
pub(super) fn checks(
    policy: Option<&str>,
    tolerances: &Tolerances,
    iterations: &Accuracy,
    jcts: &Accuracy,
) -> Vec<Check> {
    let check = |what, accuracy: &Accuracy, is_max: bool, bound| {
        let of = |figure: &Figure<super::ErrorStatistics>| {
            figure
                .clone()
                .map(|it| if is_max { it.max } else { it.mean })
        };
        Check {
            policy: policy.map(str::to_owned),
            what,
            error: of(&accuracy.errors),
            noise: of(&accuracy.noise),
            bound,
        }
    };
    vec![
        check(
            "iteration_mean",
            iterations,
            false,
            tolerances.iteration_mean,
        ),
        check("iteration_max", iterations, true, tolerances.iteration_max),
        check("jct_mean", jcts, false, tolerances.jct_mean),
        check("jct_max", jcts, true, tolerances.jct_max),
    ]
}
