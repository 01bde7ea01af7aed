//! What people and programs read.

use crate::made_up::{Run, close, of_one, runs, two_after_each_other, validation};

#[test]
fn the_report_is_100_columns_wide_at_most() {
    let predicted = two_after_each_other();
    let mut measured = predicted.clone();
    measured.jobs[0] = measured.jobs[0].clone().times(1.013);
    measured.jobs[1].placed_s = 8.3;
    measured.jobs[1].path = vec![("y", 1)];
    let mut all = Vec::new();
    for policy in ["bace-pipe", "no-pathfinder", "no-cost-min"] {
        let under = |run: &Run| run.clone().under(policy);
        all.push(runs(
            &under(&predicted),
            &[under(&predicted), under(&measured), under(&measured)],
        ));
    }
    let found = validation(&all);
    let told = found.render();
    let widest = told.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 100, "{widest} columns:\n{told}");
    for heading in [
        "Errors by policy",
        "Ranking",
        "Jobs",
        "Messages by link",
        "Actions by kind",
        "Stages",
        "Worst iterations",
    ] {
        assert!(told.contains(heading), "no {heading}:\n{told}");
    }
    if std::env::var_os("SHOW").is_some() {
        eprintln!("{told}\n{:#}", found.to_json());
    }
}

#[test]
fn json_carries_units_in_its_keys() {
    let json = of_one(1.01, &[1.0, 1.002]).to_json();
    assert_eq!(json["passed"], true);
    assert_eq!(json["tolerances"]["jct_max_share"], 0.1);
    let policy = &json["policies"][0];
    let jct = &policy["jobs"][0]["jct"];
    assert!(close(jct["predicted_s"].as_f64().unwrap(), 8.08));
    assert_eq!(jct["repeats_s"].as_array().unwrap().len(), 2);
    assert!(close(
        jct["shares"]["errors"]["max_share"].as_f64().unwrap(),
        0.01
    ));
    assert!(jct["differences"]["noise"]["mean_s"].is_f64());
    assert!(policy["totals"]["cost"]["measured_usd"].is_f64());
    assert!(policy["totals"]["energy"]["predicted_j"].is_f64());
    assert_eq!(json["worst_jcts"][0]["place"]["job"], "a");
    assert_eq!(json["worst_jcts"][0]["differs_most"]["part"], "backward");
    assert_eq!(policy["kinds"][0]["kind"], "forward");
    assert_eq!(
        json["rankings"][0]["unknown"]["tau_b"],
        "fewer than two policies have the figure"
    );
}
