//! `bace trace`: what viewers need of a trace holds for simulated and for real runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Place, scenario};

/// Times are told to the nanosecond.
const NANOS_PER_US: f64 = 1e3;
const US_PER_S: f64 = 1e6;

/// A thread of a process.
type Thread = (u64, u64);

fn traced(place: &Place, arguments: &[&str]) -> Vec<Value> {
    let all = [&["trace", "out"], arguments].concat();
    let ended = place.bace(&all).code(0);
    assert!(ended.stdout.contains("trace.json"), "{}", ended.stdout);
    events(&place.path("out/trace.json"))
}

fn events(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("a trace is written");
    let trace: Value = serde_json::from_str(&text).expect("a trace is JSON");
    let events = trace["traceEvents"].as_array().expect("a list of events");
    events.clone()
}

/// Events of a phase.
fn of<'a>(events: &'a [Value], phase: &'a str) -> impl Iterator<Item = &'a Value> + Clone {
    events.iter().filter(move |event| event["ph"] == phase)
}

fn thread(event: &Value) -> Thread {
    let number = |key: &str| event[key].as_u64().expect("a number");
    (number("pid"), number("tid"))
}

/// Whole nanoseconds, as viewers read them.
fn nanos(event: &Value, key: &str) -> i64 {
    (event[key].as_f64().expect("a time") * NANOS_PER_US) as i64
}

/// What processes, or threads, are called.
fn names(events: &[Value], what: &str) -> BTreeMap<u64, String> {
    let named = of(events, "M").filter(|event| event["name"] == what);
    let key = if what == "thread_name" { "tid" } else { "pid" };
    let named = named.map(|event| {
        let name = event["args"]["name"].as_str().expect("a name");
        (event[key].as_u64().expect("a number"), name.to_owned())
    });
    named.collect()
}

/// The laws that hold of every trace.
fn check(events: &[Value]) {
    let threads = names(events, "thread_name");
    let processes = names(events, "process_name");
    let mut slices: BTreeMap<Thread, Vec<(i64, i64)>> = BTreeMap::new();
    for slice in of(events, "X") {
        let (pid, tid) = thread(slice);
        assert!(threads.contains_key(&tid), "{slice}");
        assert!(processes.contains_key(&pid), "{slice}");
        let (from, length) = (nanos(slice, "ts"), nanos(slice, "dur"));
        // What has no length, viewers put into whatever begins there.
        assert!(from >= 0 && length > 0, "{slice}");
        slices
            .entry((pid, tid))
            .or_default()
            .push((from, from + length));
    }
    for (thread, slices) in &slices {
        check_nesting(thread, slices);
    }
    check_arrows(events, &slices);
    check_overlapping(events);
    for counter in of(events, "C") {
        let values = counter["args"].as_object().expect("values").values();
        for value in values {
            assert!(
                value.as_f64().is_some_and(|value| value >= 0.0),
                "{counter}"
            );
        }
        if counter["name"]
            .as_str()
            .is_some_and(|name| name.ends_with("in use"))
        {
            let mut values = counter["args"].as_object().expect("values").values();
            assert!(
                values.all(|value| value.as_f64() <= Some(100.0)),
                "{counter}"
            );
        }
    }
}

/// Slices of a thread lie within each other or apart.
fn check_nesting(thread: &Thread, slices: &[(i64, i64)]) {
    let mut slices = slices.to_vec();
    slices.sort_by_key(|&(from, to)| (from, -to));
    let mut open: Vec<i64> = Vec::new();
    for (from, to) in slices {
        while open.last().is_some_and(|&end| end <= from) {
            open.pop();
        }
        let fits = open.last().is_none_or(|&end| to <= end);
        assert!(fits, "{thread:?}: {from} to {to} leaves {open:?}");
        open.push(to);
    }
}

