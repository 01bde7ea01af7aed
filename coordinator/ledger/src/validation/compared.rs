//! A figure as it was predicted and as it was measured.

use super::Accuracy;
use super::errors::{Errors, Pairing, Scale};
use crate::totals::mean;
use crate::{Figure, Measured, Predicted};

/// A figure, or the mean of many of a sort, on both sides. In the figure's unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// The prediction: its mean over what joins, each figure as often as repeats have it.
    pub predicted: Figure<Predicted<f64>>,
    /// The mean over the same.
    pub measured: Figure<Measured<f64>>,
    /// By repeat, over what joins there; absent where the repeat has none.
    pub repeats: Vec<Option<Measured<f64>>>,
    /// Errors as shares of what was measured.
    pub shares: Accuracy,
    /// Errors in the figure's unit: predicted less measured.
    pub differences: Accuracy,
}

impl Compared {
    /// Of `pairings` of one sort; where there are none, `missing` says why.
    pub(super) fn of(pairings: &[Pairing], missing: &'static str) -> Self {
        let joined = pairings.iter().flat_map(|pairing| {
            let known = pairing.measured.iter().flatten();
            known.map(|measured| (pairing.predicted.0, measured.0))
        });
        let (mut predicted, measured): (Vec<f64>, Vec<f64>) = joined.unzip();
        if predicted.is_empty() {
            predicted.extend(pairings.iter().map(|pairing| pairing.predicted.0));
        }
        let repeats = pairings.iter().map(|pairing| pairing.measured.len()).max();
        let of_repeat = |repeat: usize| {
            let known = pairings
                .iter()
                .filter_map(|pairing| *pairing.measured.get(repeat)?);
            let known: Vec<f64> = known.map(|measured| measured.0).collect();
            (!known.is_empty()).then(|| Measured(mean(&known)))
        };
        let accuracy = |scale| Errors::of(scale, pairings).accuracy(missing);
        Self {
            predicted: known_mean(&predicted, missing).map(Predicted),
            measured: known_mean(&measured, "no repeat has it").map(Measured),
            repeats: (0..repeats.unwrap_or(0)).map(of_repeat).collect(),
            shares: accuracy(Scale::Share),
            differences: accuracy(Scale::Difference),
        }
    }

    /// Lowest and highest of the repeats that have it.
    pub fn measured_range(&self) -> Option<[Measured<f64>; 2]> {
        let known = self.repeats.iter().flatten().map(|measured| measured.0);
        let lowest = known.clone().reduce(f64::min)?;
        Some([lowest, known.reduce(f64::max)?].map(Measured))
    }
}

fn known_mean(values: &[f64], missing: &'static str) -> Figure {
    if values.is_empty() {
        return Figure::Unknown(missing.into());
    }
    Figure::real(mean(values))
}
