//! What a seed decides about jobs, and jobs drawn like those of a scenario.
//!
//! Each quantity has a stream of its own, so that one more drawn quantity leaves the others' draws as they are. One more job at the
//! end leaves the other jobs' tokens as they are, but not their arrivals, whose order is drawn over all jobs. Times are rounded to the millisecond, which no platform's logarithm can change.

use std::collections::BTreeSet;

use bace_api::Job;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::limits;
use super::types::Scenario;

/// What the seed decides about jobs: the table `[draw]` of a scenario. Without it all seeds have the same jobs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Draw {
    /// Jobs arrive in a random order, the first at 0 s, with exponentially distributed gaps of this mean, seconds; absent, they
    /// arrive as written.
    pub arrival_gap_s: Option<f64>,
    /// Each job trains on one of these numbers of tokens, all equally likely; its iterations are as many as that takes. Empty,
    /// its iterations are as written.
    pub tokens: Vec<u64>,
    /// Jobs to have instead of those written: the first of them, or all of them and copies of jobs drawn from them. A copy
    /// arrives with its original where arrivals are not drawn.
    pub jobs: Option<usize>,
}

/// Streams of the generator.
const ARRIVALS: u64 = 1;
const TOKENS: u64 = 2;
const COPIES: u64 = 3;

impl Draw {
    /// Whether two seeds can have different jobs, given as many as are `written`.
    pub fn depends_on_seed(&self, written: usize) -> bool {
        self.arrival_gap_s.is_some()
            || self.tokens.len() > 1
            || self.jobs.is_some_and(|jobs| jobs > written)
    }
}

impl Scenario {
    /// The scenario under another seed: its draws are made anew.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        if let Some(count) = self.draw.jobs {
            self.resize(count);
        }
        if !self.draw.tokens.is_empty() {
            self.draw_tokens();
        }
        if let Some(mean_s) = self.draw.arrival_gap_s {
            self.draw_arrivals(mean_s);
        }
        self
    }

    fn resize(&mut self, count: usize) {
        let written = self.jobs.len();
        self.jobs.truncate(count);
        if written == 0 {
            return;
        }
        let mut dice = Dice::new(self.seed, COPIES);
        let mut names: BTreeSet<String> = self.jobs.iter().map(|job| job.name.clone()).collect();
        while self.jobs.len() < count {
            let original = &self.jobs[dice.below(written)];
            let mut name = format!("{}-{}", original.name, self.jobs.len() + 1);
            while !names.insert(name.clone()) {
                name.push('x');
            }
            let copy = Job {
                name,
                ..original.clone()
            };
            self.jobs.push(copy);
        }
    }

    fn draw_tokens(&mut self) {
        let mut dice = Dice::new(self.seed, TOKENS);
        let most = *limits::ITERATIONS.end() as u64;
        for job in &mut self.jobs {
            let tokens = self.draw.tokens[dice.below(self.draw.tokens.len())];
            let iterations = tokens.div_ceil(job.iteration_tokens()).clamp(1, most);
            job.iterations = iterations as u32;
        }
    }

    fn draw_arrivals(&mut self, mean_s: f64) {
        let mut dice = Dice::new(self.seed, ARRIVALS);
        let mut order: Vec<usize> = (0..self.jobs.len()).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, dice.below(last + 1));
        }
        let mut at_s = 0.0;
        for index in order {
            self.jobs[index].arrival_s = (at_s * 1e3_f64).round() / 1e3;
            at_s += mean_s * dice.exponential();
        }
    }
}

/// Random numbers that depend on a seed alone.
#[derive(Debug, Clone)]
pub struct Dice(ChaCha12Rng);

impl Dice {
    /// Dice of one stream of `seed`.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut generator = ChaCha12Rng::seed_from_u64(seed);
        generator.set_stream(stream);
        Self(generator)
    }

    /// Evenly over [0, 1).
    pub fn share(&mut self) -> f64 {
        const STEPS: f64 = (1_u64 << 53) as f64;
        (self.0.next_u64() >> 11) as f64 / STEPS
    }

    /// Evenly over 0 to `count` − 1; `count` is not 0.
    pub fn below(&mut self, count: usize) -> usize {
        // The product's upper half: its bias is 2^-64 a value, far below anything that a run could show.
        ((u128::from(self.0.next_u64()) * count as u128) >> 64) as usize
    }

    /// Exponentially distributed with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.share()).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    fn world(draw: &str) -> Scenario {
        let world = World::new()
            .region("a", 7, "unit", 0.1)
            .job("one", 5.0, 3)
            .job("two", 6.0, 4)
            .job("three", 7.0, 5);
        Scenario::clone(&world.and(draw).scenario())
    }

    fn jobs(scenario: &Scenario) -> Vec<(&str, f64, u32)> {
        let jobs = scenario.jobs.iter();
        jobs.map(|job| (job.name.as_str(), job.arrival_s, job.iterations))
            .collect()
    }

    #[test]
    fn without_draws_all_seeds_are_alike() {
        let scenario = world("");
        assert!(!scenario.draw.depends_on_seed(3));
        assert_eq!(scenario.clone().with_seed(9).jobs, scenario.jobs);
    }

    #[test]
    fn a_seed_draws_the_same_whatever_was_drawn_before() {
        let scenario = world("[draw]\narrival_gap_s = 60\ntokens = [8, 400, 90]");
        assert!(scenario.draw.depends_on_seed(3));
        let once = scenario.clone().with_seed(3);
        let twice = scenario.clone().with_seed(4).with_seed(3);
        assert_eq!(jobs(&once), jobs(&twice));
        assert_ne!(jobs(&once), jobs(&scenario.with_seed(4)));
    }

    #[test]
    fn tokens_become_whole_iterations() {
        // Four micro-batches of one token each.
        let scenario = world("[draw]\ntokens = [9]");
        let iterations: Vec<u32> = scenario.jobs.iter().map(|job| job.iterations).collect();
        assert_eq!(iterations, [3, 3, 3]);
    }

    #[test]
    fn arrivals_are_a_poisson_process_in_random_order() {
        let scenario = world("[draw]\narrival_gap_s = 60");
        let (mut first, mut sum) = ([0; 3], 0.0);
        for seed in 0..600 {
            let drawn = scenario.clone().with_seed(seed);
            let times: Vec<f64> = drawn.jobs.iter().map(|job| job.arrival_s).collect();
            first[times.iter().position(|&at_s| at_s == 0.0).unwrap()] += 1;
            sum += times.iter().copied().fold(0.0, f64::max);
        }
        // Two gaps; the mean of 600 sums deviates by 3.5 s or less in two of three cases.
        assert!((sum / 600.0 - 120.0).abs() < 14.0, "{}", sum / 600.0);
        assert!(
            first.iter().all(|&count| (150..250).contains(&count)),
            "{first:?}"
        );
    }

    #[test]
    fn more_jobs_are_like_those_written() {
        let mut scenario = world("");
        scenario.draw.jobs = Some(10);
        let drawn = scenario.clone().with_seed(1);
        assert_eq!(drawn.jobs[..3], scenario.jobs);
        let names: BTreeSet<&str> = drawn.jobs.iter().map(|job| job.name.as_str()).collect();
        assert_eq!(names.len(), 10);
        for copy in &drawn.jobs[3..] {
            let alike = |job: &&Job| copy.arrival_s == job.arrival_s;
            assert_eq!(scenario.jobs.iter().filter(alike).count(), 1);
        }
        scenario.draw.jobs = Some(2);
        assert_eq!(scenario.clone().with_seed(1).jobs, scenario.jobs[..2]);
    }
}
