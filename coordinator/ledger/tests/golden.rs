//! A ledger of format version 1 that is read for ever, and what is made of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bace_api::{InputRecord, Record};
use bace_ledger::{JobStatus, RunEnd, Summary, read, render, summarise};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/ledger-v1")
}

/// A ledger of the same version with what came later: receipts, datagrams, hosts, and changes of delays.
fn folder_with_receipts() -> PathBuf {
    folder().with_file_name("ledger-v1-receipts")
}

/// The summary as the golden texts show it, wherever the repository lies.
fn summary() -> Summary {
    summary_of(&folder())
}

fn summary_of(folder: &Path) -> Summary {
    let mut summary = summarise(folder).expect("the frozen ledger is readable");
    let name = Path::new(folder.file_name().expect("the folder has a name"));
    summary.ledger = Some(name.join("ledger.jsonl"));
    summary
}

/// Compares with a golden file; `UPDATE_GOLDEN=1` renews it.
fn golden(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).expect("the golden file is writable");
    }
    let expected = fs::read_to_string(&path).expect("the golden file is there");
    assert_eq!(text, expected, "{name} differs; UPDATE_GOLDEN=1 renews it");
}

#[test]
fn frozen_ledger_holds_every_kind_of_record_and_input() {
    let ledger = read(&folder()).unwrap();
    let kinds: BTreeSet<_> = ledger
        .records
        .iter()
        .map(|record| match record {
            Record::Header(_) => unreachable!("only the first record is a header"),
            Record::Input { input, .. } => match input {
                InputRecord::Submitted { .. } => "submitted",
                InputRecord::Usage { .. } => "usage",
                InputRecord::Finished { .. } => "finished",
                InputRecord::Failed { .. } => "failed",
                InputRecord::Progress { .. } => "progress",
                InputRecord::LinkChanged { .. } => "link_changed",
                InputRecord::GpusChanged { .. } => "gpus_changed",
                InputRecord::Settle => "settle",
            },
            Record::Refused { .. } => "refused",
            Record::Placed { .. } => "placed",
            Record::PassedOver { .. } => "passed_over",
            Record::Pipeline { .. } => "pipeline",
            Record::Network { .. } => "network",
            Record::WorkerJoined { .. } => "worker_joined",
            Record::WorkerMemory(_) => "worker_memory",
            Record::ClockOffset { .. } => "clock_offset",
            Record::WorkerLost { .. } => "worker_lost",
            Record::Loopback { .. } => "loopback",
            Record::Receipt(_) => "receipt",
            Record::Training { .. } => "training",
            Record::Iteration(_) => "iteration",
            Record::Actions(_) => "actions",
            Record::Transfer { .. } => "transfer",
            Record::Weights { .. } => "weights",
            Record::Energy(_) => "energy",
            Record::Meter(_) => "meter",
            Record::MeterAbsent(_) => "meter_absent",
            Record::PhysicalEnergy(_) => "physical_energy",
            Record::MeterTotal(_) => "meter_total",
            Record::Metering(_) => "metering",
            Record::JobFinished { .. } => "job_finished",
            Record::JobFailed { .. } => "job_failed",
            Record::RunEnded { .. } => "run_ended",
        })
        .collect();
    assert_eq!(kinds.len(), 22, "{kinds:?}");
    assert_eq!(ledger.omissions, Default::default());
}

#[test]
fn frozen_ledger_is_written_as_it_was_read() {
    for folder in [folder(), folder_with_receipts()] {
        let text = fs::read_to_string(folder.join("ledger.jsonl")).unwrap();
        for line in text.lines() {
            let record: Record = serde_json::from_str(line).unwrap();
            let again: serde_json::Value = serde_json::to_value(&record).unwrap();
            let original: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(again, original);
        }
    }
}

