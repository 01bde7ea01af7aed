//! The prediction that a validation has kept beside a real run.

use std::fs;
use std::path::{Path, PathBuf};

use bace_api::{ClockKind, Header, ProfileUse, told};
use bace_ledger::{LEDGER_FILE, LedgerError, Predicted, Reader, RunEnd, RunLog};

use serde_json::Value;

use crate::validate::{MEASURED, PLAN_FILE, PREDICTED, program_hash};

/// What lies beside the run of `dir`, a ledger or a run's folder that begins with `header`, where it is what would be simulated anew;
/// where it is not, standard error says why.
pub fn kept_prediction(dir: &Path, header: &Header) -> Option<Predicted<RunLog>> {
    let kept = beside(&std::path::absolute(dir).ok()?)?;
    match of_this_build(&kept).and_then(|()| fitting(&kept, header)) {
        Ok(log) => Some(Predicted(log)),
        Err(why) => {
            eprintln!(
                "bace: {} is not taken for the prediction of {}: {why}; it is simulated anew",
                kept.display(),
                dir.display()
            );
            None
        }
    }
}

/// The folder of the prediction where `dir` is one of a validation's repeats.
fn beside(dir: &Path) -> Option<PathBuf> {
    let run = match dir.is_dir() {
        true => dir,
        false => dir.parent()?,
    };
    let name = run.file_name()?.to_str()?;
    let repeat = name.strip_prefix(MEASURED)?;
    let kept = run.with_file_name(PREDICTED);
    let is_one = repeat.parse::<u32>().is_ok() && kept.join(LEDGER_FILE).exists();
    is_one.then_some(kept)
}

/// Whether the validation that `kept` is of was begun with this very program: models change between builds of one version.
fn of_this_build(kept: &Path) -> Result<(), String> {
    let plan = kept
        .ancestors()
        .nth(2)
        .map(|validation| validation.join(PLAN_FILE));
    let plan = plan.ok_or_else(|| "it is in no validation's folder".to_owned())?;
    let failed = |why: &dyn std::fmt::Display| format!("failed to read {}: {why}", plan.display());
    let text = fs::read_to_string(&plan).map_err(|e| failed(&e))?;
    let plan: Value = serde_json::from_str(&text).map_err(|e| failed(&e))?;
    let own = program_hash().map_err(|e| format!("failed to {e:#}"))?;
    if plan["bace_hash"] == own {
        Ok(())
    } else {
        Err("another build of bace made it".to_owned())
    }
}

/// The ledger of `kept`, or why it is not that of the event model under what the run says of itself.
fn fitting(kept: &Path, run: &Header) -> Result<RunLog, String> {
    let unreadable = |error: LedgerError| format!("failed to {}", told(&error));
    let reader = Reader::open(kept).map_err(unreadable)?;
    if let Some(why) = misfit(run, reader.header()) {
        return Err(why);
    }
    let log = RunLog::read(kept).map_err(unreadable)?;
    match log.summary.end {
        RunEnd::Complete => Ok(log),
        RunEnd::Stopped(_) | RunEnd::CutOff { .. } => Err("it came to no end".to_owned()),
    }
}

/// The first thing in which a prediction is not that of `run`.
fn misfit(run: &Header, kept: &Header) -> Option<String> {
    if kept.clock != ClockKind::Virtual || kept.iteration_model.as_deref() != Some("event") {
        return Some("it is no simulation by the event model".to_owned());
    }
    let profile = |header: &Header| match header.profile.as_deref() {
        Some(ProfileUse::Used { hash, .. }) => hash.clone(),
        Some(ProfileUse::Absent { .. }) | None => "none".to_owned(),
    };
    let version = env!("CARGO_PKG_VERSION");
    let sides = [
        ("scenario_hash", &run.scenario_hash, &kept.scenario_hash),
        ("policy", &run.policy, &kept.policy),
        ("seed", &run.seed.to_string(), &kept.seed.to_string()),
        ("version", &version.to_owned(), &kept.version),
        ("profile", &profile(run), &profile(kept)),
    ]
    .map(|(key, one, two)| (one != two).then(|| format!("its `{key}` is {two}, not {one}")));
    let sources = (run.sources != kept.sources)
        .then(|| "the files that its scenario reads are others, by `sources`".to_owned());
    sides.into_iter().flatten().next().or(sources)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{ActionsChoice, IterationModelChoice};
    use crate::scenarios::{self, Loaded};
    use crate::simulate::Simulation;
    use bace_engine::{Engine, policy_by_name};

    fn simulate(loaded: &Loaded, model: IterationModelChoice, out: &Path) -> Header {
        let simulation = Simulation {
            loaded,
            policy: "lcf",
            engine: Engine::new(loaded.scenario.clone(), policy_by_name("lcf").unwrap()),
            profile: None,
            iteration_model: model,
            actions: ActionsChoice::Full,
        };
        simulation.run(Some(out)).unwrap().header
    }

    #[test]
    fn what_lies_beside_a_repeat_is_taken_where_it_fits() {
        let dir = tempfile::tempdir().unwrap();
        let loaded = scenarios::load("three-regions", None).unwrap();
        let policy = dir.path().join("lcf");
        let kept = policy.join(PREDICTED);
        let header = simulate(&loaded, IterationModelChoice::Event, &kept);
        let run = policy.join("measured-2");
        fs::create_dir(&run).unwrap();
        // Of another build, of which nothing else tells.
        let plan = dir.path().join(PLAN_FILE);
        fs::write(&plan, r#"{"bace_hash": "b0"}"#).unwrap();
        assert!(kept_prediction(&run, &header).is_none());
        let own = serde_json::json!({"bace_hash": program_hash().unwrap()});
        fs::write(&plan, own.to_string()).unwrap();
        let Predicted(found) = kept_prediction(&run, &header).unwrap();
        assert_eq!(found, RunLog::read(&kept).unwrap());
        let ledger = run.join(LEDGER_FILE);
        assert!(kept_prediction(&ledger, &header).is_some());
        let other = policy.join("other");
        fs::create_dir(&other).unwrap();
        assert!(kept_prediction(&other, &header).is_none());

        let mut seeded = header.clone();
        seeded.seed += 1;
        assert!(misfit(&seeded, &header).unwrap().contains("`seed`"));
        let mut older = header.clone();
        older.version = "0.0.1".to_owned();
        assert!(misfit(&header, &older).unwrap().contains("`version`"));
        fs::write(kept.join(LEDGER_FILE), "no ledger\n").unwrap();
        assert!(kept_prediction(&run, &header).is_none());
        fs::remove_dir_all(&kept).unwrap();
        let formula = simulate(&loaded, IterationModelChoice::Analytic, &kept);
        assert!(misfit(&header, &formula).unwrap().contains("event model"));
    }
}
