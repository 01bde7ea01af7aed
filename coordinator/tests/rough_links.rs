//! Links with all that a scenario can say of them, from the file to the report and back.

mod common;

use common::{bace, succeeds, text as text_of};
use serde_json::{Value, json};

#[test]
fn a_check_says_what_links_do() {
    let told = succeeds(&["scenario", "check", "rough-links"]);
    let expected = "\
rough-links: valid; 3 regions, 3 GPUs, 6 directed links, 2 jobs
  city → harbour: 200 Mbit/s, 8 ms; counts Ethernet frames
  city → island: 30 Mbit/s, 45 ms; loss 0.00016 (mathis); shared by flow; queue of 500 kB
  harbour → city: 40 Mbit/s, 20 ms; jitter uniform up to 6 ms; changes at 4 s
  harbour → island: 50 Mbit/s, 12 ms; jitter normal of 3 ms; loss 0.001 (goodput); 1 MB of credit, then 6 Mbit/s; \
changes 4 times from 2 s to 60 s
  island → city: 30 Mbit/s, 45 ms; loss 0.00016 (mathis); shared by flow; queue of 500 kB
  island → harbour: 50 Mbit/s, 12 ms; jitter normal of 3 ms; loss 0.001 (goodput); 1 MB of credit, then 6 Mbit/s; \
changes 4 times from 2 s to 60 s
";
    assert_eq!(told, expected);
}

fn results(args: &[&str]) -> Value {
    serde_json::from_str(&succeeds(args)).expect("results are JSON")
}

#[test]
fn rough_links_shows_what_its_comments_promise() {
    let simulate = ["simulate", "rough-links", "--json"];
    let predicted = results(&simulate);
    assert_eq!(
        predicted["jobs"][0]["path"],
        json!(["city", "harbour", "island"])
    );
    assert_eq!(
        predicted["jobs"][1]["path"],
        json!(["island", "city", "harbour"])
    );
    assert_eq!(predicted, results(&simulate));
    let other = results(&["simulate", "rough-links", "--json", "--seed", "12"]);
    assert_ne!(predicted["makespan_s"], other["makespan_s"]);
    // The formula knows bandwidth and delay alone.
    let formula = results(&[&simulate[..], &["--iteration-model", "analytic"]].concat());
    assert!(predicted["makespan_s"].as_f64() > formula["makespan_s"].as_f64());
}

#[test]
fn a_simulation_with_a_trace_from_a_file_is_replayed() {
    let dir = tempfile::tempdir().expect("a folder");
    let text = succeeds(&["scenario", "show", "rough-links"]);
    let begin = text.find("trace = [").expect("a trace");
    let end = begin + text[begin..].find("\n]\n").expect("its end") + 2;
    let csv = format!(
        "{}trace = {{ csv = \"rain.csv\" }}{}",
        &text[..begin],
        &text[end..]
    );
    let file = dir.path().join("s.toml");
    std::fs::write(&file, csv).expect("written");
    let rain = "at_s,bandwidth_mbps,one_way_delay_ms\n2,12,15\n4,0,15\n5,12,15\n60,50,12\n";
    std::fs::write(dir.path().join("rain.csv"), rain).expect("written");
    let file = text_of(&file);
    let run = dir.path().join("run");
    let run = text_of(&run);
    let from_file = results(&["simulate", file, "--json", "--out", run]);
    let built_in = results(&["simulate", "rough-links", "--json"]);
    assert_eq!(from_file["jobs"], built_in["jobs"]);
    succeeds(&["replay", run, "--scenario", file]);
    // The run's folder has no copy of the trace, and the error says what to do.
    let told = bace(&["replay", run]);
    assert_eq!(told.status, 2);
    assert!(
        told.err.contains("rain.csv") && told.err.contains("--scenario FILE"),
        "{}",
        told.err
    );
}
