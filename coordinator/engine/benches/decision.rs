//! One decision: who of many waiting jobs is placed, and where.
//!
//! Prints, besides criterion's figures, what the crowd was and the percentiles of a settling.

#[path = "world/mod.rs"]
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bace_api::JobId;
use bace_engine::{Detail, Engine, Input, policy_by_name};
use criterion::{BatchSize, Criterion};
use world::{Class, Dice, cluster, crowd};

/// Models of 80 layers.
const MODELS: [&str; 3] = ["llama-3.1-70b", "qwen2.5-72b", "flm-101b"];

/// GPUs of every region.
const GPUS: u32 = 64;

/// Settlings of which percentiles are taken; each of another cluster and crowd.
const SAMPLES: u64 = 500;

/// Settlings of which a median is taken to see the growth; fewer where the crowd is large.
const GROWTH_SAMPLES: u64 = 25;

/// How the waiting jobs resemble each other.
#[derive(Debug, Clone, Copy)]
enum Crowd {
    /// Each with a sequence length of its own, so that nothing found for one holds for another.
    AllDifferent,
    /// Three models with four sequence lengths.
    TwelveKinds,
}

/// What a settling has before it.
#[derive(Debug, Clone, Copy)]
struct Case {
    regions: u32,
    waiting: usize,
    crowd: Crowd,
    detail: Detail,
}

/// What a settling did.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    took: Duration,
    waiting: usize,
    refused: usize,
    placed: usize,
    free_before: u32,
}

impl Outcome {
    /// A settling decides once for every placement, and once more to find that there is no further.
    fn per_decision_us(&self) -> f64 {
        self.took.as_secs_f64() * 1e6 / (self.placed + 1) as f64
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark is asked for by its argument"
)]
fn main() {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    if std::env::args().any(|argument| argument == "--bench") {
        percentiles();
        exponents();
    }
    settle(&mut criterion);
    criterion.final_summary();
}

impl Case {
    /// An engine with most GPUs in use and the crowd handed in, not yet settled; and how many jobs it refused.
    fn engine(&self, seed: u64) -> (Engine, usize) {
        let mut dice = Dice(seed);
        let kinds = match self.crowd {
            Crowd::AllDifferent => self.waiting,
            Crowd::TwelveKinds => 12,
        };
        let class = |number: usize| Class {
            model: MODELS[number % MODELS.len()],
            sequence: match self.crowd {
                Crowd::AllDifferent => 1024 + 8 * number as u32,
                Crowd::TwelveKinds => 1024 << (number / MODELS.len()),
            },
            micro_batches: 16,
        };
        let classes: Vec<Class> = (0..kinds).map(class).collect();
        let mut scenario = cluster(self.regions, GPUS, &classes, &mut dice);
        let running = self.regions as usize * 4 / 3;
        crowd(&mut scenario, running + self.waiting, |number| {
            let arrival_s = if number < running { 0.0 } else { 1.0 };
            (arrival_s, 1 + (1e4 * dice.unit()) as u32)
        });
        let all = scenario.jobs.len() as u32;
        let policy = policy_by_name("bace-pipe").expect("it is built in");
        let mut engine = Engine::new(Arc::new(scenario), policy).with_detail(self.detail);
        let hand_in = |engine: &mut Engine, jobs: std::ops::Range<u32>, at_s: f64| {
            for job in jobs {
                engine.handle(at_s, Input::Submitted(JobId(job)));
            }
        };
        hand_in(&mut engine, 0..running as u32, 0.0);
        engine.settle(0.0);
        hand_in(&mut engine, running as u32..all, 1.0);
        while engine.poll_record().is_some() || engine.poll_command().is_some() {}
        let held = engine.running().count() + engine.waiting().count();
        (engine, all as usize - held)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark's whole point is the clock"
    )]
    fn outcome(&self, seed: u64) -> Outcome {
        let (mut engine, refused) = self.engine(seed);
        let waiting = engine.waiting().count();
        let regions = (0..self.regions).filter_map(|region| {
            let region = bace_netem::RegionId::from_index(region as usize)?;
            Some(engine.cluster().free(region))
        });
        let free_before = regions.sum();
        let start = Instant::now();
        engine.settle(1.0);
        Outcome {
            took: start.elapsed(),
            waiting,
            refused,
            placed: waiting - engine.waiting().count(),
            free_before,
        }
    }
}

