//! Links that prove themselves: measured before the first job and after the last.

use serde_json::Value;

use crate::harness::{Place, of_kind, scenario, with};

/// The scenario with links that may be off by more than any busy machine makes them.
fn lenient(text: &str) -> String {
    format!("{text}\n[network]\nreceipt_error = 5\nreceipt_error_ms = 2000\n")
}

#[test]
fn a_run_measures_its_links_before_and_after() {
    let place = Place::new(&lenient(&scenario("two-regions")));
    let run = place.start_run(&["--compute", "modelled", "--receipts", "full", "--json"]);
    let results = run.end().code(0).json();
    assert_eq!(results["valid"], true);
    assert_eq!(results["invalid_reasons"], serde_json::json!([]));
    assert_eq!(results["receipts"]["mode"], "full");
    assert!(
        results["receipts"]["loopback_bps"]
            .as_f64()
            .is_some_and(|bps| bps > 0.0)
    );
    assert_eq!(results["receipts"]["links_bps"], 800e6);
    let ledger = place.ledger();
    let kinds: Vec<&str> = ledger
        .iter()
        .filter_map(|one| one["kind"].as_str())
        .collect();
    let first = |kind: &str| kinds.iter().position(|one| *one == kind).expect(kind);
    let last = |kind: &str| kinds.iter().rposition(|one| *one == kind).expect(kind);
    assert!(first("loopback") < first("receipt") && first("receipt") < first("training"));
    assert!(last("job_finished") < last("receipt") && last("receipt") < last("run_ended"));
    let receipts = of_kind(&ledger, "receipt");
    let told: Vec<_> = receipts
        .iter()
        .map(|one| (&one["phase"], &one["from"], &one["to"]))
        .collect();
    let ways = [
        ("before", "east", "west"),
        ("before", "west", "east"),
        ("after", "east", "west"),
        ("after", "west", "east"),
    ];
    assert_eq!(
        format!("{told:?}"),
        format!(
            "{:?}",
            ways.map(|(phase, from, to)| (Value::from(phase), Value::from(from), Value::from(to)))
        )
    );
    for receipt in receipts {
        check(receipt);
    }
    let report = place.bace(&["report", "out"]).code(0).stdout;
    for word in [
        "measured link",
        "east → west",
        "before",
        "after",
        "verdict",
        "true",
    ] {
        assert!(report.contains(word), "no `{word}` in {report}");
    }
    let again = place.bace(&["report", "out", "--json", "--attribution", "off"]);
    assert_eq!(again.code(0).json(), results);
    place.bace(&["replay", "out"]).code(0);
    place.assert_no_litter();
}

/// Five figures: those of one sender, and of two at once, since both regions have several workers.
fn check(receipt: &Value) {
    assert_eq!(receipt["verdict"], "true", "{receipt}");
    assert!(
        receipt["attempts"]
            .as_u64()
            .is_some_and(|attempts| (1..=3).contains(&attempts))
    );
    // One warm-up, five tiny, three isolated and six back to back; twice five together.
    assert_eq!(receipt["messages"], 25, "{receipt}");
    let figures = receipt["figures"].as_array().expect("figures");
    let configured = [
        ("rate_bps", 400e6),
        ("completion_s", 0.045),
        ("delay_s", 0.005),
        ("shared_rate_bps", 400e6),
        ("jain_index", 1.0),
    ];
    assert_eq!(figures.len(), configured.len());
    for (figure, (quantity, expected)) in figures.iter().zip(configured) {
        assert_eq!(figure["quantity"], quantity);
        let number = |key: &str| {
            figure[key]
                .as_f64()
                .unwrap_or_else(|| panic!("{key} in {figure}"))
        };
        assert!(
            (number("configured") - expected).abs() < 1e-6 * expected,
            "{figure}"
        );
        // However busy the machine: a clock gives nothing early, and some of it in the end.
        let measured = number("measured");
        let least = if quantity.ends_with("_s") {
            0.95 * expected
        } else {
            0.0
        };
        assert!(measured > least, "{figure}");
    }
}

