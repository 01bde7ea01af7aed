//! A made-up run as a trace, event by event.

use std::path::Path;

use bace_api::{Header, Record};
use bace_ledger::{Moved, Predicted, RegionFacts, RunLog, Trace, TraceCut};
use serde_json::{Value, json};

fn header(clock: &str) -> Header {
    let header = json!({
        "format": 1, "scenario": "s", "scenario_hash": "00", "policy": "bace-pipe", "seed": 1,
        "version": "0.1.0", "machine": "m", "clock": clock, "compute": "modelled",
        "network": if clock == "wall" { "shaped" } else { "modelled" },
        "regions": ["north", "south"], "gpus": [1, 1],
        "links": [{"from": "north", "to": "south", "bandwidth_bps": 1e8},
                  {"from": "south", "to": "north", "bandwidth_bps": 1e8}],
        "jobs": ["a"],
    });
    serde_json::from_value(header).expect("a header")
}

fn actions(stage: u32, from_s: f64, to_s: f64, spans: &Value) -> [Value; 2] {
    let of = json!({"job": "a", "attempt": 0, "stage": stage, "iteration": 0});
    let with = |kind: &str, more: Value| {
        let mut record = of.clone();
        record["kind"] = kind.into();
        for (key, value) in more.as_object().expect("an object") {
            record[key] = value.clone();
        }
        record
    };
    let times =
        json!({"forward_s": 0, "backward_s": 0, "step_s": 0, "stall_s": 0, "send_wait_s": 0});
    [
        with(
            "iteration",
            json!({"from_s": from_s, "to_s": to_s, "times": times}),
        ),
        with("actions", json!({"spans": spans})),
    ]
}

fn message(ready_s: f64, left_s: f64, due_s: f64) -> Value {
    json!({"ready_s": ready_s, "left_s": left_s, "queued_s": 0.0, "due_s": due_s})
}

/// Two stages, one micro-batch: forward 1 s, link 0.5 s, 0.25 s of delay, there and back.
fn run(clock: &str) -> RunLog {
    let span = |action: &str, from_s: f64, to_s: f64| json!({"action": action, "from_s": from_s, "to_s": to_s});
    let receive = |action: &str, from_s: f64, to_s: f64, message: Value| {
        let mut span = span(action, from_s, to_s);
        span["message"] = message;
        span
    };
    let first = json!([
        span("F0", 0.0, 1.0),
        span("SA0", 1.0, 1.0),
        receive("RG0", 1.0, 5.5, message(4.75, 5.25, 5.5)),
        span("B0", 5.5, 7.5),
        span("S", 7.5, 7.75),
    ]);
    let second = json!([
        receive("RA0", 0.0, 1.75, message(1.0, 1.5, 1.75)),
        span("F0", 1.75, 2.75),
        span("B0", 2.75, 4.75),
        span("SG0", 4.75, 4.75),
        span("S", 4.75, 5.0),
    ]);
    let usage = |stage: u32, to_s: f64| {
        json!({"kind": "input", "input": "usage", "at_s": to_s, "job": "a", "stage": stage,
               "from_s": 0.0, "to_s": to_s, "busy_s": 3.0})
    };
    let energy = |stage: u32, region: &str| {
        json!({"kind": "energy", "job": "a", "attempt": 0, "stage": stage, "region": region,
               "held_s": 7.75, "busy_s": 3.0, "energy_j": 1.0, "cost_usd": 1.0})
    };
    let path = json!([{"region": "north", "gpus": 1}, {"region": "south", "gpus": 1}]);
    let mut lines = vec![
        json!({"kind": "input", "input": "submitted", "at_s": 0.0, "job": "a"}),
        json!({"kind": "placed", "at_s": 0.0, "job": "a", "attempt": 0, "k": 2, "k_star": 2, "path": path,
               "layers": [2, 1], "iteration_s": 7.0, "reason": {"because": "it fits"}}),
    ];
    if clock == "wall" {
        lines.push(
            json!({"kind": "training", "at_s": 0.0, "job": "a", "attempt": 0,
                          "workers": ["w0", "w1"], "parameters": 1}),
        );
    }
    lines.extend(actions(1, 0.0, 5.0, &second));
    lines.push(json!({"kind": "input", "input": "link_changed", "at_s": 6.0, "from": "north", "to": "south",
                      "bandwidth_bps": 5e7, "one_way_delay_s": 0.125}));
    lines.extend(actions(0, 0.0, 7.75, &first));
    lines.extend([
        usage(0, 7.5),
        usage(1, 5.0),
        json!({"kind": "input", "input": "finished", "at_s": 7.75, "job": "a"}),
        energy(0, "north"),
        energy(1, "south"),
        json!({"kind": "job_finished", "at_s": 7.75, "job": "a"}),
        json!({"kind": "run_ended", "at_s": 7.75, "waiting": []}),
    ]);
    let records = lines.into_iter().map(serde_json::from_value);
    let records = records.map(|record| record.expect("a record"));
    RunLog::from_records(header(clock), records.collect::<Vec<Record>>())
}

fn facts() -> [RegionFacts; 2] {
    ["north", "south"].map(|name| RegionFacts {
        name: name.to_owned(),
        price: vec![(0.0, 0.25), (4.0, 0.5)],
        idle_w: 20.0,
        busy_w: 300.0,
    })
}

fn value(trace: &Trace<'_>) -> Value {
    let mut json = Vec::new();
    trace.write(&mut json).expect("memory takes it");
    serde_json::from_slice(&json).expect("it is JSON")
}

/// An event a line.
fn text(trace: &Trace<'_>) -> String {
    let whole = value(trace);
    let mut text = format!("{}\n", whole["otherData"]);
    for event in whole["traceEvents"].as_array().expect("events") {
        text.push_str(&format!("{event}\n"));
    }
    text
}

