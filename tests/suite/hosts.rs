//! Runs whose workers are on two hosts.

use rustix::process::Signal;
use serde_json::Value;

use crate::cluster::{ADDRESSES, AHEAD_S, Cluster, On};
use crate::harness::{
    Place, Running, of_kind, scenario, signal, start, until, with, without_namespaces,
};

/// Where the coordinator listens; its network is its own, so that no port is taken.
const PORT: u16 = 4000;

/// A run that waits for workers on both hosts.
struct TwoHosts {
    // Ends first: what waits for a process of it would wait for ever.
    cluster: Cluster,
    place: Place,
}

impl TwoHosts {
    /// Absent where this machine gives no namespaces and such tests are to be left out.
    fn new(scenario: &str) -> Option<Self> {
        match Cluster::start() {
            Ok(cluster) => Some(Self {
                cluster,
                place: Place::new(scenario),
            }),
            Err(_) if without_namespaces("a run on several hosts") => None,
            Err(why) => panic!(
                "a run on several hosts needs root or user namespaces; BACE_WITHOUT_NAMESPACES=1 leaves it out: {why}"
            ),
        }
    }

    /// The coordinator on the first host, once the last of its workers, `last`, could join.
    fn run(&self, last: &str) -> Running {
        let listen = format!("{}:{PORT}", ADDRESSES[0]);
        let arguments = [
            "run",
            "s.toml",
            "--out",
            "out",
            "--compute",
            "modelled",
            "--json",
            "--receipts",
            "off",
            "--await-workers",
            "--listen",
            &listen,
        ];
        let command = self.place.command(&arguments);
        let run = start(self.cluster.on(On::First, &command));
        until("credentials", || {
            self.place
                .path(&format!("out/credentials/{last}.json"))
                .exists()
        });
        run
    }

    fn worker(&self, on: On, number: u32, region: &str) -> Running {
        let join = format!("{}:{PORT}", ADDRESSES[0]);
        let credentials = format!("out/credentials/w{number}.json");
        let arguments = [
            "--join",
            &join,
            "--region",
            region,
            "--credentials",
            &credentials,
        ];
        start(self.cluster.on(on, &self.place.worker(&arguments)))
    }

    fn ledger(&self, kind: &str) -> Vec<Value> {
        let ledger = self.place.ledger();
        of_kind(&ledger, kind).into_iter().cloned().collect()
    }
}

/// One job over one GPU in each of two regions, one micro-batch there and back in every iteration.
fn far_apart() -> String {
    let text = scenario("one-job");
    let text = with(&text, "memory_gb = 0.01", "memory_gb = 0.0006");
    let text = with(&text, "micro_batches = 4", "micro_batches = 1");
    with(&text, "one_way_delay_ms = 2", "one_way_delay_ms = 100")
}

fn seconds(record: &Value, key: &str) -> f64 {
    record[key]
        .as_f64()
        .unwrap_or_else(|| panic!("no `{key}` in {record}"))
}

#[track_caller]
fn ended_well(workers: impl IntoIterator<Item = Running>) {
    for worker in workers {
        worker.end().code(0);
    }
}

#[test]
fn regions_on_two_hosts_train_over_true_delays() {
    let Some(hosts) = TwoHosts::new(&far_apart()) else {
        return;
    };
    let run = hosts.run("w1");
    let workers = [
        hosts.worker(On::First, 0, "east"),
        hosts.worker(On::Second, 1, "west"),
    ];
    let ended = run.end().code(0);
    assert_eq!(ended.json()["finished_jobs"], 1);
    ended_well(workers);
    let joined = hosts.ledger("worker_joined");
    assert_eq!(
        (&joined[0]["host"], &joined[1]["host"]),
        (&0.into(), &1.into())
    );
    let uncertainty_s = offsets_are_true(&hosts);
    delays_are_true(&hosts, uncertainty_s);
    hosts.place.assert_no_litter();
}

