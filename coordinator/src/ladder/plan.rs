//! Which rungs this machine and the scenario allow, settled before anything starts.

use std::path::PathBuf;
use std::sync::Arc;

use bace_api::{ProfileUse, told};
use bace_engine::{Engine, Scenario, policy_by_name};
use bace_ledger::LadderRung;
use bace_netem::{NetworkName, Owner, TimeScale};
use bace_socket::kernel::{self, KernelError};

use crate::cli::{
    ComputeChoice, DeviceChoice, EmulationArgs, IterationModelChoice, LadderArgs, NetworkChoice,
    RunArgs, ScenarioArgs,
};
use crate::profile::{Asked, ChosenProfile};
use crate::real_runs::crowding;
use crate::run::CheckedRun;
use crate::scenarios::Loaded;
use crate::wrong_input::{OrWrongInput, WrongInput};

/// What is to be climbed, rung by rung, in the order of [`LadderRung::ALL`].
pub struct Plan(pub Vec<(LadderRung, Planned)>);

/// What is to be done about a rung.
pub enum Planned {
    /// Simulate it.
    Simulated(Box<Prediction>),
    /// Run it.
    Real(Box<EmulationArgs>),
    /// Nothing, and why: words that follow a colon.
    NotPossible(String),
}

/// A simulation that can begin.
pub struct Prediction {
    pub engine: Engine,
    /// With what the ledger says of it.
    pub profile: Option<(ChosenProfile, ProfileUse)>,
    pub iteration_model: IterationModelChoice,
}

impl Plan {
    /// Tries out what every rung needs.
    ///
    /// # Errors
    /// If something that was given is wrong, or a rung that was named cannot be had.
    pub fn of(args: &LadderArgs, loaded: &Loaded) -> anyhow::Result<Self> {
        refuse_wrong_paths(args)?;
        let asked = |rung: &LadderRung| args.rungs.is_empty() || args.rungs.contains(rung);
        let mut rungs = Vec::new();
        for rung in LadderRung::ALL.into_iter().filter(asked) {
            let planned = if rung.is_simulated() {
                simulated(args, loaded, rung)?
            } else {
                real(args, loaded, rung)?
            };
            if let Planned::NotPossible(why) = &planned
                && !args.rungs.is_empty()
            {
                return Err(WrongInput::error(format!(
                    "climb to {}, which --rungs names: {why}",
                    rung.name()
                )));
            }
            rungs.push((rung, planned));
        }
        Ok(Self(rungs))
    }
}

/// Arguments that name a scenario, for one run.
pub fn scenario_args(args: &LadderArgs) -> ScenarioArgs {
    ScenarioArgs {
        scenario: args.scenario.scenario.clone(),
        policy: args.scenario.policy.clone(),
        seed: args.scenario.seed,
    }
}

/// Whether a rung takes its times of compute from a profile.
fn takes_profile(rung: LadderRung) -> bool {
    matches!(rung, LadderRung::Profiled | LadderRung::Native)
}

fn refuse_wrong_paths(args: &LadderArgs) -> anyhow::Result<()> {
    if let Some(path) = &args.profile {
        ChosenProfile::read(path)?;
        if !args.rungs.is_empty() && !args.rungs.iter().copied().any(takes_profile) {
            return Err(WrongInput::error(format!(
                "use the profile {}: it is for the rungs profiled and native, and --rungs names neither",
                path.display()
            )));
        }
    }
    if let Some(path) = &args.data {
        let found = path.metadata();
        found.map_err(|error| WrongInput::error(format!("read {}: {error}", path.display())))?;
    }
    Ok(())
}

