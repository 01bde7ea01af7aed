//! What links do to jobs in the event model: closed forms, the sender's own arithmetic beside it, determinism.

use std::collections::BTreeMap;
use std::sync::Arc;

use bace_api::{Attempt, JobId, Placement, Record, RegionGpus};
use bace_engine::{Input, Scenario, Start, policy_by_name};
use bace_models::StageSeconds;
use bace_netem::{CreditBucket, Flow, FlowKey, LinkClock, LinkId, LinkSpec, RegionId, chunk_bytes};
use bace_sim::{EventModel, EventSettings, Executor, Instant, IterationModel, Reports, simulate};

/// Bytes of a tensor between stages.
const BYTES: u64 = 512 * 256 * 2;
/// Forward and backward of a stage.
const STAGE_S: f64 = 0.3;

/// Two regions joined by `links`, and jobs of `micro_batches` tensors of [`BYTES`] each way.
fn scenario(seed: u64, links: &str, iterations: u32, micro_batches: &[u32]) -> Arc<Scenario> {
    let mut text = format!(
        "name = \"rough\"\nseed = {seed}\n{links}\n[model.wide]\nlayers = 8\nhidden = 512\nheads = 1\nfeed_forward = 1\n\
         gated = false\nvocabulary = 1\n"
    );
    for name in ["a", "b"] {
        text.push_str(&format!(
            "[[region]]\nname = \"{name}\"\ngpus = 8\ngpu = \"a6000\"\nprice_usd_per_kwh = 0.1\n"
        ));
    }
    for (job, micro_batches) in micro_batches.iter().enumerate() {
        text.push_str(&format!(
            "[[job]]\nname = \"j{job}\"\nmodel = \"wide\"\narrival_s = 0\niterations = {iterations}\n\
             micro_batches = {micro_batches}\nmicro_batch = 1\nsequence = 256\nschedule = \"gpipe\"\n"
        ));
    }
    let none = |_: &str| Err("no files".to_owned());
    Arc::new(Scenario::parse(&text, "rough.toml", &none).expect("a valid scenario"))
}

/// A link in both directions with `keys` besides.
fn both(mbps: f64, delay_ms: f64, keys: &str) -> String {
    format!(
        "[[link]]\nbetween = [\"a\", \"b\"]\nbandwidth_mbps = {mbps}\none_way_delay_ms = {delay_ms}\n{keys}\n"
    )
}

fn link(from: u16, to: u16) -> LinkId {
    LinkId::new(RegionId::new(from), RegionId::new(to))
}

/// One stage in each region.
fn start(job: u32) -> Start {
    let path = [0, 1].map(|region| RegionGpus {
        region: RegionId::new(region),
        gpus: 1,
    });
    Start {
        job: JobId(job),
        attempt: Attempt(0),
        placement: Placement {
            path: path.to_vec(),
            layers: vec![4, 4],
        },
        stage_seconds: vec![StageSeconds::by_formula(STAGE_S); 2],
        first_iteration: 0,
        iteration_s: 1.0,
        rates: vec![1.0],
        delays_s: vec![0.0],
    }
}

/// Starts all jobs of `scenario` at 0 and lets its links change; all records, and when each job ends.
fn run(scenario: &Arc<Scenario>, repeat_steady: bool) -> (Vec<Record>, BTreeMap<u32, f64>) {
    let settings = EventSettings {
        repeat_steady,
        ..EventSettings::default()
    };
    let mut model = EventModel::new(scenario.clone(), settings);
    for job in 0..scenario.jobs.len() as u32 {
        model.start(Instant::new(0.0), &start(job));
    }
    let mut changes = scenario.link_changes.iter().peekable();
    let (mut records, mut ends) = (Vec::new(), BTreeMap::new());
    loop {
        let change_s = changes.peek().map(|change| change.at_s);
        let next_s = [model.next_s(), change_s].into_iter().flatten();
        let Some(at_s) = next_s.reduce(f64::min) else {
            return (records, ends);
        };
        let now = Instant::new(at_s);
        let mut reports = Reports::default();
        model.advance(now, &mut reports);
        for input in reports.inputs {
            if let Input::Finished(job) = input {
                ends.insert(job.0, at_s);
            }
        }
        records.append(&mut reports.records);
        while let Some(change) = changes.next_if(|change| now.includes(change.at_s)) {
            model.link_changed(now, change.link, change.rate, change.delay);
        }
    }
}

