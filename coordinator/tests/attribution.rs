//! Where stage-time goes in simulations: conserved over whole scenarios, and as `bace report` tells it.

mod common;

use std::path::{Path, PathBuf};

use bace_engine::policies;
use bace_ledger::{AttemptLog, AttemptTimes, Cause, Figure, JobLog, RunLog, Sums, attribute};
use common::{bace, succeeds, text};
use serde_json::Value;
use tempfile::TempDir;

/// Sums may differ from what they are sums of by this share, which is what rounding leaves.
const ROUNDING: f64 = 1e-9;

/// What emulations take and no simulation has.
const OF_EMULATIONS: [Cause; 4] = [
    Cause::ReceiveLate,
    Cause::LeaseWait,
    Cause::HostOverhead,
    Cause::StartUp,
];

#[test]
fn every_stage_second_of_the_built_in_scenarios_goes_to_one_cause() {
    let dir = TempDir::new().unwrap();
    let listed = succeeds(&["scenario", "list"]);
    let names: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(names.contains(&"paper"), "{listed}");
    for name in names {
        let given = succeeds(&["scenario", "show", name]);
        let file = dir.path().join(format!("{name}.toml"));
        std::fs::write(&file, undrawn(&given)).unwrap();
        assert_conserved_under_all_policies(&file, dir.path());
    }
}

/// A scenario without draws: one iteration of each of its jobs, where drawn ones would take thousands.
fn undrawn(given: &str) -> &str {
    given
        .split("\n[draw]")
        .next()
        .expect("a text has a first part")
}

#[test]
fn every_stage_second_of_the_held_out_scenarios_goes_to_one_cause() {
    let dir = TempDir::new().unwrap();
    let held_out = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scenarios/held-out");
    let files = std::fs::read_dir(&held_out).unwrap();
    let files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    let schedules: String = files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    for schedule in ["eager-1f1b", "1f1b", "gpipe"] {
        let key = format!("schedule = \"{schedule}\"");
        assert!(schedules.contains(&key), "nothing runs under {schedule}");
    }
    for file in &files {
        assert_conserved_under_all_policies(file, dir.path());
    }
}

/// A job is cancelled when its GPUs go away: its first start is told up to its last iteration, and the rest counted as unknown.
#[test]
fn every_stage_second_of_a_start_that_is_cut_short_goes_to_one_cause() {
    let dir = TempDir::new().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/changing.toml");
    assert_conserved_under_all_policies(&file, dir.path());
    let log = simulated(&file, "bace-pipe", dir.path());
    let moved = attribute(&log).job("moved").cloned().unwrap();
    let [first, second] = moved.attempts.as_slice() else {
        panic!("it starts twice: {moved:?}");
    };
    let first = first.times.known().expect("it ended iterations");
    let second = second.times.known().expect("it finished");
    assert!(first.cut.is_some() && first.unknown_s > Some(0.0));
    assert_eq!((&second.cut, second.unknown_s), (&None, Some(0.0)));
}

fn assert_conserved_under_all_policies(file: &Path, dir: &Path) {
    for policy in policies() {
        let log = simulated(file, policy.name, dir);
        let attribution = attribute(&log);
        let mut known = 0;
        for job in log.jobs.iter().filter(|job| !job.attempts.is_empty()) {
            let of = attribution.job(&job.name).expect("every placed job");
            assert_eq!(of.attempts.len(), job.attempts.len());
            let mut all_s = 0.0;
            for (start, of) in job.attempts.iter().zip(&of.attempts) {
                let what = format!("{file:?} {} {} start {}", policy.name, job.name, of.attempt);
                match &of.times {
                    Figure::Known(times) => {
                        assert_conserved(job, start, times, &what);
                        all_s += times.sums().total_s();
                        known += 1;
                    }
                    Figure::Unknown(reason) => {
                        let has_ended = start
                            .stages
                            .iter()
                            .all(|stage| !stage.iterations.is_empty());
                        assert!(!has_ended, "{what}: {reason}");
                    }
                }
            }
            if let Figure::Known(sums) = of.sums() {
                assert_same(
                    sums.total_s(),
                    all_s,
                    &format!("all starts of {}", job.name),
                );
            }
        }
        assert!(known > 0, "{file:?} {}: nothing is known", policy.name);
    }
}

