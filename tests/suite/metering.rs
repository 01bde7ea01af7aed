//! What a machine draws, as runs tell it: over a powercap tree of plain files and an NVML library without boards.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use bace_fake_cuda::{FakeCuda, Kind};
use serde_json::Value;

use crate::harness::{Place, of_kind, scenario, start};

/// Where the fake processor's counter begins anew: every half second.
const RANGE_UJ: u64 = 20_000_000;
/// What the fake processor draws, in steps of 20 ms.
const PACKAGE_W: u64 = 40;
const DRAM_W: u64 = 5;
const STEP: Duration = Duration::from_millis(20);
/// Numbers as wide as any, so that one write replaces the whole.
const DIGITS: usize = 15;

/// The boards that the fake CUDA shows.
const BOARD: &str = "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f";
const OTHER_BOARD: &str = "GPU-10111213-1415-1617-1819-1a1b1c1d1e1f";

/// A processor with one package and memory, whose counters advance until it is dropped.
struct Processor {
    root: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Processor {
    fn new(root: PathBuf) -> Self {
        let package = zone(&root, "intel-rapl:0", "package-0");
        let dram = zone(&package, "intel-rapl:0:0", "dram");
        let core = zone(&package, "intel-rapl:0:1", "core");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut package_uj = 5;
        let (mut dram_uj, mut core_uj) = (7, 9);
        show(&package, package_uj);
        show(&dram, dram_uj);
        show(&core, core_uj);
        let thread = thread::spawn(move || {
            let step_us = u64::try_from(STEP.as_micros()).expect("a step is short");
            while !stopped.load(Ordering::Relaxed) {
                sleep(STEP);
                package_uj = (package_uj + PACKAGE_W * step_us) % RANGE_UJ;
                dram_uj += DRAM_W * step_us;
                core_uj += 1000;
                show(&package, package_uj);
                show(&dram, dram_uj);
                show(&core, core_uj);
            }
        });
        Self {
            root,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("counters can be written");
        }
    }
}

fn zone(parent: &Path, id: &str, name: &str) -> PathBuf {
    let folder = parent.join(id);
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("name"), format!("{name}\n")).expect("a file");
    fs::write(folder.join("max_energy_range_uj"), format!("{RANGE_UJ}\n")).expect("a file");
    folder
}

fn show(zone: &Path, energy_uj: u64) {
    let path = zone.join("energy_uj");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path);
    let text = format!("{energy_uj:0DIGITS$}\n");
    let written = file.and_then(|file| file.write_all_at(text.as_bytes(), 0));
    written.expect("a counter can be written");
}

/// An NVML library with one board of 250 W.
fn nvml(folder: &Path) -> PathBuf {
    let state = folder.join("nvml-state");
    let board = format!("board {BOARD} Fake-1000 0 4294966000 0 250000 250 100\n");
    fs::write(&state, board).expect("a file");
    let library = folder.join("libnvidia-ml.so.1");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker/meter/tests/fake/nvml.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .arg(&library)
        .arg(format!("-DSTATE=\"{}\"", state.display()))
        .arg(source)
        .output()
        .expect("a C compiler, cc, is installed");
    assert!(compiled.status.success(), "{compiled:?}");
    library
}

fn joules(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no energy"))
}

fn microjoules(record: &Value, key: &str) -> u64 {
    let number = record[key].as_u64();
    number.unwrap_or_else(|| panic!("no {key} in {record}"))
}

/// The ledger's shares and what is nobody's are each meter's delta to the microjoule, and the results say the same.
fn assert_conserved(place: &Place, results: &Value) {
    let ledger = place.ledger();
    let totals = of_kind(&ledger, "meter_total");
    assert!(!totals.is_empty());
    let mut all_uj = 0;
    for total in totals {
        let shares = of_kind(&ledger, "physical_energy").into_iter();
        let shares = shares.filter(|share| share["meter"] == total["meter"]);
        let attributed_uj: u64 = shares.map(|share| microjoules(share, "energy_uj")).sum();
        let energy_uj = microjoules(total, "energy_uj");
        assert_eq!(
            attributed_uj + microjoules(total, "unattributed_uj"),
            energy_uj
        );
        all_uj += energy_uj;
    }
    let physical = &results["physical"];
    let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-5, "{physical}");
    close(joules(&physical["energy_j"]), all_uj as f64 / 1e6);
    let sum = |list: &Value, key: &str| -> f64 {
        let list = list.as_array().expect("a list").iter();
        list.map(|one| joules(&one[key])).sum()
    };
    let nobodys_j = joules(&physical["unattributed_j"]);
    close(
        sum(&results["jobs"], "physical_energy_j") + nobodys_j,
        all_uj as f64 / 1e6,
    );
    close(
        sum(&physical["workers"], "energy_j") + nobodys_j,
        all_uj as f64 / 1e6,
    );
}