fn end_of(scenario: &Arc<Scenario>) -> f64 {
    run(scenario, true).1[&0]
}

/// How long each iteration of stage 1 of job `job` waited for tensors.
fn stalls(records: &[Record], job: &str) -> Vec<f64> {
    let stalls = records.iter().filter_map(|record| match record {
        Record::Iteration(ended) if ended.job == job && ended.stage.0 == 1 => {
            Some(ended.times.stall_s)
        }
        _ => None,
    });
    stalls.collect()
}

/// How long each iteration of stage 0 took.
fn durations(records: &[Record]) -> Vec<f64> {
    let durations = records.iter().filter_map(|record| match record {
        Record::Iteration(ended) if ended.stage.0 == 0 => Some(ended.to_s - ended.from_s),
        _ => None,
    });
    durations.collect()
}

#[track_caller]
fn assert_close(a: f64, b: f64, by: f64) {
    assert!((a - b).abs() <= by, "{a} and {b} are more than {by} apart");
}

/// An iteration of one micro-batch: both stages' work, one tensor there and one back.
fn round_s(there_s: f64, back_s: f64) -> f64 {
    2.0 * STAGE_S + there_s + back_s
}

#[test]
fn headers_take_their_part_of_the_link() {
    // 185 datagrams; QUIC's 31 bytes, 28 of IP and UDP, 14 of Ethernet.
    for (accounting, charged) in [
        ("payload", BYTES),
        ("ip", BYTES + 185 * (31 + 28)),
        ("ethernet", BYTES + 185 * (31 + 28 + 14)),
    ] {
        let keys = format!("accounting = \"{accounting}\"");
        let scenario = scenario(0, &both(100.0, 20.0, &keys), 10, &[1]);
        let one_way_s = charged as f64 * 8.0 / 100e6 + 0.02;
        assert_close(
            end_of(&scenario),
            10.0 * round_s(one_way_s, one_way_s),
            1e-9,
        );
    }
}

#[test]
fn directions_are_links_of_their_own() {
    let links = "[[link]]\nfrom = \"a\"\nto = \"b\"\nbandwidth_mbps = 100\none_way_delay_ms = 20\n\
                 [[link]]\nfrom = \"b\"\nto = \"a\"\nbandwidth_mbps = 10\none_way_delay_ms = 70\n";
    let scenario = scenario(0, links, 10, &[1]);
    let bits = BYTES as f64 * 8.0;
    let iteration_s = round_s(bits / 100e6 + 0.02, bits / 10e6 + 0.07);
    assert_close(end_of(&scenario), 10.0 * iteration_s, 1e-9);
}

#[test]
fn loss_costs_its_share_of_the_rate_and_sometimes_a_round_trip() {
    const ITERATIONS: u32 = 2_000;
    let keys = "loss = 0.001";
    let scenario = scenario(3, &both(100.0, 10.0, keys), ITERATIONS, &[1]);
    let (records, _) = run(&scenario, true);
    let one_way_s = BYTES as f64 / 0.999 * 8.0 / 100e6 + 0.01;
    let mut hits = 0;
    for duration_s in durations(&records) {
        let recoveries = (duration_s - round_s(one_way_s, one_way_s)) / 0.02;
        assert_close(recoveries, recoveries.round(), 1e-5);
        assert!((-0.5..2.5).contains(&recoveries), "{recoveries}");
        hits += recoveries.round() as u32;
    }
    // 176 datagrams fill a round trip.
    let expected = 1.0 - 0.999_f64.powi(176);
    assert_close(f64::from(hits) / f64::from(2 * ITERATIONS), expected, 0.03);
}

#[test]
fn loss_that_counts_as_congestion_holds_each_flow() {
    // 1.22 x 1421 x 8 / (0.04 x 0.01) = 34.67 Mbit/s of 100.
    let keys = "loss = 1e-4\nloss_model = \"mathis\"";
    let one_way_s = BYTES as f64 * 8.0 / (1.22 * 1421.0 * 8.0 / (0.04 * 0.01)) + 0.02;
    let alone = scenario(0, &both(100.0, 20.0, keys), 10, &[1]);
    assert_close(end_of(&alone), 10.0 * round_s(one_way_s, one_way_s), 1e-5);
    // Two fit beside each other; of four that begin at once each gets a quarter, the last one up to its last turn.
    let two = run(&scenario(0, &both(100.0, 20.0, keys), 10, &[1, 1]), true).1;
    assert_close(two[&0], 10.0 * round_s(one_way_s, one_way_s), 1e-5);
    let (four, _) = run(&scenario(0, &both(100.0, 20.0, keys), 10, &[1; 4]), true);
    let shared_s = BYTES as f64 * 8.0 / 25e6 + 0.02;
    assert_close(stalls(&four, "j3")[0], 0.1 + shared_s, 1e-6);
}

