//! Wrong files, wrong options, missing parts: one clear line each, and nothing is started.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Place, program, scenario, with};

/// Runs a scenario that is wrong; it says all of `words` and leaves nothing.
#[track_caller]
fn refused(text: &str, words: &[&str]) {
    let place = Place::new(text);
    for command in ["run", "simulate"] {
        let ended = place.bace(&[command, "s.toml", "--out", "out"]).code(2);
        ended.complains(&["s.toml"]);
        ended.complains(words);
        assert!(!place.path("out").exists(), "{command} left a folder");
    }
    place.bace(&["plan", "s.toml"]).code(2).complains(words);
    place
        .bace(&["scenario", "check", "s.toml"])
        .code(2)
        .complains(words);
    place.assert_no_litter();
}

/// The scenario with one thing replaced is refused.
#[track_caller]
fn changed(old: &str, new: &str, words: &[&str]) {
    refused(&with(&scenario("two-regions"), old, new), words);
}

#[test]
fn unknown_keys_get_the_nearest_known_one() {
    changed(
        "arrival_s = 0\n",
        "arival_s = 0\n",
        &["job[0].arival_s", "unknown key", "`arrival_s`"],
    );
    changed("[[job]]", "[[jobs]]\nx = 1\n[[job]]", &["`jobs`", "`job`"]);
}

#[test]
fn names_are_unique_and_known() {
    changed(
        "name = \"west\"",
        "name = \"east\"",
        &["region[1].name", "two regions are named `east`"],
    );
    changed(
        "name = \"beside\"",
        "name = \"across\"",
        &["job[1].name", "two jobs are named `across`"],
    );
    changed(
        "model = \"four\"",
        "model = \"fuor\"",
        &["job[0].model", "`fuor`", "`four`"],
    );
    changed(
        "gpu = \"sliver\"",
        "gpu = \"silver\"",
        &["region[0].gpu", "`silver`", "`sliver`"],
    );
    changed(
        "\"east\", \"west\"",
        "\"east\", \"wets\"",
        &["link[0]", "`wets`", "`west`"],
    );
}

#[test]
fn numbers_have_a_range() {
    changed(
        "bandwidth_mbps = 400",
        "bandwidth_mbps = -400",
        &["link[0].bandwidth_mbps", "-400"],
    );
    changed(
        "bandwidth_mbps = 400",
        "bandwidth_mbps = nan",
        &["link[0].bandwidth_mbps", "NaN"],
    );
    changed(
        "one_way_delay_ms = 5",
        "one_way_delay_ms = inf",
        &["link[0].one_way_delay_ms", "inf"],
    );
    changed("gpus = 3", "gpus = -3", &["region[0].gpus", "-3"]);
    changed("gpus = 3", "gpus = 3.5", &["region[0].gpus"]);
    changed(
        "iterations = 12",
        "iterations = 0",
        &["job[0].iterations", "0"],
    );
    changed(
        "hidden = 32",
        "hidden = 9000000000000000000",
        &["hidden", "9000000000000000000"],
    );
    changed(
        "price_usd_per_kwh = 0.30",
        "price_usd_per_kwh = \"cheap\"",
        &["region[0].price_usd_per_kwh"],
    );
}

#[test]
fn a_model_that_no_gpu_can_hold_is_named() {
    changed(
        "memory_gb = 0.0005",
        "memory_gb = 0.0001",
        &["job[0].model", "`four`", "`sliver`", "memory_gb"],
    );
}

#[test]
fn what_is_no_scenario_is_told() {
    refused("", &["the file is empty"]);
    refused("name = \"x\"\n", &["[[region]]"]);
    refused("= = =", &["s.toml:1"]);
    refused(&"garbage ".repeat(10 << 17), &["s.toml:1"]);
    refused(&"[[".repeat(5 << 20), &["s.toml"]);
}

#[test]
fn bytes_that_are_no_text_are_told() {
    let place = Place::new("");
    let garbage: Vec<u8> = (0..10u32 << 20)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    fs::write(place.path("s.toml"), garbage).expect("garbage is written");
    let ended = place.bace(&["run", "s.toml", "--out", "out"]).code(2);
    ended.complains(&["s.toml", "UTF-8"]);
    assert!(!place.path("out").exists());
}

#[test]
fn what_never_ends_is_not_read_to_its_end() {
    let place = Place::new("");
    place
        .bace(&["scenario", "check", "/dev/zero"])
        .code(2)
        .complains(&["/dev/zero", "larger than"]);
    let text = scenario("one-job");
    let endless = with(
        &text,
        "price_usd_per_kwh = 0.30",
        "price_usd_per_kwh = { csv = \"/dev/zero\" }",
    );
    fs::write(place.path("s.toml"), endless).expect("a scenario is written");
    place
        .bace(&["scenario", "check", "s.toml"])
        .code(2)
        .complains(&["s.toml", "/dev/zero", "larger than"]);
}

