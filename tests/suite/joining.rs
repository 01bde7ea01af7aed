//! Workers that people start: who may join, and who may not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::harness::{Ended, Place, Running, scenario, start, until};

/// A run that waits for its workers, and where they join it.
fn waiting_run(place: &Place) -> (Running, String) {
    // The address stands on standard error, which is read at the end: a port of our own choice is known before.
    let free = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let run = place.start_run(&[
        "--compute",
        "modelled",
        "--json",
        "--await-workers",
        "--listen",
        &address,
    ]);
    until("credentials", || {
        place.path("out/credentials/w4.json").exists()
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
    for command in ["--region east --credentials", "w4.json"] {
        assert!(ended.stderr.contains(command), "{}", ended.stderr);
    }
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
    run.signal(rustix::process::Signal::INT);
    run.end().code(1);
    let ledger = elsewhere.ledger();
    let last: &Value = ledger.last().expect("records");
    assert_eq!(last["kind"], "run_ended", "{last}");
}
