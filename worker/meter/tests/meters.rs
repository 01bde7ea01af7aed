//! Meters over fakes, through the sampler as a run uses it.

mod fake;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use bace_meter::{
    BoardId, Finished, Place, Places, Sampler, SamplerPlan, SourceKind, Started, Survey,
    TimeKeeper, Usage, Wanted,
};
use fake::{Board, DRIVER_NOT_LOADED, GPU_IS_LOST, Machine, NO_PERMISSION, NOT_SUPPORTED};

const ONE: &str = "GPU-11111111-1111-1111-1111-111111111111";
const TWO: &str = "GPU-22222222-2222-2222-2222-222222222222";

fn uuid(uuid: &str) -> BoardId {
    BoardId::Uuid(uuid.to_owned())
}

fn boards(uuids: &[&str]) -> Wanted {
    Wanted::Boards(uuids.iter().map(|one| uuid(one)).collect())
}

/// A sampler of `machine` whose workers are on these boards, one each, and have no duty yet.
fn start(machine: &Machine, uuids: &[&str]) -> Started<&'static str> {
    let plan = SamplerPlan {
        places: machine.places(),
        wanted: boards(uuids),
        workers: uuids.iter().map(|one| Place::Board(uuid(one))).collect(),
        keeper: TimeKeeper::Holding,
    };
    Sampler::start(plan).expect("there are threads")
}

/// All shares and what is nobody's are the counter's delta, on every meter.
fn assert_conserved(finished: &Finished<&'static str>) {
    for (meter, total) in finished.totals.iter().enumerate() {
        let shares = finished.shares.iter().filter(|share| share.meter == meter);
        let attributed: u64 = shares.map(|share| share.share.energy_uj).sum();
        assert_eq!(
            attributed + total.unattributed_uj,
            total.energy_uj,
            "{finished:#?}"
        );
    }
}

fn absent(survey: &Survey, source: &str) -> String {
    let found = survey.absent.iter().find(|absent| absent.source == source);
    found
        .unwrap_or_else(|| panic!("{survey:#?}"))
        .reason
        .clone()
}

#[test]
fn boards_are_matched_by_uuid_and_no_other_is_read() {
    let machine = Machine::with_boards(&[Board::new(ONE, 5_000), Board::new(TWO, 90_000)]);
    let started = start(&machine, &[TWO]);
    assert_eq!(started.absent.len(), 1, "{:?}", started.absent);
    let source = &started.sources[0];
    assert_eq!(source.name, format!("nvml {TWO}"));
    assert_eq!((source.kind, source.unit), (SourceKind::NvmlEnergy, "mJ"));
    assert!(
        source.provenance.contains("Fake-1000, driver 999.01"),
        "{source:?}"
    );
    started.sampler.duty(0, Some("a"));
    machine.show(&[Board::new(ONE, 999_000), Board::new(TWO, 92_500)]);
    let finished = started.sampler.finish();
    assert_eq!(finished.totals.len(), 1);
    assert_eq!(finished.totals[0].energy_uj, 2_500_000);
    assert!(finished.shares[0].share.energy_uj > 0);
    assert_conserved(&finished);
}

#[test]
fn a_counter_that_wraps_loses_nothing() {
    let machine = Machine::with_boards(&[Board::new(ONE, (1 << 32) - 100)]);
    let started = start(&machine, &[ONE]);
    machine.show(&[Board::new(ONE, 50)]);
    let finished = started.sampler.finish();
    assert_eq!(finished.totals[0].energy_uj, 150_000);
    let health = finished.totals[0].health;
    assert_eq!((health.wraps, health.resets), (1, 0));
    assert_conserved(&finished);
}

#[test]
fn a_counter_that_is_reset_is_told_of() {
    let machine = Machine::with_boards(&[Board::new(ONE, 1_000_000)]);
    let started = start(&machine, &[ONE]);
    machine.show(&[Board::new(ONE, 1_000_500)]);
    machine.wait_for_samples(1);
    machine.show(&[Board::new(ONE, 200)]);
    let finished = started.sampler.finish();
    assert_eq!(finished.totals[0].energy_uj, 700_000);
    let health = finished.totals[0].health;
    assert_eq!((health.wraps, health.resets), (0, 1));
    assert_conserved(&finished);
}

