//! Folds over records that no frozen ledger holds: simulations, restarts, many jobs.

use bace_api::{Header, Record};
use bace_ledger::{JobStatus, RunEnd, Summary, render};
use serde_json::{Value, json};

fn header(jobs: &[&str]) -> Header {
    header_with(json!({"jobs": jobs}))
}

/// A simulation's header, changed by some keys.
fn header_with(changes: Value) -> Header {
    let mut header = json!({
        "format": 1, "scenario": "s", "scenario_hash": "00", "policy": "bace-pipe", "seed": 1,
        "version": "0.1.0", "machine": "m", "clock": "virtual", "compute": "modelled",
        "network": "modelled", "iteration_model": "analytic", "regions": ["x", "y"],
        "gpus": [1, 1], "jobs": [],
    });
    for (key, value) in changes.as_object().expect("an object") {
        header[key] = value.clone();
    }
    serde_json::from_value(header).expect("a header")
}

fn records(lines: impl IntoIterator<Item = Value>) -> Vec<Record> {
    let records = lines.into_iter().map(serde_json::from_value);
    records.map(|record| record.expect("a record")).collect()
}

fn submitted(job: &str, at_s: f64) -> Value {
    json!({"kind": "input", "input": "submitted", "at_s": at_s, "job": job})
}

fn placed(job: &str, at_s: f64, attempt: u32, path: &[&str]) -> Value {
    let path: Vec<Value> = path
        .iter()
        .map(|region| json!({"region": region, "gpus": 1}))
        .collect();
    json!({"kind": "placed", "at_s": at_s, "job": job, "attempt": attempt, "k": path.len(), "k_star": 2,
           "path": path, "layers": [1], "iteration_s": 1.0, "reason": null})
}

fn energy(job: &str, attempt: u32, stage: u32, region: &str, joules: f64) -> Value {
    json!({"kind": "energy", "job": job, "attempt": attempt, "stage": stage, "region": region,
           "held_s": 2.0, "busy_s": 1.0, "energy_j": joules, "cost_usd": joules / 1000.0})
}

fn finished(job: &str, at_s: f64) -> Value {
    json!({"kind": "job_finished", "at_s": at_s, "job": job})
}

fn ended(at_s: f64, waiting: &[&str]) -> Value {
    json!({"kind": "run_ended", "at_s": at_s, "waiting": waiting})
}

#[test]
fn statistics_of_four_jobs() {
    let jobs = ["a", "b", "c", "d"];
    let lines = jobs
        .iter()
        .zip([1.0, 2.0, 3.0, 10.0])
        .flat_map(|(job, jct_s)| {
            [
                submitted(job, 5.0),
                placed(job, 5.5, 0, &["x"]),
                energy(job, 0, 0, "x", 10.0),
                finished(job, 5.0 + jct_s),
            ]
        });
    let summary = Summary::from_records(&header(&jobs), &records(lines.chain([ended(15.0, &[])])));
    let totals = &summary.totals;
    assert_eq!(totals.mean_jct_s.known(), Some(&4.0));
    assert_eq!(totals.median_jct_s.known(), Some(&2.5));
    assert!((totals.p95_jct_s.known().unwrap() - 8.95).abs() < 1e-9);
    assert_eq!(totals.max_jct_s.known(), Some(&10.0));
    assert_eq!(totals.mean_queueing_s.known(), Some(&0.5));
    assert_eq!(totals.makespan_s.known(), Some(&15.0));
    assert_eq!(totals.energy_j.known(), Some(&40.0));
    assert_eq!(totals.gpu_busy_share.known(), Some(&0.5));
    assert!((totals.gpu_utilisation.known().unwrap() - 4.0 / 30.0).abs() < 1e-12);
    assert_eq!(
        totals.carbon_g.reason(),
        Some("job a: region x has no carbon series")
    );
    assert!(summary.succeeded());

    let json = summary.to_json();
    assert_eq!(json["refused"], json!([]));
    assert_eq!(json["waiting"], json!([]));
    let job = &json["jobs"][0];
    let fixed = [
        "name", "k", "k_star", "path", "gpus", "start_s", "finish_s", "jct_s", "energy_j",
        "cost_usd",
    ];
    assert!(fixed.iter().all(|key| !job[key].is_null()), "{job}");
    for key in [
        "policy",
        "scenario",
        "mean_jct_s",
        "makespan_s",
        "energy_j",
        "cost_usd",
    ] {
        assert!(!json[key].is_null(), "{json}");
    }
    // Nothing was trained, and no one has to be told.
    let report = render(&summary);
    assert!(
        !report.contains("loss") && !report.contains('!'),
        "{report}"
    );
    assert!(
        report
            .contains("clock virtual × compute modelled × network modelled × iterations analytic")
    );
}

#[test]
fn a_restarted_job_sums_its_attempts_and_waits_once() {
    let mut lines = vec![
        submitted("a", 0.0),
        placed("a", 1.0, 0, &["x", "y"]),
        json!({"kind": "input", "input": "gpus_changed", "at_s": 2.5, "region": "x", "gpus": 0}),
        energy("a", 0, 0, "x", 10.0),
        energy("a", 0, 1, "y", 20.0),
        placed("a", 4.0, 1, &["y"]),
    ];
    let open = Summary::from_records(&header(&["a"]), &records(lines.clone()));
    assert_eq!(open.jobs[0].status, JobStatus::Unfinished);
    assert_eq!(open.jobs[0].energy_j.known(), None);
    assert_eq!(open.end, RunEnd::CutOff { last_s: 4.0 });

    lines.extend([
        energy("a", 1, 0, "y", 5.0),
        finished("a", 9.0),
        ended(9.0, &[]),
    ]);
    let summary = Summary::from_records(&header(&["a"]), &records(lines));
    let job = &summary.jobs[0];
    assert_eq!(job.energy_j.known(), Some(&35.0));
    // From 0 to 1 s, and from 2.5 to 4 s.
    assert_eq!(job.queueing_s.known(), Some(&2.5));
    let note = "Job a lost its GPUs 1 time; its queueing is all its waits.";
    assert!(render(&summary).contains(note));
    let placement = job.placed.as_ref().unwrap();
    assert_eq!((placement.k, placement.starts), (1, 2));
    assert_eq!(summary.regions[1].energy_j.known(), Some(&25.0));
}

