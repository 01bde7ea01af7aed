//! What becomes of a job between its start and its end, on the world of [`crate::testing`].

use bace_api::{Attempt, EnergyUse, JobId, Record, StageIndex};
use bace_models::{
    DeviceKind, DeviceProfile, DeviceTimes, LayerShape, MicroBatchShape, Part, Parts, ProfileEntry,
    ProfileKey, ProfiledDevice, SetUp, StagePlace, StageSeconds,
};
use bace_netem::{BitRate, Delay, LinkId, RegionId};

use crate::golden::golden;
use crate::testing::{World, records, start_commands, starts};
use crate::{Command, Detail, Engine, Input, agenda, policies, policy_by_name};

fn energy(engine: &mut Engine) -> Vec<EnergyUse> {
    let uses = records(engine)
        .into_iter()
        .filter_map(|record| match record {
            Record::Energy(energy) => Some(energy),
            _ => None,
        });
    uses.collect()
}

fn link(from: u16, to: u16) -> LinkId {
    LinkId::new(RegionId::new(from), RegionId::new(to))
}

fn rate(bps: f64) -> BitRate {
    BitRate::from_bps(bps).unwrap()
}

/// The delay of links of [`World`].
fn half_a_second() -> Delay {
    Delay::from_seconds(0.5).unwrap()
}

#[test]
fn joules_and_dollars_by_hand() {
    let lines = "[[region]]\nname = \"a\"\ngpus = 2\ngpu = \"unit\"\npue = 1.5\n\
                 price_usd_per_kwh = [{ from_s = 0, usd_per_kwh = 0.36 }, { from_s = 50, usd_per_kwh = 0.72 }]\n\
                 carbon_g_per_kwh = 360";
    let mut engine = World::new()
        .and(lines)
        .job("j", 0.0, 5)
        .settled("bace-pipe");
    assert_eq!(starts(&mut engine), ["j: a 2"]);
    // The first stage computes for 16 of 20 s an iteration, evenly; of the second nothing is told.
    let usage = |from_s, to_s, busy_s| Input::Usage {
        job: JobId(0),
        stage: StageIndex(0),
        from_s,
        to_s,
        busy_s,
    };
    engine.handle(40.0, usage(0.0, 40.0, 32.0));
    engine.handle(100.0, usage(40.0, 100.0, 48.0));
    engine.handle(100.0, Input::Finished(JobId(0)));
    let uses = energy(&mut engine);
    let [first, second] = uses.as_slice() else {
        panic!("two stages, {} accounts", uses.len());
    };
    assert_eq!((first.held_s, first.busy_s), (100.0, 80.0));
    assert_eq!(first.energy_j, 80.0 * 300.0 + 20.0 * 100.0);
    assert_eq!(second.energy_j, 100.0 * 100.0);
    // Idle: 100 W · 1.5 · (50 s · 0.36 + 50 s · 0.72) $/kWh.
    let idle = 100.0 * 1.5 * (50.0 * 0.36 + 50.0 * 0.72) / 3.6e6;
    assert!((second.cost_usd - idle).abs() < 1e-15);
    // Busy: 200 W more for 0.8 of every second.
    assert!((first.cost_usd - idle * (1.0 + 2.0 * 0.8)).abs() < 1e-15);
    assert!((first.carbon_g.unwrap() - first.energy_j * 1.5 * 360.0 / 3.6e6).abs() < 1e-9);
}

#[test]
fn an_account_is_the_sum_over_its_seconds() {
    let lines = "[[region]]\nname = \"a\"\ngpus = 1\ngpu = \"unit\"\npue = 1.2\nprice_usd_per_kwh = [\
                 { from_s = 0, usd_per_kwh = 0.1, daily = true }, { from_s = 7, usd_per_kwh = 0.5, daily = true }, \
                 { from_s = 86000, usd_per_kwh = 0.3, daily = true }]";
    let world = World::new().and(lines).job("j", 85_990.0, 1);
    let mut engine = Engine::new(world.scenario(), policy_by_name("lcf").unwrap());
    engine.handle(85_990.0, Input::Submitted(JobId(0)));
    engine.settle(85_990.0);
    let spans = [(85_995.0, 86_003.0, 4.0), (86_003.0, 86_420.0, 417.0)];
    for (from_s, to_s, busy_s) in spans {
        engine.handle(
            to_s,
            Input::Usage {
                job: JobId(0),
                stage: StageIndex(0),
                from_s,
                to_s,
                busy_s,
            },
        );
    }
    engine.handle(86_430.0, Input::Finished(JobId(0)));
    let price = |second: u32| match second % 86_400 {
        0..7 => 0.1,
        7..86_000 => 0.5,
        _ => 0.3,
    };
    let watts = |second: u32| match second {
        86_003..86_420 => 300.0,
        85_995..86_003 => 200.0,
        _ => 100.0,
    };
    let seconds = 85_990..86_430;
    let dollars: f64 = seconds.map(|s| watts(s) * 1.2 * price(s) / 3.6e6).sum();
    let account = &energy(&mut engine)[0];
    assert!((account.cost_usd / dollars - 1.0).abs() < 1e-12);
}

