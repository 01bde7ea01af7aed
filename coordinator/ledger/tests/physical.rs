//! What a machine drew, folded from records: beside what the emulated GPUs would have drawn, never added to it.

use bace_api::{Header, Record};
use bace_ledger::{Summary, render};
use serde_json::{Value, json};

fn summary(lines: &[Value]) -> Summary {
    let header: Header = serde_json::from_value(json!({
        "format": 1, "scenario": "s", "scenario_hash": "00", "policy": "bace-pipe", "seed": 1,
        "version": "0.1.0", "machine": "m", "clock": "wall", "compute": "paced", "network": "none",
        "receipts": "off", "regions": ["x", "y"], "gpus": [1, 1], "jobs": ["a", "b"],
    }))
    .expect("a header");
    let records = lines.iter().cloned().map(serde_json::from_value);
    let records: Vec<Record> = records.map(|record| record.expect("a record")).collect();
    Summary::from_records(&header, &records)
}

fn meter(name: &str) -> Value {
    json!({"kind": "meter", "at_s": 0.0, "meter": name, "source": "rapl", "column": "physical", "unit": "uJ",
           "resolution": 1.0, "refresh_s": 0.001, "provenance": "p", "attributed_by": "lease"})
}

fn share(meter: &str, worker: &str, job: &str, energy_uj: u64) -> Value {
    json!({"kind": "physical_energy", "at_s": 5.0, "meter": meter, "worker": worker, "job": job, "attempt": 0,
           "stage": 0, "device_s": 1.0, "energy_uj": energy_uj})
}

fn total(meter: &str, energy_uj: u64, unattributed_uj: u64) -> Value {
    json!({"kind": "meter_total", "at_s": 9.0, "meter": meter, "from_s": 0.0, "to_s": 9.0, "energy_uj": energy_uj,
           "unattributed_uj": unattributed_uj, "readings": 90})
}

/// A job on one GPU of region `x`, from placement to end.
fn job(name: &str, finish_s: f64) -> [Value; 4] {
    [
        json!({"kind": "input", "input": "submitted", "at_s": 0.0, "job": name}),
        json!({"kind": "placed", "at_s": 0.0, "job": name, "attempt": 0, "k": 1, "k_star": 1,
               "path": [{"region": "x", "gpus": 1}], "layers": [1], "iteration_s": 1.0, "reason": null}),
        json!({"kind": "energy", "job": name, "attempt": 0, "stage": 0, "region": "x", "held_s": 2.0,
               "busy_s": 1.0, "energy_j": 500.0, "cost_usd": 0.25}),
        json!({"kind": "job_finished", "at_s": finish_s, "job": name}),
    ]
}

fn ended() -> Value {
    json!({"kind": "run_ended", "at_s": 9.0, "waiting": []})
}

#[test]
fn two_columns_stand_beside_each_other() {
    let model = json!({"kind": "meter", "at_s": 0.0, "meter": "model x", "source": "model", "column": "emulated",
                       "unit": "J", "resolution": 3e-7, "provenance": "p"});
    let mut lines = vec![model, meter("rapl package-0"), meter("rapl package-0 dram")];
    lines.extend(job("a", 4.0));
    lines.extend(job("b", 6.0));
    lines.extend([
        share("rapl package-0", "w0", "a", 30_000_001),
        share("rapl package-0 dram", "w0", "a", 2_000_000),
        share("rapl package-0", "w1", "b", 10_000_000),
        total("rapl package-0", 70_000_003, 30_000_002),
        total("rapl package-0 dram", 5_000_000, 3_000_000),
        ended(),
    ]);
    let summary = summary(&lines);
    assert_eq!(summary.totals.energy_j.known(), Some(&1000.0));
    assert_eq!(summary.totals.cost_usd.known(), Some(&0.5));
    let physical = &summary.physical;
    assert_eq!(physical.energy_j.known(), Some(&75.000_003));
    assert_eq!(physical.unattributed_j.known(), Some(&33.000_002));
    assert_eq!(physical.attributed_j.known(), Some(&42.000_001));
    let json = summary.to_json();
    assert_eq!(json["energy_j"], 1000.0);
    assert_eq!(json["jobs"][0]["energy_j"], 500.0);
    assert_eq!(json["jobs"][0]["physical_energy_j"], 32.000_001);
    assert_eq!(json["jobs"][1]["physical_energy_j"], 10.0);
    assert_eq!(
        json["physical"]["workers"][1],
        json!({"worker": "w1", "energy_j": 10.0})
    );
    assert_eq!(json["physical"]["meters"][0]["energy_j"], 1000.0);
    assert_eq!(json["physical"]["meters"][1]["energy_j"], 70.000_003);
    let text = render(&summary);
    assert!(text.contains("energy    1000.0 J\n"), "{text}");
    assert!(
        text.contains("drawn     75.00 J by this machine, 56.0 % of it for workers"),
        "{text}"
    );
    let row = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("{text}"))
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(row("model x"), "model x emulated 1000.0 – – 3e-7 J");
    assert_eq!(
        row("rapl package-0 dram"),
        "rapl package-0 dram drawn here 5.0 2.0 3.0 1 uJ"
    );
}

