//! The one entry: a scenario, a policy and an iteration model in, records out.

use std::sync::Arc;

use bace_api::Record;
use bace_engine::{Engine, Policy, Scenario};

use crate::analytic::Analytic;
use crate::driver::drive;
use crate::event::{EventModel, EventSettings};

/// How the time of an iteration is predicted, docs/scheduling.md section 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IterationModel {
    /// By the formula.
    Analytic,
    /// By walking the stages' action lists.
    Event,
}

/// Simulates `scenario` under `policy`; `sink` gets all records but the header, `RunEnded` last.
pub fn simulate(
    scenario: &Arc<Scenario>,
    policy: Box<dyn Policy + Send>,
    model: IterationModel,
    sink: impl FnMut(Record),
) {
    simulate_engine(Engine::new(scenario.clone(), policy), model, sink);
}

/// As [`simulate`], with an engine that has seen nothing yet, such as one that tells less: then iterations and their actions
/// are not told either.
pub fn simulate_engine(engine: Engine, model: IterationModel, sink: impl FnMut(Record)) {
    let scenario = engine.scenario().clone();
    match model {
        IterationModel::Analytic => drive(engine, &mut Analytic::new(scenario), sink),
        IterationModel::Event => {
            let settings = EventSettings::for_detail(engine.detail());
            drive(engine, &mut EventModel::new(scenario, settings), sink);
        }
    }
}
