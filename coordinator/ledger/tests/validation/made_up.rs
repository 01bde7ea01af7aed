//! Made-up runs whose every time is known.

use bace_ledger::{Measured, PolicyRuns, Predicted, RunLog, Tolerances, Validation, Validator};
use serde_json::{Value, json};

/// Who made a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    Simulated,
    Real,
}

/// A run with two regions, `x` and `y`, of four GPUs each.
#[derive(Debug, Clone)]
pub struct Run {
    pub policy: String,
    pub jobs: Vec<Job>,
    /// Keys of the header that are others.
    pub header: Value,
    /// Further records with their times.
    pub others: Vec<(f64, Value)>,
    /// Changes records before they are read.
    pub edit: fn(&mut Vec<Value>),
}

/// A job of one micro-batch an iteration. Everything in an iteration takes a fixed share of it:
///
/// ```text
/// stage 0  F 0.20 | waits until 0.70 for the gradient | B 0.25 | S 0.05
/// stage 1  waits until 0.30 for the activation | F 0.10 | B 0.20 | S 0.05
/// ```
/// Alone in a region, its one stage computes all the time: F 0.30, B 0.60, S 0.10.
#[derive(Debug, Clone)]
pub struct Job {
    pub name: &'static str,
    pub arrival_s: f64,
    pub placed_s: f64,
    /// From its placement to its first iteration.
    pub set_up_s: f64,
    pub path: Vec<(&'static str, u32)>,
    pub layers: Vec<u32>,
    pub depths: Vec<u32>,
    /// Seconds of each iteration.
    pub iterations: Vec<f64>,
    pub joules: f64,
}

impl Job {
    /// Four iterations of 2 s over both regions, placed on its arrival.
    pub fn new(name: &'static str, arrival_s: f64) -> Self {
        Self {
            name,
            arrival_s,
            placed_s: arrival_s,
            set_up_s: 0.0,
            path: vec![("x", 1), ("y", 1)],
            layers: vec![3, 2],
            depths: vec![2, 1],
            iterations: vec![2.0; 4],
            joules: 100.0,
        }
    }

    /// The same with all iterations this many times as long.
    pub fn times(mut self, factor: f64) -> Self {
        for iteration_s in &mut self.iterations {
            *iteration_s *= factor;
        }
        self
    }

    fn end_s(&self) -> f64 {
        self.placed_s + self.set_up_s + self.iterations.iter().sum::<f64>()
    }

    fn records(&self, made: Made) -> Vec<(f64, Value)> {
        let job = self.name;
        let path = self
            .path
            .iter()
            .map(|(region, gpus)| json!({"region": region, "gpus": gpus}));
        let path: Vec<Value> = path.collect();
        let k = self.layers.len();
        let mut all = vec![
            (
                self.arrival_s,
                json!({"kind": "input", "input": "submitted", "at_s": self.arrival_s, "job": job}),
            ),
            (
                self.placed_s,
                json!({
                    "kind": "placed", "at_s": self.placed_s, "job": job, "attempt": 0, "k": k, "k_star": k, "path": path,
                    "layers": self.layers, "iteration_s": 1.0,
                    "reason": {"k_min": 1, "k_star": k, "paths": [{"regions": self.path, "outcome": {"outcome": "chosen"}}]},
                }),
            ),
            (
                self.placed_s,
                json!({
                    "kind": "pipeline", "at_s": self.placed_s, "job": job, "attempt": 0, "schedule": "1f1b", "depths": self.depths,
                }),
            ),
        ];
        let mut from_s = self.placed_s + self.set_up_s;
        if made == Made::Real {
            let workers: Vec<String> = (0..k).map(|stage| format!("w{stage}")).collect();
            all.push((from_s, json!({"kind": "training", "at_s": from_s, "job": job, "attempt": 0, "workers": workers, "parameters": 1})));
        }
        for (iteration, &length_s) in self.iterations.iter().enumerate() {
            for stage in 0..k {
                all.extend(self.stage(iteration, stage, from_s, length_s));
            }
            from_s += length_s;
        }
        all.push((
            from_s,
            json!({"kind": "input", "input": "finished", "at_s": from_s, "job": job}),
        ));
        let regions = self
            .path
            .iter()
            .flat_map(|(region, gpus)| (0..*gpus).map(move |_| region));
        for (stage, region) in regions.enumerate() {
            all.push((from_s, json!({
                "kind": "energy", "job": job, "attempt": 0, "stage": stage, "region": region, "held_s": 1.0, "busy_s": 1.0,
                "energy_j": self.joules, "cost_usd": self.joules / 1e3,
            })));
        }
        all.push((
            from_s,
            json!({"kind": "job_finished", "at_s": from_s, "job": job}),
        ));
        all
    }