#[test]
fn credit_is_spent_at_the_full_rate_and_then_the_link_is_slow() {
    // 1 MB of credit, or 4 chunks of 64 KiB; a tensor of 262 kB takes 21 ms at 100 Mbit/s, 26 times as long at 4 Mbit/s.
    let keys = "burst_credit_mb = 1\nsustained_mbps = 4";
    let scenario = scenario(0, &both(100.0, 0.0, keys), 1, &[8]);
    let (records, _) = run(&scenario, true);
    // Forwards of 0.1 s: a tensor needs 21 ms of each, so that the bucket is full but for what the four before took.
    let (bits, depth) = (BYTES as f64 * 8.0, 8e6);
    let (mut left, mut free_s, mut last_s) = (depth, 0.0_f64, 0.0);
    for m in 1..=8 {
        let begin_s = f64::max(0.1 * f64::from(m), free_s);
        left = f64::min(depth, left + 4e6 * (begin_s - last_s));
        let fast_s = f64::min(bits / 100e6, left / 96e6);
        left -= 96e6 * fast_s;
        free_s = begin_s + fast_s + (bits - 100e6 * fast_s) / 4e6;
        last_s = free_s;
    }
    assert!(free_s > 2.0, "the credit has to run out");
    let stall_s = free_s - 7.0 * 0.1;
    // A chunk leaves when the bucket holds all of it.
    let chunk_s = 65_536.0 * 8.0 / 100e6;
    assert_close(stalls(&records, "j0")[0], stall_s, chunk_s);
}

#[test]
fn a_bucket_fills_while_the_link_idles() {
    let keys = "burst_credit_mb = 0.27\nsustained_mbps = 8";
    let scenario = scenario(0, &both(100.0, 0.0, keys), 40, &[1]);
    // A tensor drains 0.24 MB of 0.27, and 0.6 s of 8 Mbit/s fill them again.
    let one_way_s = BYTES as f64 * 8.0 / 100e6;
    assert_close(
        end_of(&scenario),
        40.0 * round_s(one_way_s, one_way_s),
        1e-6,
    );
}

#[test]
fn flows_of_their_own_get_parts_of_their_own() {
    // Tensors of 21 s: the first job has three under way by 0.3 s, the second one.
    let stall = |sharing: &str| {
        let keys = format!("sharing = \"{sharing}\"");
        let (records, _) = run(&scenario(0, &both(0.1, 0.0, &keys), 1, &[3, 1]), true);
        stalls(&records, "j1")[0]
    };
    let alone_s = BYTES as f64 * 8.0 / 1e5;
    // Four tensors take turns of 16 KiB.
    let turns_s = 4.0 * 16_384.0 * 8.0 / 1e5;
    assert_close(stall("per_job"), 0.1 + 2.0 * alone_s, turns_s);
    // From 0.1 s two share the link, from 0.2 s three, from 0.3 s four.
    let left_s = alone_s - 0.1 / 2.0 - 0.1 / 3.0;
    assert_close(stall("per_flow"), 0.3 + 4.0 * left_s, turns_s);
}

#[test]
fn a_link_that_is_down_keeps_what_it_carries() {
    let up = both(1.0, 20.0, "");
    // Down in the middle of the activation, and up with three times the rate.
    let links = format!(
        "{}\ntrace = [{{ at_s = 1, bandwidth_mbps = 0 }}, {{ at_s = 50, bandwidth_mbps = 3 }}]",
        up.trim_end()
    );
    let (records, _) = run(&scenario(0, &links, 1, &[1]), true);
    // Seven chunks of 16 KiB, 0.131 s each, begin before it is down; the eighth has its slot already, and the rest waits.
    let left_s = (BYTES - 8 * 16_384) as f64 * 8.0 / 3e6;
    assert_close(stalls(&records, "j0")[0], 50.0 + left_s + 0.02, 1e-6);
}