#[test]
fn a_runs_joules_go_to_its_jobs_by_time_under_the_lease_and_none_is_lost() {
    let place = Place::new(&scenario("two-regions"));
    let processor = Processor::new(place.path("powercap"));
    let mut command = place.command(&[
        "run",
        "s.toml",
        "--data",
        "text",
        "--out",
        "out",
        "--receipts",
        "off",
        "--json",
    ]);
    command.env("BACE_POWERCAP", &processor.root);
    let results = start(command).end().code(0).json();
    assert_conserved(&place, &results);
    let physical = &results["physical"];
    let meters = physical["meters"].as_array().expect("a list");
    let names = meters.iter().filter(|meter| meter["column"] == "physical");
    let names: Vec<_> = names.map(|meter| &meter["meter"]).collect();
    // Cores are part of their package.
    assert_eq!(names, ["rapl package-0", "rapl package-0 dram"]);
    let package = meters
        .iter()
        .find(|meter| meter["meter"] == "rapl package-0");
    let package = package.expect("it was found above");
    assert_eq!(package["attributed_by"], "lease");
    assert_eq!(package["unit"], "uJ");
    let read = &package["read"];
    let seconds = joules(&read["to_s"]) - joules(&read["from_s"]);
    let mean_w = joules(&package["energy_j"]) / seconds;
    assert!(
        mean_w > 1.0 && mean_w < 1.5 * PACKAGE_W as f64,
        "{mean_w} W"
    );
    for job in results["jobs"].as_array().expect("a list") {
        assert!(joules(&job["physical_energy_j"]) > 0.0, "{job}");
    }
    assert!(joules(&physical["unattributed_j"]) > 0.0);
    // The other column knows nothing of it.
    let models = meters.iter().filter(|meter| meter["column"] == "emulated");
    let emulated_j: f64 = models.map(|meter| joules(&meter["energy_j"])).sum();
    assert!((emulated_j - joules(&results["energy_j"])).abs() < 1e-9 * emulated_j);
    let metering = &physical["metering"];
    assert!(metering["samples"].as_u64() > Some(2), "{metering}");
    assert!(
        joules(&metering["cpu_s"]) < 0.05 * joules(&metering["wall_s"]),
        "{metering}"
    );
    let again = place.bace(&["report", "out", "--json"]).code(0).json();
    assert_eq!(again["physical"], results["physical"]);
    let report = place.bace(&["report", "out"]).code(0).stdout;
    assert!(
        report.contains("drawn ") && report.contains("rapl package-0 dram"),
        "{report}"
    );
    place.assert_no_litter();
}

#[test]
fn boards_are_metered_by_uuid_and_those_that_nvml_does_not_know_are_absent() {
    let place = Place::new(&scenario("two-regions"));
    let cuda = FakeCuda::build(&place.path("."), Kind::Whole);
    let library = nvml(&place.path("."));
    let mut command = place.command(&[
        "run",
        "s.toml",
        "--out",
        "out",
        "--receipts",
        "off",
        "--json",
        "--compute",
        "modelled",
        "--device",
        "cuda",
    ]);
    cuda.give(&mut command, 2)
        .env("BACE_NVML_LIBRARY", &library)
        .env("BACE_POWERCAP", place.path("nowhere"));
    let results = start(command).end().code(0).json();
    let physical = &results["physical"];
    let meters = physical["meters"].as_array().expect("a list");
    let board = meters.iter().find(|meter| meter["column"] == "physical");
    let board = board.unwrap_or_else(|| panic!("{physical:#}"));
    assert_eq!(board["meter"], format!("nvml {BOARD}"));
    assert_eq!(board["source"], "nvml_energy");
    assert_eq!(board["attributed_by"], "holding");
    assert!(joules(&board["energy_j"]) > 0.0);
    assert_eq!(board["read"]["resets"], 0, "{board}");
    let absent = physical["absent"].as_array().expect("a list");
    let reason = |meter: &str| {
        let found = absent.iter().find(|absent| absent["meter"] == meter);
        found.unwrap_or_else(|| panic!("{physical:#}"))["reason"].to_string()
    };
    assert!(reason(&format!("NVML board {OTHER_BOARD}")).contains("NVML knows no such board"));
    assert!(
        reason("RAPL").contains("the kernel shows no"),
        "{}",
        reason("RAPL")
    );
    // Workers on the other board drew what nobody counted, and so did their jobs.
    let jobs = results["jobs"].as_array().expect("a list");
    let unmetered = jobs.iter().filter(|job| {
        let reason = job["unknown"]["physical_energy_j"].to_string();
        reason.contains(OTHER_BOARD) && job["physical_energy_j"].is_null()
    });
    assert!(unmetered.count() > 0, "{results:#}");
    let total = joules(&board["attributed_j"]) + joules(&board["unattributed_j"]);
    assert!((total - joules(&board["energy_j"])).abs() < 1e-5);
}

