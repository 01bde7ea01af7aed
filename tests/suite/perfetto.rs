//! `bace trace` in Perfetto: its own trace processor, the program behind ui.perfetto.dev, reads what is written.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::browser::{Browser, without_chromium};
use crate::harness::{Place, scenario};

/// Reads a trace and answers queries.
const READER: &str = include_str!("perfetto.js");

/// What Perfetto counts of what it cannot take: slices that overlap, ends without begins, arrows without slices, and more.
const COMPLAINTS: &str =
    "select name, value from stats where value != 0 and severity in ('error', 'data_loss')";
const SLICES: &str = "select category as kind, count(*) as count, min(dur) as shortest from slice \
    where category not in ('arrival', 'decision', 'outcome', 'change') group by 1 order by 1";
/// What slices lie in, one level up.
const NESTING: &str = "select distinct slice.category as kind, parent.category as within \
    from slice join slice parent on slice.parent_id = parent.id order by 1, 2";
/// Where arrows lead from and to, how many, and by how much the earliest runs ahead of its begin.
const ARROWS: &str = "select one.category as from_kind, other.category as to_kind, count(*) as count, \
    min(other.ts - one.ts) > 0 as is_forward from flow \
    join slice one on flow.slice_out = one.id join slice other on flow.slice_in = other.id group by 1, 2 order by 1, 2";
const COUNTERS: &str = "select count(*) as count from counter";
const THREADS: &str = "select process.name as process, thread.name as thread from thread join process using (upid) \
    where thread.name is not null order by 1, 2";

/// The folder of Perfetto's engine; absent, and told, where there is none.
fn engine() -> Option<PathBuf> {
    let folder = std::env::var_os("BACE_PERFETTO").map(PathBuf::from);
    if folder.is_none() {
        eprintln!(
            "the trace in Perfetto was left out: BACE_PERFETTO names no folder with its engine_bundle.js; scripts/test fetches one"
        );
    }
    folder
}

fn ask(engine: &Path, trace: &Path, page: &Path, queries: &[&str]) -> Vec<Value> {
    fs::write(page, "<!doctype html><title>trace</title>").expect("a page is written");
    let mut browser = Browser::start();
    browser.open(page, 800, "light");
    let reader = READER.lines().filter(|line| !line.starts_with("//"));
    let reader: Vec<&str> = reader.collect();
    let url = |path: &Path| json!(format!("file://{}", path.display()));
    let (bundle, trace) = (url(&engine.join("engine_bundle.js")), url(trace));
    let answer = browser.value(&format!(
        "({})({bundle}, {trace}, {})",
        reader.join("\n"),
        json!(queries)
    ));
    answer.as_array().expect("rows of each query").clone()
}

/// How many events of a phase a trace has.
fn count(events: &[Value], phases: &[&str]) -> usize {
    let of = |event: &&Value| phases.iter().any(|phase| event["ph"] == *phase);
    events.iter().filter(of).count()
}

fn sum(rows: &Value) -> usize {
    let rows = rows.as_array().expect("rows").iter();
    let counts = rows.map(|row| row["count"].as_u64().expect("a count") as usize);
    counts.sum()
}

#[test]
fn perfetto_takes_all_of_a_trace_without_a_complaint() {
    let Some(engine) = engine() else { return };
    if without_chromium("the trace in Perfetto") {
        return;
    }
    let place = Place::new(&scenario("two-regions"));
    place.bace(&["simulate", "s.toml", "--out", "out"]).code(0);
    place.bace(&["trace", "out"]).code(0);
    let trace = place.path("out/trace.json");
    let text = fs::read_to_string(&trace).expect("a trace is written");
    let written: Value = serde_json::from_str(&text).expect("a trace is JSON");
    let events = written["traceEvents"].as_array().expect("events");
    let queries = [COMPLAINTS, SLICES, NESTING, ARROWS, COUNTERS, THREADS];
    let answers = ask(&engine, &trace, &place.path("page.html"), &queries);
    let [complaints, slices, nesting, arrows, counters, threads] = answers.as_slice() else {
        panic!("{answers:?}");
    };
    assert_eq!(complaints, &json!([]));
    assert_eq!(sum(slices), count(events, &["X", "b"]), "{slices}");
    assert_eq!(sum(counters), count(events, &["C"]));
    assert!(
        slices
            .as_array()
            .is_some_and(|rows| rows.iter().all(|row| row["shortest"].as_i64() > Some(0))),
        "{slices}"
    );
    let nests = [
        ("backward", "iteration"),
        ("forward", "iteration"),
        ("iteration", "job"),
        ("wait", "iteration"),
    ];
    assert_eq!(
        nesting,
        &json!(nests.map(|(kind, within)| json!({"kind": kind, "within": within})))
    );
    // Each arrow has two parts: from the action to the link, and from the link to the action.
    let leads = arrows.as_array().expect("rows").iter().map(|row| {
        assert_eq!(row["is_forward"], 1, "{row}");
        (
            row["from_kind"].as_str().expect("a kind"),
            row["to_kind"].as_str().expect("a kind"),
        )
    });
    assert_eq!(
        leads.collect::<Vec<_>>(),
        [
            ("backward", "carried"),
            ("carried", "backward"),
            ("carried", "forward"),
            ("forward", "carried")
        ]
    );
    assert_eq!(sum(arrows), count(events, &["t", "f"]));
    let has = |process: &str, thread: &str| {
        let row = json!({"process": process, "thread": thread});
        threads.as_array().is_some_and(|rows| rows.contains(&row))
    };
    assert!(
        has("predicted: east", "GPU 1") && has("predicted: links", "east → west"),
        "{threads}"
    );
}
