//! Random scenarios against `tests/reference/reference.py`, which was written from SCHEDULING.md alone.
//!
//! Needs `python3`; without it the test says so and passes.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bace_api::{EnergyUse, Record};
use bace_engine::{Scenario, Series, policies, policy_by_name};
use bace_sim::{IterationModel, simulate};
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

fn parse(text: &str) -> Arc<Scenario> {
    let none = |path: &str| Err(format!("there is no {path}"));
    match Scenario::parse(text, "random.toml", &none) {
        Ok(scenario) => Arc::new(scenario),
        Err(error) => panic!("{error}\n{text}"),
    }
}

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
                "bps": change.rate.bps(),
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

/// A small generator of numbers (splitmix64), so that a failing seed fails everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// A scenario in which every rule has its chance: GPU types, links that are missing, dead, narrow or changing,
    /// series, jobs too large, ties.
    fn scenario(&mut self) -> String {
        let mut text = "name = \"random\"\n".to_owned();
        self.policy(&mut text);
        self.types(&mut text);
        let regions = 1 + self.below(6);
        let alike = self.chance(0.5);
        for region in 0..regions {
            self.region(&mut text, region, alike);
        }
        for a in 0..regions {
            for b in a + 1..regions {
                self.link(&mut text, a, b);
            }
        }
        let jobs = if self.chance(0.1) {
            30
        } else {
            1 + self.below(10)
        };
        for job in 0..jobs {
            self.job(&mut text, job);
        }
        text
    }

    fn policy(&mut self, text: &mut String) {
        let share = self.pick(&[1.0, 1.0, 1.0, 0.5, 0.7]);
        let slack = self.pick(&[0.05, 0.05, 0.0, 0.5]);
        let aging = self.pick(&[0.0, 0.0, 0.3]);
        writeln!(
            text,
            "[policy]\nmin_share = {share}\ntime_slack = {slack}\naging_per_hour = {aging}"
        )
        .unwrap();
    }

    fn types(&mut self, text: &mut String) {
        for name in ["x", "y", "z"] {
            let tflops = self.pick(&[1e-7, 1.5e-7, 2e-7, 4e-7]);
            let memory = self.pick(&[0.0012, 0.002, 0.006, 1.0]);
            let (busy, idle) = (self.pick(&[300, 250]), self.pick(&[22, 0, 60]));
            writeln!(
                text,
                "[gpu.{name}]\npeak_tflops = {tflops}\nmfu = 0.5\nmemory_gb = {memory}\nbusy_w = {busy}\nidle_w = {idle}"
            )
            .unwrap();
        }
        for name in ["m", "n"] {
            let layers = 1 + self.below(9);
            let hidden = self.pick(&[32, 64]);
            let vocabulary = self.pick(&[1, 100, 900]);
            let gated = self.chance(0.5);
            writeln!(
                text,
                "[model.{name}]\nlayers = {layers}\nhidden = {hidden}\nheads = 2\nkv_heads = 1\nhead_size = 32\n\
                 feed_forward = 128\ngated = {gated}\nvocabulary = {vocabulary}"
            )
            .unwrap();
        }
    }

    fn region(&mut self, text: &mut String, region: u64, alike: bool) {
        let gpus = self.below(6);
        let gpu = if alike {
            "x"
        } else {
            self.pick(&["x", "y", "z"])
        };
        writeln!(
            text,
            "[[region]]\nname = \"r{region}\"\ngpus = {gpus}\ngpu = \"{gpu}\""
        )
        .unwrap();
        if self.chance(0.4) {
            let daily = self.chance(0.5);
            let mut from = 0;
            let mut steps = Vec::new();
            for _ in 0..=self.below(4) {
                let price = (self.unit() * 100.0).round() / 100.0;
                steps.push(format!(
                    "{{ from_s = {from}, usd_per_kwh = {price}, daily = {daily} }}"
                ));
                from += 1 + self.below(if daily { 20_000 } else { 300 });
            }
            writeln!(text, "price_usd_per_kwh = [{}]", steps.join(", ")).unwrap();
        } else {
            writeln!(
                text,
                "price_usd_per_kwh = {}",
                self.pick(&[0.1, 0.2, 0.2, 0.295])
            )
            .unwrap();
        }
        if self.chance(0.3) {
            writeln!(text, "pue = {}", 1.0 + self.unit()).unwrap();
        }
        if self.chance(0.3) {
            let gbps = self.pick(&[1e-6, 3e-7, 1e-3]);
            let delay = self.pick(&[0.0, 5.0, 400.0]);
            writeln!(text, "fabric_gbps = {gbps}\nfabric_delay_ms = {delay}").unwrap();
        }
    }

    fn link(&mut self, text: &mut String, a: u64, b: u64) {
        if self.chance(0.12) {
            return;
        }
        let delay = self.pick(&[0.0, 10.0, 80.0, 3000.0]);
        if self.chance(0.15) {
            for (from, to) in [(a, b), (b, a)] {
                let rate = self.rate();
                writeln!(
                    text,
                    "[[link]]\nfrom = \"r{from}\"\nto = \"r{to}\"\nbandwidth_mbps = {rate}\none_way_delay_ms = {delay}"
                )
                .unwrap();
            }
        } else {
            let rate = self.rate();
            writeln!(
                text,
                "[[link]]\nbetween = [\"r{a}\", \"r{b}\"]\nbandwidth_mbps = {rate}\none_way_delay_ms = {delay}"
            )
            .unwrap();
        }
        if self.chance(0.1) {
            let (at, rate) = (self.below(2000), self.rate().max(1e-5));
            writeln!(
                text,
                "[[link_change]]\nat_s = {at}\nbetween = [\"r{a}\", \"r{b}\"]\nbandwidth_mbps = {rate}"
            )
            .unwrap();
        }
    }

    /// Mbit/s around what the jobs send, sometimes far off.
    fn rate(&mut self) -> f64 {
        match self.below(10) {
            0 => 0.0,
            1 => 1e-6,
            2 => 1.0,
            3 => 0.001,
            _ => 10.0_f64.powf(-4.5 + 2.5 * self.unit()),
        }
    }

    fn job(&mut self, text: &mut String, job: u64) {
        let arrival = match self.below(3) {
            0 => 0.0,
            1 => self.below(500) as f64,
            _ => self.unit() * 5000.0,
        };
        let (model, sequence) = (self.pick(&["m", "n"]), self.pick(&[1, 16]));
        let (micro_batches, micro_batch) = (1 + self.below(9), 1 + self.below(3));
        let long = self.chance(0.2);
        let iterations = 1 + self.below(if long { 400 } else { 20 });
        let bytes = self.pick(&[2, 4]);
        writeln!(
            text,
            "[[job]]\nname = \"j{job}\"\nmodel = \"{model}\"\narrival_s = {arrival}\niterations = {iterations}\n\
             micro_batches = {micro_batches}\nmicro_batch = {micro_batch}\nsequence = {sequence}\nbytes_per_element = {bytes}"
        )
        .unwrap();
    }
}
