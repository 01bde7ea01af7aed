//! Where the time of a run's stages went, beside where it was predicted to go.

use std::path::Path;

use bace_api::ClockKind;
use bace_ledger::{Attributed, Figure, Measured, Predicted, RunLog, attribute};

use crate::kept_prediction::kept_prediction;
use crate::predicted::predicted;

/// The simulation of a real run that `log` was read of in `dir`, a ledger or a run's folder, as a validation has kept it beside the run
/// or made anew; else why there is none.
pub fn prediction(dir: &Path, log: &RunLog) -> Figure<Predicted<RunLog>> {
    if log.header.clock == ClockKind::Virtual {
        return Figure::Unknown("it is a simulation itself".into());
    }
    if let Some(kept) = kept_prediction(dir, &log.header) {
        return Figure::Known(kept);
    }
    match predicted(dir, log) {
        Ok(simulated) => Figure::Known(simulated),
        Err(error) => {
            Figure::Unknown(format!("failed to {}", bace_api::told(error.as_ref())).into())
        }
    }
}

/// The attribution of `log` beside that of its prediction.
pub fn attributed(log: &RunLog, predicted: &Figure<Predicted<RunLog>>) -> Attributed {
    let own = attribute(log);
    if log.header.clock == ClockKind::Virtual {
        return Attributed::Simulated(Predicted(own));
    }
    Attributed::Real {
        measured: Measured(own),
        predicted: match predicted {
            Figure::Known(Predicted(simulated)) => Figure::Known(Predicted(attribute(simulated))),
            Figure::Unknown(reason) => Figure::Unknown(reason.clone()),
        },
    }
}
