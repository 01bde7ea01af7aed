//! `bace simulate`: a scenario under a virtual clock.

use bace_api::{ClockKind, ComputeRung, NetworkRung, Record};
use bace_engine::{Engine, policy_by_name};
use bace_ledger::{Fold, RunFolder};
use bace_sim::{EventModel, EventSettings, IterationModel, drive, simulate_engine};

use crate::cli::{ActionsChoice, IterationModelChoice, SimulateArgs};
use crate::profile::ChosenProfile;
use crate::report::print_summary;
use crate::scenarios::{self, RunKind};
use crate::wrong_input::OrWrongInput;

/// Simulates, prints the results and writes the ledger where one is asked for.
pub fn simulate(args: &SimulateArgs) -> anyhow::Result<bool> {
    let loaded = scenarios::load(&args.scenario.scenario, args.scenario.seed)?;
    let policy = policy_by_name(&args.scenario.policy).or_wrong_input()?;
    let asked = args.predict.asked(&args.scenario, &loaded.scenario);
    let profile = ChosenProfile::asked_for(&asked)?;
    let engine = Engine::new(loaded.scenario.clone(), policy);
    let engine = asked.give(profile.as_ref(), engine)?;
    let header = loaded.header(RunKind {
        policy: args.scenario.policy.clone(),
        started: None,
        clock: ClockKind::Virtual,
        compute: ComputeRung::Modelled,
        network: NetworkRung::Modelled,
        receipts: None,
        iteration_model: Some(args.iteration_model.word().to_owned()),
        profile: profile.as_ref().map(ChosenProfile::named),
    });
    let mut folder = match &args.out {
        Some(dir) => Some(RunFolder::create(dir, &loaded.text).or_wrong_input()?),
        None => None,
    };
    if let (Some((folder, _)), Some(profile)) = (&folder, &profile) {
        folder.keep_profile(&profile.text)?;
    }
    let mut fold = Fold::new(&header);
    let mut written = match &mut folder {
        Some((_, ledger)) => ledger.append(&Record::Header(header)),
        None => Ok(()),
    };
    let actions = folder.is_some() && args.actions == ActionsChoice::Full;
    let sink = |record| {
        fold.add(&record);
        if let (Some((_, ledger)), Ok(())) = (&mut folder, &written) {
            written = ledger.append(&record);
        }
    };
    match args.iteration_model {
        IterationModelChoice::Analytic => simulate_engine(engine, IterationModel::Analytic, sink),
        IterationModelChoice::Event => {
            let settings = EventSettings {
                action_records: actions,
                ..EventSettings::default()
            };
            let mut model = EventModel::new(engine.scenario().clone(), settings);
            drive(engine, &mut model, sink);
        }
    }
    written?;
    let mut summary = fold.finish();
    if let Some((folder, ledger)) = &folder {
        summary.ledger = Some(ledger.path().to_owned());
        folder.write_summary(&summary)?;
    }
    print_summary(&summary, args.json);
    Ok(summary.succeeded())
}