#[test]
fn jobs_on_lost_gpus_wait_again_with_their_whole_iterations() {
    let mut engine = World::new()
        .region("a", 4, "unit", 0.1)
        .region("b", 2, "unit", 0.2)
        .job("j", 0.0, 9)
        .job_of("k", 0.0, 9, 1)
        .settled("ldf");
    assert_eq!(starts(&mut engine), ["j: a 4", "k: b 1"]);
    let (a, progress) = (RegionId::new(0), 3.7);
    engine.handle(
        60.0,
        Input::Progress {
            job: JobId(0),
            iterations: progress,
        },
    );
    engine.handle(60.0, Input::GpusChanged { region: a, gpus: 3 });
    engine.settle(60.0);
    let Some(Command::Cancel {
        job,
        attempt,
        reason,
    }) = engine.poll_command()
    else {
        panic!("the job on the lost GPU is cancelled first");
    };
    assert_eq!((job, attempt), (JobId(0), Attempt(0)));
    assert_eq!(reason, "a has 3 GPUs left");
    let again = &start_commands(&mut engine)[0];
    assert_eq!((again.attempt, again.first_iteration), (Attempt(1), 3));
    assert_eq!(again.placement.stages(), 3);
    assert_eq!(
        energy(&mut engine).len(),
        4,
        "the first start's accounts are closed"
    );
    engine.handle(61.0, Input::Submitted(JobId(1)));
    assert_eq!(engine.waiting().count(), 0, "a job arrives once");
    // What comes late of a job that ended is recorded and changes nothing.
    engine.handle(99.0, Input::Finished(JobId(0)));
    engine.handle(99.0, Input::Finished(JobId(0)));
    let finished = |record: &Record| matches!(record, Record::JobFinished { .. });
    assert_eq!(
        records(&mut engine)
            .iter()
            .filter(|record| finished(record))
            .count(),
        1
    );
}

#[test]
fn gpus_that_return_are_used() {
    let mut engine = World::new()
        .region("a", 4, "unit", 0.1)
        .job("j", 0.0, 9)
        .settled("bace-pipe");
    assert_eq!(starts(&mut engine), ["j: a 4"]);
    let a = RegionId::new(0);
    engine.handle(10.0, Input::GpusChanged { region: a, gpus: 0 });
    engine.settle(10.0);
    assert_eq!(starts(&mut engine), [""; 0]);
    assert_eq!(engine.waiting().collect::<Vec<_>>(), [JobId(0)]);
    engine.handle(20.0, Input::GpusChanged { region: a, gpus: 4 });
    engine.settle(20.0);
    assert_eq!(starts(&mut engine), ["j: a 4"]);
}

#[test]
fn running_jobs_hear_of_new_shares() {
    // Both jobs of the baseline send 1024 bits every 4 s over a link of 1000 bit/s.
    let mut engine = World::new()
        .region("a", 2, "unit", 0.1)
        .region("b", 2, "unit", 0.2)
        .link("a", "b", 400.0)
        .job("j", 0.0, 9)
        .settled("cr-lcf");
    let start = &start_commands(&mut engine)[0];
    // Four stages send every 2 s, 512 bit/s; the link has 400: 2.56 s a slot, 7 slots, 1 s there and back.
    assert!((start.iteration_s - (7.0 * 2.56 + 1.0)).abs() < 1e-12);
    engine.handle(
        5.0,
        Input::LinkChanged {
            link: link(1, 0),
            rate: rate(256.0),
            delay: half_a_second(),
        },
    );
    engine.settle(5.0);
    let Some(Command::Rates(rates)) = engine.poll_command() else {
        panic!("the job's shares changed");
    };
    assert!((rates.iteration_s - (7.0 * 4.0 + 1.0)).abs() < 1e-12);
    assert_eq!(rates.rates, [100e9, 256.0, 100e9]);
    // The other direction is wide enough already.
    engine.handle(
        6.0,
        Input::LinkChanged {
            link: link(0, 1),
            rate: rate(9e9),
            delay: half_a_second(),
        },
    );
    engine.settle(6.0);
    assert_eq!(engine.poll_command(), None);
    engine.handle(
        7.0,
        Input::LinkChanged {
            link: link(0, 1),
            rate: rate(0.0),
            delay: half_a_second(),
        },
    );
    engine.settle(7.0);
    let Some(Command::Rates(rates)) = engine.poll_command() else {
        panic!("the job's link is down");
    };
    assert_eq!(rates.iteration_s, f64::INFINITY);
}