#[test]
fn a_scenario_that_is_not_there_is_told() {
    let place = Place::new("");
    let ended = place.bace(&["run", "three-regoins"]).code(2);
    ended.complains(&["three-regoins", "three-regions"]);
    place
        .bace(&["run", "tmp"])
        .code(2)
        .complains(&["tmp", "directory"]);
    assert!(!place.path("runs").exists());
}

#[test]
fn regions_without_a_link_are_not_crossed() {
    let text = scenario("two-regions");
    let begin = text.find("[[link]]").expect("there is a link");
    let end = text.find("# A pipeline").expect("models follow");
    let place = Place::new(&format!("{}{}", &text[..begin], &text[end..]));
    let results = place
        .start_run(&["--compute", "modelled", "--json"])
        .end()
        .code(0)
        .json();
    for job in results["jobs"].as_array().expect("jobs are a list") {
        assert_eq!(job["path"].as_array().map(Vec::len), Some(1), "{job}");
    }
}

#[test]
fn a_job_that_fits_nowhere_is_refused_and_the_others_run() {
    // Three of these GPUs hold the model, and no path has so many.
    let text = with(
        &scenario("two-regions"),
        "memory_gb = 0.0005",
        "memory_gb = 0.00042",
    );
    let begin = text.find("[[link]]").expect("there is a link");
    let end = text.find("# A pipeline").expect("models follow");
    let text = format!("{}{}", &text[..begin], &text[end..]);
    let place = Place::new(&with(&text, "gpus = 3", "gpus = 2"));
    let ended = place
        .start_run(&["--compute", "modelled", "--json"])
        .end()
        .code(1);
    let results = ended.json();
    assert_eq!(
        results["refused"],
        serde_json::json!(["across"]),
        "{results:#}"
    );
    assert_eq!(results["finished_jobs"], 2);
}

#[test]
fn wrong_options_are_told() {
    let place = Place::new(&scenario("two-regions"));
    let run = |arguments: &[&str]| {
        let all = [&["run", "s.toml", "--out", "out"], arguments].concat();
        let ended = place.bace(&all).code(2);
        assert!(!place.path("out").exists(), "{arguments:?} left a folder");
        ended
    };
    run(&["--policy", "bace"]).complains(&["policy `bace`", "bace-pipe"]);
    assert!(run(&["--device", "gpu"]).stderr.contains("cuda:0,2"));
    assert!(run(&["--listen", "here"]).stderr.contains("--listen"));
    assert!(run(&["--seed", "x"]).stderr.contains("--seed"));
    run(&["--data", "nowhere"]).complains(&["nowhere", "No such file"]);
    fs::write(place.path("short"), "abc").expect("a text is written");
    run(&["--data", "short"]).complains(&["3 bytes", "33 bytes"]);
    fs::write(place.path("binary"), [0, 159, 146, 150]).expect("bytes are written");
    run(&["--data", "binary"]).complains(&["binary"]);
    run(&["--data", "tmp"]).complains(&["tmp", "no text"]);
    place.assert_no_litter();
}

#[test]
fn what_this_machine_cannot_run_is_told_before_anything_starts() {
    let text = scenario("one-job");
    let refused = |old: &str, new: &str, words: &[&str]| {
        let place = Place::new(&with(&text, old, new));
        place.start_run(&[]).end().code(2).complains(words);
        assert!(!place.path("out").exists(), "it left a folder");
    };
    refused("gpus = 1", "gpus = 1000000", &["1000001 emulated GPUs"]);
    refused(
        "vocabulary = 256",
        "vocabulary = 100",
        &["`only`", "`vocabulary` = 100", "256"],
    );
    refused(
        "bytes_per_element = 4",
        "bytes_per_element = 3",
        &["`only`", "`bytes_per_element` = 3", "2 (bf16) or 4 (fp32)"],
    );
    let huge = with(&text, "memory_gb = 0.01", "memory_gb = 2000");
    let place = Place::new(&with(&huge, "model = \"four\"", "model = \"flm-101b\""));
    let ended = place.start_run(&[]).end().code(2);
    ended.complains(&["`flm-101b`", "GB of memory"]);
    let change = "[[gpu_change]]\nat_s = 1\nregion = \"east\"\ngpus = 0\n[[job]]";
    refused("[[job]]", change, &["[[gpu_change]]", "simulated"]);
}