/// A scenario's simulation, whose jobs need not all be placed.
fn simulated(file: &Path, policy: &str, dir: &Path) -> RunLog {
    let name = file.file_stem().expect("a file's name");
    let name = name.to_str().expect("names are text");
    let out = dir.join(format!("{name}-{policy}"));
    let called = bace(&[
        "simulate",
        text(file),
        "--policy",
        policy,
        "--out",
        text(&out),
    ]);
    assert_ne!(called.status, 2, "{}", called.err);
    let log = RunLog::read(&out).expect("a ledger");
    std::fs::remove_dir_all(&out).expect("it was written here");
    log
}

/// A start's causes against its records: K × duration by stage and together, and what was computed.
#[track_caller]
fn assert_conserved(job: &JobLog, start: &AttemptLog, times: &AttemptTimes, what: &str) {
    let released_s = start.released_s.expect("simulations end");
    let k = f64::from(start.k());
    assert_eq!(times.stages.len(), start.stages.len(), "{what}");
    assert_eq!(start.stages.len(), start.k() as usize, "{what}");
    assert_eq!(times.from_s, start.placed_s, "{what}");
    let held_s = k * (released_s - start.placed_s);
    let unknown_s = times.unknown_s.expect("it was released");
    assert_same(times.sums().total_s() + unknown_s, held_s, what);
    let is_last = job.attempts.last() == Some(start);
    if is_last && job.finished_s.is_some() {
        assert_eq!((&times.cut, unknown_s), (&None, 0.0), "{what}");
        assert_computed(start, &times.sums(), what);
    } else {
        assert!(times.cut.is_some(), "{what}");
    }
    for stage in &times.stages {
        assert_same(stage.sums.total_s(), times.to_s - times.from_s, what);
        for cause in Cause::ALL {
            let seconds = stage.sums.seconds(cause);
            assert!(seconds >= 0.0, "{what}: {seconds} s {}", cause.name());
            let at_links = stage
                .sums
                .links()
                .map(|link| stage.sums.link_seconds(link, cause));
            let at_links: f64 = at_links.sum();
            if Cause::OF_LINKS.contains(&cause) {
                assert_same(at_links, seconds, what);
            } else {
                assert_eq!(at_links, 0.0, "{what}: {}", cause.name());
            }
        }
        for cause in OF_EMULATIONS {
            let seconds = stage.sums.seconds(cause);
            let rounding_s = ROUNDING * released_s;
            assert!(
                seconds <= rounding_s,
                "{what}: {seconds} s {}",
                cause.name()
            );
        }
    }
}

/// What stages computed is what they drew their busy power for.
#[track_caller]
fn assert_computed(start: &AttemptLog, sums: &Sums, what: &str) {
    let computed = [Cause::Forward, Cause::Backward, Cause::Step];
    let computed_s: f64 = computed.map(|cause| sums.seconds(cause)).iter().sum();
    let energy = start.stages.iter().map(|stage| stage.energy.as_ref());
    let busy_s: f64 = energy
        .map(|energy| energy.expect("a finished job's").busy_s)
        .sum();
    assert_same(computed_s, busy_s, what);
}

#[track_caller]
fn assert_same(found_s: f64, expected_s: f64, what: &str) {
    let off_s = (found_s - expected_s).abs();
    assert!(
        off_s <= ROUNDING * expected_s.abs(),
        "{what}: {found_s} s, not {expected_s} s"
    );
}

#[test]
fn a_simulations_report_has_one_side_and_can_leave_it_out() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("run");
    let printed = succeeds(&["simulate", "three-regions", "--out", text(&out)]);
    let short = succeeds(&["report", text(&out), "--attribution", "off"]);
    assert_eq!(short, printed);
    let full = succeeds(&["report", text(&out)]);
    let section = full.strip_prefix(&short).expect("the section is added");
    let heading = "Where stage-time went, predicted";
    assert!(
        section.contains(heading) && !section.contains("measured"),
        "{section}"
    );
    let json: Value = serde_json::from_str(&succeeds(&["report", text(&out), "--json"])).unwrap();
    assert_eq!(json["attribution"]["measured"], Value::Null);
    let wide = &json["attribution"]["predicted"]["jobs"][1];
    assert_eq!(wide["name"], "wide");
    let stages = wide["attempts"][0]["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 4);
    assert!(stages[1]["seconds"]["propagation_s"].as_f64() > Some(1.0));
}

#[test]
fn a_simulation_by_formula_has_no_actions() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("run");
    let args = [
        "simulate",
        "three-regions",
        "--iteration-model",
        "analytic",
        "--out",
        text(&out),
    ];
    succeeds(&args);
    let report = succeeds(&["report", text(&out)]);
    let told =
        "Where the time of all jobs went is unknown: a simulation by formula walks no actions.";
    assert!(report.contains(told), "{report}");
}
