//! From the command line to the verdict.

use anyhow::bail;
use bace_api::ComputeRung;
use bace_ledger::{RunEnd, Summary};

use super::folder::{Folder, Left};
use super::judge::judge;
use super::plan::{Plan, PlannedRun};
use crate::cli::{
    ActionsChoice, DeviceChoice, EmulationArgs, IterationModelChoice, RunArgs, ScenarioArgs,
    SetReceiptsChoice, ValidateArgs,
};
use crate::compare::chosen_policies;
use crate::output::{self, say};
use crate::profile::measure_missing;
use crate::real_runs::{Ended, RealRun, RealRuns, crowding, expected_s, words};
use crate::run::{CheckedRun, fresh_folder};
use crate::simulate::Simulation;

/// Beyond this a validation says how it could be shorter, seconds.
const LONG_S: f64 = 3_600.0;

/// Predicts a scenario, runs it for real, and judges the one by the other; whether the predictions are within the tolerances.
pub fn validate(args: &ValidateArgs) -> anyhow::Result<bool> {
    let tolerances = args.tolerances()?;
    let (folder, plan) = match (&args.again, &args.scenario) {
        (Some(dir), _) => Folder::read(dir)?,
        (None, Some(scenario)) => measure(args, scenario)?,
        (None, None) => unreachable!("one of them is required"),
    };
    let judged = judge(&folder, &plan, tolerances)?;
    let (json, text) = (format!("{:#}", judged.to_json()), judged.render());
    folder.keep(&format!("{json}\n"), &text)?;
    if args.json {
        say!("{json}");
    } else {
        output::print(format_args!("{text}"));
    }
    Ok(judged.passed())
}

/// Makes the predictions and the runs that are not there yet.
fn measure(args: &ValidateArgs, scenario: &str) -> anyhow::Result<(Folder, Plan)> {
    let policies = chosen_policies(&args.policies)?;
    // Policies differ in nothing that is checked.
    let checked = checked(args, scenario, policies[0])?;
    let plan = Plan::new(args, &checked, &policies)?;
    if plan.compute == ComputeRung::Native
        && matches!(args.emulation.device, DeviceChoice::Cpu)
        && let Some(crowding) = crowding(&checked.loaded.scenario)
    {
        eprintln!("native compute may not be predictable here: {crowding}");
    }
    let name = format!("validate-{}", plan.scenario);
    let dir = args.out.clone().map_or_else(|| fresh_folder(&name), Ok)?;
    let folder = Folder::open(dir, &plan)?;
    let makespans_s = policies
        .iter()
        .map(|&policy| {
            let summary = predict(&folder, &checked, policy)?;
            let makespan_s = summary.totals.makespan_s.known().copied();
            Ok((policy, makespan_s.unwrap_or_default()))
        })
        .collect::<anyhow::Result<Vec<(&str, f64)>>>()?;
    let expected_s = |place: usize, run: &PlannedRun| {
        let of_policy = makespans_s.iter().find(|(name, _)| *name == run.policy);
        let makespan_s = of_policy.map_or(0.0, |(_, makespan_s)| *makespan_s);
        let scenario = &checked.loaded.scenario;
        let scale = scenario.compute.time_scale;
        expected_s(scenario, scale, (makespan_s, plan.receipts_at(place)))
    };
    let mut left = Vec::new();
    for (place, run) in plan.order.iter().enumerate() {
        if !matches!(folder.left(&Folder::measured(run)), Left::Whole(_)) {
            left.push((run, expected_s(place, run), plan.receipts_at(place)));
        }
    }
    let runs = left.iter().map(|&(run, expected_s, receipts)| RealRun {
        label: run.label(),
        expected_s,
        args: RunArgs {
            receipts,
            out: Some(folder.path(&Folder::measured(run))),
            ..RunArgs::here(
                scenario_args(args, scenario, &run.policy),
                args.emulation.clone(),
            )
        },
    });
    let runs: Vec<RealRun> = runs.collect();
    let left: Vec<&PlannedRun> = left.iter().map(|(run, ..)| *run).collect();
    run_all(&folder, &plan, (&left, runs))?;
    Ok((folder, plan))
}