#[test]
fn joules_of_a_counter_that_stands_still_go_to_those_who_held_the_board_meanwhile() {
    let machine = Machine::with_boards(&[Board::new(ONE, 1_000)]);
    let plan = SamplerPlan {
        places: machine.places(),
        wanted: boards(&[ONE]),
        workers: vec![Place::Board(uuid(ONE)); 2],
        keeper: TimeKeeper::Holding,
    };
    let started = Sampler::start(plan).unwrap();
    started.sampler.duty(0, Some("first"));
    machine.wait_for_samples(1);
    started.sampler.duty(0, None);
    started.sampler.duty(1, Some("second"));
    machine.wait_for_samples(1);
    started.sampler.duty(1, None);
    // Nothing is settled before the joules have shown.
    assert!(started.sampler.settled().is_empty());
    machine.show(&[Board::new(ONE, 101_000)]);
    let finished = started.sampler.finish();
    assert_eq!(finished.totals[0].energy_uj, 100_000_000);
    assert!(finished.totals[0].health.longest_still_ns > 100_000_000);
    let shares: BTreeMap<_, _> = finished
        .shares
        .iter()
        .map(|share| (share.duty.unwrap(), share.share))
        .collect();
    // Each by its time, to the microjoule.
    let [first, second] = [shares["first"], shares["second"]];
    let ratio = first.energy_uj as f64 / second.energy_uj as f64;
    let times = first.held_ns as f64 / second.held_ns as f64;
    assert!((ratio / times - 1.0).abs() < 1e-6, "{ratio} {times}");
    assert_conserved(&finished);
}

#[test]
fn a_counter_that_lags_by_a_tenth_of_a_second_is_followed_to_its_end() {
    let live = Board {
        watts: 200,
        ..Board::new(ONE, 7_000)
    };
    let machine = Machine::with_boards(&[live]);
    let started = start(&machine, &[ONE]);
    started.sampler.duty(0, Some("a"));
    sleep(Duration::from_millis(450));
    started.sampler.duty(0, None);
    let finished = started.sampler.finish();
    let total = &finished.totals[0];
    // The last sample waits for one more refresh, so that all joules of the duty are in.
    let seconds = (total.to_ns - total.from_ns) as f64 / 1e9;
    assert!(seconds >= 0.54, "{seconds}");
    let joules = total.energy_uj as f64 / 1e6;
    assert!(
        (joules - 200.0 * seconds).abs() <= 200.0 * 0.11,
        "{joules} J in {seconds} s"
    );
    let share = finished.shares[0].share;
    assert!(share.held_ns >= 450_000_000, "{share:?}");
    assert!(total.unattributed_uj > 0);
    assert_conserved(&finished);
}

#[test]
fn a_board_without_a_counter_has_its_power_integrated() {
    let board = Board {
        energy_code: NOT_SUPPORTED,
        power_mw: 150_000,
        ..Board::new(ONE, 0)
    };
    let machine = Machine::with_boards(&[board]);
    let started = start(&machine, &[ONE]);
    let source = &started.sources[0];
    assert_eq!((source.kind, source.unit), (SourceKind::NvmlPower, "mW"));
    assert!(
        source.provenance.contains("no energy counter"),
        "{source:?}"
    );
    started.sampler.duty(0, Some("a"));
    machine.wait_for_samples(1);
    let finished = started.sampler.finish();
    let total = &finished.totals[0];
    let seconds = (total.to_ns - total.from_ns) as f64 / 1e9;
    let joules = total.energy_uj as f64 / 1e6;
    // Readings are taken a moment before they are booked.
    let error = joules / (150.0 * seconds) - 1.0;
    assert!(
        error.abs() < 0.1 || total.health.unread_ns > 0,
        "{joules} J in {seconds} s"
    );
    assert_conserved(&finished);
}

#[test]
fn boards_that_refuse_are_absent_with_their_reason() {
    let refuses = |energy_code, power_code| Board {
        energy_code,
        power_code,
        ..Board::new(ONE, 0)
    };
    let machine = Machine::with_boards(&[refuses(NO_PERMISSION, 0)]);
    let name = format!("NVML board {ONE}");
    let survey = || Survey::take(&machine.places(), &boards(&[ONE, TWO]));
    assert_eq!(
        absent(&survey(), &name),
        "its energy counter cannot be read: this user has no permission"
    );
    assert_eq!(
        absent(&survey(), &format!("NVML board {TWO}")),
        "it cannot be opened: NVML knows no such board"
    );
    machine.show(&[refuses(NOT_SUPPORTED, NOT_SUPPORTED)]);
    assert_eq!(
        absent(&survey(), &name),
        "it has no energy counter, and its power cannot be read: the board does not support it"
    );
    machine.show_driver(DRIVER_NOT_LOADED, &[]);
    let reason = absent(&survey(), "NVML");
    assert!(
        reason.ends_with("is there, and no NVIDIA driver is loaded"),
        "{reason}"
    );
    assert!(survey().sources.is_empty());
    machine.show(&[]);
    let all = Survey::take(&machine.places(), &Wanted::AllBoards);
    assert_eq!(absent(&all, "NVML"), "the driver shows no board");
}

