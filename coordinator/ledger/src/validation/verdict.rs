//! Whether a prediction is good enough.

use crate::Figure;

/// A figure held against its bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// The policy; absent for all policies together.
    pub policy: Option<String>,
    /// What is judged: the name of a field of [`Tolerances`](crate::Tolerances).
    pub what: &'static str,
    /// The absolute error, a share of what was measured.
    pub value: Figure,
    /// The most it may be.
    pub bound: f64,
}

impl Check {
    /// Whether the figure is known and within its bound.
    pub fn passed(&self) -> bool {
        self.value.known().is_some_and(|value| *value <= self.bound)
    }
}
