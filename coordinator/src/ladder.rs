//! `bace ladder`: one scenario on every rung, and which step from rung to rung changes what.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use anyhow::Context;
use bace_api::told;
use bace_engine::{Engine, policy_by_name};
use bace_ledger::{Climbed, Ladder, LadderRun, LadderRung};
use bace_socket::kernel::refuse_without_root;

use crate::cli::{
    ActionsChoice, ComputeChoice, DeviceChoice, EmulationArgs, IterationModelChoice, LadderArgs,
    NetworkChoice, RunArgs, ScenarioArgs,
};
use crate::output::{self, say};
use crate::profile::{Asked, ChosenProfile};
use crate::real_runs::{Ended, RealRun, RealRuns, expected_s};
use crate::run::{fresh_folder, workers};
use crate::scenarios::{self, Loaded};
use crate::simulate::Simulation;
use crate::wrong_input::{OrWrongInput, WrongInput};

/// Climbs the rungs that were asked for, as far as this machine allows.
pub fn ladder(args: &LadderArgs) -> anyhow::Result<bool> {
    let loaded = scenarios::load(&args.scenario.scenario, args.scenario.seed)?;
    policy_by_name(&args.scenario.policy).or_wrong_input()?;
    let folder = match &args.out {
        Some(folder) => folder.clone(),
        None => fresh_folder(&format!("ladder-{}", loaded.scenario.name))?,
    };
    let jobs = loaded.scenario.jobs.iter();
    let mut climb = Climb {
        args,
        folder,
        iterations: jobs.map(|job| (job.name.clone(), job.iterations)).collect(),
        loaded: &loaded,
        makespan_s: 0.0,
        stopped: None,
    };
    let asked = |rung: &LadderRung| args.rungs.is_empty() || args.rungs.contains(rung);
    let mut rungs = Vec::new();
    for rung in LadderRung::ALL.into_iter().filter(asked) {
        rungs.push((rung, climb.rung(rung)?));
    }
    let ladder = Ladder {
        scenario: loaded.scenario.name.clone(),
        policy: args.scenario.policy.clone(),
        rungs,
    };
    if args.json {
        say!("{:#}", ladder.to_json());
    } else {
        output::print(format_args!("{}", ladder.render()));
        say!("ledgers: {}", climb.folder.display());
    }
    if let Some(path) = &args.svg {
        let written = std::fs::write(path, ladder.svg()?);
        written.with_context(|| format!("write {}", path.display()))?;
    }
    Ok(ladder.succeeded())
}

/// A ladder on the way up.
struct Climb<'a> {
    args: &'a LadderArgs,
    loaded: &'a Loaded,
    folder: PathBuf,
    /// Of each job, by name.
    iterations: BTreeMap<String, u32>,
    /// The latest simulation's, for the estimates of how long real runs take.
    makespan_s: f64,
    /// Why no further rung is climbed.
    stopped: Option<&'static str>,
}

