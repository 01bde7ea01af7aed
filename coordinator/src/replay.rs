//! `bace replay`: a ledger's inputs fed back to the engine.

use std::fmt::Debug;

use anyhow::Context;
use bace_api::Record;
use bace_engine::{Replay, Replayed, policy_by_name};
use bace_ledger::Reader;

use crate::cli::ReplayArgs;
use crate::output::say;
use crate::recorded::Recorded;
use crate::scenarios::{Loaded, RunKind};
use crate::wrong_input::{OrWrongInput, WrongInput};

/// Replays a ledger and compares every decision.
pub fn replay(args: &ReplayArgs) -> anyhow::Result<bool> {
    let mut reader = Reader::open(&args.ledger).or_wrong_input()?;
    let header = reader.header().clone();
    let recorded = Recorded::new(reader.path(), &header);
    let loaded = scenario(args, &recorded)?;
    let policy = policy_by_name(&header.policy).or_wrong_input()?;
    same_cluster(&reader, &loaded)?;
    let mut replay = Replay::new(recorded.engine(loaded, policy)?);
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
fn scenario(args: &ReplayArgs, recorded: &Recorded<'_>) -> anyhow::Result<Loaded> {
    match &args.scenario {
        Some(name) => recorded.scenario(name),
        None => recorded.kept_scenario().map_err(|error| {
            WrongInput::error(format!(
                "{}; where the run's scenario is elsewhere, name it with --scenario FILE",
                bace_api::told(error.as_ref())
            ))
        }),
    }
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
