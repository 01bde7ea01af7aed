//! Validations: predicted, run for real, judged, judged again, interrupted and gone on with.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Ended, Place, scenario, start, until};

/// Bounds that a prediction keeps which is too low, however slow the machine: the error is a share of what was measured.
const WIDE: &str = "iteration-mean=1,iteration-max=1,jct-mean=1,jct-max=1";

/// `bace validate s.toml` with modelled compute, wide tolerances and unmeasured links, into `v`.
const VALIDATE: [&str; 10] = [
    "validate",
    "s.toml",
    "--compute",
    "modelled",
    "--receipts",
    "off",
    "--out",
    "v",
    "--tolerance",
    WIDE,
];

fn validate(place: &Place, arguments: &[&str]) -> Ended {
    place.bace(&[&VALIDATE, arguments].concat())
}

fn again(place: &Place, arguments: &[&str]) -> Ended {
    place.bace(&[&["validate", "--again", "v"], arguments].concat())
}

/// Makes every time of a ledger `factor` times as large.
fn stretch(ledger: &Path, factor: f64) {
    let text = fs::read_to_string(ledger).expect("a ledger");
    let lines = text.lines().map(|line| {
        let mut record: Value = serde_json::from_str(line).expect("a record");
        stretch_times(&mut record, factor);
        format!("{record}\n")
    });
    let stretched: String = lines.collect();
    assert_ne!(stretched, text);
    fs::write(ledger, stretched).expect("the ledger is written");
}

fn stretch_times(value: &mut Value, factor: f64) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let is_time =
                    ["at_s", "from_s", "to_s", "begin_s", "end_s"].contains(&key.as_str());
                match value.as_f64().filter(|_| is_time) {
                    Some(seconds) => *value = (seconds * factor).into(),
                    None => stretch_times(value, factor),
                }
            }
        }
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| stretch_times(value, factor)),
        _ => {}
    }
}

#[test]
fn a_validation_holds_predictions_against_real_runs() {
    let place = Place::new(&scenario("one-job"));
    let arguments = ["--policies", "bace-pipe,lcf", "--repeats", "2"];
    let ended = validate(&place, &[&arguments[..], &["--json"]].concat()).code(0);
    for told in ["4 real runs of one-job", "run 4 of 4: "] {
        assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
    }
    let judged = ended.json();
    assert_eq!(judged["passed"], true);
    assert_eq!(judged["plan"]["compute"], "modelled");
    assert_eq!(judged["policies"].as_array().map(Vec::len), Some(2));
    let runs = judged["runs"].as_array().expect("runs");
    for run in runs {
        assert_eq!(run["receipts"], false);
        assert_eq!(
            (&run["valid"], &run["failed"]),
            (&Value::Null, &Value::Null)
        );
        let folder = place
            .path("v")
            .join(run["folder"].as_str().expect("a folder"));
        assert!(folder.join("summary.json").is_file(), "{run}");
    }
    // Every round holds both policies.
    let repeats: Vec<_> = runs.iter().map(|run| run["repeat"].as_u64()).collect();
    assert_eq!(repeats, [Some(1), Some(1), Some(2), Some(2)]);
    for policy in ["bace-pipe", "lcf"] {
        assert!(
            place
                .path("v")
                .join(policy)
                .join("predicted/ledger.jsonl")
                .is_file()
        );
    }
    let kept: Value =
        serde_json::from_slice(&fs::read(place.path("v/validation.json")).unwrap()).unwrap();
    assert_eq!(kept, judged);
    let same = again(&place, &["--tolerance", WIDE, "--json"])
        .code(0)
        .json();
    assert_eq!(same, judged);
    let text = again(&place, &["--tolerance", WIDE]).code(0).stdout;
    assert_eq!(
        fs::read_to_string(place.path("v/validation.txt")).unwrap(),
        text
    );

    // Nothing real meets its prediction to the last digit.
    again(&place, &["--tolerance", "iteration-mean=0"]).code(1);

    stretch(&place.path("v/lcf/predicted/ledger.jsonl"), 1000.0);
    let wrong = again(&place, &["--tolerance", WIDE, "--json"])
        .code(1)
        .json();
    assert_eq!(wrong["passed"], false);
    assert_eq!(wrong["faults"], serde_json::json!([]));
    let checks = wrong["checks"].as_array().expect("checks");
    let failed = checks.iter().filter(|check| check["passed"] == false);
    let failed: Vec<_> = failed
        .map(|check| (&check["policy"], &check["what"]))
        .collect();
    let lcf = Value::from("lcf");
    for what in ["iteration_mean", "iteration_max", "jct_mean", "jct_max"] {
        assert!(failed.contains(&(&lcf, &what.into())), "{what}: {failed:?}");
    }
    let ours = Value::from("bace-pipe");
    assert!(
        failed.iter().all(|(policy, _)| **policy != ours),
        "{failed:?}"
    );
    place.assert_no_litter();
}

