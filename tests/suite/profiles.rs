//! Profiles: measured, predicted from, and missed.

use std::fs;

use crate::harness::{Place, scenario, with};

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
    for word in ["embedding", "head", "by the formula", "a whole model takes"] {
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
    let files: Vec<_> = fs::read_dir(place.path("profiles")).unwrap().collect();
    assert_eq!(files.len(), 1);

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
