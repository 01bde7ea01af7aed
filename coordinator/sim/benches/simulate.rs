//! Whole simulations: many jobs by the formula, a few by the walk of their action lists.

#[path = "../../engine/benches/world/mod.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bace_api::{Attempt, JobId, Placement, Record, RegionGpus};
use bace_engine::{Detail, Engine, Scenario, Start, policy_by_name};
use bace_models::StageSeconds;
use bace_netem::RegionId;
use bace_sim::{
    EventModel, EventSettings, Executor, Instant as Moment, IterationModel, Reports,
    simulate_engine,
};
use criterion::{Criterion, SamplingMode};
use world::{Class, Dice, cluster, crowd};

/// GPUs of every region.
const GPUS: u32 = 64;

/// Regions of the large run.
const REGIONS: u32 = 50;

/// Jobs of the large run.
const JOBS: usize = 100_000;

/// Mean seconds between arrivals at which the large run holds 90 % of its GPUs.
const GAP_S: f64 = 21.2;

/// What a run did.
#[derive(Debug, Default)]
struct Tally {
    placed: BTreeMap<String, (f64, u32)>,
    finished: usize,
    refused: usize,
    gpu_s: f64,
    end_s: f64,
    waited_s: f64,
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark is asked for by its argument"
)]
fn main() {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(5))
        .sample_size(10);
    if std::env::args().any(|argument| argument == "--bench") {
        large();
    }
    analytic(&mut criterion);
    event(&mut criterion);
    one_link(&mut criterion);
    criterion.final_summary();
}

/// Poisson arrivals of eight kinds of jobs with heavy-tailed lengths on [`REGIONS`] regions.
fn load(jobs: usize) -> Arc<Scenario> {
    let mut dice = Dice(7);
    let class = |model, sequence, micro_batches| Class {
        model,
        sequence,
        micro_batches,
    };
    let classes = [
        class("qwen2.5-14b", 2048, 4),
        class("qwen2.5-14b", 4096, 8),
        class("qwen2.5-32b", 2048, 8),
        class("gemma-3-27b", 4096, 4),
        class("yi-34b", 2048, 16),
        class("falcon-40b", 2048, 8),
        class("llama-3.1-70b", 4096, 8),
        class("flm-101b", 2048, 8),
    ];
    let mut scenario = cluster(REGIONS, GPUS, &classes, &mut dice);
    let mut at_s = 0.0;
    crowd(&mut scenario, jobs, |_| {
        at_s -= GAP_S * (1.0 - dice.unit()).ln();
        let pareto = (1.0 - dice.unit()).powf(-1.0 / 1.5).min(100.0);
        (at_s, (50.0 * pareto) as u32)
    });
    Arc::new(scenario)
}

fn engine(scenario: &Arc<Scenario>) -> Engine {
    let policy = policy_by_name("bace-pipe").expect("it is built in");
    Engine::new(scenario.clone(), policy).with_detail(Detail::Outcomes)
}

/// The target: 100 000 jobs over 50 regions, on one core.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark's whole point is the clock"
)]
fn large() {
    let scenario = load(JOBS);
    let start = Instant::now();
    let mut records = 0;
    simulate_engine(engine(&scenario), IterationModel::Analytic, |_| {
        records += 1
    });
    let took = start.elapsed();
    let mut tally = Tally::default();
    simulate_engine(engine(&scenario), IterationModel::Analytic, |record| {
        tally.take(&scenario, record);
    });
    let all = f64::from(REGIONS * GPUS);
    println!(
        "analytic simulation of {JOBS} jobs over {REGIONS} regions: {took:?}, {records} records; {} finished, {} refused, \
         GPUs held {:.3} of the time, {:.1} jobs waiting on average",
        tally.finished,
        tally.refused,
        tally.gpu_s / (all * tally.end_s),
        tally.waited_s / tally.end_s,
    );
}

