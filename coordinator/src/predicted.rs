//! The prediction that belongs to a run: of its own scenario, policy, seed and profile.

use std::path::Path;

use bace_api::{ClockKind, ComputeRung, NetworkRung, ProfileUse};
use bace_engine::{Scenario, policy_by_name};
use bace_ledger::{Predicted, RunLog};
use bace_sim::{IterationModel, simulate_engine};

use crate::recorded::Recorded;
use crate::scenarios::RunKind;
use crate::wrong_input::{OrWrongInput, WrongInput};

/// Most actions of a prediction that stands beside a run: its records are all in memory, some 150 bytes an action.
const MOST_ACTIONS: u64 = 5_000_000;

/// Actions for a micro-batch on a stage between two others: forward, backward, and a receive and a send of each.
const ACTIONS_OF_MICRO_BATCH: u64 = 6;

/// Simulates the run of `dir`, a ledger or a run's folder that `log` was read from, by the event model, with a record for
/// every iteration and every action. Times are emulated seconds from the start of the run.
///
/// # Errors
/// If the folder has lost the run's scenario or profile, holds others, or lacks files that the scenario reads; and if the
/// run's compute was native without a profile, since nothing is known of the device then; or if its records were too many to hold.
pub fn predicted(dir: &Path, log: &RunLog) -> anyhow::Result<Predicted<RunLog>> {
    let header = &log.header;
    let unknown = match header.profile.as_deref() {
        Some(ProfileUse::Used { .. }) => None,
        Some(ProfileUse::Absent { reason }) => Some(reason.as_str()),
        None => Some("its ledger names no profile"),
    };
    if let (ComputeRung::Native, Some(reason)) = (header.compute, unknown) {
        return Err(WrongInput::error(format!(
            "predict {}: its compute was native, and what its device takes is not known: {reason}",
            dir.display()
        )));
    }
    let recorded = Recorded::new(dir, header);
    let loaded = recorded.kept_scenario()?;
    refuse_what_is_too_long(&loaded.scenario, log)?;
    let policy = policy_by_name(&header.policy).or_wrong_input()?;
    let simulated = loaded.header(RunKind {
        policy: header.policy.clone(),
        started: None,
        clock: ClockKind::Virtual,
        compute: ComputeRung::Modelled,
        network: NetworkRung::Modelled,
        receipts: None,
        iteration_model: Some("event".to_owned()),
        profile: header.profile.as_deref().cloned(),
    });
    let engine = recorded.engine(loaded, policy)?;
    let mut records = Vec::new();
    simulate_engine(engine, IterationModel::Event, |record| records.push(record));
    Ok(Predicted(RunLog::from_records(simulated, records)))
}

