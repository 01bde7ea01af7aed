//! The same training, however it is cut into processes.

use serde_json::Value;

use crate::harness::{Place, of_kind, scenario, with};

/// bfloat16 keeps 8 bits of a number: after a few steps the loss of a tiny model differs by less than this.
const BF16_TOLERANCE: f64 = 0.02;

#[derive(Debug, PartialEq)]
struct Trained {
    losses: Vec<f64>,
    weights: Value,
}

/// Trains over so many GPUs in each region.
fn train(text: &str, east: u32, west: u32) -> Trained {
    let text = with(text, "gpus = 1", &format!("gpus = {east}"));
    let text = match west {
        1 => text,
        _ => with(
            &text,
            "name = \"west\"\ngpus = 1",
            &format!("name = \"west\"\ngpus = {west}"),
        ),
    };
    let place = Place::new(&text);
    let ended = place
        .start_run(&["--compute", "native", "--json"])
        .end()
        .code(0);
    assert_eq!(ended.json()["jobs"][0]["k"], east + west, "{ended:#?}");
    let ledger = place.ledger();
    let losses = of_kind(&ledger, "iteration")
        .into_iter()
        .filter_map(|record| record["loss"].as_f64())
        .collect();
    let weights = of_kind(&ledger, "weights");
    let parts = weights.first().expect("a finished job has weights")["parts"].clone();
    assert_eq!(
        parts.as_array().map(Vec::len),
        Some(6),
        "embedding, 4 layers, head: {parts}"
    );
    Trained {
        losses,
        weights: parts,
    }
}

#[test]
fn loss_and_weights_do_not_depend_on_stages_or_schedule() {
    let text = scenario("one-job");
    let alone = train(&text, 1, 0);
    assert_eq!(alone.losses.len(), 8);
    assert!(alone.losses[7] < alone.losses[0], "{:?}", alone.losses);
    for schedule in ["gpipe", "1f1b", "eager-1f1b"] {
        let text = with(&text, "\"eager-1f1b\"", &format!("\"{schedule}\""));
        for (east, west) in [(1, 1), (2, 1)] {
            let pipeline = train(&text, east, west);
            assert_eq!(pipeline, alone, "{schedule} on {east} + {west} GPUs");
        }
    }
}

#[test]
fn a_bfloat16_boundary_keeps_the_loss_near() {
    let text = scenario("one-job");
    let alone = train(&text, 1, 0);
    let pipeline = train(
        &with(&text, "bytes_per_element = 4", "bytes_per_element = 2"),
        2,
        1,
    );
    assert_eq!(pipeline.losses.len(), alone.losses.len());
    for (bf16, fp32) in pipeline.losses.iter().zip(&alone.losses) {
        assert!(
            (bf16 - fp32).abs() < BF16_TOLERANCE,
            "{bf16} instead of {fp32}"
        );
    }
    assert_ne!(pipeline.weights, alone.weights, "bfloat16 was not used");
}

#[test]
fn another_seed_is_another_training() {
    let text = scenario("one-job");
    let other = train(&with(&text, "seed = 11", "seed = 12"), 1, 0);
    assert_ne!(other.losses, train(&text, 1, 0).losses);
}
