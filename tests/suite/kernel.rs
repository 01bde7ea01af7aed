//! Links that the kernel shapes: real namespaces, real interfaces, and nothing of them left.
//!
//! Where this user may not make namespaces, a test runs itself again in a user namespace; where that is forbidden too, it
//! fails, unless `BACE_WITHOUT_NAMESPACES=1` says that such tests are to be left out.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{
    Ended, Place, is_left, of_kind, scenario, start, until, with, without_namespaces,
};

/// Set for a test that runs again.
const AGAIN: &str = "BACE_TEST_IN_USER_NAMESPACE";
const RUN: [&str; 6] = [
    "--network",
    "kernel",
    "--compute",
    "modelled",
    "--receipts",
    "off",
];

/// Runs `body` where it may make namespaces; `name` is the calling test's.
fn in_namespaces(name: &str, body: impl FnOnce()) {
    if std::env::var_os(AGAIN).is_some() {
        sh("mount -t tmpfs tmpfs /run/netns");
        return body();
    }
    let probe = format!("bace-test-{}-probe", std::process::id());
    let tried = Command::new("ip").args(["netns", "add", &probe]).output();
    if tried.expect("iproute2 is installed").status.success() {
        sh(&format!("ip netns delete {probe}"));
        return body();
    }
    if without_namespaces(name) {
        return;
    }
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount", "--"])
        .arg(std::env::current_exe().expect("a test has a path"))
        .args([&format!("kernel::{name}"), "--exact", "--nocapture"])
        .env(AGAIN, "1")
        .output()
        .expect("util-linux is installed");
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "{name} needs network namespaces; BACE_WITHOUT_NAMESPACES=1 leaves it out: {output:?}"
    );
}

fn sh(script: &str) {
    let status = Command::new("sh").args(["-c", script]).status();
    assert!(status.expect("there is a shell").success(), "{script}");
}

/// A place whose scenario has a name of its own, so that tests do not see each other's namespaces.
fn place(name: &str) -> Place {
    let text = with(
        &scenario("two-regions"),
        "name = \"two-regions\"",
        &format!("name = \"{name}\""),
    );
    Place::new(&text)
}

/// Namespaces of the scenario `name`.
fn namespaces(name: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return Vec::new();
    };
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names
        .filter(|found| found.starts_with(&format!("bace-{name}-")))
        .collect()
}

/// Interfaces of the namespace that the test is in.
fn interfaces() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/net").expect("there is /sys");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A run whose links the kernel shaped has told so, has moved its tensors and has left nothing.
fn check(place: &Place, ended: &Ended, as_root: bool) {
    let results = ended.json();
    assert_eq!(results["rung"]["network"], "kernel");
    assert_eq!(results["finished_jobs"], 3);
    assert_eq!(results["kernel"]["user_namespace"], !as_root);
    let ledger = place.ledger();
    let network = of_kind(&ledger, "network")[0];
    assert_eq!(
        network["delay"],
        if network["netem"] == true {
            "kernel"
        } else {
            "receiver"
        }
    );
    assert_eq!(
        (&network["jitter"], &network["loss"]),
        (&"not_asked".into(), &"not_asked".into())
    );
    let crossed = of_kind(&ledger, "transfer");
    assert!(
        crossed
            .iter()
            .any(|sent| sent["from"] != sent["to"] && sent["bytes"].as_u64() > Some(0))
    );
    let report = place.bace(&["report", "out"]).code(0).stdout;
    let qdisc = network["qdisc"].as_str().expect("a name");
    assert!(
        report.contains(&format!("links     kernel with {qdisc} and ")),
        "{report}"
    );
    place.assert_no_litter();
}

#[test]
fn a_run_over_links_of_the_kernel_leaves_nothing() {
    in_namespaces("a_run_over_links_of_the_kernel_leaves_nothing", || {
        let before = interfaces();
        let changes = "\n[[link_change]]\nat_s = 0.1\nfrom = \"east\"\nto = \"west\"\nbandwidth_mbps = 100\n\
                       \n[[link_change]]\nat_s = 0.2\nfrom = \"east\"\nto = \"west\"\nbandwidth_mbps = 300\n";
        let text = with(
            &scenario("two-regions"),
            "name = \"two-regions\"",
            "name = \"whole\"",
        );
        let place = Place::new(&format!("{text}{changes}"));
        let ended = place
            .start_run(&[&RUN[..], &["--json"]].concat())
            .end()
            .code(0);
        check(&place, &ended, true);
        assert_eq!(namespaces("whole"), [""; 0]);
        assert_eq!(interfaces(), before);
    });
}

