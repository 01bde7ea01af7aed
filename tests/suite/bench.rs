//! `bace bench pipeline` on its smallest model: that it measures, not how fast this machine is.

use serde_json::Value;

use crate::harness::{Ended, Place};

/// 2 layers of 9216 weights, embedding and head of 256 x 32, five gains of 32.
const TINY_PARAMETERS: u64 = 34_976;

/// Trains the tiny model with more arguments; a busy machine may miss the goals.
fn bench(place: &Place, more: &[&str]) -> Ended {
    let arguments = [
        "bench", "pipeline", "--models", "tiny", "--data", "text", "--json",
    ];
    place.bace(&[&arguments[..], more].concat())
}

/// What it printed, which says whether it met its goals as its exit status does.
fn results(ended: &Ended) -> Value {
    let results = ended.json();
    let status = if results["met"] == true { 0 } else { 1 };
    assert_eq!(ended.status.code(), Some(status), "{ended:#?}");
    results
}

fn positive(value: &Value) -> f64 {
    let number = value.as_f64().filter(|&number| number > 0.0);
    number.unwrap_or_else(|| panic!("{value} is no positive number"))
}

#[test]
fn a_pipeline_is_measured_with_its_workers() {
    let place = Place::new("");
    let results = results(&bench(&place, &["--iterations", "4"]));
    let alone = &results["worker_alone"];
    assert_eq!(alone.as_array().map(Vec::len), Some(1), "{alone}");
    positive(&alone[0]["ready_after_s"]);
    let round = &results["models"][0]["rounds"][0];
    let ours = &round["ours"];
    assert_eq!(ours["parameters"], TINY_PARAMETERS);
    assert_eq!(ours["layers"], serde_json::json!([1, 1]));
    assert_eq!(ours["losses"].as_array().map(Vec::len), Some(5));
    positive(&ours["tokens_per_s"]);
    let iterations = ours["iterations"].as_array().expect("iterations");
    assert_eq!(iterations.len(), 4);
    for one in iterations {
        let stages = one["stage_s"].as_array().expect("stages");
        let slowest = stages.iter().map(positive).fold(0.0, f64::max);
        assert_eq!(stages.len(), 2);
        let ideal = (4.0 + 2.0 - 1.0) * slowest;
        let expected = (positive(&one["period_s"]) - positive(&one["step_s"])) / ideal - 1.0;
        let overhead = one["overhead"].as_f64().expect("an overhead");
        assert!((overhead - expected).abs() < 1e-9, "{one}");
    }
    for worker in ours["workers"].as_array().expect("workers") {
        positive(&worker["ready_after_s"]);
        for when in ["when_ready", "when_ended"] {
            let held = &worker[when]["bytes"];
            assert!(positive(&held["resident_bytes"]) >= positive(&held["private_bytes"]));
            assert!(positive(&held["peak_bytes"]) >= positive(&held["proportional_bytes"]));
        }
    }
    assert_eq!(round["beside"], Value::Null);
    assert_eq!(results["figures"].as_array().map(Vec::len), Some(1));
    place.assert_no_litter();
}

#[test]
fn a_peer_is_measured_in_turn_and_has_to_train_the_same_model() {
    let place = Place::new("");
    let peer = |parameters: u64| {
        format!(
            r#"read task; echo '{{"torch":"none","parameters":{parameters},"losses":[5.6],"ends_s":[1,2,33]}}'"#
        )
    };
    let (same, other) = (peer(TINY_PARAMETERS), peer(1));
    let more = ["--iterations", "2", "--rounds", "2", "--beside", "sh", "-c"];
    let results = results(&bench(&place, &[&more[..], &[same.as_str()]].concat()));
    let rounds = results["models"][0]["rounds"].as_array().expect("rounds");
    assert_eq!(rounds.len(), 2);
    for round in rounds {
        // Two iterations of 4 x 16 tokens in 32 s.
        assert_eq!(round["beside_tokens_per_s"], 4.0);
        let ratio = positive(&round["ours"]["tokens_per_s"]) / 4.0;
        assert!((positive(&round["ratio"]) / ratio - 1.0).abs() < 1e-9);
    }
    assert_eq!(results["figures"].as_array().map(Vec::len), Some(2));
    let ended = bench(&place, &[&more[..], &[other.as_str()]].concat()).code(1);
    assert!(
        ended
            .stderr
            .contains("its model has 1 parameters, ours 34976"),
        "{ended:#?}"
    );
    place.assert_no_litter();
}

#[test]
fn more_stages_than_layers_are_refused_before_anything_starts() {
    let place = Place::new("");
    bench(&place, &["--stages", "3"])
        .code(2)
        .complains(&["cut the model `tiny` into 3 stages", "it has 2 layers"]);
}
