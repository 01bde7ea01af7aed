//! What is left when a process dies: a readable ledger, and no process.

use std::path::PathBuf;
use std::time::Duration;

use bace_lease::LeaseTable;
use bace_socket::{SharedMemory, now_ns};
use rustix::process::Signal;

use crate::harness::{Place, Running, is_left, of_kind, runs, scenario, signal, until, with};

/// A run whose job `across` trains until somebody ends it, in the middle of its training.
fn endless(place: &Place) -> (Running, Vec<u32>) {
    let mut run = place.start_run(&["--compute", "modelled"]);
    let workers = run.workers(5);
    place.wait_for("an iteration", |record| {
        record["kind"] == "iteration" && record["job"] == "across" && record["stage"] == 3
    });
    (run, workers)
}

fn endless_scenario() -> String {
    with(
        &scenario("two-regions"),
        "iterations = 12",
        "iterations = 1000000",
    )
}

/// The process id of a stage's worker, by its place among the workers' log files.
fn worker_of_stage(place: &Place, workers: &[u32], stage: usize) -> u32 {
    let training = place.wait_for("training", |record| {
        record["kind"] == "training" && record["job"] == "across"
    });
    let name = training["workers"][stage]
        .as_str()
        .expect("a worker has a name");
    let number = name
        .trim_start_matches('w')
        .split('.')
        .next()
        .expect("a number");
    let log = place.path(&format!("out/workers/w{number}.log"));
    let writes = |pid: &&u32| {
        std::fs::read_link(format!("/proc/{pid}/fd/2")).is_ok_and(|target| target == log)
    };
    *workers
        .iter()
        .find(writes)
        .expect("a worker writes its log")
}

#[test]
fn a_killed_worker_fails_its_job_and_no_other() {
    // Four GPUs are left for `beside` and `later`, which needs two.
    let place = Place::new(&endless_scenario());
    let (run, workers) = endless(&place);
    signal(worker_of_stage(&place, &workers, 1), Signal::KILL);
    let ended = run.end().code(1);
    let ledger = place.ledger();
    let lost = of_kind(&ledger, "worker_lost");
    assert_eq!(lost.len(), 1);
    let reason = lost[0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("signal 9"), "{reason}");
    let failed = of_kind(&ledger, "job_failed");
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["job"], "across");
    let reason = failed[0]["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("stage 1") && reason.contains("signal 9"),
        "{reason}"
    );
    let finished: Vec<_> = of_kind(&ledger, "job_finished")
        .iter()
        .map(|one| &one["job"])
        .collect();
    assert_eq!(finished.len(), 2, "{ledger:#?}");
    assert!(ended.stdout.contains("signal 9"), "{}", ended.stdout);
    assert!(!workers.iter().any(|&pid| is_left(pid)), "workers are left");
    let report = place.bace(&["report", "out", "--attribution", "off"]);
    assert_eq!(report.code(1).stdout, ended.stdout);
    place.assert_no_litter();
}

/// The leases of a run's host, by the coordinator's descriptor.
fn leases(coordinator: u32) -> LeaseTable {
    let descriptors = std::fs::read_dir(format!("/proc/{coordinator}/fd")).expect("it runs");
    let is_memory = |path: &PathBuf| {
        let target = std::fs::read_link(path).unwrap_or_default();
        target.to_string_lossy().contains("bace-host")
    };
    let mut paths = descriptors.map(|entry| entry.expect("an entry").path());
    let path = paths.find(is_memory).expect("a run has shared memory");
    let memory = SharedMemory::open(&path).expect("it belongs to this user");
    LeaseTable::of(&memory).expect("workers compute under leases")
}

#[test]
fn a_worker_killed_while_it_computes_keeps_the_device_from_nobody() {
    let text = with(&endless_scenario(), "iterations = 15", "iterations = 400");
    let place = Place::new(&text);
    let mut run = place.start_run(&["--compute", "native", "--lease", "1", "--receipts", "off"]);
    let workers = run.workers(5);
    place.wait_for("an iteration of both jobs", |record| {
        record["kind"] == "iteration" && record["job"] == "beside"
    });
    let training = place.wait_for("training", |record| {
        record["kind"] == "training" && record["job"] == "across"
    });
    let name = training["workers"][1].as_str().expect("a name");
    let number = name.trim_start_matches('w').split('.').next();
    let seat: usize = number
        .and_then(|number| number.parse().ok())
        .expect("a number");
    let victim = worker_of_stage(&place, &workers, 1);
    let table = leases(run.id());
    assert_eq!(table.device_of(seat), Some(0));
    assert_eq!(table.device_name(0).as_deref(), Some("cpu"));
    until("the victim holds the lease", || {
        signal(victim, Signal::STOP);
        // It goes on until its threads have heard of it.
        std::thread::sleep(Duration::from_millis(5));
        // Stopped it neither takes nor releases anything: what grows is held.
        let now_ns = now_ns();
        let holds = table.held_ns(seat, now_ns + 1) > table.held_ns(seat, now_ns);
        if !holds {
            signal(victim, Signal::CONT);
        }
        holds
    });
    signal(victim, Signal::KILL);
    run.end().code(1);
    let ledger = place.ledger();
    let failed = of_kind(&ledger, "job_failed");
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["job"], "across");
    assert_eq!(of_kind(&ledger, "job_finished").len(), 2, "{ledger:#?}");
    let iterations = of_kind(&ledger, "iteration");
    let seconds = |key: &str| {
        iterations
            .iter()
            .filter_map(|one| one[key].as_f64())
            .sum::<f64>()
    };
    assert!(seconds("device_s") > 0.0 && seconds("lease_wait_s") > 0.0);
    assert!(!workers.iter().any(|&pid| is_left(pid)), "workers are left");
}