#[test]
fn the_kernel_shapes_links_at_the_time_scale() {
    in_namespaces("the_kernel_shapes_links_at_the_time_scale", || {
        let text = with(
            &scenario("scaled"),
            "name = \"scaled\"",
            "name = \"faster\"",
        );
        let place = Place::new(&text);
        let predicted = place.bace(&["simulate", "s.toml", "--json"]).code(0).json();
        let run = place.start_run(&[&RUN[..], &["--time-scale", "2", "--json"]].concat());
        let results = run.end().code(0).json();
        let makespan =
            |results: &serde_json::Value| results["makespan_s"].as_f64().expect("a time");
        let ratio = makespan(&results) / makespan(&predicted);
        // tbf counts frames, and a busy machine is late; at the speed of this machine it would be about half.
        assert!((0.9..1.6).contains(&ratio), "{ratio}: {results:#}");
        assert_eq!(namespaces("faster"), [""; 0]);
    });
}

#[test]
fn without_root_a_run_has_a_user_namespace_of_its_own() {
    in_namespaces("without_root_a_run_has_a_user_namespace_of_its_own", || {
        let place = place("rootless");
        let bace = place.command(&[]).get_program().to_owned();
        // A user who is not root, whoever runs the test.
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-user=1000", "--map-group=1000", "--"])
            .arg(bace)
            .args(["run", "s.toml", "--data", "text", "--out", "out", "--json"])
            .args(RUN)
            .current_dir(place.path(""))
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let ended = start(command).end().code(0);
        check(&place, &ended, false);
        assert_eq!(namespaces("rootless"), [""; 0]);
    });
}

#[test]
fn a_run_that_is_interrupted_takes_its_network_down() {
    in_namespaces("a_run_that_is_interrupted_takes_its_network_down", || {
        let place = place("interrupted");
        let run = place.start_run(&RUN);
        until("namespaces", || namespaces("interrupted").len() == 3);
        run.signal(Signal::INT);
        run.end().code(1);
        assert_eq!(namespaces("interrupted"), [""; 0]);
    });
}

#[test]
fn a_signal_ends_what_is_half_up_and_runs_alike() {
    in_namespaces("a_signal_ends_what_is_half_up_and_runs_alike", || {
        let place = place("signalled");
        let run = place.start_run(&RUN);
        until("namespaces", || namespaces("signalled").len() == 3);
        run.signal(Signal::HUP);
        run.end().code(1);
        assert_eq!(namespaces("signalled"), [""; 0]);
        // An `ip` that takes its time leaves some to be half up.
        let path = std::env::var("PATH").expect("there is a PATH");
        let slow = place.path("slow");
        fs::create_dir(&slow).expect("a folder");
        let script =
            format!("#!/bin/sh\nPATH='{path}'\n[ $1 != -n ] || sleep 0.2\nexec ip \"$@\"\n");
        fs::write(slow.join("ip"), script).expect("a script");
        fs::set_permissions(slow.join("ip"), fs::Permissions::from_mode(0o755))
            .expect("permissions");
        let slow = format!("{}:{path}", slow.display());
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let mut up = place.command(&["netem", "up", "s.toml"]);
            up.env("PATH", &slow);
            let up = start(up);
            until("a hub", || {
                namespaces("signalled")
                    .iter()
                    .any(|name| name.ends_with("-hub"))
            });
            up.signal(signal);
            up.end().code(1).complains(&["put the network up: "]);
            assert_eq!(namespaces("signalled"), [""; 0]);
        }
    });
}

#[test]
fn what_a_killed_run_leaves_behind_is_found_and_taken_down() {
    in_namespaces(
        "what_a_killed_run_leaves_behind_is_found_and_taken_down",
        || {
            let place = place("killed");
            let mut run = place.start_run(&RUN);
            let workers = run.workers(5);
            let used = place.bace(&["netem", "down", "s.toml"]).code(0).stdout;
            assert!(
                used.contains("a run uses a network of its own") && used.contains("it stays"),
                "{used}"
            );
            run.signal(Signal::KILL);
            run.end();
            assert_eq!(namespaces("killed").len(), 3);
            until("the end of all workers", || {
                !workers.iter().any(|&worker| is_left(worker))
            });
            let status = place.bace(&["netem", "status", "s.toml"]).code(1).stdout;
            assert!(status.starts_with("killed is down\n"), "{status}");
            assert!(status.contains("has left its network behind"), "{status}");
            let down = place.bace(&["netem", "down", "s.toml"]).code(0).stdout;
            assert_eq!(down, "killed: took 3 namespaces down\n");
            assert_eq!(namespaces("killed"), [""; 0]);
        },
    );
}

