//! `bace compare`: policies side by side, over seeds and sweeps.

use std::fs::OpenOptions;
use std::ops::RangeInclusive;
use std::sync::Arc;

use anyhow::Context;
use bace_api::{ClockKind, ComputeRung, NetworkRung, ProfileUse, Record};
use bace_engine::{Detail, Engine, Knob, Scenario, agenda, policies, policy_by_name};
use bace_ledger::{Case, Comparison, Fold, Outcome, Summary};
use bace_sim::simulate_engine;
use rayon::prelude::*;

use crate::cli::{CompareArgs, DeviceChoice, IterationModelChoice, RunArgs, ScenarioArgs};
use crate::output::{self, say};
use crate::profile::{Asked, ChosenProfile, asked_rung};
use crate::real_runs::{Ended, RealRun, RealRuns, expected_s};
use crate::run::{default_rung, identify};
use crate::scenarios::{self, Loaded, RunKind};
use crate::wrong_input::{OrWrongInput, WrongInput};

/// Most runs of a comparison: far more than a table can show, and a slip of the pen beyond.
const MOST_CASES: usize = 1_000_000;

/// Compares policies; whether every job of every run finished.
pub fn compare(args: &CompareArgs) -> anyhow::Result<bool> {
    let mut loaded = scenarios::load(&args.scenario, args.seed)?;
    if let Some(scale) = args.emulation.time_scale {
        Arc::make_mut(&mut loaded.scenario).compute.time_scale = scale;
    }
    let chosen = chosen_policies(&args.policies)?;
    let points = points(&loaded.scenario, &sweeps(&args.sweep)?)?;
    if args.real && !args.sweep.is_empty() {
        return Err(WrongInput::error(
            "run a sweep for real: a run trains a scenario as its file says; change the file instead",
        ));
    }
    let varies = points.iter().any(|point| {
        point
            .scenario
            .draw
            .depends_on_seed(loaded.scenario.jobs.len())
    });
    let first = loaded.scenario.seed;
    let last = first
        .checked_add(u64::from(args.seeds - 1))
        .ok_or_else(|| {
            WrongInput::error(format!(
                "count {} seeds from {first}: the largest is {}",
                args.seeds,
                u64::MAX
            ))
        })?;
    let seeds = first..=last;
    let count = points.len() * chosen.len() * args.seeds as usize;
    if count > MOST_CASES {
        return Err(WrongInput::error(format!(
            "compare {count} runs: {MOST_CASES} are the most"
        )));
    }
    if let Some(path) = &args.svg {
        // Whether it can be written shows before hours of runs; what stands there is kept until they end.
        let mut options = OpenOptions::new();
        let opened = options.write(true).create(true).truncate(false).open(path);
        let opened = opened.with_context(|| format!("write {}", path.display()));
        opened.or_wrong_input()?;
    }
    let compute = compute(args, &loaded.scenario)?;
    let asked = asked(args, compute);
    let profile = ChosenProfile::asked_for(&asked)?;
    // What no seed changes is simulated once.
    let simulated = if varies { seeds.clone() } else { first..=first };
    let mut cases = simulate_all(
        &loaded,
        args,
        (&asked, profile.as_ref()),
        (&points, &chosen, simulated),
    )?;
    if args.real {
        cases.extend(measure_all(args, &loaded, (&chosen, seeds), &cases)?);
        // A measured row stands below the simulated one.
        let rank = |case: &Case| chosen.iter().position(|name| *name == case.policy);
        cases.sort_by_key(|case| (rank(case), case.measured, case.seed));
    }
    let comparison = Comparison {
        scenario: loaded.scenario.name.clone(),
        iteration_model: args.iteration_model.word().to_owned(),
        profile: profile
            .as_ref()
            .map(|profile| profile.path.display().to_string()),
        lacks_set_up: profile
            .as_ref()
            .filter(|_| args.iteration_model == IterationModelChoice::Event)
            .and_then(|profile| profile.lacks_set_up(&loaded.scenario, &asked.command())),
        varies,
        cases,
    };
    if args.json {
        say!("{:#}", comparison.to_json());
    } else {
        output::print(format_args!("{}", comparison.render()));
    }
    if let Some(path) = &args.svg {
        let written = std::fs::write(path, comparison.svg()?);
        written.with_context(|| format!("write {}", path.display()))?;
    }
    Ok(comparison.succeeded())
}