#[test]
fn a_library_that_is_not_there_is_only_missed_where_boards_are_wanted() {
    let machine = Machine::new();
    let survey = Survey::take(&machine.places(), &Wanted::AllBoards);
    let reason = absent(&survey, "NVML");
    assert!(
        reason.contains("libnvidia-ml.so.1 cannot be loaded"),
        "{reason}"
    );
    let survey = Survey::take(&machine.places(), &boards(&[]));
    assert!(
        survey
            .absent
            .iter()
            .all(|absent| !absent.source.starts_with("NVML"))
    );
    // A file that is no library.
    fs::write(machine.library(), "nonsense").unwrap();
    let survey = Survey::take(&machine.places(), &Wanted::AllBoards);
    assert!(absent(&survey, "NVML").contains("cannot be loaded"));
}

#[test]
fn a_board_that_vanishes_keeps_what_it_showed_and_says_since_when() {
    let machine = Machine::with_boards(&[Board::new(ONE, 1_000), Board::new(TWO, 1_000)]);
    let started = start(&machine, &[ONE, TWO]);
    started.sampler.duty(0, Some("a"));
    machine.show(&[Board::new(ONE, 4_000), Board::new(TWO, 1_000)]);
    machine.wait_for_samples(2);
    let lost = Board {
        energy_code: GPU_IS_LOST,
        ..Board::new(ONE, 4_000)
    };
    machine.show(&[lost, Board::new(TWO, 2_000)]);
    machine.wait_for_samples(2);
    let finished = started.sampler.finish();
    let [one, two] = &finished.totals[..] else {
        panic!("{finished:#?}");
    };
    assert_eq!((one.energy_uj, two.energy_uj), (3_000_000, 1_000_000));
    let (since_ns, reason) = one.lost.as_ref().unwrap();
    assert!(*since_ns > one.to_ns && one.failures > 0, "{one:?}");
    assert!(reason.contains("the GPU is lost"), "{reason}");
    assert_eq!(two.lost, None);
    assert_conserved(&finished);
}

#[test]
fn a_reading_that_fails_once_costs_nothing() {
    let machine = Machine::with_boards(&[Board::new(ONE, 1_000)]);
    let started = start(&machine, &[ONE]);
    let failing = Board {
        energy_code: 999,
        ..Board::new(ONE, 0)
    };
    machine.show(&[failing]);
    machine.wait_for_samples(1);
    machine.show(&[Board::new(ONE, 6_000)]);
    let finished = started.sampler.finish();
    let total = &finished.totals[0];
    assert_eq!((total.energy_uj, &total.lost), (5_000_000, &None));
    assert!(total.failures > 0);
}

/// A lease whose workers have the device as long as a test says.
struct Told(Arc<[AtomicU64; 2]>);

impl Usage for Told {
    fn held_ns(&self, worker: u32, _now_ns: u64) -> u64 {
        self.0[worker as usize].load(Ordering::Relaxed)
    }

    fn slots(&self, _place: &Place) -> u64 {
        2
    }
}

#[test]
fn the_processors_joules_follow_the_lease_of_its_cores() {
    let machine = Machine::new();
    machine.zone("", "intel-rapl:0", "package-0", 262_143_000_000);
    machine.zone("intel-rapl:0", "intel-rapl:0:0", "core", 5);
    machine.zone("intel-rapl:0", "intel-rapl:0:1", "dram", 1_000_000);
    machine.zone("", "intel-rapl:1", "psys", 7);
    fs::create_dir(machine.powercap().join("intel-rapl-mmio:0")).unwrap();
    let held = Arc::new([AtomicU64::new(40), AtomicU64::new(0)]);
    let plan = SamplerPlan {
        places: machine.places(),
        wanted: boards(&[]),
        workers: vec![Place::Processor, Place::Processor],
        keeper: TimeKeeper::Lease(Box::new(Told(Arc::clone(&held)))),
    };
    let started = Sampler::start(plan).unwrap();
    let names: Vec<_> = started.sources.iter().map(|source| &*source.name).collect();
    assert_eq!(names, ["rapl package-0", "rapl package-0 dram"]);
    assert_eq!(started.absent.len(), 1, "{:?}", started.absent);
    assert_eq!(started.absent[0].source, "RAPL psys");
    started.sampler.duty(0, Some("a"));
    started.sampler.duty(1, Some("b"));
    // More than there was: nothing is left over, and worker 1 has three times as much as worker 0.
    held[0].store(40 + 100_000_000_000, Ordering::Relaxed);
    held[1].store(300_000_000_000, Ordering::Relaxed);
    machine.zone("", "intel-rapl:0", "package-0", 671_150);
    machine.zone("intel-rapl:0", "intel-rapl:0:1", "dram", 1_400_000);
    let finished = started.sampler.finish();
    assert_conserved(&finished);
    let energies: Vec<_> = finished
        .totals
        .iter()
        .map(|total| total.energy_uj)
        .collect();
    // Over the end of its range, and memory beside it.
    assert_eq!(energies, [1_000_000, 400_000]);
    assert_eq!(finished.totals[0].health.wraps, 1);
    let shares: Vec<_> = finished
        .shares
        .iter()
        .map(|share| share.share.energy_uj)
        .collect();
    assert_eq!(shares, [250_000, 750_000, 100_000, 300_000]);
}