#[test]
fn without_meters_every_figure_has_its_reason() {
    let place = Place::new(&scenario("two-regions"));
    let common = [
        "run",
        "s.toml",
        "--receipts",
        "off",
        "--json",
        "--compute",
        "modelled",
    ];
    let run = |more: &[&str]| {
        let arguments: Vec<&str> = common.iter().chain(more).copied().collect();
        let mut command = place.command(&arguments);
        command.env("BACE_POWERCAP", place.path("nowhere"));
        start(command).end().code(0).json()
    };
    let none = run(&["--out", "none"]);
    assert_eq!(none["physical"]["energy_j"], Value::Null);
    let reason = none["physical"]["unknown"]["energy_j"].to_string();
    assert!(
        reason.contains("no meter is there (RAPL: the kernel shows no"),
        "{reason}"
    );
    assert_eq!(none["jobs"][0]["physical_energy_j"], Value::Null);
    assert!(none["energy_j"].is_number());
    let off = run(&["--out", "off", "--meters", "off"]);
    let reason = off["physical"]["unknown"]["energy_j"].to_string();
    assert!(reason.contains("--meters off"), "{reason}");
    let report = place.bace(&["report", "none"]).code(0).stdout;
    assert!(
        report.contains("drawn     unknown: no meter is there"),
        "{report}"
    );
    let simulated = place.bace(&["simulate", "s.toml", "--json"]).code(0).json();
    assert_eq!(
        simulated["physical"]["unknown"]["energy_j"],
        "a simulation draws nothing that would be metered"
    );
}

#[test]
fn reading_the_meters_is_measured_and_needs_one() {
    let place = Place::new("");
    let processor = Processor::new(place.path("powercap"));
    let library = nvml(&place.path("."));
    let bench = |library: &Path, powercap: &Path| {
        let mut command = place.command(&["bench", "meter", "--seconds", "1", "--json"]);
        command
            .env("BACE_NVML_LIBRARY", library)
            .env("BACE_POWERCAP", powercap);
        start(command).end()
    };
    let ended = bench(&library, &processor.root);
    let found = ended.json();
    assert_eq!(found["meters"].as_array().map(Vec::len), Some(3), "{found}");
    assert!(found["samples"].as_u64() >= Some(3), "{found}");
    assert!(joules(&found["cpu_us_a_sample"]) > 0.0);
    assert_eq!(ended.status.success(), found["met"] == true);
    let nowhere = place.path("nowhere");
    bench(&nowhere, &nowhere)
        .code(1)
        .complains(&["there is none", "RAPL:", "NVML:"]);
}

#[test]
fn the_doctor_lists_meters_and_why_others_are_not_there() {
    let place = Place::new("");
    let processor = Processor::new(place.path("powercap"));
    let mut command = place.command(&["doctor", "--json"]);
    command
        .env("BACE_NVML_LIBRARY", place.path("nowhere"))
        .env("BACE_POWERCAP", &processor.root);
    let found = start(command).end().json();
    let findings = found["findings"].as_array().expect("a list");
    let of = |name: &str| -> Vec<&Value> {
        let named = findings.iter().filter(|finding| finding["name"] == name);
        named.collect()
    };
    let rapl = of("RAPL");
    assert_eq!(rapl.len(), 2, "{findings:#?}");
    assert!(rapl.iter().all(|finding| finding["state"] == "present"));
    let nvml = of("NVML");
    assert_eq!(nvml[0]["state"], "absent");
    assert!(
        nvml[0]["found"].to_string().contains("cannot be loaded"),
        "{}",
        nvml[0]
    );
}