/// Every arrow has a begin and an end, in this order, and lies in slices.
fn check_arrows(events: &[Value], slices: &BTreeMap<Thread, Vec<(i64, i64)>>) {
    let mut arrows: BTreeMap<&str, Vec<(&str, i64)>> = BTreeMap::new();
    for phase in ["s", "t", "f"] {
        for stop in of(events, phase) {
            let at = nanos(stop, "ts");
            let within = |&(from, to): &(i64, i64)| from <= at && at < to;
            let slices = slices.get(&thread(stop)).map_or(&[][..], Vec::as_slice);
            assert!(slices.iter().any(within), "{stop}");
            let id = stop["id"].as_str().expect("an id");
            arrows.entry(id).or_default().push((phase, at));
        }
    }
    for (id, stops) in arrows {
        let phases: Vec<&str> = stops.iter().map(|stop| stop.0).collect();
        assert!(
            phases == ["s", "f"] || phases == ["s", "t", "f"],
            "{id}: {stops:?}"
        );
        assert!(stops.is_sorted_by_key(|stop| stop.1), "{id}: {stops:?}");
    }
}

/// What may overlap has a begin, and an end not before it.
fn check_overlapping(events: &[Value]) {
    let at = |phase| {
        let of = of(events, phase);
        let of = of.map(|event| {
            let id = event["id2"]["local"]
                .as_str()
                .expect("an id of its process");
            (id, nanos(event, "ts"))
        });
        of.collect::<BTreeMap<_, _>>()
    };
    let (begins, ends) = (at("b"), at("e"));
    assert!(begins.keys().eq(ends.keys()));
    assert!(begins.iter().all(|(id, begin)| begin <= &ends[id]));
}

/// Joules of each region, as its power adds up.
fn joules(events: &[Value], process: &str, end_s: f64) -> f64 {
    let processes = names(events, "process_name");
    let power = of(events, "C").filter(|event| {
        let pid = event["pid"].as_u64().expect("a number");
        event["name"] == "power" && processes[&pid] == process
    });
    let mut steps: Vec<(f64, f64)> = power
        .map(|event| {
            let at_s = event["ts"].as_f64().expect("a time") / US_PER_S;
            (at_s, event["args"]["W"].as_f64().expect("watts"))
        })
        .collect();
    steps.push((end_s, 0.0));
    let spans = steps.windows(2).map(|two| (two[1].0 - two[0].0) * two[0].1);
    spans.sum()
}

#[test]
fn a_simulated_run_is_a_trace_of_its_regions_links_and_decisions() {
    let place = Place::new(&scenario("two-regions"));
    let simulated = place
        .bace(&["simulate", "s.toml", "--out", "out", "--json"])
        .code(0)
        .json();
    let events = traced(&place, &[]);
    check(&events);
    let processes: Vec<String> = names(&events, "process_name").into_values().collect();
    assert_eq!(
        processes,
        ["scheduler", "east", "west", "links"].map(|name| format!("predicted: {name}"))
    );
    let threads: BTreeSet<String> = names(&events, "thread_name").into_values().collect();
    for name in ["GPU 1", "GPU 2", "east → west", "west → east", "decisions"] {
        assert!(threads.contains(name), "{threads:?}");
    }
    // Three jobs: twelve iterations of eight micro-batches over four stages, fifteen and ten of as many over fewer.
    let count = |category: &str| of(&events, "X").filter(|of| of["cat"] == category).count();
    let jobs = simulated["jobs"].as_array().expect("jobs").iter();
    let stages = |name: &str| {
        let job = jobs.clone().find(|job| job["name"] == name);
        job.and_then(|job| job["k"].as_u64()).expect("K") as usize
    };
    let steps = 12 * stages("across") + 15 * stages("beside") + 10 * stages("later");
    assert_eq!(count("iteration"), steps);
    assert_eq!(
        (count("forward"), count("backward")),
        (8 * steps, 8 * steps)
    );
    let tensors = 2 * 8 * (12 * (stages("across") - 1) + 10 * (stages("later") - 1));
    assert_eq!(
        of(&events, "s").count(),
        tensors + 2 * 8 * 15 * (stages("beside") - 1)
    );
    let placed = of(&events, "i").filter(|event| event["name"] == "across placed");
    assert!(
        placed
            .clone()
            .all(|event| event["args"]["reason"].is_object())
    );
    assert_eq!(placed.count(), 1);
    let end_s = simulated["makespan_s"].as_f64().expect("it ended");
    for region in simulated["regions"].as_array().expect("regions") {
        let name = region["name"].as_str().expect("a name");
        let told = region["energy_j"].as_f64().expect("joules");
        let found = joules(&events, &format!("predicted: {name}"), end_s);
        assert!((found / told - 1.0).abs() < 1e-6, "{name}: {found} {told}");
    }
}