#[test]
fn odd_names_and_empty_regions_run() {
    let odd = scenario("one-job").replace("\"east\"", "\"-east 'é\"");
    let run = |text: &str| {
        Place::new(text)
            .start_run(&["--compute", "modelled", "--json"])
            .end()
    };
    assert_eq!(run(&odd).code(0).json()["jobs"][0]["path"][0], "-east 'é");
    // Without GPUs there is no worker to hear from until the job arrives.
    let text = scenario("one-job").replace("gpus = 1", "gpus = 0");
    let late = with(&text, "arrival_s = 0", "arrival_s = 0.5");
    assert_eq!(
        run(&late).code(1).json()["refused"],
        serde_json::json!(["only"])
    );
}

#[test]
fn a_folder_that_cannot_take_a_run_is_told() {
    let place = Place::new(&scenario("two-regions"));
    let run = |out: &str| place.bace(&["run", "s.toml", "--compute", "modelled", "--out", out]);
    run("text/out")
        .code(2)
        .complains(&["text/out", "Not a directory"]);
    run("/proc/out").code(2).complains(&["/proc/out"]);
    fs::create_dir(place.path("taken")).expect("a folder");
    fs::write(place.path("taken/ledger.jsonl"), "mine\n").expect("a file");
    run("taken")
        .code(2)
        .complains(&["taken", "already holds ledger.jsonl"]);
    let kept = fs::read_to_string(place.path("taken/ledger.jsonl")).expect("it is there");
    assert_eq!(kept, "mine\n");
    assert_eq!(
        fs::read_dir(place.path("taken")).expect("a folder").count(),
        1
    );
}

#[test]
fn a_port_that_is_taken_is_told() {
    let place = Place::new(&scenario("two-regions"));
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let arguments = [
        "run",
        "s.toml",
        "--compute",
        "modelled",
        "--out",
        "out",
        "--listen",
        &address,
    ];
    let ended = place.bace(&arguments).code(1);
    ended.complains(&[&address, "Address already in use"]);
    assert_eq!(
        ended.stderr.matches("already in use").count(),
        1,
        "{}",
        ended.stderr
    );
    assert!(!place.path("out").exists(), "it left a folder");
}

/// A folder with a copy of `bace`, alone.
fn alone() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("bace");
    fs::copy(program("bace"), &copy).expect("the program can be copied");
    (folder, copy)
}

#[test]
fn one_program_without_libtorch_runs_the_modelled_rung() {
    let (_folder, bace) = alone();
    let linked = Command::new("ldd").arg(&bace).output().expect("ldd starts");
    let linked = String::from_utf8_lossy(&linked.stdout).into_owned();
    assert!(
        linked.contains("libc.so") && !linked.contains("torch"),
        "{linked}"
    );
    let place = Place::with_program(&scenario("two-regions"), bace);
    let ended = place
        .start_run(&["--compute", "modelled", "--json"])
        .end()
        .code(0);
    assert_eq!(ended.json()["finished_jobs"], 3);
}

#[test]
fn a_missing_worker_program_is_told() {
    let (_folder, bace) = alone();
    let place = Place::with_program(&scenario("two-regions"), bace);
    let ended = place.start_run(&["--compute", "paced"]).end().code(1);
    ended.complains(&["bace-worker", "cargo build"]);
    assert!(!place.path("out").exists(), "it left a folder");
}

#[test]
fn a_missing_libtorch_is_told() {
    let (folder, bace) = alone();
    // A worker that asks the loader for a library that is not there.
    let mut worker = fs::read(program("bace-worker")).expect("the program can be read");
    rename_in(&mut worker, b"libtorch_cpu.so", b"libtorch_cpX.so");
    rename_in(&mut worker, b"libtorch.so", b"libtorcX.so");
    let copy = folder.path().join("bace-worker");
    fs::write(&copy, worker).expect("a program is written");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("permissions");
    let place = Place::with_program(&scenario("two-regions"), bace);
    let ended = place.start_run(&["--compute", "paced"]).end().code(1);
    ended.complains(&["load libtorch", "X.so", "scripts/libtorch"]);
    assert!(!place.path("out").exists(), "it left a folder");
}

fn rename_in(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    let found: Vec<usize> = bytes
        .windows(old.len())
        .enumerate()
        .filter_map(|(at, window)| (window == old).then_some(at))
        .collect();
    for at in found {
        bytes[at..at + new.len()].copy_from_slice(new);
    }
}

#[test]
fn a_worker_program_that_fails_is_told() {
    let (folder, bace) = alone();
    let copy = folder.path().join("bace-worker");
    fs::write(&copy, "#!/bin/sh\necho out of luck >&2\nexit 3\n").expect("a script");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("permissions");
    let place = Place::with_program(&scenario("two-regions"), bace);
    let ended = place.start_run(&["--compute", "paced"]).end();
    assert_ne!(ended.status.code(), Some(0));
    ended.complains(&["out of luck"]);
}
