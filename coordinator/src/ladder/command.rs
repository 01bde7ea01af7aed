//! From the command line to the ladder.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use bace_engine::policy_by_name;
use bace_ledger::Ladder;

use super::climb::Climb;
use super::plan::Plan;
use crate::cli::LadderArgs;
use crate::output::{self, say};
use crate::run::fresh_folder;
use crate::scenarios;
use crate::wrong_input::{OrWrongInput, WrongInput};

/// Climbs the rungs that were asked for, as far as this machine allows; whether every run of them went well.
pub fn ladder(args: &LadderArgs) -> anyhow::Result<bool> {
    let loaded = scenarios::load(&args.scenario.scenario, args.scenario.seed)?;
    policy_by_name(&args.scenario.policy).or_wrong_input()?;
    let folder = match &args.out {
        Some(folder) => {
            refuse_used(folder)?;
            folder.clone()
        }
        None => fresh_folder(&format!("ladder-{}", loaded.scenario.name))?,
    };
    let plan = Plan::of(args, &loaded)?;
    if let Some(path) = &args.svg {
        refuse_unwritable(path)?;
    }
    let climb = Climb {
        args,
        loaded: &loaded,
        folder: &folder,
    };
    let ladder = Ladder {
        scenario: loaded.scenario.name.clone(),
        policy: args.scenario.policy.clone(),
        rungs: climb.climb(plan)?,
    };
    if args.json {
        say!("{:#}", ladder.to_json());
    } else {
        output::print(format_args!("{}", ladder.render()));
        say!("ledgers: {}", folder.display());
    }
    if let Some(path) = &args.svg {
        let written = std::fs::write(path, ladder.svg()?);
        written.with_context(|| format!("write {}", path.display()))?;
    }
    Ok(ladder.succeeded())
}

/// Refuses a folder that holds anything.
fn refuse_used(dir: &Path) -> anyhow::Result<()> {
    match std::fs::read_dir(dir).map(|mut entries| entries.next().is_some()) {
        Ok(false) => Ok(()),
        Ok(true) => Err(WrongInput::error(format!(
            "write a ladder into {}: it holds something already; give a fresh folder",
            dir.display()
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(WrongInput::error(format!(
            "look into {}: {error}",
            dir.display()
        ))),
    }
}

/// Refuses a file that cannot be written, and leaves none behind that was not there.
fn refuse_unwritable(path: &Path) -> anyhow::Result<()> {
    let wrong =
        |error: std::io::Error| WrongInput::error(format!("write {}: {error}", path.display()));
    let was_there = path.symlink_metadata().is_ok();
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    options.open(path).map(drop).map_err(wrong)?;
    if was_there {
        return Ok(());
    }
    std::fs::remove_file(path).map_err(wrong)
}
