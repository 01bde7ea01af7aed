//! Runs from their beginning to their end: results, ledger and report say the same.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::{Place, of_kind, scenario, with};

/// Joules of a kilowatt-hour.
const J_PER_KWH: f64 = 3.6e6;
const BUSY_W: f64 = 300.0;
const IDLE_W: f64 = 20.0;

#[test]
fn a_modelled_run_ends_with_results_that_its_ledger_bears_out() {
    let place = Place::new(&scenario("two-regions"));
    let ended = place
        .start_run(&["--compute", "modelled", "--json"])
        .end()
        .code(0);
    let results = ended.json();
    check_results(&results);
    assert_eq!(results["rung"]["compute"], "modelled");
    assert_eq!(results["jobs"][0]["loss_last"], Value::Null);
    check_ledger(&place.ledger(), &results);
    check_reports(&place, &results);
    place.assert_no_litter();
}

#[test]
fn a_paced_run_trains_and_takes_at_least_the_emulated_time() {
    let place = Place::new(&scenario("two-regions"));
    let ended = place.start_run(&["--json"]).end().code(0);
    let results = ended.json();
    check_results(&results);
    assert_eq!(results["rung"]["compute"], "paced");
    check_losses(&results);
    check_ledger(&place.ledger(), &results);
    check_reports(&place, &results);
    place.assert_no_litter();
}

#[test]
fn a_run_over_links_that_take_datagrams_ends_and_says_what_became_of_them() {
    let text = with(
        &scenario("two-regions"),
        "# A pipeline has",
        "[network]\nbackend = \"packet\"\ncongestion = \"cubic\"\n\n# A pipeline has",
    );
    let place = Place::new(&text);
    let ended = place
        .start_run(&["--compute", "modelled", "--json"])
        .end()
        .code(0);
    let results = ended.json();
    check_results(&results);
    assert_eq!(results["rung"]["network"], "packet");
    let ledger = place.ledger();
    assert_eq!(ledger[0]["network"], "packet");
    let (mut between, mut within) = (0, 0);
    for record in of_kind(&ledger, "transfer") {
        let datagrams = &record["datagrams"];
        if record["from"] == record["to"] {
            assert_eq!(*datagrams, Value::Null, "{record}");
            within += 1;
        } else {
            // The tensors, and what QUIC needs for them.
            assert!(
                number(datagrams, "bytes") > number(record, "bytes"),
                "{record}"
            );
            assert!(number(datagrams, "sent") > 0.0, "{record}");
            assert_eq!(datagrams["lost"], 0, "{record}");
            between += 1;
        }
    }
    assert_eq!((between, within), (2, 6));
    place.assert_no_litter();
}

#[test]
fn a_native_run_trains_as_fast_as_it_can() {
    let place = Place::new(&scenario("two-regions"));
    let ended = place
        .start_run(&["--compute", "native", "--json"])
        .end()
        .code(0);
    let results = ended.json();
    assert_eq!(results["rung"]["compute"], "native");
    check_losses(&results);
}

#[test]
fn a_run_prints_the_table_that_its_report_prints() {
    let place = Place::new(&scenario("two-regions"));
    let ended = place.start_run(&["--compute", "modelled"]).end().code(0);
    let report = place.bace(&["report", "out", "--attribution", "off"]);
    let report = report.code(0);
    assert_eq!(ended.stdout, report.stdout);
    for word in ["across", "beside", "later", "east×2 → west×2", "makespan"] {
        assert!(
            report.stdout.contains(word),
            "no {word} in {}",
            report.stdout
        );
    }
    let whole = std::fs::read_to_string(place.path("out/scenario.toml")).expect("it is kept");
    let given = std::fs::read_to_string(place.path("s.toml")).expect("it is there");
    assert_eq!(whole, given);
}

fn check_results(results: &Value) {
    assert_eq!(results["policy"], "bace-pipe");
    assert_eq!(results["scenario"], "two-regions");
    assert_eq!(results["refused"], serde_json::json!([]));
    assert_eq!(results["waiting"], serde_json::json!([]));
    let jobs = results["jobs"].as_array().expect("jobs are a list");
    let names: Vec<_> = jobs.iter().map(|job| &job["name"]).collect();
    assert_eq!(names, ["across", "beside", "later"]);
    let across = &jobs[0];
    assert_eq!(across["k"], 4);
    assert_eq!(across["k_star"], 4);
    assert_eq!(across["path"], serde_json::json!(["east", "west"]));
    assert_eq!(across["gpus"], serde_json::json!({"east": 2, "west": 2}));
    assert!(number(across, "link_bytes") > 0.0);
    for job in jobs {
        let (start, finish) = (number(job, "start_s"), number(job, "finish_s"));
        let submitted = number(job, "submitted_s");
        assert!(submitted <= start && start < finish, "{job}");
        assert!(close(number(job, "jct_s"), finish - submitted), "{job}");
        // No stage computes less than the model says, and none longer than the job runs.
        let busy_s = number(job, "gpu_busy_s") / number(job, "k");
        assert!(busy_s > 0.0 && busy_s <= finish - start, "{job}");
    }
    let sum = |key: &str| jobs.iter().map(|job| number(job, key)).sum::<f64>();
    assert!(close(number(results, "mean_jct_s"), sum("jct_s") / 3.0));
    assert!(close(number(results, "energy_j"), sum("energy_j")));
    assert!(close(number(results, "cost_usd"), sum("cost_usd")));
    let last = jobs.iter().map(|job| number(job, "finish_s"));
    assert!(close(
        number(results, "makespan_s"),
        last.fold(0.0, f64::max)
    ));
}

fn check_losses(results: &Value) {
    for job in results["jobs"].as_array().expect("jobs are a list") {
        let (first, last) = (number(job, "loss_first"), number(job, "loss_last"));
        assert!(last < first, "{}: {first} to {last}", job["name"]);
    }
}