#[test]
fn a_real_run_stands_above_its_prediction() {
    let place = Place::new(&scenario("two-regions"));
    let ended = place.start_run(&["--compute", "modelled", "--json"]).end();
    let results = ended.code(0).json();
    let events = traced(&place, &[]);
    check(&events);
    let processes: Vec<String> = names(&events, "process_name").into_values().collect();
    let own = ["scheduler", "east", "west", "links"];
    let predicted = own.map(|name| format!("predicted: {name}"));
    assert_eq!(processes, [own.map(str::to_owned), predicted].concat());
    // The same actions on both sides, and as many arrows.
    let processes = names(&events, "process_name");
    let on = |side: bool, phase: &'static str, category: &'static str| {
        let of = of(&events, phase).filter(|event| {
            let pid = event["pid"].as_u64().expect("a number");
            event["cat"] == category && processes[&pid].starts_with("predicted") == side
        });
        of.count()
    };
    for (phase, category) in [
        ("X", "forward"),
        ("X", "backward"),
        ("X", "iteration"),
        ("s", "tensor"),
    ] {
        let both = [false, true].map(|side| on(side, phase, category));
        assert!(both[0] > 0 && both[0] == both[1], "{category}: {both:?}");
    }
    let threads: BTreeSet<String> = names(&events, "thread_name").into_values().collect();
    assert!(threads.contains("w0.run.local"), "{threads:?}");
    let end_s = results["makespan_s"].as_f64().expect("it ended");
    let drawn: f64 = ["east", "west"]
        .map(|name| joules(&events, name, end_s + 60.0))
        .iter()
        .sum();
    let told = results["energy_j"].as_f64().expect("joules");
    assert!((drawn / told - 1.0).abs() < 1e-6, "{drawn} {told}");

    let alone = traced(&place, &["--measured-only"]);
    check(&alone);
    assert_eq!(names(&alone, "process_name").len(), 4);
    fs::remove_file(place.path("out/scenario.toml")).expect("it was kept");
    let ended = place.bace(&["trace", "out", "--out", "again.json"]).code(0);
    assert!(
        ended
            .stderr
            .contains("the prediction left out: failed to find"),
        "{}",
        ended.stderr
    );
    let bare = events_without_counters(&place.path("again.json"));
    assert_eq!(
        bare,
        alone.iter().filter(|event| !is_of_scenario(event)).count()
    );
}

/// What the scenario alone knows.
fn is_of_scenario(event: &Value) -> bool {
    event["name"] == "price" || event["name"] == "power"
}

fn events_without_counters(path: &Path) -> usize {
    let events = events(path);
    assert!(!events.iter().any(is_of_scenario));
    events.len()
}

#[test]
fn a_trace_can_be_cut_to_a_time_and_a_job() {
    let place = Place::new(&scenario("two-regions"));
    place.bace(&["simulate", "s.toml", "--out", "out"]).code(0);
    let whole = traced(&place, &[]);
    let part = traced(&place, &["--from", "0.5", "--to", "0.7", "--job", "across"]);
    check(&part);
    assert!(part.len() < whole.len());
    let timed = part.iter().filter(|event| event["ph"] != "M");
    for event in timed {
        let at_s = event["ts"].as_f64().expect("a time") / US_PER_S;
        let end_s = at_s + event["dur"].as_f64().unwrap_or(0.0) / US_PER_S;
        assert!(
            (0.5..=0.7).contains(&at_s) && end_s <= 0.7 + 1e-9,
            "{event}"
        );
        let job = &event["args"]["job"];
        assert!(job.is_null() || job == "across", "{event}");
    }
    assert!(of(&part, "X").any(|event| event["cat"] == "forward"));
    let wrong = |arguments: &[&str], words: &[&str]| {
        let all = [&["trace", "out"], arguments].concat();
        place.bace(&all).code(2).complains(words);
    };
    wrong(
        &["--job", "nobody"],
        &["find the job nobody", "across, beside, later"],
    );
    wrong(&["--from", "2", "--to", "1"], &["cut from 2 s to 1 s"]);
    wrong(
        &["--from", "1000000"],
        &[
            "cut out from 1000000 s on: the run ends at",
            "--from has to lie before",
        ],
    );
}
