//! Predictions held against what a validation's folder holds.

use bace_ledger::{Measured, PolicyRuns, Predicted, RunLog, Tolerances, Validation, Validator};
use serde_json::{Value, json};

use super::folder::{Folder, Retry};
use super::plan::{Plan, PlannedRun};
use crate::cli::ReceiptsChoice;
use crate::wrong_input::WrongInput;

/// A verdict and what it was made from.
pub struct Judged<'a> {
    folder: &'a Folder,
    plan: &'a Plan,
    validation: Validation,
    /// The real runs, in the order of the plan.
    runs: Vec<JudgedRun<'a>>,
}

/// A real run, as its ledger tells.
struct JudgedRun<'a> {
    run: &'a PlannedRun,
    has_receipts: bool,
    /// Whether links and paced actions were what the scenario says; absent where that is not known.
    valid: Option<bool>,
    /// Why they were not, a sentence each.
    faults: Vec<String>,
    /// Why it came to no end; absent where it did.
    failed: Option<String>,
    /// The failed runs that it was made again after.
    retries: Vec<Retry>,
}

/// Judges the ledgers of a folder, with only one policy's in memory at a time.
///
/// # Errors
/// If a prediction is missing, or a ledger cannot be read.
pub fn judge<'a>(
    folder: &'a Folder,
    plan: &'a Plan,
    tolerances: Tolerances,
) -> anyhow::Result<Judged<'a>> {
    let mut validator = Validator::new(tolerances);
    let mut runs: Vec<Option<JudgedRun<'a>>> = plan.order.iter().map(|_| None).collect();
    for policy in &plan.policies {
        let mut of_policy = PolicyRuns {
            policy: policy.clone(),
            predicted: Predicted(predicted(folder, policy)?),
            measured: Vec::new(),
            failed: Vec::new(),
        };
        let planned = plan.order.iter().enumerate();
        let mut planned: Vec<_> = planned.filter(|(_, run)| run.policy == *policy).collect();
        planned.sort_by_key(|(_, run)| run.repeat);
        for (place, run) in planned {
            let log = folder.log(&Folder::measured(run))?;
            let summary = log.as_ref().ok().map(|log| &log.summary);
            runs[place] = Some(JudgedRun {
                run,
                has_receipts: plan.receipts_at(place) == ReceiptsChoice::Full,
                valid: summary.and_then(|summary| summary.emulation.valid.known().copied()),
                faults: summary.map_or_else(Vec::new, |summary| summary.emulation.faults.clone()),
                failed: log.as_ref().err().cloned(),
                retries: folder.retries(run)?,
            });
            match log {
                Ok(log) => of_policy.measured.push(Measured(log)),
                Err(why) => of_policy
                    .failed
                    .push(format!("repeat {}: {why}", run.repeat)),
            }
        }
        validator.add(&of_policy);
    }
    Ok(Judged {
        folder,
        plan,
        validation: validator.finish(),
        runs: runs.into_iter().flatten().collect(),
    })
}

fn predicted(folder: &Folder, policy: &str) -> anyhow::Result<RunLog> {
    let within = Folder::predicted(policy);
    folder.log(&within)?.map_err(|why| {
        let path = folder.path(&within);
        WrongInput::error(format!(
            "read the prediction {}: {why}; the command that the validation was begun with, of the same build of bace, makes it again, with --out {}",
            path.display(),
            folder.dir().display()
        ))
    })
}

impl Judged<'_> {
    /// Whether the predictions are within the tolerances.
    pub fn passed(&self) -> bool {
        self.validation.passed()
    }

    /// All of it for programs: the plan, each real run, and the figures.
    pub fn to_json(&self) -> Value {
        let mut json = self.validation.to_json();
        json["folder"] = json!(self.folder.dir().display().to_string());
        json["plan"] = json!(self.plan);
        let retry = |retry: &Retry| json!({"folder": retry.within.display().to_string(), "failed": retry.why});
        let run = |judged: &JudgedRun<'_>| {
            json!({
                "policy": judged.run.policy,
                "repeat": judged.run.repeat,
                "folder": Folder::measured(judged.run).display().to_string(),
                "receipts": judged.has_receipts,
                "valid": judged.valid,
                "faults": judged.faults,
                "failed": judged.failed,
                "retries": judged.retries.iter().map(retry).collect::<Vec<_>>(),
            })
        };
        json["runs"] = self.runs.iter().map(run).collect();
        json
    }

    /// All of it for people.
    pub fn render(&self) -> String {
        let plan = self.plan;
        let repeats = match plan.repeats {
            1 => "once".to_owned(),
            repeats => format!("{repeats} times"),
        };
        format!(
            "{}: simulated, and run {repeats} for each policy (compute {}, network {}); policies took turns in an order of seed {}\n{}{}\n{}\
             plan, ledgers and verdict are in {}\n",
            plan.scenario,
            plan.compute.name(),
            plan.network.name(),
            plan.order_seed,
            self.receipts(),
            self.retries(),
            self.validation.render(),
            self.folder.dir().display()
        )
    }

    /// Which runs were made again, a line each.
    fn retries(&self) -> String {
        let lines = self.runs.iter().flat_map(|judged| {
            judged.retries.iter().map(|retry| {
                let (label, kept) = (judged.run.label(), retry.within.display());
                format!(
                    "{label} was made again: before, it {} (kept in {kept})\n",
                    retry.why
                )
            })
        });
        lines.collect()
    }

    /// Which runs had their links measured.
    fn receipts(&self) -> String {
        let having = self.runs.iter().filter(|run| run.has_receipts);
        let having: Vec<String> = having.map(|run| run.run.label()).collect();
        match having.len() {
            0 => "links were measured in no run, so that nothing says they were what the scenario says\n".to_owned(),
            count if count == self.runs.len() => "links were measured in every run\n".to_owned(),
            _ => format!(
                "links were measured in the first run ({}) and in the last ({}) alone\n",
                having[0],
                having[having.len() - 1]
            ),
        }
    }
}
