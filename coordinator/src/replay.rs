//! `bace replay`: a ledger's inputs fed back to the engine.

use std::fmt::Debug;
use std::path::Path;

use anyhow::Context;
use bace_api::Record;
use bace_engine::{Replay, Replayed, policy_by_name};
use bace_ledger::{Reader, SCENARIO_FILE};

use crate::cli::ReplayArgs;
use crate::output::say;
use crate::scenarios::{self, Loaded, RunKind};
use crate::wrong_input::{OrWrongInput, WrongInput};

/// Replays a ledger and compares every decision.
pub fn replay(args: &ReplayArgs) -> anyhow::Result<bool> {
    let mut reader = Reader::open(&args.ledger).or_wrong_input()?;
    let header = reader.header().clone();
    let loaded = scenario(args, &reader)?;
    let policy = policy_by_name(&header.policy).or_wrong_input()?;
    same_cluster(&reader, &loaded)?;
    let mut replay = Replay::new(loaded.scenario, policy);
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