impl Climb<'_> {
    fn rung(&mut self, rung: LadderRung) -> anyhow::Result<Climbed> {
        if let Some(signal) = self.stopped {
            return Ok(Climbed::Absent(format!("the ladder was {signal}")));
        }
        if rung.is_simulated() {
            return self.simulated(rung);
        }
        match self.hindrance(rung) {
            Some(why) => Ok(Climbed::Absent(why)),
            None => self.real(rung),
        }
    }

    fn simulated(&mut self, rung: LadderRung) -> anyhow::Result<Climbed> {
        let (iteration_model, is_native) = match rung {
            LadderRung::Analytic => (IterationModelChoice::Analytic, false),
            LadderRung::Profiled => (IterationModelChoice::Event, true),
            _ => (IterationModelChoice::Event, false),
        };
        let named = &self.args.scenario;
        let asked = Asked {
            is_native,
            device: &DeviceChoice::Cpu,
            precision: None,
            profile: self.args.profile.as_deref().filter(|_| is_native),
            scenario: &named.scenario,
            seed: named.seed,
        };
        let policy = policy_by_name(&named.policy).or_wrong_input()?;
        let engine = Engine::new(self.loaded.scenario.clone(), policy);
        let found = ChosenProfile::asked_for(&asked).and_then(|profile| {
            let engine = asked.give(profile.as_ref(), engine)?;
            Ok((profile, engine))
        });
        let (profile, engine) = match found {
            Ok(found) => found,
            Err(error) => return Ok(Climbed::Absent(told(error.as_ref()))),
        };
        let simulation = Simulation {
            loaded: self.loaded,
            policy: &named.policy,
            engine,
            profile: profile.as_ref(),
            iteration_model,
            actions: ActionsChoice::Full,
        };
        let summary = simulation.run(Some(&self.folder.join(rung.name())))?;
        if let Some(&makespan_s) = summary.totals.makespan_s.known() {
            self.makespan_s = makespan_s;
        }
        Ok(Climbed::Runs(vec![LadderRun::of(
            &summary,
            &self.iterations,
        )]))
    }

    /// Why this machine or this scenario cannot have a rung, where that is known before it is tried.
    fn hindrance(&self, rung: LadderRung) -> Option<String> {
        match rung {
            LadderRung::Native => {
                let (workers, cores) = (workers(&self.loaded.scenario), cores());
                let mut scaled = self.loaded.scenario.jobs.iter();
                if let Some(job) = scaled.find(|job| job.scale_model.is_some()) {
                    return Some(format!(
                        "job {} trains a scale model, whose own time is not the large model's",
                        job.name
                    ));
                }
                (workers > cores).then(|| {
                    format!("{workers} workers would share {cores} cores, and no profile knows of that; native wants a core for each")
                })
            }
            // Without root the whole ladder would be started anew in a user namespace.
            LadderRung::Kernel => refuse_without_root().err().map(|error| {
                format!(
                    "{}; by itself, `bace run --network kernel` does without root",
                    told(&error)
                )
            }),
            _ => None,
        }
    }

    fn real(&mut self, rung: LadderRung) -> anyhow::Result<Climbed> {
        let repeats = self.args.repeats;
        let runs = (1..=repeats).map(|repeat| {
            let (label, folder) = match repeats {
                1 => (rung.name().to_owned(), rung.name().to_owned()),
                _ => (
                    format!("{}, repeat {repeat}", rung.name()),
                    format!("{}-{repeat}", rung.name()),
                ),
            };
            self.real_run(rung, label, &self.folder.join(folder))
        });
        let runs = RealRuns {
            what: "ladder",
            scenario: self.loaded.scenario.name.clone(),
            runs: runs.collect(),
        };
        let ran = match runs.run(|_, _| Ok(())) {
            Ok(ran) => ran,
            // What this rung cannot do the next one may.
            Err(error) if error.is::<WrongInput>() => {
                return Ok(Climbed::Absent(told(error.as_ref())));
            }
            Err(error) => return Err(error),
        };
        self.stopped = ran.stopped;
        let mut climbed = Vec::new();
        let mut failed = None;
        for ended in ran.ended {
            match ended {
                Ended::Summary(summary) => {
                    climbed.push(LadderRun::of(&summary, &self.iterations));
                }
                Ended::Failed(why) => failed = failed.or(Some(why)),
            }
        }
        Ok(match failed {
            Some(why) if climbed.is_empty() => Climbed::Absent(format!("the run {why}")),
            failed => {
                let unfinished = failed.map(|why| LadderRun {
                    unfinished: Some(format!("a repeat {why}")),
                    placements: climbed[0].placements.clone(),
                    ..LadderRun::default()
                });
                climbed.extend(unfinished);
                Climbed::Runs(climbed)
            }
        })
    }

    fn real_run(&self, rung: LadderRung, label: String, folder: &Path) -> RealRun {
        let (compute, network) = match rung {
            LadderRung::Modelled => (ComputeChoice::Modelled, NetworkChoice::Virtual),
            LadderRung::Native => (ComputeChoice::Native, NetworkChoice::Virtual),
            LadderRung::Packet => (ComputeChoice::Paced, NetworkChoice::Packet),
            LadderRung::Kernel => (ComputeChoice::Paced, NetworkChoice::Kernel),
            _ => (ComputeChoice::Paced, NetworkChoice::Virtual),
        };
        let args = self.args;
        let is_native = rung == LadderRung::Native;
        let emulation = EmulationArgs {
            compute: Some(compute),
            network: Some(network),
            profile: args.profile.clone().filter(|_| is_native),
            time_scale: args.time_scale.filter(|_| !is_native),
            data: args.data.clone(),
            ..EmulationArgs::default()
        };
        let named = ScenarioArgs {
            scenario: args.scenario.scenario.clone(),
            policy: args.scenario.policy.clone(),
            seed: args.scenario.seed,
        };
        let scenario = &self.loaded.scenario;
        let scale = args.time_scale.unwrap_or(scenario.compute.time_scale);
        let expected_s = expected_s(scenario, scale, (self.makespan_s, args.receipts));
        RealRun {
            label,
            args: RunArgs {
                receipts: args.receipts,
                out: Some(folder.to_owned()),
                ..RunArgs::here(named, emulation)
            },
            expected_s,
        }
    }
}

/// Cores of this machine that this process may use; one where the system does not tell.
fn cores() -> u64 {
    available_parallelism().map_or(1, |cores| cores.get() as u64)
}
