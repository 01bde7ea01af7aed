//! From the command line to a run's summary.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use bace_api::{ClockKind, ComputeRung, NetworkRung, ProfileUse, Record};
use bace_engine::{Engine, Scenario, policy_by_name};
use bace_ledger::{RunFolder, Summary};
use bace_netem::TimeScale;

use crate::cli::{DeviceChoice, RunArgs};
use crate::profile::{Asked, ChosenProfile, absent, asked_rung};
use crate::report::print_summary;
use crate::scenarios::{self, RunKind};
use crate::wrong_input::{OrWrongInput, WrongInput};

use super::devices::{self, CheckedDevice};
use super::driver::{Driver, DriverPlan};
use super::fleet::{Door, Fleet, FleetPlan};
use super::interrupts::Interrupts;
use super::kernel::RunNetwork;
use super::metering::Metering;
use super::preflight;
use super::receipts::ReceiptTaker;
use super::recorder::Recorder;

/// Where runs go that name no folder.
const RUNS: &str = "runs";
/// Fresh folders to try under one name.
const MOST_RUNS: u32 = 100_000;

/// Trains a scenario's jobs and prints what came of it; whether all finished.
pub fn run(args: RunArgs) -> anyhow::Result<bool> {
    let json = args.json;
    let summary = summary(args)?;
    print_summary(&summary, json);
    Ok(summary.succeeded())
}

/// Trains a scenario's jobs.
pub fn summary(args: RunArgs) -> anyhow::Result<Summary> {
    let mut loaded = scenarios::load(&args.scenario.scenario, args.scenario.seed)?;
    if let Some(scale) = args.time_scale {
        Arc::make_mut(&mut loaded.scenario).compute.time_scale = scale;
    }
    let loaded = loaded;
    let policy = policy_by_name(&args.scenario.policy).or_wrong_input()?;
    let asked = asked_rung(args.compute, &loaded.scenario);
    preflight::refuse_what_cannot_run(&args, asked, &loaded.scenario)?;
    let network = args
        .network
        .map_or(loaded.scenario.network.backend, NetworkRung::from);
    let privilege = (network == NetworkRung::Kernel)
        .then(|| RunNetwork::prepare(&args))
        .transpose()?;
    // Workers that people start bring their own device; what is asked of them here is the rung alone.
    let devices = if args.await_workers {
        Vec::new()
    } else {
        devices::devices(&args, asked, &loaded.scenario)?
    };
    let compute =
        asked.unwrap_or_else(|| default_rung(&args.device, devices.len(), &loaded.scenario));
    refuse_scaled_native(compute, loaded.scenario.compute.time_scale)?;
    let prediction = Prediction::of(&args, compute, &devices)?;
    let engine = prediction.give(&args, Engine::new(loaded.scenario.clone(), policy))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the coordinator's runtime")?;
    // From here on Ctrl-C ends the run in order, so that what is made is taken back.
    let mut interrupts = runtime.block_on(async { Interrupts::listen() })?;
    let kernel = privilege
        .map(|privilege| RunNetwork::up(&loaded.scenario, privilege))
        .transpose()?;
    let listen = kernel
        .as_ref()
        .map_or(args.listen, |kernel| kernel.listen(args.listen));
    // All sockets and processes of the run belong to its namespaces.
    let _inside = kernel.as_ref().map(RunNetwork::enter_hub).transpose()?;
    // Before the folder, so that a port that is taken leaves nothing behind.
    let door = runtime.block_on(async { Door::open(listen) })?;
    let dir = args
        .out
        .clone()
        .map_or_else(|| fresh_folder(&loaded.scenario.name), Ok)?;
    let (folder, ledger) = RunFolder::create(&dir, &loaded.text).or_wrong_input()?;
    let header = loaded.header(RunKind {
        policy: args.scenario.policy.clone(),
        started: Some(humantime::format_rfc3339_seconds(SystemTime::now()).to_string()),
        clock: ClockKind::Wall,
        compute,
        network,
        receipts: Some(args.receipts.into()),
        iteration_model: None,
        profile: prediction.named(&args, &devices),
    });
    if let Some(profile) = &prediction.profile {
        folder.keep_profile(&profile.text)?;
    }
    let mut recorder = Recorder::new(ledger, &header);
    recorder.add(Record::Header(header))?;
    if let Some(kernel) = &kernel {
        recorder.add(kernel.record(&loaded.scenario))?;
    }
    let plan = FleetPlan {
        scenario: loaded.scenario.clone(),
        dir,
        await_workers: args.await_workers,
        devices: devices.into_iter().map(|checked| checked.device).collect(),
        compute,
        network,
        kernel,
        // Workers that people start may stand in another folder.
        text: args.data.as_deref().map(std::path::absolute).transpose()?,
        lease: args.lease.or(loaded.scenario.compute.lease),
    };
    let ended = runtime.block_on(async {
        let mut fleet = Fleet::assemble(plan, door, &mut recorder, &mut interrupts).await?;
        let mut receipts = ReceiptTaker::new(&loaded.scenario, args.receipts.into(), network);
        let proven = receipts.take_before(&mut fleet, &mut recorder, &mut interrupts);
        if let Err(error) = proven.await {
            fleet.shut_down().await;
            return Err(error);
        }
        let metering = Metering::start(&args, compute, &loaded.scenario, &fleet, &mut recorder);
        let metering = match metering.await {
            Ok(metering) => metering,
            Err(error) => {
                fleet.shut_down().await;
                return Err(error);
            }
        };
        let plan = DriverPlan {
            engine,
            fleet,
            compute,
            receipts,
            metering,
        };
        Driver::new(plan, &mut recorder, &mut interrupts)
            .run()
            .await
    });
    if let Err(error) = &ended {
        recorder.stopped(error)?;
    }
    let summary = recorder.finish();
    folder.write_summary(&summary)?;
    ended?;
    Ok(summary)
}

