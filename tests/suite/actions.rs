//! What the ledger of a real run says of every action: the stage's program, one action behind the other, with times that add up.

use serde_json::Value;

use crate::harness::{Place, of_kind, scenario};

#[test]
fn every_iteration_tells_what_its_stage_did() {
    let place = Place::new(&scenario("two-regions"));
    place.start_run(&["--compute", "modelled"]).end().code(0);
    let ledger = place.ledger();
    let told = check_actions(&ledger, 8);
    assert_eq!(told, 12 * 4 + 15 + 10 * 2);
    // One job alone crosses the link, and a fabric is a boundary's own.
    let queued = messages(&ledger).map(|message| number(message, "queued_s"));
    assert!(queued.into_iter().all(|queued_s| queued_s == 0.0));
}

#[test]
fn a_tensor_that_waits_for_another_jobs_says_so() {
    let place = Place::new(&scenario("shared-link"));
    place.start_run(&["--compute", "modelled"]).end().code(0);
    let ledger = place.ledger();
    check_actions(&ledger, 8);
    // The fabric inside a region is nobody else's.
    let of_boundary = |job: &str, stage: u64, action: &str| -> f64 {
        let of_stage = of_kind(&ledger, "actions")
            .into_iter()
            .filter(|record| record["job"] == job && record["stage"] == stage);
        let spans = of_stage.flat_map(spans_of);
        let received = spans.filter(|span| is_of(span, action));
        received
            .map(|span| number(&span["message"], "queued_s"))
            .sum()
    };
    // tip, near, far, far beside near, far.
    // Which of them waits for the other depends on who began first.
    assert!(of_boundary("long", 2, "RA") + of_boundary("short", 1, "RA") > 0.0);
    assert_eq!(of_boundary("long", 1, "RA"), 0.0);
    assert_eq!(of_boundary("long", 3, "RA"), 0.0);
}

#[test]
fn a_native_run_tells_what_libtorch_took_and_leaves_gaps() {
    let place = Place::new(&scenario("one-job"));
    place.start_run(&["--compute", "native"]).end().code(0);
    let ledger = place.ledger();
    let mut gaps_s = 0.0;
    for record in of_kind(&ledger, "actions") {
        let spans = spans_of(record).collect::<Vec<_>>();
        for pair in spans.windows(2) {
            let gap_s = number(pair[1], "from_s") - number(pair[0], "to_s");
            assert!(gap_s >= 0.0, "{pair:?}");
            gaps_s += gap_s;
        }
        let computed = spans
            .iter()
            .filter(|span| is_of(span, "F") || is_of(span, "B"));
        assert!(computed.clone().count() > 0, "{record}");
        for span in computed {
            assert!(seconds(span) > 0.0, "{span}");
            assert_eq!(span["excess_s"], Value::Null, "{span}");
        }
    }
    assert!(gaps_s > 0.0);
}

#[test]
fn a_run_that_is_told_to_leaves_them_out() {
    let place = Place::new(&scenario("two-regions"));
    let arguments = ["--compute", "modelled", "--actions", "off"];
    place.start_run(&arguments).end().code(0);
    let ledger = place.ledger();
    assert_eq!(of_kind(&ledger, "iteration").len(), 12 * 4 + 15 + 10 * 2);
    assert_eq!(of_kind(&ledger, "actions").len(), 0);
}

/// Every iteration has its actions behind it, and they are right; how many iterations there are.
fn check_actions(ledger: &[Value], micro_batches: usize) -> usize {
    let mut told = 0;
    for (place, iteration) in ledger.iter().enumerate() {
        if iteration["kind"] != "iteration" {
            continue;
        }
        let record = &ledger[place + 1];
        assert_eq!(record["kind"], "actions", "{iteration}");
        for key in ["job", "attempt", "stage", "iteration"] {
            assert_eq!(record[key], iteration[key]);
        }
        let spans: Vec<&Value> = spans_of(record).collect();
        let actions = spans.iter().map(|span| text(&span["action"]));
        let program = program(ledger, iteration, micro_batches);
        assert!(actions.eq(program.iter().map(String::as_str)), "{record}");
        check_times(iteration, &spans);
        for span in spans {
            check_message(span);
        }
        told += 1;
    }
    told
}