/// The target: 100 jobs that wait, 6 regions of 64 GPUs, 80 layers, all reasons told.
fn percentiles() {
    for crowd in [Crowd::AllDifferent, Crowd::TwelveKinds] {
        let case = Case {
            regions: 6,
            waiting: 100,
            crowd,
            detail: Detail::Full,
        };
        let mut outcomes: Vec<Outcome> = (0..SAMPLES).map(|seed| case.outcome(seed)).collect();
        outcomes.sort_by_key(|outcome| outcome.took);
        let at = |share: f64| outcomes[(share * (outcomes.len() - 1) as f64) as usize].took;
        let mean =
            |of: fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>() / outcomes.len() as f64;
        println!(
            "settle with 100 jobs, 6 regions of {GPUS} GPUs, {crowd:?}: median {:?}, p99 {:?}, longest {:?} of {SAMPLES}; \
             on average {:.1} of {} GPUs free, {:.1} jobs waiting, {:.1} refused before, {:.1} placed, {:.1} passed over",
            at(0.5),
            at(0.99),
            at(1.0),
            mean(|outcome| f64::from(outcome.free_before)),
            6 * GPUS,
            mean(|outcome| outcome.waiting as f64),
            mean(|outcome| outcome.refused as f64),
            mean(|outcome| outcome.placed as f64),
            mean(|outcome| (outcome.waiting - outcome.placed) as f64),
        );
    }
}

/// How a settling grows with regions and with waiting jobs: medians, and the exponents between them.
fn exponents() {
    for crowd in [Crowd::AllDifferent, Crowd::TwelveKinds] {
        let median_us = |regions: u32, waiting: usize| {
            let samples = (20_000 / waiting as u64).min(GROWTH_SAMPLES) | 1;
            let case = Case {
                regions,
                waiting,
                crowd,
                detail: Detail::Full,
            };
            let mut outcomes: Vec<Outcome> = (0..samples).map(|seed| case.outcome(seed)).collect();
            outcomes.sort_by(|a, b| a.per_decision_us().total_cmp(&b.per_decision_us()));
            let middle = outcomes[outcomes.len() / 2];
            println!(
                "{crowd:?}, {regions} regions, {waiting} jobs: {:.1} us a decision, {:?} a settle that places {}",
                middle.per_decision_us(),
                middle.took,
                middle.placed
            );
            middle.per_decision_us()
        };
        let exponent = |small: f64, large: f64, factor: f64| (large / small).ln() / factor.ln();
        let by_regions = [10, 30, 100].map(|regions| median_us(regions, 100));
        let by_jobs = [100, 1_000, 10_000].map(|jobs| median_us(30, jobs));
        println!(
            "{crowd:?}: time of a decision grows as regions^{:.2} (10 to 30) and ^{:.2} (30 to 100), as jobs^{:.2} (100 to 1000) \
             and ^{:.2} (1000 to 10000)",
            exponent(by_regions[0], by_regions[1], 3.0),
            exponent(by_regions[1], by_regions[2], 10.0 / 3.0),
            exponent(by_jobs[0], by_jobs[1], 10.0),
            exponent(by_jobs[1], by_jobs[2], 10.0),
        );
    }
}

/// The same under criterion, to compare two versions of the engine.
fn settle(criterion: &mut Criterion) {
    for crowd in [Crowd::AllDifferent, Crowd::TwelveKinds] {
        let mut group = criterion.benchmark_group(format!("settle, {crowd:?}"));
        for (regions, waiting) in [(6, 100), (30, 1000)] {
            let case = Case {
                regions,
                waiting,
                crowd,
                detail: Detail::Full,
            };
            group.bench_function(format!("{regions} regions, {waiting} jobs"), |bencher| {
                bencher.iter_batched(
                    || case.engine(1).0,
                    |mut engine| {
                        engine.settle(1.0);
                        engine
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}
