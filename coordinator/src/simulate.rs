//! `bace simulate`: a scenario under a virtual clock.

use std::path::Path;

use bace_api::{ClockKind, ComputeRung, NetworkRung, ProfileUse, Record};
use bace_engine::{Engine, policy_by_name};
use bace_ledger::{Fold, RunFolder, Summary};
use bace_sim::{EventModel, EventSettings, IterationModel, drive, simulate_engine};

use crate::cli::{ActionsChoice, IterationModelChoice, SimulateArgs};
use crate::profile::ChosenProfile;
use crate::report::print_summary;
use crate::scenarios::{self, Loaded, RunKind};
use crate::wrong_input::OrWrongInput;

/// A simulation to make.
pub struct Simulation<'a> {
    /// The scenario.
    pub loaded: &'a Loaded,
    /// Who decides, by name.
    pub policy: &'a str,
    /// The scenario's engine under that policy, with the profile's times where there is one.
    pub engine: Engine,
    /// What the engine has its times of compute from, and what the ledger says of it; absent where the GPU types give them.
    pub profile: Option<(&'a ChosenProfile, ProfileUse)>,
    /// How an iteration's time comes about.
    pub iteration_model: IterationModelChoice,
    /// Whether a ledger holds every action of every stage; the model `event` alone knows of actions.
    pub actions: ActionsChoice,
}

/// Simulates, prints the results and writes the ledger where one is asked for.
pub fn simulate(args: &SimulateArgs) -> anyhow::Result<bool> {
    let loaded = scenarios::load(&args.scenario.scenario, args.scenario.seed)?;
    let policy = policy_by_name(&args.scenario.policy).or_wrong_input()?;
    let asked = args.predict.asked(&args.scenario, &loaded.scenario);
    let profile = ChosenProfile::asked_for(&asked)?;
    let engine = Engine::new(loaded.scenario.clone(), policy);
    let simulation = Simulation {
        loaded: &loaded,
        policy: &args.scenario.policy,
        engine: asked.give(profile.as_ref(), engine)?,
        profile: profile
            .as_ref()
            .map(|profile| (profile, profile.named(&loaded.scenario, &asked.command()))),
        iteration_model: args.iteration_model,
        actions: args.actions,
    };
    let summary = simulation.run(args.out.as_deref())?;
    print_summary(&summary, args.json);
    Ok(summary.succeeded())
}

impl Simulation<'_> {
    /// Makes it, and writes its ledger into the folder `out` where there is one.
    ///
    /// # Errors
    /// If the folder holds a run already, or cannot be written.
    pub fn run(self, out: Option<&Path>) -> anyhow::Result<Summary> {
        let header = self.loaded.header(RunKind {
            policy: self.policy.to_owned(),
            started: None,
            clock: ClockKind::Virtual,
            compute: ComputeRung::Modelled,
            network: NetworkRung::Modelled,
            receipts: None,
            iteration_model: Some(self.iteration_model.word().to_owned()),
            profile: self.profile.as_ref().map(|(_, said)| said.clone()),
        });
        let mut folder = match out {
            Some(dir) => Some(RunFolder::create(dir, &self.loaded.text).or_wrong_input()?),
            None => None,
        };
        if let (Some((folder, _)), Some((profile, _))) = (&folder, &self.profile) {
            folder.keep_profile(&profile.text)?;
        }
        let mut fold = Fold::new(&header);
        let mut written = match &mut folder {
            Some((_, ledger)) => ledger.append(&Record::Header(header)),
            None => Ok(()),
        };
        let settings = EventSettings {
            action_records: folder.is_some() && self.actions == ActionsChoice::Full,
            ..EventSettings::default()
        };
        let sink = |record| {
            fold.add(&record);
            if let (Some((_, ledger)), Ok(())) = (&mut folder, &written) {
                written = ledger.append(&record);
            }
        };
        match self.iteration_model {
            IterationModelChoice::Analytic => {
                simulate_engine(self.engine, IterationModel::Analytic, sink);
            }
            IterationModelChoice::Event => {
                let mut model = EventModel::new(self.engine.scenario().clone(), settings);
                drive(self.engine, &mut model, sink);
            }
        }
        written?;
        let mut summary = fold.finish();
        if let Some((folder, ledger)) = &folder {
            summary.ledger = Some(ledger.path().to_owned());
            folder.write_summary(&summary)?;
        }
        Ok(summary)
    }
}