#[test]
fn workers_that_die_idle_leave_a_job_waiting() {
    let text = with(&scenario("one-job"), "arrival_s = 0", "arrival_s = 2");
    let place = Place::new(&text);
    let mut run = place.start_run(&["--compute", "modelled", "--json"]);
    let workers = run.workers(2);
    place.wait_for("workers", |record| {
        record["kind"] == "worker_joined" && record["region"] == "west"
    });
    for &worker in &workers {
        signal(worker, Signal::KILL);
    }
    let results = run.end().code(1).json();
    assert_eq!(results["waiting"], serde_json::json!(["only"]));
    assert_eq!(results["workers_lost"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_worker_that_stops_answering_fails_its_job() {
    let place = Place::new(&endless_scenario());
    let (run, workers) = endless(&place);
    signal(worker_of_stage(&place, &workers, 2), Signal::STOP);
    run.end().code(1);
    let ledger = place.ledger();
    let failed = of_kind(&ledger, "job_failed");
    assert_eq!(failed.len(), 1);
    let reason = failed[0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("stage 2"), "{reason}");
    assert_eq!(of_kind(&ledger, "job_finished").len(), 2);
    assert!(!workers.iter().any(|&pid| is_left(pid)), "workers are left");
}

#[test]
fn ctrl_c_ends_all_workers_and_leaves_a_readable_ledger() {
    let place = Place::new(&endless_scenario());
    let (run, workers) = endless(&place);
    run.signal(Signal::INT);
    let ended = run.end().code(1);
    assert!(!workers.iter().any(|&pid| is_left(pid)), "workers are left");
    let ledger = place.ledger();
    let last = ledger.last().expect("records");
    assert_eq!(last["kind"], "run_ended");
    assert_eq!(last["stopped"], "interrupted by Ctrl-C");
    let report = place
        .bace(&["report", "out", "--attribution", "off"])
        .code(1);
    assert_eq!(report.stdout, ended.stdout);
    assert!(
        report.stdout.contains("interrupted by Ctrl-C"),
        "{}",
        report.stdout
    );
    let results = place.bace(&["report", "out", "--json"]).code(1).json();
    assert_eq!(results["jobs"][0]["status"], "failed");
    assert!(
        results["energy_j"]
            .as_f64()
            .is_some_and(|joules| joules > 0.0)
    );
    place.assert_no_litter();
}

#[test]
fn a_terminated_run_ends_like_an_interrupted_one() {
    let place = Place::new(&endless_scenario());
    let (run, workers) = endless(&place);
    run.signal(Signal::TERM);
    run.end().code(1);
    assert!(!workers.iter().any(|&pid| is_left(pid)), "workers are left");
    assert_eq!(
        place.ledger().last().expect("records")["stopped"],
        "terminated"
    );
}

#[test]
fn ctrl_c_while_workers_start_leaves_none() {
    let place = Place::new(&endless_scenario());
    let mut run = place.start_run(&[]);
    let workers = run.workers(5);
    run.signal(Signal::INT);
    run.end().code(1);
    assert!(!workers.iter().any(|&pid| is_left(pid)), "workers are left");
    assert_eq!(place.ledger().last().expect("records")["kind"], "run_ended");
    place.bace(&["report", "out"]).code(1);
}

#[test]
fn no_worker_survives_a_killed_coordinator() {
    let place = Place::new(&endless_scenario());
    let (run, workers) = endless(&place);
    let killed = std::time::Instant::now();
    run.signal(Signal::KILL);
    until("the workers' end", || !workers.iter().any(|&pid| runs(pid)));
    assert!(
        killed.elapsed().as_secs_f64() < 5.0,
        "{:?}",
        killed.elapsed()
    );
    run.end();
    let report = place.bace(&["report", "out", "--json"]).code(1).json();
    assert_eq!(report["ended"], false);
    assert_eq!(report["jobs"][0]["name"], "across");
    place.assert_no_litter();
}

#[test]
fn a_link_that_is_down_for_good_fails_its_job() {
    let endless = with(
        &scenario("two-regions"),
        "iterations = 12",
        "iterations = 1000000",
    );
    let regions = regions_of_first_link(&endless);
    let down =
        format!("{endless}\n[[link_change]]\nat_s = 3\nbetween = {regions}\nbandwidth_mbps = 0\n");
    let place = Place::new(&down);
    place.start_run(&["--compute", "modelled"]).end().code(1);
    let ledger = place.ledger();
    let failed = of_kind(&ledger, "job_failed");
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert_eq!(failed[0]["job"], "across");
    assert_eq!(
        failed[0]["reason"],
        "a link on its path carries nothing any more"
    );
    assert_eq!(of_kind(&ledger, "job_finished").len(), 2);
    place.assert_no_litter();
}

/// The value of the first `between` of a scenario.
fn regions_of_first_link(scenario: &str) -> &str {
    let line = scenario
        .lines()
        .find_map(|line| line.strip_prefix("between = "));
    line.expect("the scenario has a link")
}
