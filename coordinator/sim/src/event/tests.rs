mod set_up;

use std::collections::BTreeMap;
use std::sync::Arc;

use bace_api::{Attempt, JobId, Placement, Record, RegionGpus};
use bace_engine::{Engine, Input, Scenario, Start, policy_by_name};
use bace_models::StageSeconds;
use bace_netem::RegionId;
use proptest::prelude::*;

use super::{EventModel, EventSettings};
use crate::analytic::Analytic;
use crate::driver::{Executor, Instant, Reports, drive};

/// Two regions, a link of 32 bit/s and 0.5 s, and jobs whose tensors have 64 bits: 2 s on the link.
fn two_regions(jobs: usize, iterations: u32, micro_batches: u32, schedule: &str) -> Arc<Scenario> {
    let mut text = "name = \"test\"\n".to_owned();
    for name in ["a", "b"] {
        text.push_str(&format!(
            "[[region]]\nname = \"{name}\"\ngpus = 8\ngpu = \"a6000\"\nprice_usd_per_kwh = 0.1\nfabric_gbps = 1e6\n"
        ));
    }
    text.push_str(
        "[[link]]\nbetween = [\"a\", \"b\"]\nbandwidth_mbps = 32e-6\none_way_delay_ms = 500\n\
         [model.dot]\nlayers = 8\nhidden = 2\nheads = 1\nfeed_forward = 1\ngated = false\nvocabulary = 1\n",
    );
    for job in 0..jobs {
        text.push_str(&format!(
            "[[job]]\nname = \"j{job}\"\nmodel = \"dot\"\narrival_s = 0\niterations = {iterations}\n\
             micro_batches = {micro_batches}\nmicro_batch = 1\nsequence = 2\nschedule = \"{schedule}\"\n"
        ));
    }
    Arc::new(Scenario::parse(&text, "test.toml", &|_: &str| Err("no files".to_owned())).unwrap())
}

/// The start of a job with these GPUs in the two regions.
fn start(job: u32, gpus: [u32; 2], stage_s: f64) -> Start {
    let path: Vec<RegionGpus> = gpus
        .into_iter()
        .zip(0..)
        .filter(|(gpus, _)| *gpus > 0)
        .map(|(gpus, region)| RegionGpus {
            region: RegionId::new(region),
            gpus,
        })
        .collect();
    let stages = (gpus[0] + gpus[1]) as usize;
    Start {
        job: JobId(job),
        attempt: Attempt(0),
        placement: Placement {
            path,
            layers: vec![1; stages],
        },
        stage_seconds: vec![StageSeconds::by_formula(stage_s); stages],
        first_iteration: 0,
        iteration_s: 1.0,
        rates: vec![32.0; stages.saturating_sub(1)],
        delays_s: (1..stages as u32)
            .map(|stage| if stage == gpus[0] { 0.5 } else { 0.0 })
            .collect(),
    }
}

/// Starts jobs at their times and says when each ends, and all records.
fn run(scenario: &Arc<Scenario>, starts: &[(f64, Start)]) -> (BTreeMap<u32, f64>, Vec<Record>) {
    run_on(
        EventModel::new(scenario.clone(), EventSettings::default()),
        starts,
    )
}

