//! From the command line to a run's summary.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Context;
use bace_api::{ClockKind, Record};
use bace_ledger::{RunFolder, Summary};

use crate::cli::{ActionsChoice, RunArgs};
use crate::report::print_summary;
use crate::scenarios::RunKind;
use crate::wrong_input::OrWrongInput;

use super::checked::CheckedRun;
use super::driver::{Driver, DriverPlan};
use super::fleet::{Door, Fleet, FleetPlan};
use super::interrupts::Interrupts;
use super::kernel::RunNetwork;
use super::metering::Metering;
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
    train(CheckedRun::of(args)?)
}

/// Trains the jobs of a run that has been checked.
pub fn train(checked: CheckedRun) -> anyhow::Result<Summary> {
    let (engine, profile_use) = (checked.engine()?, checked.profile_use());
    let CheckedRun {
        args,
        loaded,
        compute,
        network,
        devices,
        privilege,
        profile,
    } = checked;
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
        profile: profile_use,
    });
    if let Some(profile) = &profile {
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
        text: args
            .emulation
            .data
            .as_deref()
            .map(std::path::absolute)
            .transpose()?,
        lease: args.emulation.lease.or(loaded.scenario.compute.lease),
    };
    let ended = runtime.block_on(async {
        let mut fleet = Fleet::assemble(plan, door, &mut recorder, &mut interrupts).await?;
        let mut receipts = ReceiptTaker::new(&loaded.scenario, args.receipts.into(), network);
        let proven = receipts.take_before(&mut fleet, &mut recorder, &mut interrupts);
        if let Err(error) = proven.await {
            fleet.shut_down().await;
            return Err(error);
        }
        let metering = Metering::start(
            &args.emulation,
            compute,
            &loaded.scenario,
            &fleet,
            &mut recorder,
        );
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
            tells_actions: args.actions == ActionsChoice::Full,
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

/// The first of `runs/NAME-1`, `runs/NAME-2`, … that does not exist.
pub fn fresh_folder(scenario: &str) -> anyhow::Result<PathBuf> {
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
