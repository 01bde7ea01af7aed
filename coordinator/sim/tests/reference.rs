//! Random scenarios against `tests/reference/reference.py`, which was written from docs/scheduling.md alone.
//!
//! Needs `python3`; without it the test says so and passes.

#![expect(clippy::unwrap_used, reason = "a test's panic is its report")]

mod dice;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bace_api::{EnergyUse, Record};
use bace_engine::{Scenario, Series, policies, policy_by_name};
use bace_sim::{IterationModel, simulate};
use dice::{Dice, parse};
use serde_json::{Value, json};

/// Scenarios compared; each runs under one policy.
const SCENARIOS: u64 = 240;

/// Largest relative difference of any number.
const TOLERANCE: f64 = 1e-9;

#[test]
fn placements_times_and_costs_are_the_references() {
    let cases: Vec<(String, &str)> = (0..SCENARIOS)
        .map(|seed| {
            let policy = policies()[seed as usize % policies().len()].name;
            (Dice(seed + 1).scenario(), policy)
        })
        .collect();
    let scenarios: Vec<Arc<Scenario>> = cases.iter().map(|(text, _)| parse(text)).collect();
    let questions: Vec<Value> = scenarios
        .iter()
        .zip(&cases)
        .map(|(scenario, (_, policy))| as_json(scenario, policy))
        .collect();
    let Some(answers) = ask(&Value::Array(questions)) else {
        eprintln!("skipped: there is no python3 to run the reference");
        return;
    };
    for ((scenario, (text, policy)), expected) in scenarios.iter().zip(&cases).zip(&answers) {
        let found = outcome(scenario, policy);
        if let Err(difference) = compare("", &found, expected) {
            panic!("{policy}: {difference}\n{text}\nengine: {found}\nreference: {expected}");
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the reference is another program"
)]
fn ask(questions: &Value) -> Option<Vec<Value>> {
    let program = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/reference/reference.py"
    );
    let mut python = Command::new("python3")
        .arg(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut input = python.stdin.take().expect("it was asked for");
    input.write_all(questions.to_string().as_bytes()).unwrap();
    drop(input);
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "the reference failed");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// What the engine makes of it, in the reference's words.
fn outcome(scenario: &Arc<Scenario>, policy: &str) -> Value {
    let mut jobs = vec![Value::Null; scenario.jobs.len()];
    let (mut refused, mut waiting) = (Vec::new(), Vec::new());
    let position = |name: &str| {
        scenario
            .jobs
            .iter()
            .position(|job| job.name == name)
            .unwrap()
    };
    let policy = policy_by_name(policy).unwrap();
    simulate(
        scenario,
        policy,
        IterationModel::Analytic,
        |record| match record {
            Record::Placed {
                at_s,
                job,
                k,
                k_star,
                path,
                layers,
                ..
            } => {
                let path: Vec<Value> = path
                    .iter()
                    .map(|part| json!([part.region, part.gpus]))
                    .collect();
                jobs[position(&job)] = json!({
                    "name": job, "k": k, "k_star": k_star, "path": path, "layers": layers,
                    "start_s": at_s, "energy_j": 0.0, "cost_usd": 0.0,
                });
            }
            Record::Energy(EnergyUse {
                job,
                energy_j,
                cost_usd,
                ..
            }) => {
                let job = &mut jobs[position(&job)];
                for (key, more) in [("energy_j", energy_j), ("cost_usd", cost_usd)] {
                    job[key] = json!(job[key].as_f64().unwrap() + more);
                }
            }
            Record::JobFinished { at_s, job } => {
                let position = position(&job);
                jobs[position]["finish_s"] = json!(at_s);
                jobs[position]["jct_s"] = json!(at_s - scenario.jobs[position].arrival_s);
            }
            Record::Refused { job, .. } => refused.push(job),
            Record::RunEnded { waiting: left, .. } => waiting = left,
            _ => {}
        },
    );
    jobs.retain(|job| job.get("finish_s").is_some());
    json!({"jobs": jobs, "refused": refused, "waiting": waiting})
}

fn compare(path: &str, found: &Value, expected: &Value) -> Result<(), String> {
    let differ = || Err(format!("{path}: {found} is not {expected}"));
    match (found, expected) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            if (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()) {
                Ok(())
            } else {
                differ()
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.try_for_each(|(index, (a, b))| compare(&format!("{path}[{index}]"), a, b))
        }
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() => a
            .iter()
            .try_for_each(|(key, a)| compare(&format!("{path}.{key}"), a, &b[key])),
        (a, b) if a == b => Ok(()),
        _ => differ(),
    }
}

fn as_json(scenario: &Scenario, policy: &str) -> Value {
    let series = |series: &Series| {
        let (steps, daily) = series.parts();
        let steps: Vec<_> = steps.iter().map(|step| (step.from_s, step.value)).collect();
        json!({"steps": steps, "daily": daily})
    };
    let regions: Vec<Value> = scenario
        .regions
        .iter()
        .map(|region| {
            json!({
                "name": region.name, "gpus": region.gpus, "flops": region.gpu.flops, "mfu": region.gpu.mfu,
                "memory_bytes": region.gpu.memory_bytes, "busy_w": region.gpu.busy_w,
                "idle_w": region.gpu.idle_w, "pue": region.pue, "price": series(&region.price),
                "fabric_bps": region.fabric.rate.bps(), "fabric_delay_s": region.fabric.delay.seconds(),
            })
        })
        .collect();
    let links: Vec<Value> = scenario
        .links
        .iter()
        .map(|(link, spec)| {
            json!({
                "from": link.from.index(), "to": link.to.index(), "bps": spec.rate.bps(),
                "delay_s": spec.delay.seconds(),
            })
        })
        .collect();
    let changes: Vec<Value> = scenario
        .link_changes
        .iter()
        .map(|change| {
            json!({
                "at_s": change.at_s, "from": change.link.from.index(), "to": change.link.to.index(),
                "bps": change.rate.bps(), "delay_s": change.delay.seconds(),
            })
        })
        .collect();
    let jobs: Vec<Value> = scenario
        .jobs
        .iter()
        .map(|job| {
            json!({
                "name": job.name, "model": job.model, "arrival_s": job.arrival_s, "iterations": job.iterations,
                "micro_batches": job.micro_batches, "micro_batch": job.shape.sequences,
                "sequence": job.shape.sequence, "bytes_per_element": job.shape.bytes_per_element,
            })
        })
        .collect();
    let knobs = scenario.policy;
    json!({
        "policy": policy, "regions": regions, "links": links, "link_changes": changes, "jobs": jobs,
        "settings": {"min_share": knobs.min_share, "time_slack": knobs.time_slack, "aging_per_hour": knobs.aging_per_hour},
    })
}