    /// The iteration of a stage and its actions.
    fn stage(
        &self,
        iteration: usize,
        stage: usize,
        from_s: f64,
        length_s: f64,
    ) -> [(f64, Value); 2] {
        let at = |share: f64| from_s + share * length_s;
        let span = |action: &str, from: f64, to: f64| json!({"action": action, "from_s": at(from), "to_s": at(to)});
        let message = |mut span: Value, ready: f64, left: f64, due: f64| {
            span["message"] = json!({"ready_s": at(ready), "left_s": at(left), "queued_s": 0.0, "due_s": at(due)});
            span
        };
        let (spans, forward, backward, step, stall, end) = match (self.layers.len(), stage) {
            (1, _) => (
                vec![
                    span("F0", 0.0, 0.3),
                    span("B0", 0.3, 0.9),
                    span("S", 0.9, 1.0),
                ],
                0.3,
                0.6,
                0.1,
                0.0,
                1.0,
            ),
            (_, 0) => (
                vec![
                    span("F0", 0.0, 0.2),
                    span("SA0", 0.2, 0.2),
                    message(span("RG0", 0.2, 0.7), 0.6, 0.65, 0.7),
                    span("B0", 0.7, 0.95),
                    span("S", 0.95, 1.0),
                ],
                0.2,
                0.25,
                0.05,
                0.5,
                1.0,
            ),
            _ => (
                vec![
                    message(span("RA0", 0.0, 0.3), 0.2, 0.25, 0.3),
                    span("F0", 0.3, 0.4),
                    span("B0", 0.4, 0.6),
                    span("SG0", 0.6, 0.6),
                    span("S", 0.6, 0.65),
                ],
                0.1,
                0.2,
                0.05,
                0.3,
                0.65,
            ),
        };
        let key = json!({"job": self.name, "attempt": 0, "stage": stage, "iteration": iteration});
        let with = |mut record: Value| {
            for (name, value) in key.as_object().expect("an object") {
                record[name] = value.clone();
            }
            (at(end), record)
        };
        [
            with(json!({
                "kind": "iteration", "from_s": from_s, "to_s": at(end),
                "times": {
                    "forward_s": forward * length_s, "backward_s": backward * length_s, "step_s": step * length_s,
                    "stall_s": stall * length_s, "send_wait_s": 0.0,
                },
            })),
            with(json!({"kind": "actions", "spans": spans})),
        ]
    }
}

impl Run {
    pub fn new(jobs: impl IntoIterator<Item = Job>) -> Self {
        Self {
            policy: "bace-pipe".to_owned(),
            jobs: jobs.into_iter().collect(),
            header: json!({}),
            others: Vec::new(),
            edit: |_| {},
        }
    }

    /// One job `a`, all of whose iterations take this many times 2 s.
    pub fn of_one(factor: f64) -> Self {
        Self::new([Job::new("a", 0.0).times(factor)])
    }

    pub fn under(mut self, policy: &str) -> Self {
        policy.clone_into(&mut self.policy);
        self
    }

    pub fn edited(mut self, edit: fn(&mut Vec<Value>)) -> Self {
        self.edit = edit;
        self
    }

    /// The log of the run, as a simulation of it or as itself.
    pub fn log(&self, made: Made) -> RunLog {
        let names: Vec<&str> = self.jobs.iter().map(|job| job.name).collect();
        let mut header = json!({
            "format": 1, "scenario": "s", "scenario_hash": "00ff", "policy": self.policy, "seed": 1, "version": "0.1.0",
            "machine": "m", "clock": "virtual", "compute": "modelled", "network": "modelled", "iteration_model": "event",
            "regions": ["x", "y"], "gpus": [4, 4], "jobs": names,
        });
        if made == Made::Real {
            for (key, value) in [
                ("clock", "wall"),
                ("compute", "paced"),
                ("network", "shaped"),
            ] {
                header[key] = value.into();
            }
            header["iteration_model"] = Value::Null;
        }
        for (key, value) in self.header.as_object().expect("an object") {
            header[key] = value.clone();
        }
        let mut records: Vec<(f64, Value)> =
            self.jobs.iter().flat_map(|job| job.records(made)).collect();
        records.extend(self.others.iter().cloned());
        // Of one instant, in the order in which an engine tells: ends, then arrivals, then placements.
        records.sort_by(|one, two| {
            one.0
                .total_cmp(&two.0)
                .then(rank(&one.1).cmp(&rank(&two.1)))
        });
        let end_s = self.jobs.iter().map(Job::end_s).fold(0.0, f64::max);
        let mut records: Vec<Value> = records.into_iter().map(|(_, record)| record).collect();
        records.push(json!({"kind": "run_ended", "at_s": end_s, "waiting": []}));
        (self.edit)(&mut records);
        let records = records
            .into_iter()
            .map(|record| serde_json::from_value(record).expect("a record"));
        RunLog::from_records(serde_json::from_value(header).expect("a header"), records)
    }
}

fn rank(record: &Value) -> u8 {
    match record["kind"].as_str() {
        Some("iteration" | "actions") => 0,
        Some("input") if record["input"] == "finished" => 0,
        Some("energy") => 1,
        Some("job_finished") => 2,
        Some("input") => 3,
        _ => 4,
    }
}

/// A prediction and its repeats.
pub fn runs(predicted: &Run, measured: &[Run]) -> PolicyRuns {
    PolicyRuns {
        policy: predicted.policy.clone(),
        predicted: Predicted(predicted.log(Made::Simulated)),
        measured: measured
            .iter()
            .map(|run| Measured(run.log(Made::Real)))
            .collect(),
        failed: Vec::new(),
    }
}

/// The validation of these with the default tolerances.
pub fn validation(all: &[PolicyRuns]) -> Validation {
    let mut validator = Validator::new(Tolerances::default());
    for runs in all {
        validator.add(runs);
    }
    validator.finish()
}

/// The validation of one job, predicted and measured in repeats as these multiples of 2 s.
pub fn of_one(predicted: f64, measured: &[f64]) -> Validation {
    let measured: Vec<Run> = measured.iter().map(|&factor| Run::of_one(factor)).collect();
    validation(&[runs(&Run::of_one(predicted), &measured)])
}

/// `b` runs in `x` alone once `a` has ended; what else waits or runs is told.
pub fn two_after_each_other() -> Run {
    let mut b = Job::new("b", 1.0);
    (b.placed_s, b.path, b.layers, b.depths) = (8.0, vec![("x", 1)], vec![5], vec![1]);
    Run::new([Job::new("a", 0.0), b])
}

/// Whether two numbers are the same to rounding.
pub fn close(one: f64, two: f64) -> bool {
    (one - two).abs() <= 1e-9 * (1.0 + one.abs())
}
