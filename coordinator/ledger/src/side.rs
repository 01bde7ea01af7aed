//! Whether a figure was measured or predicted: the two cannot be swapped.

/// From a real run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Measured<T>(pub T);

/// From a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Predicted<T>(pub T);

impl Predicted<f64> {
    /// By how much it is above what was `measured`, as a share of that; absent where nothing was measured to divide by.
    pub fn error(self, measured: Measured<f64>) -> Option<f64> {
        (measured.0 > 0.0).then(|| (self.0 - measured.0) / measured.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_signed_shares_of_what_was_measured() {
        assert_eq!(Predicted(1.5).error(Measured(2.0)), Some(-0.25));
        assert_eq!(Predicted(3.0).error(Measured(2.0)), Some(0.5));
        assert_eq!(Predicted(3.0).error(Measured(0.0)), None);
    }
}