#[test]
fn frozen_ledger_folds_to_the_numbers_worked_out_by_hand() {
    let summary = summary();
    let [a, b, c, d, e] = summary.jobs.as_slice() else {
        panic!("five jobs")
    };
    assert_eq!(a.status, JobStatus::Finished);
    assert_eq!(a.jct_s.known(), Some(&3.5));
    assert_eq!(a.queueing_s.known(), Some(&0.0));
    assert_eq!(a.training_s.known(), Some(&0.6));
    assert_eq!(a.iterations.known(), Some(&3));
    assert_eq!(a.loss_first.known(), Some(&5.5625));
    assert_eq!(a.loss_last.known(), Some(&3.125));
    // 3 iterations of 4096 tokens from 0.725 s to 3.6 s on the last stage.
    let tokens_per_s = a.tokens_per_s.known().unwrap();
    assert!((tokens_per_s - 3.0 * 4096.0 / 2.875).abs() < 1e-6);
    assert_eq!(a.energy_j.known(), Some(&2107.5));
    assert_eq!(a.gpu_held_s.known(), Some(&10.5));
    assert_eq!(a.link_bytes.known(), Some(&6_291_456));
    assert_eq!(a.late_arrivals.known(), Some(&1));
    assert_eq!((a.overruns, a.worst_overrun_s), (2, 0.0351));

    assert_eq!(b.queueing_s.known(), Some(&2.6));
    assert!((b.jct_s.known().unwrap() - 3.2).abs() < 1e-12);
    assert_eq!(b.late_arrivals.known(), Some(&0));

    assert!(matches!(&c.status, JobStatus::Failed(reason) if reason.contains("signal 9")));
    assert_eq!(c.jct_s.reason(), Some("the job failed"));
    assert_eq!(c.energy_j.known(), Some(&159.025));
    assert!(matches!(&d.status, JobStatus::Refused(_)));
    assert_eq!(d.started_s.reason(), Some("the job was refused"));
    assert_eq!(e.status, JobStatus::Waiting(None));

    let totals = &summary.totals;
    assert_eq!(totals.finished, 2);
    assert!((totals.mean_jct_s.known().unwrap() - 3.35).abs() < 1e-12);
    assert_eq!(totals.makespan_s.known(), Some(&4.2));
    assert!((totals.energy_j.known().unwrap() - 2418.725).abs() < 1e-9);
    let busy = 2.4375 * 2.0 + 1.875 + 0.4375 + 0.5;
    assert!((totals.gpu_busy_share.known().unwrap() - busy / 12.8).abs() < 1e-12);
    // Two GPUs in two regions for 4.2 s; in the third two until 1.5 s, then one.
    let gpu_s = 4.0 * 4.2 + 2.0 * 1.5 + 2.7;
    assert!((totals.gpu_utilisation.known().unwrap() - busy / gpu_s).abs() < 1e-12);
    // 500 Mbit/s until 1.5 s, then 250.
    let link = &summary.links[0];
    let carried = 3_145_728.0 * 8.0 / (500e6 * 1.5 + 250e6 * 2.7);
    assert!((link.utilisation.known().unwrap() - carried).abs() < 1e-12);

    let parts: f64 = summary
        .regions
        .iter()
        .map(|region| region.cost_usd.known().unwrap())
        .sum();
    assert!((parts - totals.cost_usd.known().unwrap()).abs() < 1e-15);
    assert!(matches!(summary.end, RunEnd::Stopped(_)));
    assert!(!summary.succeeded());
}

#[test]
fn a_ledger_in_memory_folds_alike() {
    let ledger = read(&folder()).unwrap();
    assert_eq!(Summary::fold(&ledger), summarise(&folder()).unwrap());
}

#[test]
fn report_of_the_frozen_ledger() {
    let text = render(&summary());
    assert!(text.lines().all(|line| line.chars().count() <= 100));
    golden(&folder(), "report.txt", &text);
}

#[test]
fn json_of_the_frozen_ledger() {
    let text = format!("{:#}\n", summary().to_json());
    golden(&folder(), "summary.json", &text);
}

#[test]
fn frozen_ledger_with_receipts_is_valid_and_shows_its_datagrams() {
    let folder = folder_with_receipts();
    assert_eq!(read(&folder).unwrap().omissions, Default::default());
    let summary = summary_of(&folder);
    assert_eq!(summary.emulation.valid.known(), Some(&true));
    assert_eq!(summary.clock_uncertainty_s, Some(0.00015));
    let text = render(&summary);
    assert!(text.lines().all(|line| line.chars().count() <= 100));
    golden(&folder, "report.txt", &text);
    let json = format!("{:#}\n", summary.to_json());
    golden(&folder, "summary.json", &json);
}