#[test]
fn a_delay_changes_for_what_leaves_afterwards_and_reorders_nothing() {
    let change = |at_s: f64, ms: f64| {
        format!(
            "[[link_change]]\nat_s = {at_s}\nfrom = \"a\"\nto = \"b\"\none_way_delay_ms = {ms}\n"
        )
    };
    let stall_s = |changes: &str| {
        let links = both(1e6, 5_000.0, "") + changes;
        stalls(&run(&scenario(0, &links, 1, &[2]), true).0, "j0")[0]
    };
    // Two tensors leave at 0.1 s and 0.2 s and are computed with for 0.1 s each; gradients are not waited for.
    assert_close(stall_s(""), 5.1, 1e-4);
    assert_close(stall_s(&change(0.15, 9_000.0)), 5.1 + (9.2 - 5.2), 1e-4);
    // The second would overtake the first, and arrives with it.
    assert_close(stall_s(&change(0.15, 10.0)), 5.1, 1e-4);
    assert_close(stall_s(&change(0.05, 10.0)), 0.11, 1e-4);
}

#[test]
fn a_trace_longer_than_the_run_does_not_make_it_longer() {
    let links = both(
        90.0,
        25.0,
        "trace = [{ at_s = 0.1, bandwidth_mbps = 80 }, { at_s = 9e8, bandwidth_mbps = 1 }]",
    );
    let scenario = scenario(0, &links, 2, &[1]);
    for model in [IterationModel::Analytic, IterationModel::Event] {
        let mut ends = Vec::new();
        let policy = policy_by_name("ldf").expect("a known policy");
        simulate(&scenario, policy, model, |record| {
            if let Record::JobFinished { at_s, .. } | Record::RunEnded { at_s, .. } = record {
                ends.push(at_s);
            }
        });
        assert!(ends.len() == 2 && ends[0] == ends[1], "{model:?}: {ends:?}");
    }
}

#[test]
fn the_same_seed_draws_the_same() {
    let links = both(
        100.0,
        10.0,
        "jitter_ms = 8\nloss = 0.002\nburst_credit_mb = 0.5\nsustained_mbps = 20",
    );
    let of = |seed, steady| run(&scenario(seed, &links, 60, &[3, 1]), steady);
    assert_eq!(of(5, true), of(5, true));
    // Nothing of this may be repeated by arithmetic.
    assert_eq!(of(5, true), of(5, false));
    assert_ne!(of(5, true).1, of(6, true).1);
}

/// One direction of the link, chunk by chunk as a sender does it.
struct Sender {
    flow: Flow,
    clock: LinkClock,
    credit: Option<CreditBucket>,
    chunk_bytes: u64,
}

impl Sender {
    fn new(scenario: &Scenario, from: u16, to: u16) -> Self {
        let spec: LinkSpec = scenario.links[&link(from, to)];
        let key = FlowKey {
            seed: scenario.seed,
            link: link(from, to),
            job: 0,
            from_stage: from.into(),
            to_stage: to.into(),
        };
        let depth = spec.burst.zip(spec.credit_depth_bytes());
        Self {
            flow: Flow::new(&spec, key),
            clock: LinkClock::new((&spec).into()),
            credit: depth.map(|(burst, bytes)| CreditBucket::new(burst, bytes)),
            chunk_bytes: chunk_bytes(spec.rate).into(),
        }
    }

    /// When a tensor that is ready at `ready_ns` has arrived.
    fn send(&mut self, ready_ns: u64) -> u64 {
        let state = self.clock.state();
        let mut message = self.flow.message(BYTES, ready_ns);
        loop {
            let chunk = self.flow.next_chunk(&mut message, self.chunk_bytes, state);
            let from_ns = match &mut self.credit {
                Some(credit) => credit
                    .take(chunk.charged_bytes, chunk.ready_ns)
                    .expect("it fills"),
                None => chunk.ready_ns,
            };
            let slot = self
                .clock
                .reserve(chunk.charged_bytes, from_ns)
                .expect("it is up");
            let arrival_ns = self.flow.delivered_ns(&mut message, chunk, slot, state);
            if message.left_bytes() == 0 {
                return arrival_ns;
            }
        }
    }
}

