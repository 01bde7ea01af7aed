//! Profiles: measured, predicted from, and missed.

use std::fs;

use serde_json::Value;

use crate::harness::{Place, scenario, with};

/// Where a profile tells of set-ups.
const SET_UP: &str = "[entry.set_up]";

/// Seconds under `key` in what a profile says of set-ups.
fn set_up_s(profile: &str, key: &str) -> f64 {
    let (_, table) = profile.split_once(SET_UP).expect(SET_UP);
    let name = format!("{key}_us = ");
    let value = table.lines().find_map(|line| line.strip_prefix(&name));
    let value = value.expect(key);
    value.parse::<f64>().expect(value) / 1e6
}

/// `profile` as versions wrote it that measured no set-up.
fn without_set_up(profile: &str) -> String {
    let (before, behind) = profile.split_once(SET_UP).expect(SET_UP);
    let (_, behind) = behind.split_once("\n[").expect("memory stands behind");
    format!("{before}[{behind}")
}

/// Measures what `s.toml` needs, however busy the machine is.
fn measure(place: &Place) {
    let arguments = [
        "--data",
        "text",
        "--repeats",
        "9",
        "--most-error",
        "1000",
        "--most-residual",
        "1000",
    ];
    let mut all = vec!["profile", "s.toml"];
    all.extend(arguments);
    let ended = place.bace(&all).code(0);
    for word in [
        "embedding",
        "head",
        "by the formula",
        "a whole model takes",
        "set-up, ms (p5-p95): a layer ",
    ] {
        assert!(ended.stdout.contains(word), "{word}: {}", ended.stdout);
    }
}

#[test]
fn a_profile_is_measured_once_and_predicts_simulations_and_runs() {
    let place = Place::new(&scenario("one-job"));
    place
        .bace(&["simulate", "s.toml", "--compute", "native"])
        .code(2)
        .complains(&[
            "there is no profile profiles/cpu-",
            "`bace profile s.toml --device cpu`",
        ]);
    measure(&place);
    let mut files = fs::read_dir(place.path("profiles")).unwrap();
    let profile = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());

    let plain = place.bace(&["simulate", "s.toml", "--json"]).code(0).json();
    assert!(plain.get("profile").is_none());
    let simulate = ["simulate", "s.toml", "--compute", "native", "--json"];
    let predicted = place.bace(&simulate).code(0).json();
    let used = &predicted["profile"]["used"];
    assert_ne!(predicted["jobs"][0]["jct_s"], plain["jobs"][0]["jct_s"]);

    let mut run = vec![
        "run",
        "s.toml",
        "--data",
        "text",
        "--receipts",
        "off",
        "--out",
        "out",
    ];
    run.extend(["--compute", "native", "--json"]);
    let ran = place.bace(&run).code(0).json();
    assert_eq!(ran["profile"]["used"], *used);
    place.bace(&["replay", "out"]).code(0);

    // The job trains once the slower of its ends is set up, each in a process that has held no stage.
    let measured = fs::read_to_string(&profile).unwrap();
    let part = |key: &str| set_up_s(&measured, key);
    let layers: Vec<f64> = serde_json::from_value(predicted["jobs"][0]["layers"].clone()).unwrap();
    assert_eq!(layers.len(), 2, "{layers:?}");
    let ends = layers.iter().zip(["embedding", "head"]);
    let ends = ends.map(|(layers, end)| layers * part("layer") + part(end));
    let expected_s = ends.fold(0.0, f64::max) + part("stage") + part("fresh");
    let begins_s = |told: &Value| told["jobs"][0]["set_up_s"].as_f64().unwrap();
    let begun_s = begins_s(&predicted);
    assert!(
        (begun_s - expected_s).abs() < 1e-8,
        "{begun_s} {expected_s}"
    );

    // A profile of before is read, and what it does not know is said.
    fs::write(&profile, without_set_up(&measured)).unwrap();
    let older = place.bace(&simulate).code(0).json();
    assert!(older["jobs"][0]["set_up_s"].is_null());
    let lack = older["profile"]["used"]["lacks_set_up"].as_str().unwrap();
    for words in ["no set-up of `four`", "`bace profile s.toml --device cpu`"] {
        assert!(lack.contains(words), "{lack}");
    }
    run[7] = "older";
    place.bace(&run).code(0);
    place.bace(&["replay", "older"]).code(0);

    // A job whose micro-batches were never measured.
    let text = fs::read_to_string(place.path("s.toml")).unwrap();
    fs::write(
        place.path("s.toml"),
        with(&text, "sequence = 16", "sequence = 24"),
    )
    .unwrap();
    let lacks = [
        "predict from the profile profiles/cpu-",
        "model `four`",
        "2 x 24 tokens",
        "needed by `only`",
        "`bace profile s.toml --device cpu`",
    ];
    place.bace(&simulate).code(2).complains(&lacks);
    run[7] = "other";
    place.bace(&run).code(2).complains(&lacks);
    assert!(!place.path("other").exists());
    measure(&place);
    place.bace(&simulate).code(0);
}

#[test]
fn a_native_run_without_a_profile_says_so() {
    let place = Place::new(&scenario("one-job"));
    let mut run = vec![
        "run",
        "s.toml",
        "--data",
        "text",
        "--receipts",
        "off",
        "--out",
        "out",
    ];
    run.extend(["--compute", "native"]);
    let ended = place.bace(&run).code(0);
    let told = ended
        .stdout
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(told.contains("not from this machine's device"), "{told}");
    assert!(
        told.contains("measure one with `bace profile s.toml --device cpu`"),
        "{told}"
    );
    let wrong = ["simulate", "s.toml", "--profile", "p.toml"];
    place.bace(&wrong).code(2).complains(&["--compute native"]);
}