#[test]
fn a_network_is_put_up_and_taken_down_by_hand_as_often_as_one_likes() {
    in_namespaces(
        "a_network_is_put_up_and_taken_down_by_hand_as_often_as_one_likes",
        || {
            let place = place("hand");
            let before = interfaces();
            let netem = |what| place.bace(&["netem", what, "s.toml"]);
            assert_eq!(netem("down").code(0).stdout, "hand: nothing was up\n");
            assert_eq!(netem("status").code(1).stdout, "hand is down\n");
            let up = netem("up").code(0).stdout;
            assert!(
                up.contains("ip netns exec bace-hand-up-r1  # west, 198.18.1.2\n"),
                "{up}"
            );
            assert_eq!(netem("status").code(0).stdout, up);
            assert!(netem("up").code(0).stdout.starts_with("hand is up already"));
            // Another scenario of that name is not what is up.
            let text = fs::read_to_string(place.path("s.toml")).expect("a scenario");
            let faster = with(&text, "bandwidth_mbps = 400", "bandwidth_mbps = 500");
            fs::write(place.path("s.toml"), faster).expect("a scenario is written");
            assert!(
                netem("status")
                    .code(1)
                    .stdout
                    .contains("other links than the scenario has now")
            );
            netem("up")
                .code(2)
                .complains(&["it is up with other links", "bace netem down"]);
            // One whose making was broken off is made anew.
            sh("ip netns delete bace-hand-up-hub");
            assert!(netem("status").code(1).stdout.contains("in parts only"));
            netem("up").code(0);
            netem("status").code(0);
            assert_eq!(
                netem("down").code(0).stdout,
                "hand: took 3 namespaces down\n"
            );
            netem("down").code(0);
            assert_eq!(namespaces("hand"), [""; 0]);
            assert_eq!(interfaces(), before);
        },
    );
}

#[test]
fn a_plan_is_printed_for_a_shell_by_anybody() {
    let place = Place::new(&scenario("two-regions"));
    // Not even the programs are needed.
    let mut command = place.command(&["netem", "plan", "s.toml", "--rate-qdisc", "htb"]);
    command.env("PATH", "/nonexistent");
    let plan = start(command).end().code(0).stdout;
    assert!(
        plan.starts_with(
            "# two-regions: what `bace netem up` runs on a kernel with htb and netem\n"
        )
    );
    for line in plan.lines().filter(|line| !line.starts_with('#')) {
        assert!(
            line.starts_with("ip ") || line.starts_with("tc -n bace-two-regions-up-r"),
            "{line}"
        );
    }
    for line in [
        "# east → west",
        "tc -n bace-two-regions-up-r0 qdisc replace dev 1-west root handle 1: htb default 1",
        "# ip netns delete bace-two-regions-up-hub",
    ] {
        assert!(
            plan.lines().any(|found| found == line),
            "no {line} in {plan}"
        );
    }
    let without = place
        .bace(&["netem", "plan", "s.toml", "--without-netem"])
        .code(0)
        .stdout;
    assert!(
        !without
            .lines()
            .any(|line| line.contains(" netem ") && !line.starts_with('#')),
        "{without}"
    );
}

/// A folder with programs that fail as told, to be the `PATH`.
fn failing(place: &Place, programs: &[(&str, &str)]) -> PathBuf {
    let folder = place.path("bin");
    fs::create_dir(&folder).expect("a folder");
    for (name, says) in programs {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\necho '{says}' >&2\nexit 1\n")).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
    }
    folder
}

#[test]
fn what_is_missing_or_forbidden_is_told_in_one_line() {
    let place = place("missing");
    let arguments = [
        &["run", "s.toml", "--data", "text", "--out", "out"][..],
        &RUN[..],
    ]
    .concat();
    let run = |path: &PathBuf| {
        let mut command = place.command(&arguments);
        command.env("PATH", path);
        start(command).end().code(1)
    };
    run(&place.path("tmp")).complains(&["start ip: it is not installed", "iproute2"]);
    let programs = [
        ("ip", "mkdir /run/netns failed: Permission denied"),
        (
            "unshare",
            "unshare: unshare failed: Operation not permitted",
        ),
    ];
    let forbidden = failing(&place, &programs);
    run(&forbidden).complains(&[
        "make network namespaces: as this user mkdir /run/netns failed: Permission denied",
        "unshare failed: Operation not permitted",
        "run it as root, or allow user namespaces",
    ]);
    let mut up = place.command(&["netem", "up", "s.toml"]);
    up.env("PATH", &forbidden);
    start(up)
        .end()
        .code(1)
        .complains(&["this takes root", "--network kernel"]);
    fs::remove_file(forbidden.join("unshare")).expect("it was there");
    run(&forbidden).complains(&["start unshare: it is not installed", "util-linux"]);
    assert!(!place.path("out").exists());
}

#[test]
fn an_address_to_listen_at_is_refused() {
    let place = place("listen");
    let arguments = [
        "run",
        "s.toml",
        "--network",
        "kernel",
        "--listen",
        "0.0.0.0:7000",
    ];
    let ended = place.bace(&arguments).code(2);
    ended.complains(&[
        "listen at 0.0.0.0:7000 with --network kernel",
        "127.0.0.1:PORT",
    ]);
}