/// The end of a job of two stages under GPipe, from the sender's arithmetic alone.
fn end_by_chunks(scenario: &Scenario) -> f64 {
    let (mut there, mut back) = (Sender::new(scenario, 0, 1), Sender::new(scenario, 1, 0));
    let job = &scenario.jobs[0];
    let (forward_ns, backward_ns) = (100_000_000, 200_000_000);
    let (mut upper_ns, mut lower_ns) = (0, 0);
    for _ in 0..job.iterations {
        for _ in 0..job.micro_batches {
            upper_ns += forward_ns;
            lower_ns = there.send(upper_ns).max(lower_ns) + forward_ns;
        }
        for _ in 0..job.micro_batches {
            lower_ns += backward_ns;
            upper_ns = back.send(lower_ns).max(upper_ns) + backward_ns;
        }
    }
    upper_ns as f64 / 1e9
}

#[test]
fn a_job_alone_is_what_its_sender_computes_chunk_by_chunk() {
    for keys in [
        "",
        "accounting = \"ip\"",
        "jitter_ms = 15",
        "jitter_ms = 6\njitter = \"normal\"",
        "loss = 0.003",
        "loss = 2e-4\nloss_model = \"mathis\"",
        "jitter_ms = 9\nloss = 2e-4\nloss_model = \"mathis\"\naccounting = \"ethernet\"",
        "jitter_ms = 9\nloss = 0.001\naccounting = \"ethernet\"",
    ] {
        for mbps in [12.0, 90.0, 900.0] {
            for seed in 0..3 {
                let scenario = scenario(seed, &both(mbps, 25.0, keys), 12, &[4]);
                let (fluid_s, chunks_s) = (end_of(&scenario), end_by_chunks(&scenario));
                // Half a nanosecond for each of 96 tensors' chunks, 16 at most.
                assert!(
                    (fluid_s - chunks_s).abs() <= 2e-6,
                    "{keys} at {mbps} Mbit/s: {fluid_s} {chunks_s}"
                );
            }
        }
    }
}

#[test]
fn burst_credit_is_what_its_sender_computes_chunk_by_chunk() {
    for (mb, sustained) in [(0.3, 10.0), (1.0, 4.0), (2.5, 30.0)] {
        let keys = format!("jitter_ms = 3\nburst_credit_mb = {mb}\nsustained_mbps = {sustained}");
        let scenario = scenario(1, &both(90.0, 25.0, &keys), 12, &[4]);
        let (walked_s, chunks_s) = (end_of(&scenario), end_by_chunks(&scenario));
        assert!(
            (walked_s - chunks_s).abs() <= 2e-6,
            "{mb} MB at {sustained} Mbit/s: {walked_s} {chunks_s}"
        );
        assert!(
            chunks_s > 12.0 * 1.5,
            "the credit has to matter: {chunks_s}"
        );
    }
}

/// How long each message that was received waited for other jobs.
fn queued(records: &[Record]) -> Vec<f64> {
    let spans = records.iter().filter_map(|record| match record {
        Record::Actions(told) => Some(&told.spans),
        _ => None,
    });
    let messages = spans.flatten().filter_map(|span| span.message.as_ref());
    messages.filter_map(|message| message.queued_s).collect()
}

#[test]
fn a_change_that_changes_nothing_changes_nothing() {
    for keys in ["", "loss = 0.02\nloss_model = \"mathis\""] {
        let links = both(50.0, 50.0, keys);
        let undisturbed_s = end_of(&scenario(0, &links, 2, &[4]));
        for step in 1..60 {
            let at_s = undisturbed_s * f64::from(step) / 60.0;
            let change = format!(
                "{}\ntrace = [{{ at_s = {at_s}, bandwidth_mbps = 50 }}]",
                links.trim_end()
            );
            let (records, ends) = run(&scenario(0, &change, 2, &[4]), true);
            assert_close(ends[&0], undisturbed_s, 1e-6);
            let queued = queued(&records);
            assert_eq!(queued.len(), 16, "{keys} {at_s}");
            assert!(
                queued.iter().all(|&s| s <= 1e-6),
                "{keys} {at_s}: {queued:?}"
            );
        }
    }
}