/// Coordinator and stages have found the offset to within what they say of it; how far that was off at most, seconds.
fn offsets_are_true(hosts: &TwoHosts) -> f64 {
    let offsets = hosts.ledger("clock_offset");
    let pairs = offsets
        .iter()
        .map(|record| (&record["worker"], &record["against"]));
    let second = Value::from("w1.run.local");
    let (coordinator, first) = ("coordinator".into(), "w0.run.local".into());
    assert_eq!(
        pairs.collect::<Vec<_>>(),
        // At the beginning and at the end.
        [
            (&second, &coordinator),
            (&second, &first),
            (&second, &first),
            (&second, &coordinator)
        ]
    );
    let mut most_s = 0.0;
    for record in &offsets {
        let uncertainty_s = seconds(record, "uncertainty_s");
        // The ledger rounds to a nanosecond or less.
        let error_s = (seconds(record, "offset_s") - AHEAD_S).abs() - 1e-9;
        assert!(error_s <= uncertainty_s, "{record}");
        assert!(uncertainty_s < 0.02, "{record}");
        assert!(seconds(record, "latency_s") < 0.02, "{record}");
        most_s = uncertainty_s.max(most_s);
    }
    most_s
}

/// A tensor takes the link's delay each way, as both stages' records on the run's one clock show: computing takes them some
/// tens of microseconds.
fn delays_are_true(hosts: &TwoHosts, uncertainty_s: f64) {
    const DELAY_S: f64 = 0.1;
    /// What a machine may add on which processes of several tests share the cores.
    const ADDED_S: f64 = 0.05;
    let iterations = hosts.ledger("iteration");
    let of = |stage: u32| {
        let first = |record: &&Value| record["stage"] == stage && record["iteration"] == 0;
        let found = iterations.iter().find(first);
        found.expect("both stages tell their first iteration")
    };
    let (front, back) = (of(0), of(1));
    let possible = DELAY_S - 2.0 * uncertainty_s..DELAY_S + ADDED_S;
    // The second stage waits for the first activation.
    let there_s =
        seconds(back, "from_s") - seconds(front, "from_s") + seconds(&back["times"], "stall_s");
    assert!(possible.contains(&there_s), "{there_s}: {front} {back}");
    // The first stage ends when the last gradient has come back.
    let back_s = seconds(front, "to_s") - seconds(back, "to_s");
    assert!(possible.contains(&back_s), "{back_s}: {front} {back}");
}

#[test]
fn a_region_spread_over_hosts_is_refused_until_its_worker_is_where_it_should_be() {
    let text = with(&far_apart(), "gpus = 1", "gpus = 2");
    let Some(hosts) = TwoHosts::new(&text) else {
        return;
    };
    let run = hosts.run("w2");
    let west = hosts.worker(On::Second, 2, "west");
    // Either of the two may be first, and the other is astray.
    let mut east = [
        hosts.worker(On::First, 0, "east"),
        hosts.worker(On::Second, 1, "east"),
    ];
    let mut astray = None;
    until("a refusal", || {
        astray = east.iter_mut().position(Running::has_ended);
        astray.is_some()
    });
    let [first, second] = east;
    let (refused, good, on, number) = match astray {
        Some(0) => (first, second, On::Second, 0),
        _ => (second, first, On::First, 1),
    };
    let refused = refused.end().code(1).stderr;
    for word in [
        "the workers of region east are on another host",
        "all of a region have to be on one",
        "`host_shares`",
    ] {
        assert!(refused.contains(word), "{refused}");
    }
    let again = hosts.worker(on, number, "east");
    let ended = run.end().code(0);
    assert_eq!(ended.json()["finished_jobs"], 1);
    ended_well([west, good, again]);
}

#[test]
fn a_region_with_split_links_trains_on_two_hosts() {
    let text = with(
        &far_apart(),
        "gpus = 1",
        "gpus = 2\nhost_shares = [0.5, 0.5]\nfabric_delay_ms = 40",
    );
    // Three stages, so that all three workers are used.
    let text = with(&text, "memory_gb = 0.0006", "memory_gb = 0.0003");
    let Some(hosts) = TwoHosts::new(&text) else {
        return;
    };
    let run = hosts.run("w2");
    let workers = [
        hosts.worker(On::First, 0, "east"),
        hosts.worker(On::Second, 1, "east"),
        hosts.worker(On::Second, 2, "west"),
    ];
    let ended = run.end().code(0);
    assert_eq!(ended.json()["jobs"][0]["k"], 3);
    ended_well(workers);
    // Whichever way the pipeline goes, one of its two boundaries is between the hosts.
    let against = |record: &Value| record["against"] == "coordinator";
    let offsets = hosts.ledger("clock_offset");
    let (coordinator, stages): (Vec<_>, Vec<_>) =
        offsets.iter().partition(|record| against(record));
    assert_eq!((coordinator.len(), stages.len()), (4, 2), "{offsets:?}");
}