#[test]
fn a_run_and_its_prediction_event_by_event() {
    let (measured, predicted) = (run("wall"), run("virtual"));
    let facts = facts();
    let text = text(&Trace {
        log: &measured,
        predicted: Some(Predicted(&predicted)),
        facts: &facts,
        cut: TraceCut::default(),
    });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/trace.jsonl");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
        std::fs::write(&path, &text).expect("the golden file is writable");
    }
    let expected = std::fs::read_to_string(&path).expect("the golden file is there");
    assert!(
        text == expected,
        "it differs; UPDATE_GOLDEN=1 renews it:\n{text}"
    );
}

#[test]
fn a_window_begins_with_what_held_before_it() {
    let log = run("virtual");
    let facts = facts();
    let whole = value(&Trace {
        log: &log,
        predicted: None,
        facts: &facts,
        cut: TraceCut {
            from_s: Some(4.5),
            to_s: Some(5.0),
            job: None,
        },
    });
    let events = whole["traceEvents"].as_array().expect("events");
    let counted = |name: &str| {
        let of = events.iter().filter(|event| event["name"] == name);
        let of = of.map(|event| (event["ts"].as_f64(), event["args"].clone()));
        of.collect::<Vec<_>>()
    };
    let price = (Some(4.5e6), json!({"$/kWh": 0.5}));
    assert_eq!(counted("price"), [price.clone(), price]);
    let watts = |watts: f64| json!({"W": watts});
    assert_eq!(
        counted("power"),
        [
            (Some(4.5e6), watts(20.0 + 280.0 * 3.0 / 7.5)),
            (Some(4.5e6), watts(20.0 + 280.0 * 3.0 / 5.0)),
            (Some(5e6), watts(20.0)),
        ]
    );
    let iteration = events.iter().find(|event| event["cat"] == "iteration");
    let iteration = iteration.expect("it reaches into the window");
    assert_eq!(
        (&iteration["ts"], &iteration["dur"]),
        (&json!(4.5e6), &json!(0.5e6))
    );
    // Its length is what it was.
    assert_eq!(iteration["args"]["seconds"], 7.75);
}

/// A job of one stage in the north on w0: an iteration from `begin_s` to `end_s`, of a forward and a step without length.
fn on_one_gpu(
    job: &str,
    (placed_s, begin_s): (f64, f64),
    (end_s, released_s): (f64, f64),
) -> Vec<Value> {
    let [mut iteration, mut actions] = actions(
        0,
        begin_s,
        end_s,
        &json!([{"action": "F0", "from_s": begin_s, "to_s": end_s}, {"action": "S", "from_s": end_s, "to_s": end_s}]),
    );
    iteration["job"] = job.into();
    actions["job"] = job.into();
    vec![
        json!({"kind": "placed", "at_s": placed_s, "job": job, "attempt": 0, "k": 1, "k_star": 1,
               "path": [{"region": "north", "gpus": 1}], "layers": [2], "iteration_s": 1.0, "reason": {}}),
        json!({"kind": "training", "at_s": begin_s, "job": job, "attempt": 0, "workers": ["w0"], "parameters": 1}),
        iteration,
        actions,
        json!({"kind": "input", "input": "finished", "at_s": released_s, "job": job}),
        json!({"kind": "energy", "job": job, "attempt": 0, "stage": 0, "region": "north",
               "held_s": 1.0, "busy_s": 1.0, "energy_j": 1.0, "cost_usd": 1.0}),
    ]
}

#[test]
fn a_job_that_a_clock_lets_begin_too_early_is_moved_and_told_of() {
    let mut header = header("wall");
    header.jobs = vec!["a".to_owned(), "b".to_owned()];
    // By its host's clock a's last action ends 0.5 s behind its release, when b is placed.
    let mut lines = on_one_gpu("a", (0.0, 0.25), (2.5, 2.0));
    lines.extend(on_one_gpu("b", (2.0, 3.0), (4.0, 4.0)));
    let records = lines.into_iter().map(serde_json::from_value);
    let records = records.map(|record| record.expect("a record"));
    let log = RunLog::from_records(header, records.collect::<Vec<Record>>());
    let trace = Trace {
        log: &log,
        predicted: None,
        facts: &[],
        cut: TraceCut::default(),
    };
    let moved = trace.write(std::io::sink()).expect("it takes all");
    // The job and its set-up.
    assert_eq!(
        moved,
        Moved {
            slices: 2,
            most_s: 0.5
        }
    );
    let value = value(&trace);
    let events = value["traceEvents"].as_array().expect("events").iter();
    let slices = events.filter(|event| event["ph"] == "X").map(|event| {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let (ts, dur) = (event["ts"].as_f64(), event["dur"].as_f64());
        let moved_s = event["args"]["moved_s"].as_f64();
        (text(&event["cat"]), ts.zip(dur), moved_s)
    });
    let of = |kind: &str, from_us: f64, length_us: f64, moved_s: Option<f64>| {
        (kind.to_owned(), Some((from_us, length_us)), moved_s)
    };
    // The steps took no time, so that no viewer could show them where they belong.
    assert_eq!(
        slices.collect::<Vec<_>>(),
        [
            of("job", 0.0, 2.5e6, None),
            of("set-up", 0.0, 0.25e6, None),
            of("iteration", 0.25e6, 2.25e6, None),
            of("forward", 0.25e6, 2.25e6, None),
            of("job", 2.5e6, 1.5e6, Some(0.5)),
            of("set-up", 2.5e6, 0.5e6, Some(0.5)),
            of("iteration", 3e6, 1e6, None),
            of("forward", 3e6, 1e6, None),
        ]
    );
}
