//! Emulated time that passes slower or faster than this machine's.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Place, of_kind, scenario, with};

/// What a figure may be of its prediction. A busy machine makes runs late, and the later the faster emulated time passes; a
/// time that was scaled twice or not at all is off by more.
const OF_PREDICTION: RangeInclusive<f64> = 0.97..=1.4;
/// What starting, connecting and ending may take besides, on a busy machine.
const OVERHEAD: Duration = Duration::from_secs(40);

#[test]
fn a_run_at_half_speed_is_the_same_run() {
    check("0.5", &[]);
}

#[test]
fn a_run_at_the_speed_of_this_machine_is_the_same_run() {
    check("1", &[]);
}

#[test]
fn a_run_at_four_times_the_speed_is_the_same_run() {
    check("4", &[]);
}

#[test]
fn datagrams_follow_the_scale_as_well() {
    check("2", &["--network", "packet"]);
}

/// Runs the scenario at `scale` and holds every figure against its prediction, which knows of no scale.
fn check(scale: &str, arguments: &[&str]) {
    let place = Place::new(&scenario("scaled"));
    let predicted = place.bace(&["simulate", "s.toml", "--json"]).code(0).json();
    assert_eq!(predicted["time_scale"], Value::Null);
    let fixed = ["--compute", "modelled", "--time-scale", scale, "--json"];
    let begin = Instant::now();
    let run = place.start_run(&[&fixed, arguments].concat());
    let results = run.end().code(0).json();
    let took = begin.elapsed();
    let factor: f64 = scale.parse().expect("a number");
    assert_eq!(results["time_scale"], factor);
    for key in ["mean_jct_s", "makespan_s", "energy_j", "cost_usd"] {
        near(&results, &predicted, key);
    }
    for (job, expected) in jobs(&results).zip(jobs(&predicted)) {
        for key in ["name", "k", "path", "gpus"] {
            assert_eq!(job[key], expected[key]);
        }
        for key in ["jct_s", "energy_j", "cost_usd"] {
            near(job, expected, key);
        }
    }
    let wall = Duration::from_secs_f64(number(&predicted, "makespan_s") / factor);
    assert!((wall..wall + OVERHEAD).contains(&took), "{took:?}");
    let ledger = place.ledger();
    let told = (factor != 1.0).then_some(factor);
    assert_eq!(ledger[0]["time_scale"].as_f64(), told);
    // What the scenario says stands in the ledger as it says it.
    let changes = of_kind(&ledger, "input").into_iter();
    let changes: Vec<&Value> = changes
        .filter(|record| record["input"] == "link_changed")
        .collect();
    assert_eq!(changes.len(), 2);
    for change in changes {
        assert!((2.5..3.5).contains(&number(change, "at_s")), "{change}");
        assert_eq!(
            (
                number(change, "bandwidth_bps"),
                number(change, "one_way_delay_s")
            ),
            (5e6, 0.04)
        );
    }
    let report = place.bace(&["report", "out"]).code(0).stdout;
    assert_eq!(
        report.contains(&format!("× time scale {scale}\n")),
        factor != 1.0
    );
    place.bace(&["replay", "out"]).code(0);
    place.assert_no_litter();
}

fn near(measured: &Value, predicted: &Value, key: &str) {
    let ratio = number(measured, key) / number(predicted, key);
    assert!(
        OF_PREDICTION.contains(&ratio),
        "{key} is {ratio} of what was predicted: {measured:#}"
    );
}

fn jobs(results: &Value) -> impl Iterator<Item = &Value> {
    results["jobs"].as_array().expect("jobs").iter()
}

fn number(of: &Value, key: &str) -> f64 {
    let value = of[key].as_f64();
    value.unwrap_or_else(|| panic!("no number {key} in {of:#}"))
}