#[test]
fn a_new_delay_enters_running_and_starting_jobs() {
    let world = World::new()
        .region("a", 2, "unit", 0.1)
        .region("b", 2, "unit", 0.2)
        .link("a", "b", 1000.0)
        .job("j", 0.0, 9)
        .job("k", 0.0, 9);
    let mut engine = world.settled("cr-lcf");
    let start = &start_commands(&mut engine)[0];
    assert_eq!(start.delays_s, [0.0, 0.5, 0.0]);
    // Four stages of 2 s: 7 slots, and 0.5 s there and back.
    assert_eq!(start.iteration_s, 7.0 * 2.0 + 1.0);
    for (from, to, seconds) in [(0, 1, 3.0), (1, 0, 8.0)] {
        let changed = Input::LinkChanged {
            link: link(from, to),
            rate: rate(1000.0),
            delay: Delay::from_seconds(seconds).unwrap(),
        };
        engine.handle(1.0, changed);
    }
    engine.settle(1.0);
    let Some(Command::Rates(rates)) = engine.poll_command() else {
        panic!("the job's delay changed");
    };
    // The formula counts the delay of the activations' direction twice.
    assert_eq!(rates.iteration_s, 7.0 * 2.0 + 6.0);
    engine.handle(2.0, Input::Finished(JobId(0)));
    engine.settle(2.0);
    let start = &start_commands(&mut engine)[0];
    assert_eq!((start.job, start.iteration_s), (JobId(1), 20.0));
    assert_eq!(start.delays_s, [0.0, 3.0, 0.0]);
}

#[test]
fn failed_jobs_leave_the_cluster_or_the_queue() {
    let mut engine = World::new()
        .region("a", 4, "unit", 0.1)
        .job("j", 0.0, 1)
        .job("k", 0.0, 1)
        .settled("bace-pipe");
    for job in [0, 1] {
        let reason = "its worker died".to_owned();
        engine.handle(
            1.0,
            Input::Failed {
                job: JobId(job),
                reason,
            },
        );
    }
    engine.settle(1.0);
    assert_eq!(engine.running().count() + engine.waiting().count(), 0);
    assert_eq!(engine.cluster().free(RegionId::new(0)), 4);
    let failed = |record: &Record| matches!(record, Record::JobFailed { .. });
    assert_eq!(
        records(&mut engine)
            .iter()
            .filter(|record| failed(record))
            .count(),
        2
    );
}

#[test]
fn fewer_words_do_not_change_what_is_done() {
    let world = World::new()
        .region("a", 4, "unit", 0.1)
        .job("j", 0.0, 1)
        .job("k", 0.0, 1);
    let mut quiet = Engine::new(world.scenario(), policy_by_name("bace-pipe").unwrap())
        .with_detail(Detail::Outcomes);
    quiet.handle(0.0, Input::Submitted(JobId(0)));
    quiet.handle(0.0, Input::Submitted(JobId(1)));
    quiet.settle(0.0);
    let loud = start_commands(&mut world.settled("bace-pipe"));
    assert_eq!(start_commands(&mut quiet), loud);
    assert_eq!(records(&mut quiet).len(), 1);
}

#[test]
fn an_agenda_is_in_order_of_time_and_changes_precede_arrivals() {
    let world = World::new()
        .region("a", 1, "unit", 0.1)
        .region("b", 1, "unit", 0.1)
        .link("a", "b", 1e6)
        .job("late", 9.0, 1)
        .job("early", 3.0, 1)
        .and("[[link_change]]\nat_s = 9\nfrom = \"a\"\nto = \"b\"\nbandwidth_mbps = 2")
        .and("[[gpu_change]]\nat_s = 3\nregion = \"b\"\ngpus = 0");
    let agenda: Vec<(f64, Input)> = agenda(&world.scenario())
        .into_iter()
        .map(|scheduled| (scheduled.at_s, scheduled.input))
        .collect();
    let expected = [
        (
            3.0,
            Input::GpusChanged {
                region: RegionId::new(1),
                gpus: 0,
            },
        ),
        (3.0, Input::Submitted(JobId(1))),
        (
            9.0,
            Input::LinkChanged {
                link: link(0, 1),
                rate: rate(2e6),
                delay: half_a_second(),
            },
        ),
        (9.0, Input::Submitted(JobId(0))),
    ];
    assert_eq!(agenda, expected);
}