/// With the stages that jobs had in the run; a job that was never placed counts one.
fn refuse_what_is_too_long(scenario: &Scenario, log: &RunLog) -> anyhow::Result<()> {
    let actions = scenario.jobs.iter().map(|job| {
        let last = log.job(&job.name).and_then(|of| of.attempts.last());
        let stages = last.map_or(1, |attempt| u64::from(attempt.k()));
        let micro_batches = u64::from(job.iterations) * u64::from(job.micro_batches);
        micro_batches.saturating_mul(stages * ACTIONS_OF_MICRO_BATCH)
    });
    let actions = actions.fold(0, u64::saturating_add);
    if actions <= MOST_ACTIONS {
        return Ok(());
    }
    Err(WrongInput::error(format!(
        "predict its about {actions} actions one by one: {MOST_ACTIONS} are the most beside a run; `bace simulate` predicts its sums"
    )))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bace_api::Record;
    use bace_ledger::{RunFolder, SCENARIO_FILE};
    use bace_sim::simulate;
    use tempfile::TempDir;

    use super::*;
    use crate::scenarios::{self, Loaded};

    const PRICE: &str = "price_usd_per_kwh = 0.156";

    /// `three-regions` with some text replaced, and files beside it that it may read.
    fn scenario(dir: &Path, old: &str, new: &str) -> Loaded {
        let text = scenarios::built_in("three-regions").unwrap();
        assert!(text.contains(old), "{old}");
        let path = dir.join("given.toml");
        fs::write(&path, text.replacen(old, new, 1)).unwrap();
        fs::write(dir.join("night.csv"), "from_s,usd_per_kwh\n0,0.2\n9,0.1\n").unwrap();
        scenarios::load(path.to_str().unwrap(), Some(5)).unwrap()
    }

    /// A folder as a run leaves it, made of a simulation with another header.
    fn folder(dir: &Path, loaded: &Loaded, kind: RunKind) -> RunLog {
        let (_, mut ledger) = RunFolder::create(dir, &loaded.text).unwrap();
        let policy = policy_by_name(&kind.policy).unwrap();
        ledger.append(&Record::Header(loaded.header(kind))).unwrap();
        simulate(&loaded.scenario, policy, IterationModel::Event, |record| {
            ledger.append(&record).unwrap();
        });
        RunLog::read(dir).unwrap()
    }

    fn kind(compute: ComputeRung) -> RunKind {
        RunKind {
            policy: "lcf".to_owned(),
            started: None,
            clock: ClockKind::Wall,
            compute,
            network: NetworkRung::Shaped,
            receipts: None,
            iteration_model: None,
            profile: None,
        }
    }

    #[test]
    fn a_run_is_predicted_at_its_own_scale() {
        let dir = TempDir::new().unwrap();
        let mut loaded = scenario(dir.path(), PRICE, PRICE);
        let asked = bace_netem::TimeScale::new(4.0).unwrap();
        std::sync::Arc::make_mut(&mut loaded.scenario)
            .compute
            .time_scale = asked;
        let run = dir.path().join("run");
        let log = folder(&run, &loaded, kind(ComputeRung::Paced));
        let recorded = Recorded::new(&run, &log.header);
        let kept = recorded.kept_scenario().unwrap();
        assert_ne!(kept.scenario.compute.time_scale, asked);
        let engine = recorded.engine(kept, policy_by_name("lcf").unwrap());
        assert_eq!(engine.unwrap().scenario().compute.time_scale, asked);
    }

    fn error(dir: &Path, log: &RunLog) -> String {
        let error = predicted(dir, log).unwrap_err();
        assert!(error.is::<WrongInput>());
        error.to_string()
    }

    #[test]
    fn a_run_is_predicted_from_its_own_scenario_policy_and_seed() {
        let dir = TempDir::new().unwrap();
        let run = dir.path().join("run");
        let loaded = scenario(dir.path(), PRICE, PRICE);
        let log = folder(&run, &loaded, kind(ComputeRung::Paced));
        let Predicted(simulated) = predicted(&run, &log).unwrap();
        // A real run's begin of training is a record, which this one lacks.
        let mut jobs = simulated.jobs.clone();
        for start in jobs.iter_mut().flat_map(|job| &mut job.attempts) {
            assert_eq!(start.training_s.take(), start.iterates_s());
        }
        assert_eq!(jobs, log.jobs);
        assert_eq!(simulated.records, log.records);
        assert_eq!(simulated.header.clock, ClockKind::Virtual);
        assert_eq!((simulated.header.seed, log.header.seed), (5, 5));
        let by_ledger = predicted(&run.join("ledger.jsonl"), &log).unwrap();
        assert_eq!(by_ledger.0, simulated);
    }

    #[test]
    fn a_prediction_that_memory_would_not_hold_is_not_begun() {
        let dir = TempDir::new().unwrap();
        let run = dir.path().join("run");
        let loaded = scenario(dir.path(), PRICE, PRICE);
        let log = folder(&run, &loaded, kind(ComputeRung::Paced));
        let mut endless = Scenario::clone(&loaded.scenario);
        endless.jobs[0].iterations = 1_000_000;
        let told = refuse_what_is_too_long(&endless, &log).unwrap_err();
        assert!(told.to_string().contains("5000000 are the most"), "{told}");
        assert!(refuse_what_is_too_long(&loaded.scenario, &log).is_ok());
    }

    #[test]
    fn another_scenario_or_none_is_refused() {
        let dir = TempDir::new().unwrap();
        let run = dir.path().join("run");
        let loaded = scenario(dir.path(), PRICE, PRICE);
        let log = folder(&run, &loaded, kind(ComputeRung::Paced));
        let kept = run.join(SCENARIO_FILE);
        fs::write(&kept, format!("{}# changed\n", loaded.text)).unwrap();
        let told = error(&run, &log);
        assert!(told.contains("is not the scenario of this run"), "{told}");
        fs::remove_file(&kept).unwrap();
        let told = error(&run, &log);
        assert!(told.contains("has lost the scenario"), "{told}");
    }

    #[test]
    fn files_that_the_folder_lacks_are_named_and_may_be_copied() {
        let dir = TempDir::new().unwrap();
        let run = dir.path().join("run");
        let series = r#"price_usd_per_kwh = { csv = "night.csv" }"#;
        let loaded = scenario(dir.path(), PRICE, series);
        let log = folder(&run, &loaded, kind(ComputeRung::Paced));
        let hash = blake3::hash(b"from_s,usd_per_kwh\n0,0.2\n9,0.1\n").to_hex();
        assert_eq!(log.header.sources["night.csv"], hash.as_str());
        let footer = bace_ledger::render(&log.summary);
        assert!(footer.contains("\nreads     night.csv: "), "{footer}");
        assert_eq!(log.summary.to_json()["sources"]["night.csv"], hash.as_str());
        let told = error(&run, &log);
        assert!(told.contains("(night.csv); copy them there"), "{told}");
        fs::copy(dir.path().join("night.csv"), run.join("night.csv")).unwrap();
        assert_eq!(predicted(&run, &log).unwrap().0.records, log.records);
        fs::write(run.join("night.csv"), "from_s,usd_per_kwh\n0,0.3\n").unwrap();
        let told = error(&run, &log);
        assert!(told.contains("night.csv, which it reads, is not"), "{told}");
        // Older ledgers do not say what was read.
        let mut older = log.clone();
        older.header.sources.clear();
        assert!(predicted(&run, &older).is_ok());
    }

    #[test]
    fn native_compute_is_predicted_from_a_profile_or_not_at_all() {
        let dir = TempDir::new().unwrap();
        let run = dir.path().join("run");
        let loaded = scenario(dir.path(), PRICE, PRICE);
        let mut log = folder(&run, &loaded, kind(ComputeRung::Native));
        assert!(error(&run, &log).contains("its ledger names no profile"));
        let reason = "nobody has measured it".to_owned();
        log.header.profile = Some(Box::new(ProfileUse::Absent { reason }));
        assert!(error(&run, &log).contains("is not known: nobody has measured it"));
    }
}