#[test]
fn an_interrupted_validation_goes_on_where_it_stood() {
    let place = Place::new(&scenario("one-job"));
    let running = start(place.command(&[&VALIDATE[..], &["--repeats", "2"]].concat()));
    let first = place.path("v/bace-pipe/measured-1/ledger.jsonl");
    let second = place.path("v/bace-pipe/measured-2/ledger.jsonl");
    until("the second run", || second.is_file());
    running.signal(Signal::INT);
    let ended = running.end().code(1);
    for told in ["with 1 of 2 real runs done", "--out v goes on there"] {
        assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
    }
    let broken = again(&place, &["--tolerance", WIDE]).code(1);
    assert!(broken.stdout.contains("repeat 2"), "{}", broken.stdout);

    let differing = validate(&place, &["--repeats", "3"]).code(2);
    differing.complains(&["go on with the validation in v", "`repeats` was 2 and is 3"]);
    let finished = fs::read(&first).unwrap();
    let ended = validate(&place, &["--repeats", "2"]).code(0);
    for told in ["1 of 2 real runs are in v already", "1 real run of one-job"] {
        assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
    }
    assert_eq!(fs::read(&first).unwrap(), finished);
    // What was interrupted has not failed.
    assert!(!place.path("v/bace-pipe/measured-2-failed-1").exists());

    // Another program is another validation.
    let plan = place.path("v/plan.json");
    let mut changed: Value = serde_json::from_slice(&fs::read(&plan).unwrap()).unwrap();
    changed["bace_hash"] = "00".into();
    fs::write(&plan, changed.to_string()).unwrap();
    validate(&place, &["--repeats", "2"])
        .code(2)
        .complains(&["`bace_hash` was \"00\"", "another --out"]);
    place.assert_no_litter();
}

#[test]
fn a_failed_run_is_kept_beside_the_one_made_again() {
    let place = Place::new(&scenario("one-job"));
    validate(&place, &["--repeats", "1"]).code(0);
    let ledger = place.path("v/bace-pipe/measured-1/ledger.jsonl");
    fs::write(&ledger, "no ledger\n").unwrap();
    let unreadable = again(&place, &["--tolerance", WIDE, "--json"])
        .code(1)
        .json();
    assert!(unreadable["runs"][0]["failed"].is_string(), "{unreadable}");
    let mended = validate(&place, &["--repeats", "1", "--json"]).code(0);
    for told in [
        "left no readable ledger",
        "put aside in v/bace-pipe/measured-1-failed-1",
    ] {
        assert!(mended.stderr.contains(told), "{told}: {}", mended.stderr);
    }
    let kept = place.path("v/bace-pipe/measured-1-failed-1/ledger.jsonl");
    assert_eq!(fs::read_to_string(kept).unwrap(), "no ledger\n");

    fs::remove_file(&ledger).unwrap();
    fs::write(
        place.path("v/bace-pipe/measured-1/failed.txt"),
        "failed to think\n",
    )
    .unwrap();

    let retried = validate(&place, &["--repeats", "1", "--json"])
        .code(0)
        .json();
    let retry = &retried["runs"][0]["retries"][1];
    assert_eq!(retry["failed"], "failed to think");
    assert_eq!(retry["folder"], "bace-pipe/measured-1-failed-2");

    let predicted = place.path("v/bace-pipe/predicted/ledger.jsonl");
    let simulated = fs::read(&predicted).unwrap();
    fs::write(&predicted, "no ledger\n").unwrap();
    again(&place, &[])
        .code(2)
        .complains(&["read the prediction", "makes it again"]);
    let mended = validate(&place, &["--repeats", "1"]).code(0);
    assert!(
        mended.stderr.contains("it is simulated again"),
        "{}",
        mended.stderr
    );
    assert_eq!(fs::read(&predicted).unwrap(), simulated);
    let told = again(&place, &["--tolerance", WIDE]).code(0).stdout;
    assert!(
        told.contains("was made again: before, it failed to think"),
        "{told}"
    );
    place.assert_no_litter();
}

#[test]
fn a_folder_takes_one_validation_at_a_time() {
    let place = Place::new(&scenario("one-job"));
    let running = start(place.command(&[&VALIDATE[..], &["--repeats", "1"]].concat()));
    let first = place.path("v/bace-pipe/measured-1/ledger.jsonl");
    until("the first run", || first.is_file());
    validate(&place, &["--repeats", "1"])
        .code(2)
        .complains(&["another validation is at work there"]);
    running.end().code(0);
    place.assert_no_litter();
}

#[test]
fn what_cannot_be_validated_is_refused_before_anything_starts() {
    let place = Place::new(&scenario("one-job"));
    validate(&place, &["--policies", "fifo"])
        .code(2)
        .complains(&["`fifo`", "bace-pipe"]);
    let scaled = ["--compute", "native", "--time-scale", "2"];
    let native = [&["validate", "s.toml", "--out", "v"], &scaled[..]].concat();
    place
        .bace(&native)
        .code(2)
        .complains(&["native", "time_scale 2"]);
    assert!(!place.path("v").exists());
    again(&place, &[])
        .code(2)
        .complains(&["judge v", "plan.json"]);
    fs::create_dir(place.path("v")).unwrap();
    fs::write(place.path("v/letter"), "").unwrap();
    validate(&place, &[])
        .code(2)
        .complains(&["write a validation into v", "something else"]);
    place.bace(&["validate"]).code(2);
    validate(&place, &["--repeats", "0"]).code(2);
}
