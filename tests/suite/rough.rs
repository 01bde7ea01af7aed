//! Links with jitter, loss, credit and weather, predicted and for real.

use serde_json::Value;

use crate::harness::{Place, of_kind};

/// How far a run may be off its prediction on a machine that does other things too.
const OFF: f64 = 0.15;

#[test]
fn a_run_over_rough_links_goes_as_predicted() {
    let place = Place::new(include_str!("../../coordinator/scenarios/rough-links.toml"));
    let predicted = place.bace(&["simulate", "s.toml", "--json"]).code(0).json();
    let ended = place
        .start_run(&["--compute", "modelled", "--json"])
        .end()
        .code(0);
    let measured = ended.json();
    for (predicted, measured) in jobs(&predicted).iter().zip(jobs(&measured)) {
        assert_eq!(predicted["path"], measured["path"], "{measured}");
        let (expected_s, took_s) = (seconds(predicted), seconds(measured));
        assert!(
            (took_s - expected_s).abs() <= OFF * expected_s,
            "{}: {took_s} s instead of {expected_s} s",
            measured["name"]
        );
    }
    // The dug-up road, and the weather of two directions before the end.
    let ledger = place.ledger();
    let changes = of_kind(&ledger, "input").into_iter();
    let changes: Vec<&Value> = changes
        .filter(|record| record["input"] == "link_changed")
        .collect();
    assert_eq!(changes.len(), 2 * 3 + 1, "{changes:#?}");
    let farther = changes.iter().find(|change| change["to"] == "city");
    let farther = farther.expect("a change towards the city");
    assert_eq!(
        (&farther["bandwidth_bps"], &farther["one_way_delay_s"]),
        (&Value::from(40e6), &Value::from(0.03))
    );
    place.bace(&["replay", "out"]).code(0);
    place.assert_no_litter();
}

fn jobs(results: &Value) -> &Vec<Value> {
    results["jobs"].as_array().expect("jobs")
}

fn seconds(job: &Value) -> f64 {
    job["finish_s"].as_f64().expect("an end") - job["start_s"].as_f64().expect("a start")
}
