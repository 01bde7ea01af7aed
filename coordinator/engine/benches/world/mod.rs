//! Clusters and crowds of jobs for benchmarks: the same numbers on every machine.

use std::fmt::Write;

use bace_engine::Scenario;

/// A small generator of numbers (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to, but without, 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From `low` up to, but without, `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }
}

/// Jobs alike in model and micro-batch.
#[derive(Debug, Clone, Copy)]
pub struct Class {
    /// Of the built-in catalogue.
    pub model: &'static str,
    /// Tokens of a sequence.
    pub sequence: u32,
    /// Micro-batches of an iteration.
    pub micro_batches: u32,
}

/// `regions` regions of `gpus` GPUs, fully meshed, and one job of each class.
///
/// A region has 2 to 8 Gbit/s to the others, a pair the mean of its ends: links of which a large pipeline fills one.
pub fn cluster(regions: u32, gpus: u32, classes: &[Class], dice: &mut Dice) -> Scenario {
    let mut text = "name = \"benchmark\"\n".to_owned();
    let gbps: Vec<f64> = (0..regions).map(|_| dice.between(2.0, 8.0)).collect();
    for region in 0..regions {
        let price = dice.between(0.156, 0.295);
        line(
            &mut text,
            format_args!(
                "[[region]]\nname = \"r{region}\"\ngpus = {gpus}\ngpu = \"a6000\"\nprice_usd_per_kwh = {price}"
            ),
        );
    }
    for a in 0..regions {
        for b in a + 1..regions {
            let mbps = 500.0 * (gbps[a as usize] + gbps[b as usize]);
            let delay_ms = dice.between(5.0, 150.0);
            line(
                &mut text,
                format_args!(
                    "[[link]]\nbetween = [\"r{a}\", \"r{b}\"]\nbandwidth_mbps = {mbps}\none_way_delay_ms = {delay_ms}"
                ),
            );
        }
    }
    for (class, position) in classes.iter().zip(0..) {
        let Class {
            model,
            sequence,
            micro_batches,
        } = class;
        line(
            &mut text,
            format_args!(
                "[[job]]\nname = \"class{position}\"\nmodel = \"{model}\"\narrival_s = 0\niterations = 1\n\
                 micro_batches = {micro_batches}\nmicro_batch = 1\nsequence = {sequence}"
            ),
        );
    }
    let none = |path: &str| Err(format!("there is no {path}"));
    match Scenario::parse(&text, "benchmark.toml", &none) {
        Ok(scenario) => scenario,
        Err(error) => panic!("the benchmark's own scenario is wrong: {error}"),
    }
}

/// Replaces the jobs by `count` of the same classes in turn; `shape` sets each one's arrival and iterations.
pub fn crowd(scenario: &mut Scenario, count: usize, mut shape: impl FnMut(usize) -> (f64, u32)) {
    let classes = std::mem::take(&mut scenario.jobs);
    scenario.jobs = (0..count)
        .map(|number| {
            let mut job = classes[number % classes.len()].clone();
            job.name = format!("j{number}");
            (job.arrival_s, job.iterations) = shape(number);
            job
        })
        .collect();
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    writeln!(text, "{words}").expect("strings take all text");
}