#[test]
fn what_is_not_there_has_its_reason_and_no_number() {
    let absent = json!({"kind": "meter_absent", "at_s": 0.0, "meter": "RAPL", "reason": "the kernel shows no /sys"});
    let mut lines = vec![absent];
    lines.extend(job("a", 4.0));
    lines.push(ended());
    let summary = summary(&lines);
    let json = summary.to_json();
    assert_eq!(json["physical"]["energy_j"], Value::Null);
    let reason = "no meter is there (RAPL: the kernel shows no /sys)";
    assert_eq!(json["physical"]["unknown"]["energy_j"], reason);
    assert_eq!(json["jobs"][0]["physical_energy_j"], Value::Null);
    assert_eq!(json["jobs"][0]["unknown"]["physical_energy_j"], reason);
    assert_eq!(json["jobs"][0]["energy_j"], 500.0);
    let text = render(&summary);
    assert!(
        text.contains("drawn     unknown: no meter is there (RAPL:"),
        "{text}"
    );
    assert!(!text.contains("energy source"), "{text}");
}

#[test]
fn older_ledgers_say_nothing_of_physical_energy() {
    let summary = summary(&[ended()]);
    let reason = summary.physical.energy_j.reason();
    assert_eq!(
        reason,
        Some("the ledger does not say whether anything was metered")
    );
    assert!(!render(&summary).contains("drawn"));
}

#[test]
fn a_meter_that_was_lost_leaves_sums_unknown_and_says_since_when() {
    let mut lost = total("rapl package-0", 20_000_000, 0);
    lost["lost_at_s"] = json!(5.0);
    lost["lost_reason"] = json!("it fell off the bus");
    let mut lines = vec![meter("rapl package-0")];
    lines.extend(job("a", 4.0));
    lines.extend(job("b", 6.0));
    lines.extend([
        share("rapl package-0", "w0", "a", 12_000_000),
        share("rapl package-0", "w0", "b", 8_000_000),
        lost,
        ended(),
    ]);
    let summary = summary(&lines);
    // It ended before.
    assert_eq!(summary.jobs[0].physical_energy_j.known(), Some(&12.0));
    let reason = "rapl package-0 could not be read any more from 5.0 s on: it fell off the bus";
    assert_eq!(summary.jobs[1].physical_energy_j.reason(), Some(reason));
    assert_eq!(summary.physical.energy_j.reason(), Some(reason));
    assert_eq!(summary.physical.workers[0].1.reason(), Some(reason));
    assert_eq!(summary.physical.meters[0].energy_j.known(), Some(&20.0));
    let text = render(&summary);
    assert!(
        text.contains("! Meter rapl package-0 could not be read any more from 5.0 s on"),
        "{text}"
    );
}

#[test]
fn a_job_with_a_stage_on_another_host_is_not_known() {
    let mut lines = vec![
        meter("rapl package-0"),
        json!({"kind": "worker_joined", "at_s": 0.0, "worker": "w1", "region": "x", "device": "cpu", "host": 1}),
    ];
    lines.extend(job("a", 4.0));
    lines.push(
        json!({"kind": "training", "at_s": 0.1, "job": "a", "attempt": 0, "workers": ["w0", "w1"],
                      "parameters": 1}),
    );
    lines.extend([
        share("rapl package-0", "w0", "a", 12_000_000),
        total("rapl package-0", 20_000_000, 8_000_000),
        ended(),
    ]);
    let summary = summary(&lines);
    let reason = summary.jobs[0].physical_energy_j.reason();
    assert_eq!(
        reason,
        Some("worker w1 was on another host, where nothing was metered")
    );
    assert_eq!(summary.physical.energy_j.known(), Some(&20.0));
}

