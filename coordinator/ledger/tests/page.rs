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
    assert!(html.len() < 12_000_000, "{} bytes", html.len());
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

/// A job of one stage on the one GPU of its region; `count` micro-batches in its only iteration.
fn of_micro_batches(count: u32) -> RunLog {
    let mut log = many(1, |_| "a".to_owned());
    let span = |action: String, from_s: f64| serde_json::json!({ "action": action, "from_s": from_s, "to_s": from_s + 1e-4 });
    let spans: Vec<_> = (0..count)
        .map(|m| span(format!("F{m}"), f64::from(m) * 1e-4))
        .collect();
    let times = serde_json::json!({ "forward_s": 1, "backward_s": 0, "step_s": 0, "stall_s": 0, "send_wait_s": 0 });
    let of = serde_json::json!({ "job": "a", "attempt": 0, "stage": 0, "iteration": 0 });
    for (kind, more) in [
        (
            "iteration",
            serde_json::json!({ "from_s": 0.0, "to_s": 1.0, "times": times }),
        ),
        ("actions", serde_json::json!({ "spans": spans })),
    ] {
        let mut record = of.clone();
        record["kind"] = kind.into();
        for (key, value) in more.as_object().expect("an object") {
            record[key] = value.clone();
        }
        let place = log.records.len() - 2;
        let record = serde_json::from_value(record).expect("a record");
        log.records.insert(place, record);
    }
    RunLog::from_records(log.header, log.records)
}

#[test]
fn a_table_lists_what_its_picture_draws_and_says_where_the_rest_is() {
    let some = page(&of_micro_batches(3_900)).unwrap();
    assert!(some.contains("<td class=\"words \">forward of micro-batch 3899</td>"));
    assert!(!some.contains("spans are drawn"), "all of them are");
    let more = page(&of_micro_batches(4_500)).unwrap();
    let words = "4000 of 4500 spans are drawn, the longest ones; the table lists the first 4000 of 4500 rows, the ledger all";
    assert!(more.contains(words));
    assert!(!more.contains("<td class=\"words \">forward of micro-batch 4001</td>"));
}

#[test]
fn lost_gpus_are_drawn_below_the_jobs_that_still_run() {
    let mut log = many(1, |_| "a".to_owned());
    // One GPU is left of two, and the job runs on it, on the row of either.
    log.header.gpus = vec![2; log.header.regions.len()];
    let lost = Record::Input {
        at_s: 0.5,
        input: InputRecord::GpusChanged {
            region: log.header.regions[0].clone(),
            gpus: 1,
        },
    };
    log.records.insert(2, lost);
    let html = page(&RunLog::from_records(log.header, log.records)).unwrap();
    let lost = html.find("had lost 1 of 2 GPUs from 0.500 s").unwrap();
    let held = html.find("a · stage 0, held from").unwrap();
    assert!(
        lost < held,
        "what is drawn later covers what was drawn before"
    );
    let block = |at: usize| {
        let begin = html[..at].rfind("<svg x=").unwrap();
        let y = html[begin..at].split(" y=\"").nth(1).unwrap();
        y.split('"').next().unwrap().parse::<u32>().unwrap()
    };
    assert!(
        block(lost) > block(held) + 10,
        "they stand on rows of their own"
    );
}

#[test]
fn a_job_that_loses_its_gpus_with_a_region_is_named() {
    let log = many(1, |_| "victim".to_owned());
    let region = log.header.regions[0].clone();
    let mut records = log.records;
    let energy = records.pop().expect("its accounts");
    // Submitted and placed, and not finished.
    records.truncate(2);
    let input = InputRecord::GpusChanged {
        region: region.clone(),
        gpus: 0,
    };
    records.extend([Record::Input { at_s: 0.5, input }, energy]);
    let html = page(&RunLog::from_records(log.header, records)).unwrap();
    let lost = format!("<b>victim</b> its GPUs, since {region} has too few left; it waits again");
    assert!(html.contains(&lost), "no `{lost}`");
}