#[test]
fn receipts_are_told_as_the_scenario_says_links() {
    // Slow and long enough for a busy machine to be nearer to them than the factor is.
    let links = with(
        &scenario("two-regions"),
        "bandwidth_mbps = 400",
        "bandwidth_mbps = 40",
    );
    let links = with(&links, "one_way_delay_ms = 5", "one_way_delay_ms = 100");
    let lenient = format!(
        "{}\n[network]\nreceipt_error = 5\nreceipt_error_ms = 2000\n\n[compute]\nrung = \"modelled\"\ntime_scale = 4\n",
        links
    );
    let place = Place::new(&lenient);
    let results = place
        .start_run(&["--receipts", "full", "--json"])
        .end()
        .code(0)
        .json();
    assert_eq!(results["time_scale"], 4.0);
    // All may be late by a millisecond here, and actions of the emulated GPUs are little longer.
    assert_eq!(results["valid"], Value::Null);
    let report = place.bace(&["report", "out"]).code(0).stdout;
    let report: String = report.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(report.contains("at a time_scale of at most 1"), "{report}");
    // What loopback has to carry is this machine's.
    assert_eq!(results["receipts"]["links_bps"], 4.0 * 80e6);
    let ledger = place.ledger();
    let receipts = of_kind(&ledger, "receipt");
    assert_eq!(receipts.len(), 4);
    for receipt in receipts {
        assert_eq!(receipt["verdict"], "true", "{receipt}");
        for (quantity, configured) in [("rate_bps", 40e6), ("delay_s", 0.1)] {
            let figures = receipt["figures"].as_array().expect("figures");
            let figure = figures.iter().find(|one| one["quantity"] == quantity);
            let figure = figure.expect(quantity);
            let off = number(figure, "configured") / configured;
            assert!((off - 1.0).abs() < 1e-6, "{figure}");
            let measured = number(figure, "measured") / configured;
            assert!((0.5..1.5).contains(&measured), "{figure}");
        }
    }
    place.bace(&["replay", "out"]).code(0);
}

#[test]
fn gpus_faster_than_this_machine_make_a_run_not_valid_and_a_scale_is_said() {
    let fast = with(
        &scenario("two-regions"),
        "peak_tflops = 0.005",
        "peak_tflops = 0.05",
    );
    let strict = format!("{fast}\n[compute]\nrung = \"paced\"\noverrun_share = 0.01\n");
    let place = Place::new(&strict);
    let ended = place.start_run(&["--json"]).end().code(1);
    let results = ended.json();
    assert_eq!(results["valid"], false);
    let reasons = results["invalid_reasons"].as_array().expect("reasons");
    let told = |part: &str| {
        reasons
            .iter()
            .filter_map(Value::as_str)
            .any(|one| one.contains(part))
    };
    assert!(
        told("took longer here than on the emulated GPU"),
        "{reasons:?}"
    );
    assert!(
        told("Run it with a time_scale of at most 0."),
        "{reasons:?}"
    );
    let emulation = &results["emulation"];
    let bad: Vec<&Value> = jobs(emulation)
        .filter(|job| job["valid"] == false)
        .collect();
    assert!(!bad.is_empty(), "{emulation:#}");
    for job in bad {
        assert!(number(job, "overrun_s") > 0.0, "{job:#}");
        assert!(
            number(job, "overrun_s") <= number(job, "paced_s"),
            "{job:#}"
        );
        let scale = number(job, "largest_time_scale");
        assert!((0.001..1.0).contains(&scale), "{job:#}");
        assert!(
            number(emulation, "largest_time_scale") <= scale,
            "{emulation:#}"
        );
    }
}

#[test]
fn a_scale_beyond_what_links_can_be_is_refused_with_one_that_can() {
    let place = Place::new(&scenario("two-regions"));
    place
        .start_run(&["--compute", "modelled", "--time-scale", "1000"])
        .end()
        .code(2)
        .complains(&[
            "use the fabric inside region `east`: carry 100000000 Mbit/s",
            "at time_scale 1000",
            "use a time_scale of at most 42.9",
        ]);
    let zero = place.start_run(&["--time-scale", "0"]).end().code(2);
    let told = "it has to be a number from 0.001 to 100000";
    assert!(zero.stderr.contains(told), "{}", zero.stderr);
}
