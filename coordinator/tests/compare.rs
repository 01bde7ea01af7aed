//! `bace compare` and `bace scenario generate` as people call them.

mod common;

use std::fs;

use common::{bace, succeeds, text};
use tempfile::TempDir;

#[track_caller]
fn wrong(told: &str, args: &[&str]) {
    let called = bace(args);
    assert_eq!(called.status, 2, "{}", called.err);
    assert!(called.err.contains(told), "{}", called.err);
    assert_eq!(called.out, "");
}

#[test]
fn a_table_shows_every_policy_and_what_it_costs() {
    let table = succeeds(&["compare", "three-regions"]);
    for policy in ["bace-pipe", "cr-ldf", "no-cost-min"] {
        assert!(table.contains(&format!("| {policy} ")), "{table}");
    }
    assert!(table.contains("the same under every seed"), "{table}");
}

#[test]
fn a_single_run_is_the_simulation() {
    let compared = succeeds(&["compare", "three-regions", "--policies", "ldf", "--json"]);
    let compared: serde_json::Value = serde_json::from_str(&compared).unwrap();
    let simulated = succeeds(&["simulate", "three-regions", "--policy", "ldf", "--json"]);
    let simulated: serde_json::Value = serde_json::from_str(&simulated).unwrap();
    for key in ["mean_jct_s", "makespan_s", "cost_usd", "energy_j"] {
        let row = &compared["points"][0]["rows"][0];
        assert_eq!(row[key]["mean"], simulated[key], "{key}");
    }
}

#[test]
fn a_native_scenario_is_predicted_from_a_profile_and_never_from_gpu_types() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("native.toml");
    let shown = succeeds(&["scenario", "show", "three-regions"]);
    fs::write(&file, format!("{shown}\n[compute]\nrung = \"native\"\n")).unwrap();
    let nowhere = dir.path().join("none.toml");
    let with_profile = ["--profile", text(&nowhere)];
    for command in ["simulate", "plan", "compare"] {
        let called = [&[command, text(&file)], &with_profile[..]].concat();
        wrong("read the profile", &called);
        let modelled = ["--compute", "modelled"];
        succeeds(&[&[command, text(&file)], &modelled[..]].concat());
    }
    let real = ["compare", text(&file), "--real"];
    wrong("read the profile", &[&real, &with_profile[..]].concat());
    let asked = ["compare", "three-regions", "--real", "--compute", "native"];
    wrong("read the profile", &[&asked, &with_profile[..]].concat());
}

#[test]
fn seeds_and_sweeps_make_rows_and_bars() {
    let dir = TempDir::new().unwrap();
    let svg = dir.path().join("bars.svg");
    let args = [
        "compare",
        "paper",
        "--iteration-model",
        "analytic",
        "--policies",
        "bace-pipe,lcf",
        "--seeds",
        "3",
        "--sweep",
        "gpus=0.5,1",
        "--svg",
        text(&svg),
    ];
    let table = succeeds(&args);
    assert_eq!(table, succeeds(&args), "the same comparison twice");
    for part in ["3 seeds (1 to 3)", "gpus = 0.5\n", "gpus = 1\n", " ± "] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let picture = fs::read_to_string(&svg).unwrap();
    for part in ["<svg", "gpus = 0.5", "mean JCT (h)", "cost ($)"] {
        assert!(picture.contains(part), "{part}");
    }
}

#[test]
fn slips_of_the_pen_name_what_would_be_right() {
    let sweep = |text| ["compare", "three-regions", "--sweep", text];
    wrong("did you mean `bandwidth`?", &sweep("bandwith=1"));
    wrong("`x` is no number", &sweep("gpus=1,x"));
    wrong("0.5 stands there twice", &sweep("gpus=0.5,0.5"));
    wrong("1 stands there twice", &sweep("gpus=1,0.5,1.0"));
    let again = ["--sweep", "gpus=2"];
    wrong(
        "gpus is swept already",
        &[&sweep("gpus=0.5"), &again[..]].concat(),
    );
    wrong("it has to be KEY=VALUE", &sweep("gpus"));
    wrong("set jobs to 1.5", &sweep("jobs=1.5"));
    wrong("set min_share to 2", &sweep("min_share=2"));
    let policies = ["compare", "three-regions", "--policies", "bace-pipe,fifo"];
    wrong(
        "find the policy `fifo`: there are bace-pipe, lcf",
        &policies,
    );
    let most = u64::MAX.to_string();
    let seeds = ["compare", "paper", "--seed", &most, "--seeds", "3"];
    wrong("count 3 seeds from 18446744073709551615", &seeds);
    let nowhere = ["compare", "three-regions", "--svg", "/no/such/folder/a.svg"];
    wrong("write /no/such/folder/a.svg", &nowhere);
    let real = ["compare", "three-regions", "--real", "--sweep", "jobs=2"];
    wrong("run a sweep for real", &real);
}

#[test]
fn a_job_that_fits_nowhere_is_named_and_the_others_finish() {
    // A third of the memory: `large` would need six stages and has four layers.
    let dir = TempDir::new().unwrap();
    let svg = dir.path().join("bars.svg");
    let called = bace(&[
        "compare",
        "three-regions",
        "--policies",
        "lcf",
        "--sweep",
        "memory=0.33",
        "--svg",
        text(&svg),
    ]);
    assert_eq!(called.status, 1, "{}", called.err);
    for part in [
        "2/5",
        "wide refused: ",
        "optimizer state need",
        "over finished jobs",
    ] {
        assert!(called.out.contains(part), "{part}: {}", called.out);
    }
    let picture = fs::read_to_string(&svg).unwrap();
    assert!(picture.contains("2/5 jobs"), "{picture}");
}

#[test]
fn generated_scenarios_are_valid_and_come_from_their_seed() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("generated.toml");
    let args = [
        "scenario",
        "generate",
        "--jobs",
        "12",
        "--regions",
        "3",
        "--seed",
        "4",
    ];
    let generated = succeeds(&args);
    assert_eq!(generated, succeeds(&args));
    fs::write(&file, generated).unwrap();
    let checked = succeeds(&["scenario", "check", text(&file)]);
    assert!(checked.contains("3 regions"), "{checked}");
    assert!(checked.contains("12 jobs"), "{checked}");
}

#[test]
fn loads_and_seeds_that_no_scenario_can_have_are_refused() {
    let generate = |option| {
        let jobs = ["scenario", "generate", "--jobs", "2", "--regions", "2"];
        [&jobs[..], &[option]].concat()
    };
    for load in ["--load=0", "--load=nan", "--load=1e9"] {
        wrong("from 0.001 to 1000", &generate(load));
    }
    wrong(
        "9223372036854775807",
        &generate("--seed=9223372036854775808"),
    );
}