/// What the scheduler of a run predicts compute from.
struct Prediction {
    is_native: bool,
    /// Of the run's devices; absent where there is none, or nothing runs natively.
    profile: Option<ChosenProfile>,
}

impl Prediction {
    fn of(args: &RunArgs, compute: ComputeRung, devices: &[CheckedDevice]) -> anyhow::Result<Self> {
        let is_native = compute == ComputeRung::Native;
        let profile = match &args.profile {
            Some(path) if !is_native => {
                return Err(WrongInput::error(format!(
                    "use the profile {}: compute is {}, which takes the GPU types' times; a profile goes with --compute native",
                    path.display(),
                    compute.name()
                )));
            }
            Some(path) => {
                let profile = ChosenProfile::read(path)?;
                profile.refuse_other_devices(devices)?;
                Some(profile)
            }
            None if is_native && args.finds_profile => ChosenProfile::of_all(devices)?,
            _ => None,
        };
        Ok(Self { is_native, profile })
    }

    fn give(&self, args: &RunArgs, engine: Engine) -> anyhow::Result<Engine> {
        let asked = Asked {
            is_native: self.is_native,
            device: &args.device,
            precision: args.precision,
            profile: args.profile.as_deref(),
            scenario: &args.scenario.scenario,
            seed: args.scenario.seed,
        };
        asked.give(self.profile.as_ref(), engine)
    }

    fn named(&self, args: &RunArgs, devices: &[CheckedDevice]) -> Option<ProfileUse> {
        let absent = || ProfileUse::Absent {
            reason: if args.finds_profile {
                absent(devices, &args.scenario.scenario, args.scenario.seed)
            } else {
                "none was looked for".to_owned()
            },
        };
        let used = self.profile.as_ref().map(ChosenProfile::named);
        self.is_native.then(|| used.unwrap_or_else(absent))
    }
}

/// Who takes the time of compute where nobody says so, on so many devices.
pub fn default_rung(device: &DeviceChoice, devices: usize, scenario: &Scenario) -> ComputeRung {
    let mut jobs = scenario.jobs.iter();
    let trains_scale_models = jobs.any(|job| job.scale_model.is_some());
    rung_on(
        device,
        devices,
        preflight::workers(scenario),
        trains_scale_models,
    )
}

/// On the CPU, for scale models, and wherever workers share a device, an action takes the emulated GPU's time.
fn rung_on(
    device: &DeviceChoice,
    devices: usize,
    workers: u64,
    trains_scale_models: bool,
) -> ComputeRung {
    match device {
        DeviceChoice::Cuda(_) if workers <= devices as u64 && !trains_scale_models => {
            ComputeRung::Native
        }
        _ => ComputeRung::Paced,
    }
}

