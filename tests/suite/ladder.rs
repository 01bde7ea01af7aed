//! `bace ladder`: rungs that are climbed, rungs that cannot be, and what lies between them.

use std::fs;

use serde_json::Value;

use crate::harness::{Place, scenario};

const RUNGS: [&str; 3] = ["analytic", "event", "modelled"];

#[test]
fn the_first_rungs_stand_beside_each_other() {
    let place = Place::new(&scenario("one-job"));
    let ended = place.bace(&[
        "ladder",
        "s.toml",
        "--rungs",
        "modelled,analytic,event",
        "--repeats",
        "2",
        "--receipts",
        "off",
        "--out",
        "out",
        "--svg",
        "bars.svg",
        "--json",
    ]);
    let ladder = ended.code(0).json();
    let names = |list: &str, key: &str| -> Vec<Value> {
        let list = ladder[list].as_array().expect("a list").iter();
        list.map(|of| of[key].clone()).collect()
    };
    assert_eq!(names("rungs", "rung"), RUNGS);
    assert_eq!(names("rungs", "runs"), [1, 1, 2]);
    assert_eq!(names("steps", "from"), RUNGS[..2]);
    assert_eq!(names("steps", "rung"), RUNGS[1..]);
    assert_eq!(names("steps", "same_placements"), [true, true]);
    for rung in ladder["rungs"].as_array().expect("rungs") {
        for key in ["mean_iteration_s", "mean_jct_s", "makespan_s", "cost_usd"] {
            assert!(rung[key]["mean"].as_f64() > Some(0.0), "{key}: {rung}");
        }
    }
    // Simulations leave nothing to chance; two runs tell it.
    let change = |step: usize| &ladder["steps"][step]["changes"]["mean_iteration_s"];
    assert_eq!(change(0)["noise"], 0.0);
    assert!(change(1)["noise"].as_f64() > Some(0.0), "{ladder}");
    let jct = |rung: usize| ladder["rungs"][rung]["mean_jct_s"]["mean"].as_f64();
    let share = ladder["steps"][0]["changes"]["mean_jct_s"]["share"].as_f64();
    let expected = jct(1).expect("a JCT") / jct(0).expect("a JCT") - 1.0;
    assert!((share.expect("a share") - expected).abs() < 1e-12);
    for run in ["analytic", "event", "modelled-1", "modelled-2"] {
        let ledger = place.path("out").join(run).join("ledger.jsonl");
        assert!(ledger.is_file(), "{run}");
    }
    let svg = fs::read_to_string(place.path("bars.svg")).expect("a picture");
    assert!(RUNGS.iter().all(|rung| svg.contains(rung)), "{svg}");
    place.assert_no_litter();
}

#[test]
fn what_was_asked_for_and_cannot_be_had_is_refused_before_anything_starts() {
    let place = Place::new(&scenario("scale-model"));
    let used = place.path("used");
    fs::create_dir(&used).expect("a folder");
    fs::write(used.join("file"), "text").expect("a file");
    for (options, told) in [
        (&["--rungs", "rope"][..], "there are analytic, event"),
        (
            &["--rungs", "event,native"],
            "climb to native, which --rungs names: job",
        ),
        (&["--profile", "none.json"], "read the profile none.json"),
        (&["--data", "none"], "read none"),
        (&["--rungs", "event", "--out", "used"], "holds something"),
        (
            &["--rungs", "event", "--svg", "none/bars.svg"],
            "write none/bars.svg",
        ),
    ] {
        let wrong = place.bace(&[&["ladder", "s.toml"], options].concat());
        let wrong = wrong.code(2);
        assert!(wrong.stderr.contains(told), "{options:?}: {}", wrong.stderr);
    }
    assert!(!place.path("runs").exists());
}