#[test]
fn hosts_that_are_farther_apart_than_their_link_are_told() {
    let text = with(
        &far_apart(),
        "one_way_delay_ms = 100",
        "one_way_delay_ms = 0",
    );
    let Some(hosts) = TwoHosts::new(&text) else {
        return;
    };
    let run = hosts.run("w1");
    let workers = [
        hosts.worker(On::First, 0, "east"),
        hosts.worker(On::Second, 1, "west"),
    ];
    run.end().code(1);
    ended_well(workers);
    let failed = hosts.ledger("job_failed");
    let reason = failed[0]["reason"].as_str().expect("a reason");
    for word in [
        "cannot reach its neighbours: emulate the link to",
        "delay is 0 ms",
        "`one_way_delay_ms`",
    ] {
        assert!(reason.contains(word), "{reason}");
    }
}

/// When the link of [`two_pairs`] goes down, seconds. Until then both jobs have to train and a worker has to be dead, also on a
/// busy machine; the jobs train for thirty seconds.
const DOWN_S: u32 = 20;

/// Two pairs of regions without links between the pairs, a job for each, and a link that is down for three seconds.
fn two_pairs() -> String {
    let text = with(&far_apart(), "iterations = 8", "iterations = 150");
    let (head, rest) = text.split_once("[[region]]").expect("regions");
    let (pair, rest) = rest.split_once("[model.four]").expect("a model");
    let other_pair = pair.replace("east", "north").replace("west", "south");
    let (model, job) = rest.split_once("[[job]]").expect("a job");
    let other_job = job.replace("only", "other");
    let down = |at_s: u32, mbps: u32| {
        format!(
            "[[link_change]]\nat_s = {at_s}\nfrom = \"south\"\nto = \"north\"\nbandwidth_mbps = {mbps}\n"
        )
    };
    [
        &format!("{head}[[region]]{pair}[[region]]{other_pair}[model.four]{model}"),
        &format!("[[job]]{job}[[job]]{other_job}"),
        &down(DOWN_S, 0),
        &down(DOWN_S + 3, 1000),
    ]
    .map(|part| part.to_owned())
    .concat()
}

#[test]
fn a_worker_that_dies_on_another_host_takes_neither_the_run_nor_its_clocks_along() {
    let Some(hosts) = TwoHosts::new(&two_pairs()) else {
        return;
    };
    let run = hosts.run("w3");
    let mut workers = vec![
        hosts.worker(On::First, 0, "east"),
        hosts.worker(On::Second, 1, "west"),
        hosts.worker(On::First, 2, "north"),
        hosts.worker(On::Second, 3, "south"),
    ];
    let mut training = 0;
    until("both jobs", || {
        training = hosts.ledger("training").len();
        training == 2
    });
    // The first on its host keeps the link clocks there.
    let keeper = workers.remove(1);
    kill_inside(&keeper);
    keeper.end();
    let changed = |record: &Value| record["input"] == "link_changed";
    assert!(
        !hosts.ledger("input").iter().any(changed),
        "this machine took more than {DOWN_S} s to train and to lose a worker"
    );
    let ended = run.end().code(1);
    assert_eq!(ended.json()["finished_jobs"], 1);
    ended_well(workers);
    let failed = hosts.ledger("job_failed");
    let reason = failed[0]["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("worker w1.run.local (west) of stage"),
        "{reason}"
    );
    // The other worker there was told that the link is down, and that it is up again.
    let lasting = |record: &Value| seconds(record, "to_s") - seconds(record, "from_s");
    let longest = hosts
        .ledger("iteration")
        .iter()
        .map(lasting)
        .fold(0.0, f64::max);
    assert!((2.0..10.0).contains(&longest), "{longest}");
}

/// Kills what `nsenter` has started in a host, whose end is its own.
fn kill_inside(entered: &Running) {
    let id = entered.id();
    let inside = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    let inside = inside.expect("nsenter runs");
    signal(inside.trim().parse().expect("one child"), Signal::KILL);
}