/// Native compute takes this machine's time, which no scale changes.
fn refuse_scaled_native(compute: ComputeRung, scale: TimeScale) -> anyhow::Result<()> {
    if compute != ComputeRung::Native || scale == TimeScale::ONE {
        return Ok(());
    }
    Err(WrongInput::error(format!(
        "run native compute at time_scale {scale}: it takes this machine's time and not the emulated GPU's, so that links and \
         compute would no longer fit each other; use --compute paced or modelled, or --time-scale 1"
    )))
}

/// The first of `runs/NAME-1`, `runs/NAME-2`, … that does not exist.
fn fresh_folder(scenario: &str) -> anyhow::Result<PathBuf> {
    let name: String = scenario
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || c == '-' || c == '_' {
                c
            } else {
                '-'
            }
        })
        .collect();
    (1..MOST_RUNS)
        .map(|number| PathBuf::from(RUNS).join(format!("{name}-{number}")))
        .find(|path| !path.exists())
        .with_context(|| {
            format!("find a fresh folder under {RUNS}: remove some, or name one with --out")
        })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    /// The rung of `bace run three-regions` with these arguments and this line in the scenario, if anybody asks for one.
    fn asked(arguments: &[&str], compute: &str) -> Option<ComputeRung> {
        let all = [&["bace", "run", "three-regions"], arguments].concat();
        let Command::Run(args) = Cli::try_parse_from(all).expect("arguments").command else {
            panic!("`run` is a run");
        };
        let text = scenarios::built_in("three-regions").expect("it is built in");
        let text = format!("{text}\n[compute]\n{compute}\n");
        let scenario = Scenario::parse(&text, "s.toml", &|_| unreachable!("no file is named"));
        asked_rung(args.compute, &scenario.expect("a scenario"))
    }

    #[test]
    fn the_command_line_goes_before_the_scenario_and_the_devices_come_last() {
        assert_eq!(asked(&[], ""), None);
        let scenario = "rung = \"modelled\"";
        assert_eq!(asked(&[], scenario), Some(ComputeRung::Modelled));
        for (word, rung) in [
            ("modelled", ComputeRung::Modelled),
            ("paced", ComputeRung::Paced),
            ("native", ComputeRung::Native),
        ] {
            assert_eq!(asked(&["--compute", word], scenario), Some(rung));
            assert_eq!(asked(&["--compute", word], ""), Some(rung));
        }
    }

    #[test]
    fn a_gpu_for_each_worker_computes_natively_and_everything_else_is_paced() {
        let (all, some) = (
            DeviceChoice::Cuda(Vec::new()),
            DeviceChoice::Cuda(vec![0, 2]),
        );
        for (device, devices, workers, rung) in [
            (&DeviceChoice::Cpu, 1, 1, ComputeRung::Paced),
            (&DeviceChoice::Cpu, 1, 6, ComputeRung::Paced),
            (&all, 1, 1, ComputeRung::Native),
            (&all, 8, 6, ComputeRung::Native),
            (&all, 1, 2, ComputeRung::Paced),
            (&some, 2, 2, ComputeRung::Native),
            (&some, 2, 3, ComputeRung::Paced),
        ] {
            assert_eq!(
                rung_on(device, devices, workers, false),
                rung,
                "{device:?} {workers}"
            );
        }
    }

    #[test]
    fn scale_models_are_paced_wherever_they_train() {
        let all = DeviceChoice::Cuda(Vec::new());
        assert_eq!(rung_on(&all, 8, 6, true), ComputeRung::Paced);
    }

    #[test]
    fn native_compute_takes_no_scale() {
        let twice = TimeScale::new(2.0).expect("a scale");
        assert!(refuse_scaled_native(ComputeRung::Native, TimeScale::ONE).is_ok());
        assert!(refuse_scaled_native(ComputeRung::Paced, twice).is_ok());
        let told = refuse_scaled_native(ComputeRung::Native, twice).unwrap_err();
        assert!(told.is::<WrongInput>());
        assert!(
            told.to_string()
                .starts_with("run native compute at time_scale 2: ")
        );
    }
}