impl Tally {
    fn take(&mut self, scenario: &Scenario, record: Record) {
        match record {
            Record::Placed { at_s, job, k, .. } => {
                let number = job.trim_start_matches('j').parse::<usize>();
                let number = number.expect("jobs are numbered");
                self.waited_s += at_s - scenario.jobs[number].arrival_s;
                self.placed.insert(job, (at_s, k));
            }
            Record::JobFinished { at_s, job } => {
                if let Some((from_s, gpus)) = self.placed.remove(&job) {
                    self.gpu_s += f64::from(gpus) * (at_s - from_s);
                }
                self.finished += 1;
                self.end_s = at_s;
            }
            Record::Refused { .. } => self.refused += 1,
            _ => {}
        }
    }
}

/// How a simulation by the formula grows with the jobs.
fn analytic(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("analytic, {REGIONS} regions"));
    group.sampling_mode(SamplingMode::Flat);
    for jobs in [1_000, 10_000] {
        let scenario = load(jobs);
        group.bench_function(format!("{jobs} jobs"), |bencher| {
            bencher.iter(|| {
                let mut records = 0;
                simulate_engine(engine(&scenario), IterationModel::Analytic, |_| {
                    records += 1
                });
                records
            });
        });
    }
    group.finish();
}

/// Eight jobs over six regions, micro-batch by micro-batch.
fn event(criterion: &mut Criterion) {
    let classes = [
        ("qwen2.5-14b", 4096),
        ("qwen2.5-32b", 4096),
        ("gemma-3-27b", 4096),
        ("falcon-40b", 2048),
        ("yi-34b", 4096),
        ("llama-3.1-70b", 4096),
        ("qwen2.5-72b", 4096),
        ("flm-101b", 2048),
    ];
    let classes = classes.map(|(model, sequence)| Class {
        model,
        sequence,
        micro_batches: 16,
    });
    let mut scenario = cluster(6, GPUS, &classes, &mut Dice(5));
    crowd(&mut scenario, 8, |number| (600.0 * number as f64, 2_000));
    let scenario = Arc::new(scenario);
    let mut group = criterion.benchmark_group("8 jobs, 6 regions");
    group.sampling_mode(SamplingMode::Flat);
    for (name, model) in [
        ("analytic", IterationModel::Analytic),
        ("event", IterationModel::Event),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut records = 0;
                simulate_engine(engine(&scenario), model, |_| records += 1);
                records
            });
        });
    }
    group.finish();
}

/// Walks of jobs of two stages, one at each end of the same link, without an engine.
fn one_link(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one link");
    group.sampling_mode(SamplingMode::Flat);
    for (name, jobs, iterations, micro_batches) in [
        ("200 jobs, 2 iterations of 4 micro-batches", 200, 2, 4),
        ("8 jobs, 2 iterations of 512 micro-batches", 8, 2, 512),
        ("one job, 10 iterations of 4096 micro-batches", 1, 10, 4096),
    ] {
        let class = Class {
            model: "qwen2.5-14b",
            sequence: 2048,
            micro_batches,
        };
        let mut scenario = cluster(2, GPUS, &[class], &mut Dice(3));
        crowd(&mut scenario, jobs, |_| (0.0, iterations));
        let scenario = Arc::new(scenario);
        group.bench_function(name, |bencher| bencher.iter(|| walk(&scenario)));
    }
    group.finish();
}

/// Runs all jobs from 0 on; when the last one ends, seconds.
fn walk(scenario: &Arc<Scenario>) -> f64 {
    let settings = EventSettings {
        repeat_steady: false,
        iteration_records: false,
        action_records: false,
    };
    let mut model = EventModel::new(scenario.clone(), settings);
    let path = [0, 1].map(|region| RegionGpus {
        region: RegionId::new(region),
        gpus: 1,
    });
    for job in 0..scenario.jobs.len() as u32 {
        let start = Start {
            job: JobId(job),
            attempt: Attempt(0),
            placement: Placement {
                path: path.to_vec(),
                layers: vec![1, 1],
            },
            stage_seconds: vec![StageSeconds::by_formula(0.3); 2],
            first_iteration: 0,
            iteration_s: 1.0,
            rates: vec![1e9],
            delays_s: vec![0.01],
        };
        model.start(Moment::new(0.0), &start);
    }
    let mut end_s = 0.0;
    while let Some(at_s) = model.next_s() {
        model.advance(Moment::new(at_s), &mut Reports::default());
        end_s = at_s;
    }
    end_s
}