fn simulated(args: &LadderArgs, loaded: &Loaded, rung: LadderRung) -> anyhow::Result<Planned> {
    let (iteration_model, is_native) = match rung {
        LadderRung::Analytic => (IterationModelChoice::Analytic, false),
        LadderRung::Profiled => (IterationModelChoice::Event, true),
        _ => (IterationModelChoice::Event, false),
    };
    let asked = Asked {
        is_native,
        device: &DeviceChoice::Cpu,
        precision: None,
        profile: args.profile.as_deref().filter(|_| is_native),
        scenario: &args.scenario.scenario,
        seed: args.scenario.seed,
    };
    let policy = policy_by_name(&args.scenario.policy).or_wrong_input()?;
    let mut scenario = loaded.scenario.clone();
    if let Some(scale) = time_scale(is_native, args) {
        Arc::make_mut(&mut scenario).compute.time_scale = scale;
    }
    let engine = Engine::new(scenario, policy);
    let found = ChosenProfile::asked_for(&asked).and_then(|profile| {
        let engine = asked.give(profile.as_ref(), engine)?;
        let named = profile.map(|profile| {
            let said = profile.named(&loaded.scenario, &asked.command());
            (profile, said)
        });
        Ok((named, engine))
    });
    match found {
        Ok((profile, engine)) => Ok(Planned::Simulated(Box::new(Prediction {
            engine,
            profile,
            iteration_model,
        }))),
        Err(error) if asked.profile.is_some() => Err(error).or_wrong_input(),
        Err(error) => Ok(Planned::NotPossible(told(error.as_ref()))),
    }
}

fn real(args: &LadderArgs, loaded: &Loaded, rung: LadderRung) -> anyhow::Result<Planned> {
    if let Some(why) = hindrance(loaded, rung) {
        return Ok(Planned::NotPossible(why));
    }
    let given = emulation(rung, args);
    let check = |emulation: EmulationArgs| {
        CheckedRun::of(RunArgs::here(scenario_args(args), emulation)).map(drop)
    };
    let Err(error) = check(given.clone()) else {
        return Ok(Planned::Real(Box::new(given)));
    };
    // Where it would do without what was given, that is what is wrong.
    let bare = EmulationArgs {
        profile: None,
        data: None,
        time_scale: given.time_scale.filter(|_| rung == LadderRung::Native),
        ..given.clone()
    };
    if bare != given && check(bare).is_ok() {
        return Err(error).or_wrong_input();
    }
    Ok(Planned::NotPossible(told(error.as_ref())))
}

/// Why this machine or this scenario cannot have a rung, where a run does not tell.
fn hindrance(loaded: &Loaded, rung: LadderRung) -> Option<String> {
    match rung {
        LadderRung::Native => {
            let mut scaled = loaded.scenario.jobs.iter();
            if let Some(job) = scaled.find(|job| job.scale_model.is_some()) {
                return Some(format!(
                    "job {} trains a scale model, whose own time is not the large model's",
                    job.name
                ));
            }
            crowding(&loaded.scenario)
        }
        LadderRung::Kernel => refuse_without_shaping(&loaded.scenario)
            .err()
            .map(|error| told(&error)),
        _ => None,
    }
}

/// Tries whether links of the kernel can be had without starting the whole ladder anew in a user namespace.
fn refuse_without_shaping(scenario: &Scenario) -> Result<(), KernelError> {
    kernel::refuse_without_root()?;
    let network = NetworkName::new(&scenario.name, Owner::Run(std::process::id()));
    kernel::probe(&network)?.qdiscs().map(drop)
}

/// The scale of a rung, predicted or run; `None` for the scenario's own.
fn time_scale(is_native: bool, args: &LadderArgs) -> Option<TimeScale> {
    if is_native {
        // Native compute takes this machine's time, which no scale changes.
        Some(TimeScale::ONE)
    } else {
        args.time_scale
    }
}

/// How the runs of a rung are done.
fn emulation(rung: LadderRung, args: &LadderArgs) -> EmulationArgs {
    let (compute, network) = match rung {
        LadderRung::Modelled => (ComputeChoice::Modelled, NetworkChoice::Virtual),
        LadderRung::Native => (ComputeChoice::Native, NetworkChoice::Virtual),
        LadderRung::Packet => (ComputeChoice::Paced, NetworkChoice::Packet),
        LadderRung::Kernel => (ComputeChoice::Paced, NetworkChoice::Kernel),
        _ => (ComputeChoice::Paced, NetworkChoice::Virtual),
    };
    let is_native = rung == LadderRung::Native;
    let profile: Option<PathBuf> = args.profile.clone().filter(|_| is_native);
    EmulationArgs {
        compute: Some(compute),
        network: Some(network),
        profile,
        time_scale: time_scale(is_native, args),
        data: args.data.clone(),
        ..EmulationArgs::default()
    }
}
