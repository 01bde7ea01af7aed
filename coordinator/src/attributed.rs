//! Where the time of a run's stages went, beside where it was predicted to go.

use std::path::Path;

use bace_api::ClockKind;
use bace_ledger::{Attributed, Figure, Measured, Predicted, RunLog, attribute};

use crate::predicted::predicted;

/// The attribution of `log`, which was read from `dir`, a ledger or a run's folder. A real run is simulated once more, from what its
/// folder keeps.
pub fn attributed(dir: &Path, log: &RunLog) -> Attributed {
    let own = attribute(log);
    if log.header.clock == ClockKind::Virtual {
        return Attributed::Simulated(Predicted(own));
    }
    let predicted = if own.is_known() {
        match predicted(dir, log) {
            Ok(Predicted(simulated)) => Figure::Known(Predicted(attribute(&simulated))),
            Err(error) => {
                Figure::Unknown(format!("failed to {}", bace_api::told(error.as_ref())).into())
            }
        }
    } else {
        Figure::Unknown("nothing was measured that it could stand beside".into())
    };
    Attributed::Real {
        measured: Measured(own),
        predicted,
    }
}