/// A point of the sweep.
struct Point {
    /// Such as `gpus = 0.5`; empty without a sweep.
    label: String,
    scenario: Scenario,
}

/// The policies asked for, each once; all of them for `all`.
pub fn chosen_policies(names: &[String]) -> anyhow::Result<Vec<&'static str>> {
    let mut chosen = Vec::new();
    for name in names {
        if name == "all" {
            chosen.extend(policies().iter().map(|policy| policy.name));
            continue;
        }
        policy_by_name(name).or_wrong_input()?;
        let known = policies().iter().find(|policy| policy.name == name);
        chosen.extend(known.map(|policy| policy.name));
    }
    let mut seen = Vec::new();
    chosen.retain(|name| {
        !seen.contains(name) && {
            seen.push(*name);
            true
        }
    });
    Ok(chosen)
}

/// The sweeps, each of its own quantity: a second factor would multiply the first.
fn sweeps(texts: &[String]) -> anyhow::Result<Vec<(Knob, Vec<f64>)>> {
    let mut sweeps: Vec<(Knob, Vec<f64>)> = Vec::new();
    for text in texts {
        let (knob, values) = sweep(text)?;
        if sweeps.iter().any(|(known, _)| known.name == knob.name) {
            return Err(WrongInput::error(format!(
                "sweep `{text}`: {} is swept already; give one --sweep all its values",
                knob.name
            )));
        }
        sweeps.push((knob, values));
    }
    Ok(sweeps)
}

/// `KEY=a,b,c`, no value twice: runs of one point are averaged, and the same run twice would look like more evidence.
fn sweep(text: &str) -> anyhow::Result<(Knob, Vec<f64>)> {
    let wrong = |problem: String| WrongInput::error(format!("sweep `{text}`: {problem}"));
    let (key, list) = text
        .split_once('=')
        .ok_or_else(|| wrong("it has to be KEY=VALUE,VALUE,…".to_owned()))?;
    let knob = Knob::by_name(key.trim()).or_wrong_input()?;
    let value = |value: &str| {
        let parsed = value.trim().parse::<f64>();
        parsed.map_err(|_| wrong(format!("`{value}` is no number")))
    };
    let values = list.split(',').map(value);
    let values: Vec<f64> = values.collect::<anyhow::Result<_>>()?;
    for (index, value) in values.iter().enumerate() {
        if values[..index].contains(value) {
            return Err(wrong(format!("{value} stands there twice")));
        }
    }
    Ok((knob, values))
}

/// Every combination of the sweeps' values.
fn points(base: &Scenario, sweeps: &[(Knob, Vec<f64>)]) -> anyhow::Result<Vec<Point>> {
    let mut points = vec![Point {
        label: String::new(),
        scenario: base.clone(),
    }];
    for (knob, values) in sweeps {
        let mut next = Vec::new();
        for point in &points {
            for &value in values {
                let comma = if point.label.is_empty() { "" } else { ", " };
                next.push(Point {
                    label: format!("{}{comma}{} = {value}", point.label, knob.name),
                    scenario: knob.turned(&point.scenario, value).or_wrong_input()?,
                });
            }
            if next.len() > MOST_CASES {
                return Err(WrongInput::error(format!(
                    "compare at more than {MOST_CASES} points"
                )));
            }
        }
        points = next;
    }
    Ok(points)
}