#[test]
fn a_processor_without_counters_says_why() {
    let machine = Machine::new();
    let reason = |places: &Places| absent(&Survey::take(places, &boards(&[])), "RAPL");
    assert!(reason(&machine.places()).contains("no zone intel-rapl:N in"));
    let nowhere = Places {
        powercap: machine.powercap().join("nowhere"),
        ..machine.places()
    };
    assert!(reason(&nowhere).contains("the kernel shows no"));
    machine.zone("", "intel-rapl:0", "package-0", 0);
    let counter = machine.powercap().join("intel-rapl:0/energy_uj");
    fs::write(&counter, "many\n").unwrap();
    let survey = Survey::take(&machine.places(), &boards(&[]));
    assert!(absent(&survey, "RAPL package-0").ends_with("holds `many`, no number"));
    fs::remove_file(&counter).unwrap();
    let survey = Survey::take(&machine.places(), &boards(&[]));
    assert!(absent(&survey, "RAPL package-0").contains("cannot be read"));
}

#[test]
fn a_zone_that_does_not_tell_its_name_is_missed_alone() {
    let machine = Machine::new();
    machine.zone("", "intel-rapl:0", "package-0", 1);
    machine.zone("intel-rapl:0", "intel-rapl:0:0", "dram", 2);
    machine.zone("", "intel-rapl:1", "package-1", 3);
    fs::remove_file(machine.powercap().join("intel-rapl:1/name")).unwrap();
    let survey = Survey::take(&machine.places(), &boards(&[]));
    let names: Vec<_> = survey.sources.iter().map(|source| &*source.name).collect();
    assert_eq!(names, ["rapl package-0", "rapl package-0 dram"]);
    assert_eq!(survey.absent.len(), 1, "{survey:#?}");
    assert!(absent(&survey, "RAPL intel-rapl:1").contains("intel-rapl:1/name cannot be read"));
    assert!(survey.absent[0].missing.concerns(&Place::Processor));
    assert!(!survey.absent[0].missing.concerns(&Place::Board(uuid(ONE))));
}

/// A lease that cannot be read any more after some readings.
struct Broken(AtomicU64);

impl Usage for Broken {
    fn held_ns(&self, _worker: u32, _now_ns: u64) -> u64 {
        let readings = self.0.fetch_add(1, Ordering::Relaxed);
        assert!(readings < 2, "this sampler is to die");
        0
    }

    fn slots(&self, _place: &Place) -> u64 {
        1
    }
}

#[test]
fn a_sampler_that_dies_has_lost_its_meters() {
    let machine = Machine::with_boards(&[Board::new(ONE, 1_000)]);
    let plan = SamplerPlan {
        places: machine.places(),
        wanted: boards(&[ONE]),
        workers: vec![Place::Board(uuid(ONE))],
        keeper: TimeKeeper::Lease(Box::new(Broken(AtomicU64::new(0)))),
    };
    let started = Sampler::<()>::start(plan).unwrap();
    // The second sample is its last one.
    sleep(Duration::from_millis(400));
    let finished = started.sampler.finish();
    let lost = finished.totals[0].lost.as_ref();
    assert_eq!(
        lost.map(|(_, reason)| reason.as_str()),
        Some("the thread that reads the meters died")
    );
}

#[test]
fn without_any_meter_a_sampler_has_nothing_to_tell() {
    let machine = Machine::new();
    let started = start(&machine, &[]);
    assert!(started.sources.is_empty());
    started.sampler.duty(0, Some("a"));
    assert!(started.sampler.settled().is_empty());
    let finished = started.sampler.finish();
    assert!(finished.totals.is_empty() && finished.shares.is_empty());
}
