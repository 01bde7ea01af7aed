//! `bace replay`: a ledger's inputs fed back to the engine.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use bace_api::{ClockKind, ProfileUse, Record};
use bace_engine::{Engine, Policy, Replay, Replayed, policy_by_name};
use bace_ledger::{PROFILE_FILE, Reader, SCENARIO_FILE};
use bace_netem::TimeScale;

use crate::cli::ReplayArgs;
use crate::output::say;
use crate::profile::ChosenProfile;
use crate::scenarios::{self, Loaded, RunKind};
use crate::wrong_input::{OrWrongInput, WrongInput};

/// Replays a ledger and compares every decision.
pub fn replay(args: &ReplayArgs) -> anyhow::Result<bool> {
    let mut reader = Reader::open(&args.ledger).or_wrong_input()?;
    let header = reader.header().clone();
    let loaded = scenario(args, &reader)?;
    let policy = policy_by_name(&header.policy).or_wrong_input()?;
    same_cluster(&reader, &loaded)?;
    let mut replay = Replay::new(engine(&reader, loaded, policy)?);
    let mut ended = false;
    while let Some(record) = reader.next_record().or_wrong_input()? {
        let line = reader.line();
        if ended {
            anyhow::bail!(
                "replay line {line} of {}: it stands behind the end of the run",
                reader.path().display()
            );
        }
        ended = matches!(record, Record::RunEnded { .. });
        let taken = replay.take(&record);
        taken.with_context(|| format!("replay line {line} of {}", reader.path().display()))?;
    }
    let replayed = replay
        .finish(!ended)
        .with_context(|| format!("replay {} to its end", reader.path().display()))?;
    tell(&reader, ended, replayed);
    Ok(true)
}

/// The run's engine before its first input, with the profile that it predicted from.
fn engine(
    reader: &Reader,
    mut loaded: Loaded,
    policy: Box<dyn Policy + Send>,
) -> anyhow::Result<Engine> {
    let header = reader.header();
    let Some(ProfileUse::Used { hash, .. }) = header.profile.as_deref() else {
        return Ok(Engine::new(loaded.scenario, policy));
    };
    let path = reader.path().with_file_name(PROFILE_FILE);
    let profile = ChosenProfile::read(&path)?;
    if profile.hash() != *hash {
        return Err(WrongInput::error(format!(
            "replay {}: {} is not the profile of this run, its blake3 is {} and the header says {hash}",
            reader.path().display(),
            path.display(),
            profile.hash()
        )));
    }
    // Measured times are those of the machine, and the run may have had another scale than its file.
    if header.clock == ClockKind::Wall {
        let scale = TimeScale::new(header.time_scale.unwrap_or(1.0));
        let scale = scale.with_context(|| {
            format!("read {}: its `time_scale` is none", reader.path().display())
        })?;
        Arc::make_mut(&mut loaded.scenario).compute.time_scale = scale;
    }
    Engine::new(loaded.scenario, policy)
        .with_profile(&profile.profile)
        .or_wrong_input()
}

/// The run's scenario with the run's seed; a ledger says by its hash which one it was.
fn scenario(args: &ReplayArgs, reader: &Reader) -> anyhow::Result<Loaded> {
    let header = reader.header();
    let beside = reader.path().with_file_name(SCENARIO_FILE);
    let name = match &args.scenario {
        Some(name) => name.clone(),
        None => beside.to_str().map(str::to_owned).ok_or_else(|| {
            WrongInput::error(format!("read {}: its name is not UTF-8", beside.display()))
        })?,
    };
    if args.scenario.is_none() && !Path::new(&name).exists() {
        return Err(WrongInput::error(format!(
            "find {name}: a replay needs the run's scenario; name it with --scenario"
        )));
    }
    let loaded = scenarios::load(&name, Some(header.seed)).map_err(|error| {
        let hint = match args.scenario {
            None => "; where it reads other files, name the one beside them with --scenario FILE",
            Some(_) => "",
        };
        WrongInput::error(format!("{}{hint}", bace_api::told(error.as_ref())))
    })?;
    if loaded.hash() != header.scenario_hash {
        return Err(WrongInput::error(format!(
            "replay {}: {name} is not the scenario of this run, its blake3 is {} and the header says {}",
            reader.path().display(),
            loaded.hash(),
            header.scenario_hash
        )));
    }
    Ok(loaded)
}

/// What reports take from the header has to be the scenario's.
fn same_cluster(reader: &Reader, loaded: &Loaded) -> anyhow::Result<()> {
    let header = reader.header();
    let expected = loaded.header(RunKind {
        policy: header.policy.clone(),
        started: None,
        clock: header.clock,
        compute: header.compute,
        network: header.network,
        receipts: header.receipts,
        iteration_model: None,
        profile: None,
    });
    let same = |what: &str, says: &dyn Debug, is: &dyn Debug| {
        let (says, is) = (format!("{says:?}"), format!("{is:?}"));
        anyhow::ensure!(
            says == is,
            "replay {}: its header says {what} {says}, the scenario {is}",
            reader.path().display()
        );
        Ok(())
    };
    same("regions", &header.regions, &expected.regions)?;
    same("gpus", &header.gpus, &expected.gpus)?;
    same("links", &header.links, &expected.links)
}

fn tell(reader: &Reader, ended: bool, replayed: Replayed) {
    let header = reader.header();
    say!(
        "{}, policy {}: {} inputs bring about the same {} decisions and outcomes",
        header.scenario,
        header.policy,
        replayed.inputs,
        replayed.records
    );
    let omissions = reader.omissions();
    if let Some(line) = omissions.torn_line {
        say!("! Line {line} is torn and was left out.");
    }
    if !ended {
        say!("! The ledger ends before the run did; it agrees as far as it goes.");
    }
    if let Some(kind) = &omissions.first_unknown {
        say!(
            "! {} records of unknown kinds, such as {kind}, were left out.",
            omissions.unknown_kinds
        );
    }
}