#[test]
fn a_link_that_cannot_be_true_stops_the_run_before_training() {
    let fast = with(
        &scenario("two-regions"),
        "bandwidth_mbps = 400",
        "bandwidth_mbps = 400_000",
    );
    let place = Place::new(&fast);
    let ended = place
        .start_run(&["--compute", "modelled", "--receipts", "full"])
        .end()
        .code(1);
    ended.complains(&[
        "begin training",
        "east → west: it carried",
        "Mbit/s instead of 400000.0",
        "this machine carries only",
        "one more link is untrue",
        "bandwidth_mbps",
    ]);
    let ledger = place.ledger();
    assert_eq!(of_kind(&ledger, "training").len(), 0);
    assert_eq!(of_kind(&ledger, "input").len(), 0);
    let receipts = of_kind(&ledger, "receipt");
    assert_eq!(receipts.len(), 2);
    for receipt in receipts {
        assert_eq!(receipt["verdict"], "untrue", "{receipt}");
        assert_eq!(receipt["attempts"], 3, "{receipt}");
    }
    let report = place.bace(&["report", "out", "--json"]).code(1).json();
    assert_eq!(report["valid"], false);
    assert_eq!(report["invalid_reasons"].as_array().map(Vec::len), Some(2));
    assert!(
        report["stopped"]
            .as_str()
            .is_some_and(|why| why.contains("begin training"))
    );
    let report = place.bace(&["report", "out"]).code(1).stdout;
    assert!(report.contains("emulation not valid"), "{report}");
    assert!(report.contains("untrue"), "{report}");
    place.assert_no_litter();
}

#[test]
fn a_run_without_receipts_says_so() {
    let place = Place::new(&scenario("one-job"));
    let results = place
        .start_run(&["--compute", "modelled", "--receipts", "off", "--json"])
        .end()
        .code(0)
        .json();
    assert_eq!(results["valid"], Value::Null);
    assert_eq!(
        results["unknown"]["valid"],
        "the links were not measured (--receipts off)"
    );
    assert_eq!(results["receipts"]["mode"], "off");
    assert_eq!(results["receipts"]["links"], serde_json::json!([]));
    assert_eq!(of_kind(&place.ledger(), "receipt").len(), 0);
    let report = place.bace(&["report", "out"]).code(0).stdout;
    assert!(
        report.contains("The links were not measured (--receipts off)"),
        "{report}"
    );
}

#[test]
fn a_network_that_shapes_nothing_is_measured_and_not_judged() {
    let place = Place::new(&scenario("one-job"));
    let arguments = [
        "--compute",
        "modelled",
        "--network",
        "none",
        "--receipts",
        "full",
        "--json",
    ];
    let results = place.start_run(&arguments).end().code(0).json();
    assert_eq!(results["unknown"]["valid"], "nothing shaped the links");
    let links = results["receipts"]["links"].as_array().expect("links");
    assert_eq!(links.len(), 4);
    for link in links {
        assert_eq!(link["verdict"], "not_judged", "{link}");
        assert_eq!(link["reason"], "nothing shapes links in this run");
        let rate = &link["figures"][0];
        assert_eq!(rate["quantity"], "rate_bps");
        assert!(
            rate["measured"].as_f64().is_some_and(|bps| bps > 0.0),
            "{link}"
        );
        assert_eq!(rate["holds"], Value::Null);
    }
}

#[test]
fn an_interrupt_ends_the_measuring_too() {
    // Measuring takes some seconds at this rate.
    let slow = with(
        &scenario("two-regions"),
        "bandwidth_mbps = 400",
        "bandwidth_mbps = 1",
    );
    let place = Place::new(&lenient(&slow));
    let mut run = place.start_run(&["--compute", "modelled", "--receipts", "full"]);
    let workers = run.workers(5);
    place.wait_for("the measuring", |record| record["kind"] == "loopback");
    run.signal(rustix::process::Signal::INT);
    let ended = run.end().code(1);
    assert!(ended.stderr.contains("interrupted by Ctrl-C"), "{ended:?}");
    assert!(
        !workers.iter().any(|&pid| crate::harness::is_left(pid)),
        "workers are left"
    );
    assert_eq!(place.ledger().last().expect("records")["kind"], "run_ended");
    place.assert_no_litter();
}

#[test]
fn a_run_over_datagrams_measures_its_links() {
    let place = Place::new(&lenient(&scenario("one-job")));
    let run = place.start_run(&[
        "--network",
        "packet",
        "--compute",
        "modelled",
        "--receipts",
        "full",
    ]);
    run.end().code(0);
    let ledger = place.ledger();
    let receipts = of_kind(&ledger, "receipt");
    assert_eq!(receipts.len(), 4, "two directions before and after");
    for receipt in receipts {
        assert_eq!(receipt["verdict"], "true", "{receipt}");
        let figures = receipt["figures"].as_array().expect("figures");
        let measured = |quantity: &str| {
            let figure = figures.iter().find(|one| one["quantity"] == quantity);
            figure.and_then(|figure| figure["measured"].as_f64())
        };
        assert!(measured("rate_bps") > Some(0.0), "{receipt}");
        // The scenario's delay is 2 ms, and a busy machine only adds to it.
        assert!(measured("delay_s") > Some(0.0019), "{receipt}");
    }
}