fn simulate_all(
    loaded: &Loaded,
    args: &CompareArgs,
    (asked, profile): (&Asked<'_>, Option<&ChosenProfile>),
    (points, chosen, seeds): (&[Point], &[&'static str], RangeInclusive<u64>),
) -> anyhow::Result<Vec<Case>> {
    let mut tasks = Vec::new();
    for point in points {
        for &policy in chosen {
            tasks.extend(seeds.clone().map(|seed| (point, policy, seed)));
        }
    }
    let simulate = |&(point, policy, seed): &(&Point, &'static str, u64)| {
        let scenario = Arc::new(point.scenario.clone().with_seed(seed));
        let decides = policy_by_name(policy).expect("the name has been looked up before");
        let engine = asked.give(profile, Engine::new(scenario, decides))?;
        let named = profile.map(|profile| profile.named(&point.scenario, &asked.command()));
        let summary = simulate(loaded, engine, (policy, named), args.iteration_model);
        Ok(Case {
            point: point.label.clone(),
            policy: policy.to_owned(),
            seed,
            measured: false,
            outcome: Outcome::of(&summary),
        })
    };
    tasks.par_iter().map(simulate).collect()
}

/// Trains the scenario under each policy and seed; `simulated` says how long that may take.
fn measure_all(
    args: &CompareArgs,
    loaded: &Loaded,
    (policies, seeds): (&[&'static str], RangeInclusive<u64>),
    simulated: &[Case],
) -> anyhow::Result<Vec<Case>> {
    let scenario = &loaded.scenario;
    let scale = scenario.compute.time_scale;
    let all = policies
        .iter()
        .flat_map(|&policy| seeds.clone().map(move |seed| (policy, seed)));
    let all: Vec<(&'static str, u64)> = all.collect();
    let runs = all.iter().map(|&(policy, seed)| {
        let dir = args.out.as_ref();
        let named = ScenarioArgs {
            scenario: args.scenario.clone(),
            policy: policy.to_owned(),
            seed: Some(seed),
        };
        let makespan_s = makespan_s(simulated, policy, seed);
        RealRun {
            label: format!("{policy}, seed {seed}"),
            expected_s: expected_s(scenario, scale, (makespan_s, args.receipts)),
            args: RunArgs {
                receipts: args.receipts,
                out: dir.map(|dir| dir.join(format!("{policy}-{seed}"))),
                ..RunArgs::here(named, args.emulation.clone())
            },
        }
    });
    let runs = RealRuns {
        what: "comparison",
        scenario: scenario.name.clone(),
        runs: runs.collect(),
    };
    let ran = runs.run(|_, _| Ok(()))?;
    let case = |(&(policy, seed), ended): (&(&'static str, u64), Ended)| Case {
        point: String::new(),
        policy: policy.to_owned(),
        seed,
        measured: true,
        outcome: match ended {
            Ended::Summary(summary) => Outcome::of(&summary),
            Ended::Failed(why) => Outcome::failed(scenario.jobs.len(), &why),
        },
    };
    Ok(all.iter().zip(ran.ended).map(case).collect())
}

/// What the simulation of a run takes, emulated seconds; 0 where none of its jobs ends.
fn makespan_s(simulated: &[Case], policy: &str, seed: u64) -> f64 {
    let of_policy = || simulated.iter().filter(|case| case.policy == policy);
    // What no seed changes is simulated once.
    let case = of_policy().find(|case| case.seed == seed);
    let case = case.or_else(|| of_policy().next());
    let makespan_s = case.and_then(|case| case.outcome.makespan_s());
    makespan_s.unwrap_or_default()
}

/// The rung of the real runs, so that what stands beside them is predicted for it; absent where nobody asks for one and nothing
/// runs.
fn compute(args: &CompareArgs, scenario: &Scenario) -> anyhow::Result<Option<ComputeRung>> {
    let asked = asked_rung(args.emulation.compute, scenario);
    if asked.is_some() || !args.real {
        return Ok(asked);
    }
    let devices = match args.emulation.device {
        DeviceChoice::Cpu => 0,
        DeviceChoice::Cuda(_) => identify(&args.emulation.device, args.emulation.precision)?.len(),
    };
    Ok(Some(default_rung(
        &args.emulation.device,
        devices,
        scenario,
    )))
}

fn asked(args: &CompareArgs, compute: Option<ComputeRung>) -> Asked<'_> {
    Asked {
        is_native: compute == Some(ComputeRung::Native),
        device: &args.emulation.device,
        precision: args.emulation.precision,
        profile: args.emulation.profile.as_deref(),
        scenario: &args.scenario,
        seed: args.seed,
    }
}

/// One simulation, with no more detail than a summary needs.
fn simulate(
    loaded: &Loaded,
    engine: Engine,
    (policy, profile): (&str, Option<ProfileUse>),
    model: IterationModelChoice,
) -> Summary {
    let scenario = engine.scenario().clone();
    let varied = Loaded {
        text: loaded.text.clone(),
        scenario: scenario.clone(),
        sources: loaded.sources.clone(),
    };
    let mut fold = Fold::new(&varied.header(RunKind {
        policy: policy.to_owned(),
        started: None,
        clock: ClockKind::Virtual,
        compute: ComputeRung::Modelled,
        network: NetworkRung::Modelled,
        receipts: None,
        iteration_model: Some(model.word().to_owned()),
        profile,
    }));
    // An engine that tells outcomes alone does not repeat what it is told.
    for scheduled in agenda(&scenario) {
        fold.add(&Record::Input {
            at_s: scheduled.at_s,
            input: scheduled.input.to_record(&scenario),
        });
    }
    let engine = engine.with_detail(Detail::Outcomes);
    let sink = |record| fold.add(&record);
    simulate_engine(engine, model.into(), sink);
    fold.finish()
}

#[cfg(test)]
mod tests {
    use bace_sim::IterationModel;

    use super::*;

    #[test]
    fn sweeps_combine() {
        let loaded = scenarios::load("three-regions", None).unwrap();
        let sweeps = [sweep("gpus=0.5,1").unwrap(), sweep("jobs=1,2,3").unwrap()];
        let points = points(&loaded.scenario, &sweeps).unwrap();
        let labels: Vec<&str> = points.iter().map(|point| point.label.as_str()).collect();
        assert_eq!(labels.len(), 6);
        assert_eq!(
            (labels[0], labels[5]),
            ("gpus = 0.5, jobs = 1", "gpus = 1, jobs = 3")
        );
    }

    #[test]
    fn policies_are_chosen_once_and_by_name() {
        let names = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            chosen_policies(&names)
        };
        assert_eq!(names(&["lcf", "ldf", "lcf"]).unwrap(), ["lcf", "ldf"]);
        assert_eq!(names(&["all", "lcf"]).unwrap().len(), policies().len());
        let error = names(&["fifo"]).unwrap_err();
        assert!(
            error.to_string().contains("there are bace-pipe, lcf"),
            "{error}"
        );
    }

    #[test]
    fn less_detail_changes_no_number() {
        let loaded = scenarios::load("three-regions", None).unwrap();
        for (choice, model) in [
            (IterationModelChoice::Analytic, IterationModel::Analytic),
            (IterationModelChoice::Event, IterationModel::Event),
        ] {
            let policy = policy_by_name("bace-pipe").unwrap();
            let engine = Engine::new(loaded.scenario.clone(), policy);
            let brief = simulate(&loaded, engine, ("bace-pipe", None), choice);
            let mut fold = Fold::new(&brief.header);
            let policy = policy_by_name("bace-pipe").unwrap();
            bace_sim::simulate(&loaded.scenario, policy, model, |record| fold.add(&record));
            assert_eq!(brief.totals, fold.finish().totals);
        }
    }
}