fn run_on(mut model: EventModel, starts: &[(f64, Start)]) -> (BTreeMap<u32, f64>, Vec<Record>) {
    let mut starts = starts.iter().peekable();
    let (mut ends, mut records) = (BTreeMap::new(), Vec::new());
    loop {
        let begin_s = starts.peek().map(|(at_s, _)| *at_s);
        let Some(at_s) = [model.next_s(), begin_s]
            .into_iter()
            .flatten()
            .reduce(f64::min)
        else {
            return (ends, records);
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
        while let Some((_, start)) = starts.next_if(|(begin_s, _)| now.includes(*begin_s)) {
            model.start(now, start);
        }
    }
}

fn end_of_one(scenario: &Arc<Scenario>, start: Start) -> f64 {
    run(scenario, &[(0.0, start)]).0[&0]
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

#[test]
fn one_stage_takes_its_work() {
    for (iterations, micro_batches) in [(1, 1), (3, 4), (1000, 7)] {
        let scenario = two_regions(1, iterations, micro_batches, "eager-1f1b");
        let end_s = end_of_one(&scenario, start(0, [1, 0], 3.0));
        let work_s = f64::from(iterations * micro_batches) * 3.0;
        assert!(close(end_s, work_s), "{end_s} {work_s}");
    }
}

#[test]
fn without_delay_an_iteration_is_the_formula() {
    for schedule in ["gpipe", "1f1b", "eager-1f1b"] {
        let scenario = two_regions(1, 50, 8, schedule);
        let end_s = end_of_one(&scenario, start(0, [4, 0], 3.0));
        assert!(
            close(end_s, 50.0 * (8.0 + 3.0) * 3.0),
            "{schedule}: {end_s}"
        );
    }
}

#[test]
fn one_boundary_by_hand() {
    // Forward 1 s, transfer 2 s, delay 0.5 s, forward and backward 3 s, transfer and delay 2.5 s, backward 2 s.
    let scenario = two_regions(1, 10, 1, "1f1b");
    let end_s = end_of_one(&scenario, start(0, [1, 1], 3.0));
    assert!(close(end_s, 10.0 * 11.0), "{end_s}");
}

#[test]
fn two_jobs_take_turns_on_a_link() {
    let scenario = two_regions(2, 1, 1, "1f1b");
    let jobs = |second_s| {
        [
            (0.0, start(0, [1, 1], 3.0)),
            (second_s, start(1, [1, 1], 3.0)),
        ]
    };
    // A tensor is a single chunk: the second job's waits for the first one's, 2 s at the most.
    for second_s in [0.0, 1.0] {
        let (ends, _) = run(&scenario, &jobs(second_s));
        assert!(close(ends[&0], 11.0) && close(ends[&1], 13.0), "{ends:?}");
    }
    // The second comes when the first one's activation has gone, and leaves before its gradient comes.
    let (ends, _) = run(&scenario, &jobs(100.0));
    assert!(close(ends[&0], 11.0) && close(ends[&1], 111.0), "{ends:?}");
}

#[test]
fn an_idle_job_leaves_its_part_to_the_others() {
    // The second job computes for ever between its transfers: the first runs nearly as if alone.
    let scenario = two_regions(2, 20, 1, "1f1b");
    let mut slow = start(1, [1, 1], 300.0);
    slow.stage_seconds = vec![StageSeconds::by_formula(300.0); 2];
    let (ends, _) = run(&scenario, &[(0.0, start(0, [1, 1], 3.0)), (0.0, slow)]);
    // Its first activation leaves at 100 s and meets at most one transfer of 2 s.
    assert!((220.0..=222.0).contains(&ends[&0]), "{ends:?}");
}

/// The example of docs/scheduling.md section 10: 4 stages of 3 s, 10 s of delay on two boundaries.
#[test]
fn eager_hides_round_trips_that_stall_plain_1f1b() {
    let of = |schedule: &str| {
        let mut text = format!(
            "name = \"far\"\n[model.dot]\nlayers = 8\nhidden = 2\nheads = 1\nfeed_forward = 1\ngated = false\nvocabulary = 1\n[[job]]\nname = \"j\"\nmodel = \"dot\"\narrival_s = 0\niterations = 5\nmicro_batches = 32\nmicro_batch = 1\nsequence = 2\nschedule = \"{schedule}\"\n"
        );
        for name in ["a", "b", "c"] {
            text.push_str(&format!("[[region]]\nname = \"{name}\"\ngpus = 8\ngpu = \"a6000\"\nprice_usd_per_kwh = 0.1\n"));
        }
        for ends in ["[\"a\", \"b\"]", "[\"b\", \"c\"]"] {
            text.push_str(&format!(
                "[[link]]\nbetween = {ends}\nbandwidth_mbps = 1000\none_way_delay_ms = 10000\n"
            ));
        }
        let scenario = Scenario::parse(&text, "far.toml", &|_: &str| Err(String::new())).unwrap();
        let mut far = start(0, [4, 0], 3.0);
        far.rates = vec![1e9; 3];
        far.delays_s = vec![10.0, 0.0, 10.0];
        far.placement.path = [1, 2, 1]
            .into_iter()
            .zip(0..)
            .map(|(gpus, region)| RegionGpus {
                region: RegionId::new(region),
                gpus,
            })
            .collect();
        end_of_one(&Arc::new(scenario), far)
    };
    let analytic_s = 5.0 * ((32.0 + 3.0) * 3.0 + 2.0 * 20.0);
    assert!(of("1f1b") > 2.0 * analytic_s, "{}", of("1f1b"));
    assert!(of("eager-1f1b") < 1.1 * analytic_s, "{}", of("eager-1f1b"));
}

#[test]
fn stage_times_fill_their_iterations() {
    let scenario = two_regions(2, 6, 4, "eager-1f1b");
    let (_, records) = run(
        &scenario,
        &[(0.0, start(0, [2, 1], 3.0)), (7.0, start(1, [1, 2], 2.0))],
    );
    let mut iterations = 0;
    for record in &records {
        if let Record::Iteration(record) = record {
            iterations += 1;
            let busy_s = if record.job == "j0" { 12.0 } else { 8.0 };
            assert!(close(record.times.busy_s(), busy_s), "{record:?}");
            assert!(
                close(
                    record.times.busy_s() + record.times.stall_s,
                    record.to_s - record.from_s
                ),
                "{record:?}"
            );
        }
    }
    assert_eq!(iterations, 2 * 6 * 3);
}

/// Arrival, layers, iterations, micro-batches, tokens of a sequence.
type EventfulJob = (f64, u32, u32, u32, u32);

fn eventful_jobs() -> impl Strategy<Value = Vec<EventfulJob>> {
    let job = (0.0..2.0, 2u32..7, 1u32..150, 1u32..8, 8u32..64);
    prop::collection::vec(job, 2..9)
}

/// A scenario whose jobs cross regions, with a link change and a loss of GPUs.
fn eventful(jobs: &[EventfulJob], change_s: f64) -> Arc<Scenario> {
    let mut text = "name = \"eventful\"\n[gpu.g]\npeak_tflops = 0.001\nmfu = 1\nmemory_gb = 0.002\nbusy_w = 100\nidle_w = 10\n"
        .to_owned();
    for layers in 2..7 {
        text.push_str(&format!(
            "[model.m{layers}]\nlayers = {layers}\nhidden = 32\nheads = 2\nfeed_forward = 64\ngated = true\nvocabulary = 64\n"
        ));
    }
    for (name, price) in [("a", 0.1), ("b", 0.3), ("c", 0.2)] {
        text.push_str(&format!(
            "[[region]]\nname = \"{name}\"\ngpus = 3\ngpu = \"g\"\nfabric_gbps = 0.1\n\
             price_usd_per_kwh = [{{ from_s = 0, usd_per_kwh = {price} }}, {{ from_s = 9, usd_per_kwh = 0.15 }}]\n"
        ));
    }
    for ends in ["[\"a\", \"b\"]", "[\"b\", \"c\"]", "[\"a\", \"c\"]"] {
        text.push_str(&format!(
            "[[link]]\nbetween = {ends}\nbandwidth_mbps = 20\none_way_delay_ms = 3\n"
        ));
    }
    text.push_str(&format!(
        "[[link_change]]\nat_s = {change_s}\nbetween = [\"a\", \"b\"]\nbandwidth_mbps = 7\n\
         [[gpu_change]]\nat_s = {}\nregion = \"c\"\ngpus = 1\n[[gpu_change]]\nat_s = {}\nregion = \"c\"\ngpus = 3\n",
        1.7 * change_s,
        2.3 * change_s
    ));
    for (index, job) in jobs.iter().enumerate() {
        let (arrival_s, layers, iterations, micro_batches, sequence) = job;
        text.push_str(&format!(
            "[[job]]\nname = \"j{index}\"\nmodel = \"m{layers}\"\narrival_s = {arrival_s}\niterations = {iterations}\n\
             micro_batches = {micro_batches}\nmicro_batch = 1\nsequence = {sequence}\n"
        ));
    }
    Arc::new(Scenario::parse(&text, "eventful.toml", &|_: &str| Err(String::new())).unwrap())
}

/// All records of a run; the ledger's, but for the order in which iterations are told.
fn simulate(scenario: &Arc<Scenario>, policy: &str, repeat_steady: bool) -> Vec<Record> {
    let settings = EventSettings {
        repeat_steady,
        ..EventSettings::default()
    };
    simulate_with(
        scenario,
        policy,
        &mut EventModel::new(scenario.clone(), settings),
    )
}

fn simulate_with(
    scenario: &Arc<Scenario>,
    policy: &str,
    executor: &mut impl Executor,
) -> Vec<Record> {
    let engine = Engine::new(scenario.clone(), policy_by_name(policy).unwrap());
    let mut records = Vec::new();
    drive(engine, executor, |record| records.push(record));
    records
}

/// What a run comes to: ends by job, then energy and dollars, then iterations by job, attempt, stage and number.
fn outcome(records: &[Record]) -> Vec<(String, Vec<f64>)> {
    let mut outcome = Vec::new();
    for record in records {
        match record {
            Record::JobFinished { at_s, job } => outcome.push((format!("end {job}"), vec![*at_s])),
            Record::Energy(used) => outcome.push((
                format!("energy {} {} {}", used.job, used.attempt, used.stage),
                vec![used.held_s, used.busy_s, used.energy_j, used.cost_usd],
            )),
            Record::Iteration(it) => outcome.push((
                format!(
                    "iteration {} {} {} {}",
                    it.job, it.attempt, it.stage, it.iteration
                ),
                vec![
                    it.from_s,
                    it.to_s,
                    it.times.forward_s,
                    it.times.backward_s,
                    it.times.stall_s,
                ],
            )),
            Record::Transfer {
                job,
                attempt,
                from_stage,
                to_stage,
                summary,
                ..
            } => outcome.push((
                format!("bytes {job} {attempt} {from_stage} {to_stage}"),
                vec![summary.messages as f64, summary.bytes as f64],
            )),
            _ => {}
        }
    }
    outcome.sort_by(|a, b| a.0.cmp(&b.0));
    outcome
}

/// What the comments of the built-in scenario promise.
#[test]
fn three_regions_shows_every_kind_of_decision() {
    let text = include_str!("../../../scenarios/three-regions.toml");
    let scenario = Scenario::parse(text, "three-regions", &|_: &str| Err(String::new())).unwrap();
    let scenario = Arc::new(scenario);
    let walked = placements(&simulate(&scenario, "bace-pipe", true));
    let mut fluid = Vec::new();
    let engine = Engine::new(scenario.clone(), policy_by_name("bace-pipe").unwrap());
    drive(engine, &mut Analytic::new(scenario.clone()), |record| {
        fluid.push(record)
    });
    let wheres: Vec<&str> = walked.iter().map(|(_, place)| place.as_str()).collect();
    assert_eq!(
        wheres,
        [
            "first us-east:2",
            "wide eu-central:2 eu-west:2",
            "patient us-east:2",
            "last us-east:2",
            "third eu-central:1 eu-west:2",
        ]
    );
    assert!(
        walked
            .iter()
            .zip(placements(&fluid))
            .all(|(walked, fluid)| walked.1 == fluid.1)
    );
    let patient = &scenario.jobs[2];
    assert!(patient.name == "patient" && walked[2].0 > patient.arrival_s + 5.0);
    // Without regard to prices the dearest region comes first.
    let blind = placements(&simulate(&scenario, "no-cost-min", true));
    assert_eq!(blind[0].1, "first eu-central:2");
}

/// When which job was placed where.
fn placements(records: &[Record]) -> Vec<(f64, String)> {
    let placed = records.iter().filter_map(|record| match record {
        Record::Placed {
            at_s, job, path, ..
        } => {
            let path = path
                .iter()
                .map(|part| format!(" {}:{}", part.region, part.gpus));
            Some((*at_s, format!("{job}{}", path.collect::<String>())))
        }
        _ => None,
    });
    placed.collect()
}

/// Whether two runs come to the same.
fn same_outcome(walked: &[Record], repeated: &[Record]) -> Result<(), TestCaseError> {
    let (walked, repeated) = (outcome(walked), outcome(repeated));
    prop_assert_eq!(walked.len(), repeated.len());
    for (walked, repeated) in walked.iter().zip(&repeated) {
        prop_assert_eq!(&walked.0, &repeated.0);
        for (a, b) in walked.1.iter().zip(&repeated.1) {
            prop_assert!(
                (a - b).abs() <= 1e-9 * a.abs().max(1.0),
                "{}: {:?} {:?}",
                walked.0,
                walked.1,
                repeated.1
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn repeating_what_is_steady_changes_nothing(
        jobs in eventful_jobs(),
        change_s in 0.2..6.0,
        policy in prop::sample::select(&["bace-pipe", "cr-ldf", "cr-lcf", "ldf"][..]),
    ) {
        let scenario = eventful(&jobs, change_s);
        same_outcome(&simulate(&scenario, policy, false), &simulate(&scenario, policy, true))?;
    }

    #[test]
    fn every_tensor_crosses_every_boundary(
        jobs in eventful_jobs(),
    ) {
        // No GPU is lost, so that every job has one attempt.
        let scenario = eventful(&jobs, 1e6);
        let records = simulate(&scenario, "cr-ldf", true);
        let mut stages = BTreeMap::new();
        let mut crossings = BTreeMap::new();
        for record in &records {
            match record {
                Record::Placed { job, k, .. } => {
                    stages.insert(job.clone(), *k);
                }
                Record::Transfer { job, summary, .. } => {
                    let facts = scenario.jobs.iter().find(|facts| facts.name == *job).unwrap();
                    let messages = u64::from(facts.iterations) * u64::from(facts.micro_batches);
                    prop_assert_eq!(summary.messages, messages);
                    prop_assert_eq!(summary.bytes, messages * facts.boundary_bytes());
                    *crossings.entry(job.clone()).or_insert(0) += 1;
                }
                _ => {}
            }
        }
        for (job, stages) in stages {
            prop_assert_eq!(crossings.get(&job).copied().unwrap_or(0), 2 * (stages - 1));
        }
    }
}

/// A stage of 3 s for a micro-batch, 1 s of it forward, and a step of `step_s`.
fn with_step(step_s: f64) -> StageSeconds {
    StageSeconds {
        step_s,
        ..StageSeconds::by_formula(3.0)
    }
}

#[test]
fn a_step_follows_the_last_backward_of_every_iteration() {
    let scenario = two_regions(1, 5, 4, "1f1b");
    let mut alone = start(0, [1, 0], 3.0);
    alone.stage_seconds = vec![with_step(2.0)];
    let (ends, records) = run(&scenario, &[(0.0, alone)]);
    assert!(close(ends[&0], 5.0 * (4.0 * 3.0 + 2.0)), "{ends:?}");
    let steps = records.iter().filter_map(|record| match record {
        Record::Iteration(iteration) => Some(iteration.times.step_s),
        _ => None,
    });
    assert_eq!(steps.collect::<Vec<_>>(), [2.0; 5]);
}

#[test]
fn a_short_step_of_the_last_stage_hides_behind_the_first_ones() {
    let scenario = two_regions(1, 50, 4, "1f1b");
    for step_s in [0.0, 1.5, 2.0, 2.5, 3.0, 5.0] {
        let mut start = start(0, [2, 0], 3.0);
        start.stage_seconds[1] = with_step(step_s);
        let end_s = end_of_one(&scenario, start);
        // An iteration is 15 s; the last stage is done 2 s before the first one, and its next activation comes 3 s later.
        let wait_s = f64::max(step_s - 3.0, 0.0);
        let behind_s = f64::max(step_s - 2.0, 0.0);
        let expected = 50.0 * 15.0 + 49.0 * wait_s + behind_s;
        assert!(close(end_s, expected), "{step_s}: {end_s} {expected}");
    }
}
