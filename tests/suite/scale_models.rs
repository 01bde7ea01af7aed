//! A job that trains a small model in place of its own, with real processes.

use serde_json::Value;

use crate::harness::{Place, of_kind, scenario};

/// How far a measured time may be above the event model's: tests share busy machines. Links and pacing alone make it longer than
/// this if a message took another time than the large one's, or an action that of the small model.
const SLOWER: f64 = 1.5;

fn number(value: &Value, key: &str) -> f64 {
    let number = value[key].as_f64();
    number.unwrap_or_else(|| panic!("`{key}` is no number in {value}"))
}

/// Times, links, energy and tokens are those of the large model; what crossed was the small one's.
fn stands_for_the_large_model(place: &Place, results: &Value) {
    let simulated = place.bace(&["simulate", "s.toml", "--json"]).code(0).json();
    let (job, predicted) = (&results["jobs"][0], &simulated["jobs"][0]);
    assert_eq!(job["path"], predicted["path"]);
    assert_eq!(job["k"], 4);
    let (jct_s, predicted_s) = (number(job, "jct_s"), number(predicted, "jct_s"));
    assert!(
        jct_s > 0.99 * predicted_s && jct_s < SLOWER * predicted_s,
        "{jct_s} s, predicted {predicted_s} s"
    );
    assert_eq!(job["link_bytes"], predicted["link_bytes"]);
    assert!(number(job, "link_bytes") > 0.0);
    let ledger = place.ledger();
    assert_eq!(ledger[0]["scale_models"], serde_json::json!(["scaled"]));
    let transfers = of_kind(&ledger, "transfer");
    assert_eq!(transfers.len(), 6);
    for record in transfers {
        // 6 iterations of 4 micro-batches: 16 x 32, and 256 x 1024 elements of two bytes.
        assert_eq!(record["messages"], 24, "{record}");
        assert_eq!(record["bytes"], 24 * 1_024, "{record}");
        assert_eq!(record["carried_bytes"], 24 * 524_288, "{record}");
    }
    let tokens = of_kind(&ledger, "iteration").into_iter();
    let tokens = tokens.filter_map(|record| record["tokens"].as_u64());
    assert_eq!(tokens.sum::<u64>(), 6 * 4 * 256);
    let report = place.bace(&["report", "out"]).code(0).stdout;
    assert!(
        report.contains("Job scaled trained a scale model"),
        "{report}"
    );
}

#[test]
fn a_scale_model_trains_at_the_times_of_the_model_it_stands_for() {
    let place = Place::new(&scenario("scale-model"));
    let results = place.start_run(&["--json"]).end().code(0).json();
    assert_eq!(results["rung"]["compute"], "paced");
    stands_for_the_large_model(&place, &results);
    let job = &results["jobs"][0];
    assert!(
        number(job, "loss_last") < number(job, "loss_first"),
        "{job}"
    );
    let ledger = place.ledger();
    let weights = of_kind(&ledger, "weights");
    // The embedding, eight layers, the head.
    assert_eq!(weights[0]["parts"].as_array().map(Vec::len), Some(10));
    let training = of_kind(&ledger, "training");
    assert!(number(training[0], "parameters") < 200_000.0);
    place.assert_no_litter();
}

#[test]
fn a_scale_model_that_computes_nothing_takes_the_same_times() {
    let place = Place::new(&scenario("scale-model"));
    let run = place.start_run(&["--compute", "modelled", "--json"]);
    let results = run.end().code(0).json();
    stands_for_the_large_model(&place, &results);
    assert_eq!(results["jobs"][0]["loss_last"], Value::Null);
}

#[test]
fn a_comparison_sets_real_runs_beside_simulated_ones_and_survives_one_that_fails() {
    let place = Place::new(&scenario("scale-model"));
    // A folder that holds something is never overwritten: the second policy's run cannot begin.
    std::fs::create_dir_all(place.path("runs/lcf-5")).expect("a folder");
    std::fs::write(place.path("runs/lcf-5/ledger.jsonl"), "").expect("a file");
    let ended = place.bace(&[
        "compare",
        "s.toml",
        "--real",
        "--compute",
        "modelled",
        "--receipts",
        "off",
        "--policies",
        "bace-pipe,lcf,cr-lcf",
        "--out",
        "runs",
        "--json",
    ]);
    let ended = ended.code(1);
    for told in [
        "3 real runs of scale-model",
        "run 3 of 3: cr-lcf, seed 5",
        "lcf, seed 5: failed to",
    ] {
        assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
    }
    let compared = ended.json();
    let rows = compared["points"][0]["rows"].as_array().expect("rows");
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["policy"].as_str().unwrap_or_default(),
                row["measured"] == true,
                row["finished"].as_u64(),
            )
        })
        .collect();
    let one = |policy, measured, finished| (policy, measured, Some(finished));
    assert_eq!(
        told,
        [
            one("bace-pipe", false, 1),
            one("bace-pipe", true, 1),
            one("lcf", false, 1),
            one("lcf", true, 0),
            one("cr-lcf", false, 1),
            one("cr-lcf", true, 1),
        ]
    );
    let why = rows[3]["unfinished"].as_str().expect("a reason");
    assert!(why.contains("the run failed to"), "{why}");
}
