//! Pages of ledgers that no browser has to look at: what an old one lacks, what a hostile one brings, what a large one leaves out.

use std::path::{Path, PathBuf};

use bace_api::{Attempt, EnergyUse, InputRecord, PlacedRegion, Record, StageIndex};
use bace_ledger::{Figure, LedgerError, Page, RunLog, Summary};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/ledger-v1")
}

fn page(log: &RunLog) -> Result<String, LedgerError> {
    let summary = Summary::from_records(&log.header, &log.records);
    Page {
        log,
        summary: &summary,
        predicted: Some(Figure::Unknown("its scenario is lost".into())),
        policies: &[],
        spending: Figure::Unknown("prices are lost".into()),
        iteration: None,
    }
    .html()
}

#[test]
fn an_old_ledger_has_a_page_that_says_what_is_missing() {
    let log = RunLog::read(&golden()).unwrap();
    let html = page(&log).unwrap();
    for words in [
        "Absent: the ledger holds no actions of any iteration",
        "Absent: prices are lost",
        "its scenario is lost",
        "<figure>",
    ] {
        assert!(html.contains(words), "no `{words}`");
    }
    for job in &log.jobs {
        assert!(html.contains(&job.name), "{}", job.name);
    }
    assert!(!html.contains("http://www.w3.org/1999/xhtml") && !html.contains("<script"));
}

/// A ledger with many jobs, one after another on one GPU.
fn many(jobs: usize, name: impl Fn(usize) -> String) -> RunLog {
    let golden = RunLog::read(&golden()).expect("the frozen ledger is read");
    let mut header = golden.header;
    header.jobs = (0..jobs).map(&name).collect();
    let region = header.regions[0].clone();
    let records = (0..jobs).flat_map(|job| {
        let (at_s, job) = (job as f64, name(job));
        let path = vec![PlacedRegion {
            region: region.clone(),
            gpus: 1,
        }];
        [
            Record::Input {
                at_s: 0.0,
                input: InputRecord::Submitted { job: job.clone() },
            },
            Record::Placed {
                at_s,
                job: job.clone(),
                attempt: Attempt::default(),
                k: 1,
                k_star: 1,
                path,
                layers: vec![1],
                iteration_s: 1.0,
                reason: serde_json::json!({ "paths": [{ "regions": [["a", 1]], "outcome": { "outcome": "chosen" } }] }),
            },
            Record::Input {
                at_s: at_s + 1.0,
                input: InputRecord::Finished { job: job.clone() },
            },
            Record::JobFinished {
                at_s: at_s + 1.0,
                job: job.clone(),
            },
            Record::Energy(EnergyUse {
                job,
                attempt: Attempt::default(),
                stage: StageIndex::default(),
                region: region.clone(),
                held_s: 1.0,
                busy_s: 0.5,
                energy_j: 100.0,
                cost_usd: 1e-5,
                carbon_g: None,
            }),
        ]
    });
    RunLog::from_records(header, records)
}

#[test]
fn names_are_text_and_nothing_else() {
    let log = many(2, |job| format!("<img src=x onerror=alert({job})>\"&"));
    let html = page(&log).unwrap();
    assert!(!html.contains("<img"), "a name became markup");
    assert!(!html.contains("\"&\""), "a name ended an attribute");
    assert!(html.contains("onerror=alert(1)"), "the name is shown");
}

#[test]
fn a_large_run_has_a_page_of_bounded_size_that_says_what_it_leaves_out() {
    let html = page(&many(4_200, |job| format!("job-{job}"))).unwrap();
    assert!(html.len() < 6_000_000, "{} bytes", html.len());
    for words in [
        // Each job waited, and was placed.
        "of 8399 rows are shown",
        "spans are drawn, the longest ones",
        "waiting jobs are drawn at a time",
        "are shown; the ledger holds all",
    ] {
        assert!(html.contains(words), "no `{words}`");
    }
}
