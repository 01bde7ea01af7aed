//! Ledgers made up span by span.

use bace_api::{Header, Record};
use bace_ledger::{AttemptTimes, Attribution, Cause, LinkName, RunLog, Sums, attribute};
use serde_json::{Value, json};

/// A ledger of one job, `a`, that is placed at 0 s.
#[derive(Debug)]
pub struct MadeUp {
    header: Value,
    records: Vec<Value>,
    regions: Vec<&'static str>,
    released_s: f64,
    ends: Vec<Value>,
}

impl MadeUp {
    /// Stages in these regions, whose GPUs are free at `released_s`.
    pub fn new(regions: &[&'static str], released_s: f64) -> Self {
        let mut header = json!({
            "format": 1, "scenario": "made up", "scenario_hash": "00", "policy": "bace-pipe", "seed": 1, "version": "0.1.0",
            "machine": "m", "clock": "wall", "compute": "paced", "network": "shaped", "regions": ["x", "y", "z"],
            "jobs": ["a"], "links": [],
        });
        let links = [("x", "y"), ("y", "x"), ("y", "z"), ("z", "y")].map(|(from, to)| {
            json!({"from": from, "to": to, "bandwidth_bps": 8000.0, "one_way_delay_s": 0.5})
        });
        header["links"] = json!(links);
        let path: Vec<Value> = regions
            .iter()
            .map(|region| json!({"region": region, "gpus": 1}))
            .collect();
        let placed = json!({
            "kind": "placed", "at_s": 0.0, "job": "a", "attempt": 0, "k": regions.len(), "k_star": regions.len(),
            "path": path, "layers": vec![1; regions.len()], "iteration_s": 1.0, "reason": null,
        });
        let submitted = json!({"kind": "input", "input": "submitted", "at_s": 0.0, "job": "a"});
        Self {
            header,
            records: vec![submitted, placed],
            regions: regions.to_vec(),
            released_s,
            ends: vec![json!({"kind": "job_finished", "at_s": released_s, "job": "a"})],
        }
    }

    /// Changes a key of the header.
    pub fn header(mut self, key: &str, value: Value) -> Self {
        self.header[key] = value;
        self
    }

    /// Adds a record.
    pub fn record(mut self, record: Value) -> Self {
        self.records.push(record);
        self
    }

    /// Adds an iteration of a stage with its spans.
    pub fn iteration(
        self,
        stage: usize,
        iteration: u32,
        ends: [f64; 2],
        spans: Vec<Value>,
    ) -> Self {
        let actions = json!({
            "kind": "actions", "job": "a", "attempt": 0, "stage": stage, "iteration": iteration, "spans": spans,
        });
        self.bare_iteration(stage, iteration, ends).record(actions)
    }

    /// Adds an iteration of a stage without spans.
    pub fn bare_iteration(self, stage: usize, iteration: u32, [from_s, to_s]: [f64; 2]) -> Self {
        self.record(json!({
            "kind": "iteration", "job": "a", "attempt": 0, "stage": stage, "iteration": iteration, "from_s": from_s,
            "to_s": to_s,
            "times": {"forward_s": 0.0, "backward_s": 0.0, "step_s": 0.0, "stall_s": 0.0, "send_wait_s": 0.0},
        }))
    }

    /// Lets the job fail instead of finish.
    pub fn failed(mut self) -> Self {
        self.ends = vec![
            json!({"kind": "job_failed", "at_s": self.released_s, "job": "a", "reason": "a worker was lost"}),
        ];
        self
    }

    /// The ledger.
    pub fn log(&self) -> RunLog {
        let input =
            json!({"kind": "input", "input": "finished", "at_s": self.released_s, "job": "a"});
        let energy = self.regions.iter().enumerate().map(|(stage, region)| {
            json!({
                "kind": "energy", "job": "a", "attempt": 0, "stage": stage, "region": region, "held_s": self.released_s,
                "busy_s": 0.0, "energy_j": 1.0, "cost_usd": 1.0,
            })
        });
        let all = self.records.iter().cloned().chain([input]);
        let all = all.chain(energy).chain(self.ends.iter().cloned());
        let records = all.map(|record| serde_json::from_value::<Record>(record).expect("a record"));
        let header: Header = serde_json::from_value(self.header.clone()).expect("a header");
        RunLog::from_records(header, records)
    }

    /// Its attribution.
    pub fn attribution(&self) -> Attribution {
        attribute(&self.log())
    }

    /// The times of its one start, which add up.
    #[track_caller]
    pub fn times(&self) -> AttemptTimes {
        let attribution = self.attribution();
        let times = &attribution.jobs[0].attempts[0].times;
        let times = times.known().unwrap_or_else(|| panic!("{times:?}")).clone();
        for stage in &times.stages {
            let (found, expected) = (stage.sums.total_s(), times.to_s - times.from_s);
            assert!(
                (found - expected).abs() <= 1e-9 * expected,
                "{found} {expected}"
            );
        }
        times
    }

    /// Why nothing is known of its one start.
    #[track_caller]
    pub fn reason(&self) -> String {
        let attribution = self.attribution();
        let times = &attribution.jobs[0].attempts[0].times;
        times.reason().expect("nothing is known").to_owned()
    }
}

/// An action from one second to another.
pub fn span(action: &str, from_s: f64, to_s: f64) -> Value {
    json!({"action": action, "from_s": from_s, "to_s": to_s})
}

/// An action with a wait for its device and an excess; negative where they are absent.
pub fn slow(action: &str, ends: [f64; 2], lease_wait_s: f64, excess_s: f64) -> Value {
    let mut span = span(action, ends[0], ends[1]);
    for (key, value) in [("lease_wait_s", lease_wait_s), ("excess_s", excess_s)] {
        if value >= 0.0 {
            span[key] = value.into();
        }
    }
    span
}

/// A receive of a message that was ready, left, queued, due.
pub fn receive(
    action: &str,
    ends: [f64; 2],
    [ready_s, left_s, queued_s, due_s]: [f64; 4],
) -> Value {
    let mut span = span(action, ends[0], ends[1]);
    span["message"] =
        json!({"ready_s": ready_s, "left_s": left_s, "queued_s": queued_s, "due_s": due_s});
    span
}

/// A receive of a message that nothing clocked.
pub fn unclocked(action: &str, ends: [f64; 2], ready_s: f64, due_s: f64) -> Value {
    let mut span = span(action, ends[0], ends[1]);
    span["message"] = json!({"ready_s": ready_s, "due_s": due_s});
    span
}

/// A directed link.
pub fn link(from: &str, to: &str) -> LinkName {
    let (from, to) = (from.to_owned(), to.to_owned());
    LinkName { from, to }
}

/// Checks that these causes took this long, and no other anything.
#[track_caller]
pub fn assert_sums(sums: &Sums, expected: &[(Cause, f64)]) {
    for cause in Cause::ALL {
        let known = expected.iter().find(|(of, _)| *of == cause);
        let expected = known.map_or(0.0, |(_, seconds)| *seconds);
        let found = sums.seconds(cause);
        assert!(
            (found - expected).abs() < 1e-9,
            "{}: {found} s, not {expected} s, in {sums:?}",
            cause.name()
        );
    }
}