#[test]
fn jobs_that_never_ran_are_told_apart() {
    let lines = [
        submitted("a", 0.0),
        json!({"kind": "refused", "at_s": 0.0, "job": "a", "reason": "no type can hold it"}),
        submitted("b", 0.0),
        json!({"kind": "passed_over", "at_s": 0.0, "job": "b", "reason": {}, "why": "it needs more"}),
        ended(0.0, &["b"]),
    ];
    let summary = Summary::from_records(&header(&["a", "b", "c"]), &records(lines));
    let words: Vec<_> = summary.jobs.iter().map(|job| job.status.word()).collect();
    assert_eq!(words, ["refused", "waiting", "not submitted"]);
    assert!(!summary.succeeded());
    let json = summary.to_json();
    assert_eq!(json["jobs"], json!([]));
    assert_eq!(json["refused"], json!(["a"]));
    assert_eq!(json["refused_reasons"]["a"], "no type can hold it");
    assert_eq!(json["waiting"], json!(["b"]));
    assert_eq!(json["waiting_reasons"], json!({"b": "it needs more"}));
    assert!(render(&summary).contains("Job b still waits for a place: it needs more."));
    assert_eq!(json["not_submitted"], json!(["c"]));
    // No job ran: the energy is known, the times are not.
    assert_eq!(json["energy_j"], 0.0);
    assert_eq!(json["unknown"]["mean_jct_s"], "no job finished");
}

#[test]
fn a_header_that_names_no_gpus_leaves_utilisation_unknown() {
    let lines = [
        submitted("a", 0.0),
        placed("a", 0.0, 0, &["x"]),
        energy("a", 0, 0, "x", 1.0),
        finished("a", 2.0),
        ended(2.0, &[]),
    ];
    let header = header_with(json!({"jobs": ["a"], "gpus": []}));
    let summary = Summary::from_records(&header, &records(lines));
    assert!(summary.totals.gpu_utilisation.reason().is_some());
    assert_eq!(summary.totals.gpu_busy_share.known(), Some(&0.5));
    assert!(render(&summary).contains("computed 50.0 % of the time jobs held them"));
}

#[test]
fn long_tables_are_cut_for_people_alone() {
    let names: Vec<String> = (0..300).map(|place| format!("job-{place}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let lines = names.iter().map(|name| submitted(name, 0.0));
    let summary = Summary::from_records(&header(&names), &records(lines));
    let report = render(&summary);
    assert!(report.lines().count() < 150, "{report}");
    assert!(report.contains("60 of 300 jobs are shown"));
    assert!(report.contains("280 more jobs did not finish"));
    assert_eq!(summary.to_json()["waiting"].as_array().unwrap().len(), 300);
}

#[test]
fn a_report_fits_100_columns_with_long_names() {
    let long = "a-region-with-a-name-as-long-as-people-give-them";
    let other = "another-region-of-that-sort";
    let job = "fine-tune-of-the-second-large-model";
    let lines = [
        submitted(job, 0.0),
        placed(job, 0.0, 0, &[long, other, "x"]),
        json!({"kind": "job_failed", "at_s": 2.0, "job": job, "reason": "word ".repeat(60)}),
        ended(2.0, &[]),
    ];
    let header =
        header_with(json!({"jobs": [job], "regions": [long, other, "x"], "compute": "native"}));
    let report = render(&Summary::from_records(&header, &records(lines)));
    for line in report.lines() {
        assert!(line.chars().count() <= 100, "{report}");
    }
    assert!(report.contains("→ x×1"), "{report}");
}

/// What a report says of the network that the record `network` tells of.
fn report_of(network: Value) -> String {
    let lines = [network, ended(0.0, &[])];
    render(&Summary::from_records(
        &header_with(json!({"network": "kernel"})),
        &records(lines),
    ))
}

#[test]
fn a_report_tells_what_the_kernel_shaped_and_what_nobody_did() {
    let lacking = report_of(
        json!({"kind": "network", "at_s": 0.0, "qdisc": "htb", "netem": false,
        "delay": "receiver", "jitter": "nobody", "loss": "nobody", "user_namespace": true}),
    );
    for line in [
        "links     kernel with htb and no netem; delay held by receiving workers; no jitter; no loss; in a",
        "! This kernel has no netem: links had no jitter and loss, whatever the scenario gives them.",
    ] {
        assert!(
            lacking.lines().any(|found| found == line),
            "no {line} in:\n{lacking}"
        );
    }
    let whole = report_of(
        json!({"kind": "network", "at_s": 0.0, "qdisc": "tbf", "netem": true,
        "delay": "kernel", "jitter": "not_asked", "loss": "kernel"}),
    );
    assert!(
        whole
            .lines()
            .any(|line| line == "links     kernel with tbf and netem"),
        "{whole}"
    );
    assert!(!whole.contains("! This kernel"), "{whole}");
}
