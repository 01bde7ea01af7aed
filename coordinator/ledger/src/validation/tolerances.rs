//! How far off a prediction may be.

/// Bounds of absolute errors, shares of what was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerances {
    /// Of iteration times, their mean.
    pub iteration_mean: f64,
    /// Of iteration times, the largest.
    pub iteration_max: f64,
    /// Of job completion times, their mean.
    pub jct_mean: f64,
    /// Of job completion times, the largest.
    pub jct_max: f64,
}

impl Default for Tolerances {
    fn default() -> Self {
        Self {
            iteration_mean: 0.02,
            iteration_max: 0.05,
            jct_mean: 0.03,
            jct_max: 0.10,
        }
    }
}