/// One behind the other, from the iteration's begin to its end, with its sums.
fn check_times(iteration: &Value, spans: &[&Value]) {
    let mut end = &iteration["from_s"];
    for span in spans {
        assert_eq!(&span["from_s"], end, "{span}");
        end = &span["to_s"];
    }
    assert_eq!(end, &iteration["to_s"]);
    for (key, words) in [
        ("forward_s", ["F", ""]),
        ("backward_s", ["B", ""]),
        ("step_s", ["S", ""]),
        ("stall_s", ["RA", "RG"]),
        ("send_wait_s", ["SA", "SG"]),
    ] {
        let of_kind = spans
            .iter()
            .filter(|span| words.iter().any(|word| is_of(span, word)));
        let sum: f64 = of_kind.map(|span| seconds(span)).sum();
        let told = number(&iteration["times"], key);
        assert!((sum - told).abs() < 1e-8, "{key}: {sum} and {told}");
    }
    let excess = spans.iter().filter_map(|span| span["excess_s"].as_f64());
    let told = number(iteration, "overrun_s");
    assert!((excess.sum::<f64>() - told).abs() < 1e-8, "{iteration}");
}

/// A receive ends when its tensor could be used, which has come the way of all messages; nothing else has one.
fn check_message(span: &Value) {
    let message = &span["message"];
    if !is_of(span, "RA") && !is_of(span, "RG") {
        assert_eq!(message, &Value::Null, "{span}");
        return;
    }
    let [ready, left, due] = ["ready_s", "left_s", "due_s"].map(|key| number(message, key));
    assert!(ready <= left && left <= due, "{span}");
    let queued = number(message, "queued_s");
    assert!(queued >= 0.0 && queued <= left - ready + 1e-9, "{span}");
    let late = message["late_until_s"].as_f64();
    assert!(late.is_none_or(|until| until > due), "{span}");
    let usable = late.unwrap_or(due);
    assert_eq!(number(span, "to_s"), number(span, "from_s").max(usable));
}

/// What a stage does in an iteration, from the depths in the ledger: so many forwards, then a backward and a forward in turn.
fn program(ledger: &[Value], iteration: &Value, micro_batches: usize) -> Vec<String> {
    let mut pipelines = of_kind(ledger, "pipeline").into_iter();
    let pipeline = pipelines.find(|record| record["job"] == iteration["job"]);
    let depths = pipeline.expect("a pipeline")["depths"]
        .as_array()
        .expect("a list");
    let stage = iteration["stage"].as_u64().expect("a number") as usize;
    let depth = depths[stage].as_u64().expect("a number") as usize;
    let (first, last) = (stage == 0, stage + 1 == depths.len());
    let mut actions = Vec::new();
    let forward = |m: usize, actions: &mut Vec<String>| {
        actions.extend((!first).then(|| format!("RA{m}")));
        actions.push(format!("F{m}"));
        actions.extend((!last).then(|| format!("SA{m}")));
    };
    for m in 0..depth.min(micro_batches) {
        forward(m, &mut actions);
    }
    for m in 0..micro_batches {
        actions.extend((!last).then(|| format!("RG{m}")));
        actions.push(format!("B{m}"));
        actions.extend((!first).then(|| format!("SG{m}")));
        if m + depth < micro_batches {
            forward(m + depth, &mut actions);
        }
    }
    actions.push("S".to_owned());
    actions
}

fn messages(ledger: &[Value]) -> impl Iterator<Item = &Value> {
    let spans = of_kind(ledger, "actions").into_iter().flat_map(spans_of);
    spans
        .map(|span| &span["message"])
        .filter(|message| !message.is_null())
}

fn spans_of(record: &Value) -> impl Iterator<Item = &Value> {
    record["spans"].as_array().expect("spans are a list").iter()
}

/// Whether a span's action is of this kind, whatever its micro-batch.
fn is_of(span: &Value, kind: &str) -> bool {
    text(&span["action"]).trim_end_matches(|c: char| c.is_ascii_digit()) == kind
}

fn seconds(span: &Value) -> f64 {
    number(span, "to_s") - number(span, "from_s")
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}

fn number(value: &Value, key: &str) -> f64 {
    value[key]
        .as_f64()
        .unwrap_or_else(|| panic!("`{key}` is no number in {value}"))
}