#[test]
fn a_ledger_that_was_cut_off_has_no_totals() {
    let mut lines = vec![meter("rapl package-0")];
    lines.extend(job("a", 4.0));
    lines.push(share("rapl package-0", "w0", "a", 12_000_000));
    let summary = summary(&lines);
    let reason = Some("the ledger ends before its meters' totals");
    assert_eq!(summary.jobs[0].physical_energy_j.reason(), reason);
    assert_eq!(summary.physical.energy_j.reason(), reason);
    assert_eq!(summary.physical.workers[0].1.reason(), reason);
}

/// Two jobs on a worker each, `w0` and `w1`, before the totals of the meters.
fn two_jobs() -> Vec<Value> {
    let training = |job: &str, worker: &str| json!({"kind": "training", "at_s": 0.1, "job": job, "attempt": 0, "workers": [worker], "parameters": 1});
    let mut lines = Vec::new();
    lines.extend(job("a", 4.0));
    lines.extend(job("b", 6.0));
    lines.extend([training("a", "w0"), training("b", "w1")]);
    lines
}

#[test]
fn a_worker_whose_board_has_no_meter_leaves_its_job_unknown_and_no_other() {
    let mut lines = vec![
        meter("nvml GPU-0"),
        json!({"kind": "meter_absent", "at_s": 0.0, "meter": "NVML board GPU-1", "reason": "it cannot be opened",
               "workers": ["w1"]}),
        json!({"kind": "meter_absent", "at_s": 0.0, "meter": "RAPL psys", "reason": "left out"}),
    ];
    lines.extend(two_jobs());
    lines.extend([
        share("nvml GPU-0", "w0", "a", 12_000_000),
        total("nvml GPU-0", 20_000_000, 8_000_000),
        ended(),
    ]);
    let summary = summary(&lines);
    assert_eq!(summary.jobs[0].physical_energy_j.known(), Some(&12.0));
    let reason =
        "worker w1 drew energy that was not metered: NVML board GPU-1: it cannot be opened";
    assert_eq!(summary.jobs[1].physical_energy_j.reason(), Some(reason));
    let [w0, w1] = &summary.physical.workers[..] else {
        panic!("{:?}", summary.physical.workers);
    };
    assert_eq!((&*w0.0, w0.1.known()), ("w0", Some(&12.0)));
    assert_eq!((&*w1.0, w1.1.reason()), ("w1", Some(reason)));
}

#[test]
fn half_a_processor_is_not_what_its_workers_drew() {
    let mut lines = vec![
        meter("rapl package-0"),
        json!({"kind": "meter_absent", "at_s": 0.0, "meter": "RAPL package-1", "reason": "it holds no number",
               "workers": ["w0", "w1"]}),
    ];
    lines.extend(two_jobs());
    lines.extend([
        share("rapl package-0", "w0", "a", 12_000_000),
        share("rapl package-0", "w1", "b", 3_000_000),
        total("rapl package-0", 20_000_000, 5_000_000),
        ended(),
    ]);
    let summary = summary(&lines);
    for job in &summary.jobs {
        let reason = job.physical_energy_j.reason();
        assert!(
            reason.is_some_and(|reason| reason.ends_with("RAPL package-1: it holds no number"))
        );
    }
    let workers = &summary.physical.workers;
    assert!(
        workers
            .iter()
            .all(|(_, energy_j)| energy_j.known().is_none())
    );
    assert_eq!(summary.physical.energy_j.known(), Some(&20.0));
}

#[test]
fn energy_that_a_meter_did_not_count_is_not_known() {
    let figures = |total: Value| {
        let mut lines = vec![meter("nvml GPU-0")];
        lines.extend(two_jobs());
        lines.extend([share("nvml GPU-0", "w0", "a", 0), total, ended()]);
        let summary = summary(&lines);
        let figures = [
            &summary.physical.energy_j,
            &summary.physical.attributed_j,
            &summary.physical.meters[0].energy_j,
            &summary.physical.workers[0].1,
            &summary.jobs[0].physical_energy_j,
        ];
        let first = figures[0].reason().map(str::to_owned);
        assert!(
            figures
                .iter()
                .all(|figure| figure.reason() == first.as_deref())
        );
        first
    };
    let still = figures(total("nvml GPU-0", 0, 0));
    assert_eq!(
        still.as_deref(),
        Some("nvml GPU-0 stood still over the whole run")
    );
    let mut unread = total("nvml GPU-0", 20_000_000, 20_000_000);
    unread["unread_s"] = json!(2.5);
    let unread = figures(unread);
    assert_eq!(
        unread.as_deref(),
        Some("nvml GPU-0 was not read for 2.5 s, whose energy nobody knows")
    );
    assert_eq!(figures(total("nvml GPU-0", 20_000_000, 20_000_000)), None);
}