/// A run under `policy` that can begin. On native compute, what the device's profile lacks is measured first.
fn checked(args: &ValidateArgs, scenario: &str, policy: &str) -> anyhow::Result<CheckedRun> {
    let check = |ignores_profiles| {
        let emulation = EmulationArgs {
            ignores_profiles,
            ..args.emulation.clone()
        };
        let named = scenario_args(args, scenario, policy);
        CheckedRun::of(RunArgs::here(named, emulation))
    };
    // A profile that a person names is taken as it is.
    if args.emulation.profile.is_some() {
        return check(false);
    }
    let checked = check(true)?;
    if checked.compute != ComputeRung::Native {
        return Ok(checked);
    }
    measure_missing((scenario, args.seed), &args.emulation, &checked.devices)?;
    check(false)
}

fn scenario_args(args: &ValidateArgs, scenario: &str, policy: &str) -> ScenarioArgs {
    ScenarioArgs {
        scenario: scenario.to_owned(),
        policy: policy.to_owned(),
        seed: args.seed,
    }
}

/// The simulation of a policy's run, from what the scheduler of the real one knows; made unless it is there.
fn predict(folder: &Folder, checked: &CheckedRun, policy: &str) -> anyhow::Result<Summary> {
    let within = Folder::predicted(policy);
    match folder.left(&within) {
        Left::Whole(summary) => return Ok(*summary),
        Left::Unfinished => {}
        Left::Unreadable(why) => {
            eprintln!("{policy}: its simulation {why}; it is simulated again");
        }
    }
    folder.clear(&within)?;
    let simulation = Simulation {
        loaded: &checked.loaded,
        policy,
        engine: checked.engine_under(policy)?,
        profile: checked.profile().zip(checked.profile_use()),
        iteration_model: IterationModelChoice::Event,
        actions: ActionsChoice::Full,
    };
    simulation.run(Some(&folder.path(&within)))
}

/// Makes the real runs that are left, those of `left` in its order.
fn run_all(
    folder: &Folder,
    plan: &Plan,
    (left, runs): (&[&PlannedRun], Vec<RealRun>),
) -> anyhow::Result<()> {
    let (all, there) = (plan.order.len(), plan.order.len() - left.len());
    if there > 0 {
        let dir = folder.dir().display();
        eprintln!("{there} of {all} real runs are in {dir} already");
    }
    if left.is_empty() {
        return Ok(());
    }
    let total_s: f64 = runs.iter().map(|run| run.expected_s).sum();
    if total_s > LONG_S {
        eprintln!("{}", how_to_shorten(plan, total_s));
    }
    for run in left {
        folder.make_room(run)?;
    }
    let runs = RealRuns {
        what: "validation",
        scenario: plan.scenario.clone(),
        runs,
    };
    let mut complete = there;
    let ran = runs.run(|place, ended| match ended {
        Ended::Summary(summary) => {
            complete += usize::from(matches!(summary.end, RunEnd::Complete));
            Ok(())
        }
        Ended::Failed(why) => folder.tell_failure(&Folder::measured(left[place]), why),
    })?;
    match ran.stopped {
        Some(signal) if complete < all => bail!(
            "finish the validation: it was {signal} with {complete} of {all} real runs done; the same command with --out {} goes on there",
            folder.dir().display()
        ),
        _ => Ok(()),
    }
}

/// What makes a long validation shorter.
fn how_to_shorten(plan: &Plan, total_s: f64) -> String {
    let mut ways = Vec::new();
    if plan.repeats > 2 {
        ways.push("fewer --repeats");
    }
    if plan.policies.len() > 1 {
        ways.push("fewer --policies");
    }
    if plan.compute != ComputeRung::Native {
        ways.push("a larger --time-scale, as far as `bace doctor SCENARIO` allows");
    }
    if plan.receipts == SetReceiptsChoice::Each {
        ways.push("--receipts ends");
    }
    ways.push("fewer iterations in the scenario");
    format!(
        "this takes about {}; shorter with {}",
        words(total_s),
        ways.join(", ")
    )
}