#[test]
fn whoever_waits_for_a_link_that_is_down_waits_for_nobody() {
    for at_s in [0.1, 0.5, 1.0] {
        let links = format!(
            "{}\ntrace = [{{ at_s = {at_s}, bandwidth_mbps = 0 }}, {{ at_s = 50, bandwidth_mbps = 3 }}]",
            both(1.0, 20.0, "").trim_end()
        );
        let (records, _) = run(&scenario(0, &links, 1, &[3]), true);
        let queued = queued(&records);
        assert_eq!(queued.len(), 6);
        assert!(queued.iter().all(|&s| s <= 1e-6), "{at_s}: {queued:?}");
    }
}

/// When the tensors of job `job` for stage 1 had left the link, in order.
fn left(records: &[Record], job: &str) -> Vec<f64> {
    let told = records.iter().filter_map(|record| match record {
        Record::Actions(told) if told.job == job && told.stage.0 == 1 => Some(&told.spans),
        _ => None,
    });
    let messages = told.flatten().filter_map(|span| span.message.as_ref());
    messages.filter_map(|message| message.left_s).collect()
}

#[test]
fn a_dropped_job_leaves_the_slots_that_it_has_and_no_others() {
    // A tensor takes 2.1 s in 16 chunks of 0.131 s. The first job drops out at 1 s, alone or beside another.
    let scenario = scenario(0, &both(1.0, 20.0, ""), 1, &[1; 3]);
    let chunk_s = 16_384.0 * 8.0 / 1e6;
    let end_s = |starts: &[u32]| {
        let settings = EventSettings::default();
        let mut model = EventModel::new(scenario.clone(), settings);
        for &job in starts {
            model.start(Instant::new(0.0), &start(job));
        }
        let (mut records, drop_s) = (Vec::new(), 1.0);
        let mut until = |model: &mut EventModel, until_s: f64| {
            while let Some(at_s) = model.next_s().filter(|&at_s| at_s <= until_s) {
                let mut reports = Reports::default();
                model.advance(Instant::new(at_s), &mut reports);
                records.append(&mut reports.records);
            }
        };
        until(&mut model, drop_s);
        model.report(Instant::new(drop_s), &mut Reports::default());
        model.cancel(Instant::new(drop_s), JobId(0), Attempt(0));
        // Its forward is over at once after the drop.
        model.start(Instant::new(drop_s - 0.1), &start(2));
        until(&mut model, f64::INFINITY);
        left(&records, "j2")[0]
    };
    // Seven slots have begun by 1 s, counted from 0.1 s, and the eighth is asked for 2 ms before the seventh begins.
    let alone_s = 0.1 + 8.0 * chunk_s + 16.0 * chunk_s;
    assert_close(end_s(&[0]), alone_s, 1e-6);
    // Seven slots of both again and the eighth; half of the other's sixteen are then before the last of the late one's.
    let beside_s = end_s(&[0, 1]);
    assert!(beside_s > alone_s + 10.0 * chunk_s, "{beside_s}");
    assert!(beside_s < alone_s + 16.0 * chunk_s, "{beside_s}");
}

#[test]
fn chunks_are_those_of_the_rate_on_the_machine() {
    // 100 Mbit/s are 0.1 at this scale: 16 chunks draw a jitter each instead of 4.
    let of = |scale: f64| {
        let links = both(100.0, 10.0, "jitter_ms = 8");
        let text = format!("{links}\n[compute]\ntime_scale = {scale}\n");
        run(&scenario(5, &text, 30, &[2]), true).1[&0]
    };
    assert_ne!(of(1.0), of(1e-3));
    // The same chunks, and the same draws but for the rounding of nanoseconds.
    assert_close(of(1.0), of(2.0), 1e-6);
}

#[test]
fn lookahead_is_time_of_the_machine() {
    // Chunks take 5.2 ms of emulated time at any of these scales. What is asked for 20 ms ahead is asked for before others come.
    let of = |scale: f64| {
        let text = format!(
            "{}\n[compute]\ntime_scale = {scale}\n",
            both(100.0, 0.0, "")
        );
        let (records, _) = run(&scenario(0, &text, 1, &[1; 3]), true);
        left(&records, "j0")[0]
    };
    assert_close(of(1.0), of(0.4), 1e-6);
    assert_close(of(10.0), 0.1 + BYTES as f64 * 8.0 / 100e6, 1e-6);
    assert!(of(1.0) > of(10.0) + 0.01, "{}", of(1.0));
}