/// The ledger's records are complete, in order and add up to `results`.
fn check_ledger(ledger: &[Value], results: &Value) {
    assert_eq!(ledger[0]["kind"], "header");
    assert_eq!(ledger[0]["format"], 1);
    assert_eq!(ledger[0]["clock"], "wall");
    assert_eq!(ledger[0]["network"], "shaped");
    assert_eq!(ledger[0]["seed"], 3);
    assert_eq!(ledger[0]["gpus"], serde_json::json!([3, 2]));
    assert_eq!(ledger.last().expect("records")["kind"], "run_ended");
    assert_eq!(of_kind(ledger, "worker_joined").len(), 5);
    assert_eq!(of_kind(ledger, "worker_lost").len(), 0);
    let times: Vec<f64> = ledger
        .iter()
        .filter(|record| record["kind"] == "input")
        .filter_map(|record| record["at_s"].as_f64())
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    for (job, iterations, stages) in [("across", 12, 4), ("beside", 15, 1), ("later", 10, 2)] {
        let of_job: Vec<_> = ledger.iter().filter(|one| one["job"] == job).collect();
        let position = |kind: &str| {
            let found = of_job.iter().position(|record| record["kind"] == kind);
            found.unwrap_or_else(|| panic!("{job} has no {kind}"))
        };
        let order = ["placed", "training", "iteration", "job_finished"].map(position);
        assert!(order.is_sorted(), "{job}: {order:?}");
        let count = |kind: &str| of_job.iter().filter(|one| one["kind"] == kind).count();
        assert_eq!(count("iteration"), iterations * stages, "{job}");
        assert_eq!(count("energy"), stages, "{job}");
        assert_eq!(count("transfer"), 2 * (stages - 1), "{job}");
        let [placed, training, ..] = order.map(|position| of_job[position]);
        check_set_up(placed, training, stages, &ledger[0]["compute"]);
        check_iterations(&of_job, iterations, stages);
    }
    check_energy(ledger, results);
}

/// Every stage says what it did from its placement to the begin of training, and no stage more than there was time for.
fn check_set_up(placed: &Value, training: &Value, stages: usize, compute: &Value) {
    let set_up = training["set_up"].as_array().expect("a list");
    assert_eq!(set_up.len(), stages, "{training}");
    let whole_s = number(training, "at_s") - number(placed, "at_s");
    for stage in set_up {
        assert!(number(stage, "connect_s") > 0.0, "{training}");
        assert!(number(stage, "load_s") > 0.0, "{training}");
        // Where nothing is computed, no device is waited for.
        assert_eq!(stage.get("lease_wait_s").is_none(), compute == "modelled");
        let parts = stage.as_object().expect("an object").values();
        let parts: Vec<f64> = parts.filter_map(Value::as_f64).collect();
        assert!(parts.iter().all(|&part_s| part_s >= 0.0), "{training}");
        let stage_s: f64 = parts.iter().sum();
        assert!(stage_s <= whole_s, "{whole_s}: {training}");
        if compute == "paced" {
            assert!(number(stage, "rehearse_s") > 0.0, "{training}");
        }
    }
}

fn check_iterations(of_job: &[&Value], iterations: usize, stages: usize) {
    for stage in 0..stages {
        let of_stage: Vec<_> = of_job
            .iter()
            .filter(|one| one["kind"] == "iteration" && one["stage"] == stage)
            .collect();
        let mut end = 0.0;
        for (index, record) in of_stage.iter().enumerate() {
            assert_eq!(record["iteration"], index, "{record}");
            assert!(number(record, "from_s") >= end, "{record}");
            end = number(record, "to_s");
        }
        assert_eq!(of_stage.len(), iterations);
    }
}

/// Joules are watts times measured seconds; dollars are joules times price and PUE.
fn check_energy(ledger: &[Value], results: &Value) {
    let mut joules: BTreeMap<&str, f64> = BTreeMap::new();
    let mut dollars: BTreeMap<&str, f64> = BTreeMap::new();
    for record in of_kind(ledger, "energy") {
        let (held, busy) = (number(record, "held_s"), number(record, "busy_s"));
        let energy = number(record, "energy_j");
        assert!(busy <= held, "{record}");
        assert!(
            close(energy, busy * BUSY_W + (held - busy) * IDLE_W),
            "{record}"
        );
        let price = match record["region"].as_str() {
            Some("east") => 0.30,
            _ => 0.20 * 1.5,
        };
        assert!(
            close(number(record, "cost_usd"), energy / J_PER_KWH * price),
            "{record}"
        );
        let job = record["job"].as_str().expect("a job has a name");
        *joules.entry(job).or_default() += energy;
        *dollars.entry(job).or_default() += number(record, "cost_usd");
    }
    for job in results["jobs"].as_array().expect("jobs are a list") {
        let name = job["name"].as_str().expect("a job has a name");
        assert!(close(number(job, "energy_j"), joules[name]), "{name}");
        assert!(close(number(job, "cost_usd"), dollars[name]), "{name}");
    }
}

/// `bace report` and `summary.json` say what the run said.
fn check_reports(place: &Place, results: &Value) {
    let report = place.bace(&["report", "out", "--json", "--attribution", "off"]);
    let report = report.code(0);
    assert_eq!(&report.json(), results);
    let summary = std::fs::read_to_string(place.path("out/summary.json")).expect("a summary");
    let summary: Value = serde_json::from_str(&summary).expect("it is JSON");
    assert_eq!(&summary, results);
}

fn number(value: &Value, key: &str) -> f64 {
    value[key]
        .as_f64()
        .unwrap_or_else(|| panic!("`{key}` is no number in {value}"))
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-9)
}
