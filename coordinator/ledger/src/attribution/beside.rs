//! What was measured beside what was predicted.

use super::Attribution;
use crate::{Figure, Measured, Predicted};

/// An attribution with its other side.
#[derive(Debug, Clone, PartialEq)]
pub enum Attributed {
    /// Of a real run.
    Real {
        /// Where its time went.
        measured: Measured<Attribution>,
        /// Where that of its simulation goes, or why it could not be simulated.
        predicted: Figure<Predicted<Attribution>>,
    },
    /// Of a simulation, beside which there is nothing.
    Simulated(Predicted<Attribution>),
}

impl Attributed {
    /// The attribution of the ledger itself.
    pub fn own(&self) -> &Attribution {
        match self {
            Self::Real { measured, .. } => &measured.0,
            Self::Simulated(predicted) => &predicted.0,
        }
    }

    /// What was predicted beside what was measured; absent for a simulation, and where it could not be predicted.
    pub fn beside(&self) -> Option<&Attribution> {
        match self {
            Self::Real { predicted, .. } => predicted.known().map(|predicted| &predicted.0),
            Self::Simulated(_) => None,
        }
    }

    /// The word for the ledger's own figures.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Real { .. } => "measured",
            Self::Simulated(_) => "predicted",
        }
    }
}