/// Every policy on a world where jobs wait, cross regions, meet narrow links and are refused.
#[test]
fn decisions_and_their_reasons() {
    let world = World::new()
        .region("east", 5, "unit", 0.3)
        .region("north", 3, "small", 0.1)
        .region("west", 2, "half", 0.2)
        .link("east", "north", 300.0)
        .link("east", "west", 200.0)
        .link("north", "west", 300.0)
        .and("[policy]\nmin_share = 0.6")
        .job("long", 0.0, 30)
        .job("short", 0.0, 3)
        .job_of("thick", 0.0, 10, 9)
        .job_of("thin", 0.0, 10, 1);
    for policy in policies() {
        let mut engine = world.settled(policy.name);
        let (mut lines, mut at_s) = (String::new(), 0.0);
        loop {
            for record in records(&mut engine) {
                if !matches!(record, Record::Input { .. } | Record::Energy(_)) {
                    lines.push_str(&serde_json::to_string(&record).unwrap());
                    lines.push('\n');
                }
            }
            let Some(first) = engine.running().next() else {
                break;
            };
            at_s += 100.0;
            engine.handle(at_s, Input::Finished(first));
            engine.settle(at_s);
        }
        golden(&format!("decisions/{}.jsonl", policy.name), &lines);
    }
}

/// A profile of the model `seven` with micro-batches of `sequence` tokens.
fn profile(sequence: u32) -> DeviceProfile {
    let part = |forward_s, backward_s, step_s| Part {
        forward_s,
        backward_s,
        step_s,
    };
    let model = LayerShape {
        hidden: 64,
        heads: 1,
        kv_heads: 1,
        head_size: 64,
        feed_forward: 64,
        gated: false,
        vocabulary: 1,
    };
    DeviceProfile {
        device: ProfiledDevice {
            kind: DeviceKind::Cpu,
            name: "a processor".to_owned(),
            threads: Some(1),
            driver: None,
            libtorch: "2.13.0".to_owned(),
            precision: "fp32".to_owned(),
        },
        entries: vec![ProfileEntry {
            key: ProfileKey {
                model,
                shape: MicroBatchShape {
                    sequences: 1,
                    sequence,
                    bytes_per_element: 2,
                },
            },
            times: DeviceTimes {
                parts: Parts {
                    layer: part(1.0, 3.0, 0.5),
                    embedding: part(0.25, 0.5, 2.0),
                    head: part(4.0, 5.0, 2.5),
                    stage: part(0.125, 0.125, 0.0),
                    copy_in_s: 0.01,
                    copy_out_s: 0.02,
                },
                set_up: Some(SetUp {
                    layer_s: 0.5,
                    stage_s: 0.25,
                    fresh_s: 2.0,
                    ..SetUp::default()
                }),
            },
        }],
    }
}

#[test]
fn with_a_profile_every_gpu_is_the_device_it_was_measured_on() {
    let world = World::new()
        .region("a", 1, "half", 0.1)
        .region("b", 2, "unit", 0.1)
        .link("a", "b", 1e6)
        .job("j", 0.0, 1);
    let profile = profile(1);
    let policy = policy_by_name("bace-pipe").unwrap();
    let mut engine = Engine::new(world.scenario(), policy)
        .with_profile(&profile)
        .unwrap();
    engine.handle(0.0, Input::Submitted(JobId(0)));
    engine.settle(0.0);
    let start = &start_commands(&mut engine)[0];
    // Layers of 4 s and a head of 9 s: 3, 3 and 1 layers take 13.03, 12.31 and 13.28 s, and no other cut takes less.
    assert_eq!(start.placement.layers, [3, 3, 1]);
    let times = profile.entries[0].times;
    let expected: Vec<StageSeconds> = [
        (3, StagePlace::First),
        (3, StagePlace::Middle),
        (1, StagePlace::Last),
    ]
    .map(|(layers, place)| times.stage_seconds(layers, place))
    .to_vec();
    assert_eq!(start.stage_seconds, expected);
    assert_eq!((expected[1].set_up_s, expected[1].fresh_s), (1.75, 2.0));
    let slot_s = expected[2].micro_batch_s;
    assert!((slot_s - 13.28).abs() < 1e-12);
    // M + K − 1 slots and the delay there and back; the formula has no step.
    assert!((start.iteration_s - (6.0 * slot_s + 1.0)).abs() < 1e-9);
}

#[test]
fn what_a_profile_lacks_is_named_with_the_jobs_that_need_it() {
    let mut world = World::new().region("a", 1, "unit", 0.1);
    for name in ["j", "k", "l", "m"] {
        world = world.job(name, 0.0, 1);
    }
    let policy = policy_by_name("bace-pipe").unwrap();
    let refused = Engine::new(world.scenario(), policy).with_profile(&profile(2));
    assert_eq!(
        refused.err().unwrap().to_string(),
        "predict from the profile: it has no entry for model `seven` (hidden 64, heads 1/1, head size 64, feed-forward 64, vocabulary 1) \
         with micro-batches of 1 x 1 tokens and 2 bytes an element at boundaries, needed by `j`, `k`, `l` and 1 more"
    );
}
