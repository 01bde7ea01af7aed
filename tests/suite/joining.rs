//! Workers that people start: who may join, and who may not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Ended, Place, Running, scenario, start, until, with};

/// A run that waits for its workers, and where they join it.
fn waiting_run(place: &Place) -> (Running, String) {
    waiting_run_of(place, "modelled", "w4")
}

/// The same for another rung; `last` is the last of its workers.
fn waiting_run_of(place: &Place, compute: &str, last: &str) -> (Running, String) {
    // The address stands on standard error, which is read at the end: a port of our own choice is known before.
    let free = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let run = place.start_run(&[
        "--compute",
        compute,
        "--json",
        "--await-workers",
        "--listen",
        &address,
    ]);
    until("credentials", || {
        place.path(&format!("out/credentials/{last}.json")).exists()
    });
    (run, address)
}

/// Joins with the credentials in `file` for `region`.
fn join(place: &Place, address: &str, region: &str, file: &str) -> Running {
    start(place.worker(&["--join", address, "--region", region, "--credentials", file]))
}

fn refused(worker: Running) -> Ended {
    let ended = worker.end().code(1);
    assert!(
        ended.stderr.contains("bace-worker: failed to "),
        "{}",
        ended.stderr
    );
    ended
}

#[test]
fn workers_join_by_hand_and_strangers_do_not() {
    let place = Place::new(&scenario("two-regions"));
    let (run, address) = waiting_run(&place);
    for number in 0..5 {
        let file = place.path(&format!("out/credentials/w{number}.json"));
        let mode = fs::metadata(file)
            .expect("credentials")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    strangers(&place, &address);
    let regions = ["east", "east", "east", "west", "west"];
    let workers: Vec<_> = (0..5)
        .zip(regions)
        .map(|(number, region)| {
            join(
                &place,
                &address,
                region,
                &format!("out/credentials/w{number}.json"),
            )
        })
        .collect();
    let ended = run.end().code(0);
    assert_eq!(ended.json()["finished_jobs"], 3);
    let credentials = place.path("out/credentials/w0.json");
    let credentials = format!("--region=east --credentials {}", credentials.display());
    for command in [
        credentials.as_str(),
        "/bace worker --join",
        "w4.json",
        "are for region east",
    ] {
        assert!(ended.stderr.contains(command), "{}", ended.stderr);
    }
    for worker in workers {
        worker.end().code(0);
    }
}

/// A run that trains until somebody ends it, with workers started by hand.
fn endless_by_hand(place: &Place) -> (Running, Vec<Running>) {
    let (run, address) = waiting_run(place);
    let workers = ["east", "east", "east", "west", "west"]
        .into_iter()
        .enumerate()
        .map(|(number, region)| {
            let file = format!("out/credentials/w{number}.json");
            join(place, &address, region, &file)
        })
        .collect();
    place.wait_for("an iteration", |record| record["kind"] == "iteration");
    (run, workers)
}

fn endless_scenario() -> String {
    let text = scenario("two-regions");
    with(&text, "iterations = 12", "iterations = 1000000")
}

#[test]
fn workers_of_a_killed_coordinator_end_by_themselves() {
    let place = Place::new(&endless_scenario());
    let (run, workers) = endless_by_hand(&place);
    let killed = Instant::now();
    run.signal(Signal::KILL);
    run.end();
    for worker in workers {
        refused(worker);
    }
    // Five seconds, and what a busy machine adds.
    assert!(
        killed.elapsed().as_secs_f64() < 8.0,
        "{:?}",
        killed.elapsed()
    );
}

#[test]
fn workers_that_people_started_end_with_an_interrupted_run() {
    let place = Place::new(&endless_scenario());
    let (run, workers) = endless_by_hand(&place);
    run.signal(Signal::INT);
    run.end().code(1);
    for worker in workers {
        worker.end().code(0);
    }
    let ledger = place.ledger();
    let last = ledger.last().expect("records");
    assert_eq!(last["stopped"], "interrupted by Ctrl-C");
}

#[test]
fn a_worker_without_text_ends_a_run_that_awaits_it() {
    let place = Place::new(&scenario("one-job"));
    fs::remove_file(place.path("text")).expect("it was there");
    let (run, address) = waiting_run_of(&place, "native", "w1");
    let worker = join(&place, &address, "west", "out/credentials/w1.json");
    let ended = run.end().code(1);
    assert!(ended.stderr.contains("w1.run.local"), "{}", ended.stderr);
    assert!(ended.stderr.contains("read text from"), "{}", ended.stderr);
    refused(worker);
}

#[test]
fn a_second_worker_and_a_late_one_are_told_why_they_may_not_join() {
    let place = Place::new(&endless_scenario());
    let (run, address) = waiting_run(&place);
    // Either of the two may be first.
    let mut twins = [(); 2].map(|()| join(&place, &address, "east", "out/credentials/w0.json"));
    let mut refused_twin = None;
    until("a refusal", || {
        refused_twin = twins.iter_mut().position(Running::has_ended);
        refused_twin.is_some()
    });
    let (first, second) = match (refused_twin, twins) {
        (Some(0), [second, first]) | (_, [first, second]) => (first, second),
    };
    let second = refused(second).stderr;
    assert!(
        second.contains("w0.run.local has joined already"),
        "{second}"
    );
    let mut workers = vec![first];
    for (number, region) in [(1, "east"), (2, "east"), (3, "west"), (4, "west")] {
        let file = format!("out/credentials/w{number}.json");
        workers.push(join(&place, &address, region, &file));
    }
    place.wait_for("an iteration", |record| record["kind"] == "iteration");
    let late = refused(join(&place, &address, "west", "out/credentials/w4.json"));
    assert!(late.stderr.contains("the run has begun"), "{}", late.stderr);
    run.signal(Signal::INT);
    run.end().code(1);
    for worker in workers {
        worker.end().code(0);
    }
}

fn strangers(place: &Place, address: &str) {
    let other = refused(join(place, address, "west", "out/credentials/w0.json"));
    assert!(other.stderr.contains("region east"), "{}", other.stderr);
    let none = refused(join(place, address, "east", "nowhere.json"));
    assert!(none.stderr.contains("nowhere.json"), "{}", none.stderr);
    fs::write(place.path("empty.json"), "{}").expect("a file");
    let empty = refused(join(place, address, "east", "empty.json"));
    assert!(empty.stderr.contains("no credentials"), "{}", empty.stderr);
    // Another run's credentials carry the same names and another authority's signature.
    let elsewhere = Place::new(&scenario("two-regions"));
    let (run, _) = waiting_run(&elsewhere);
    let foreign = elsewhere.path("out/credentials/w0.json");
    let foreign = refused(join(
        place,
        address,
        "east",
        foreign.to_str().expect("a path is text"),
    ));
    assert!(foreign.stderr.contains("certificate"), "{}", foreign.stderr);
    run.signal(Signal::INT);
    run.end().code(1);
    let ledger = elsewhere.ledger();
    let last: &Value = ledger.last().expect("records");
    assert_eq!(last["kind"], "run_ended", "{last}");
}
