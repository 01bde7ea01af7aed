//! `bace scenario generate`: random scenarios of any size, for tests of scale.
//!
//! Regions lie at random places on a map 20 000 km wide; a link's delay follows its length at two thirds of the speed of light.
//! Jobs arrive as a Poisson process. Their iterations follow a bounded Pareto distribution of shape 1.5 between 10 and 10 000:
//! most jobs are short, and a few hold most of the GPU time.

use std::fmt::Write;

use bace_api::JobId;
use bace_engine::{Dice, Estimates, Scenario};
use bace_models::catalogue;

use crate::cli::GenerateArgs;
use crate::wrong_input::OrWrongInput;

/// Streams of the generator.
const REGIONS: u64 = 16;
const JOBS: u64 = 17;
const ARRIVALS: u64 = 18;

const MAP_KM: (f64, f64) = (20_000.0, 10_000.0);
/// In glass.
const KM_PER_MS: f64 = 200.0;
const GPUS: [u32; 4] = [16, 32, 64, 128];
const GBPS: [u32; 4] = [25, 50, 75, 100];
const MICRO_BATCHES: [u32; 3] = [16, 32, 64];

/// Shape of the sizes: their mean is finite, their variance would not be without a bound.
const SHAPE: f64 = 1.5;
const ITERATIONS: (f64, f64) = (10.0, 10_000.0);

/// A job without its arrival.
struct Sketch {
    model: &'static str,
    iterations: u32,
    micro_batches: u32,
}

/// The text of a random scenario.
pub fn generate(args: &GenerateArgs) -> anyhow::Result<String> {
    let regions = regions(args);
    let sketches = sketches(args);
    let idle = regions.clone() + &jobs(&sketches, &vec![0.0; sketches.len()]);
    let held_s = held_gpu_seconds(&idle)?;
    let mean_gap_s = held_s.0 / (args.load * held_s.1 * f64::from(args.jobs));
    let mut dice = Dice::new(args.seed, ARRIVALS);
    let mut at_s = 0.0;
    let arrivals: Vec<f64> = sketches
        .iter()
        .map(|_| {
            at_s += mean_gap_s * dice.exponential();
            at_s
        })
        .collect();
    let text = regions + &jobs(&sketches, &arrivals);
    // What the limits of a scenario refuse is refused here, not by whoever reads the file.
    parse(&text)?;
    Ok(text)
}

fn regions(args: &GenerateArgs) -> String {
    let mut dice = Dice::new(args.seed, REGIONS);
    let gpus = args
        .gpus
        .map_or(String::new(), |gpus| format!(" --gpus {gpus}"));
    let mut text = format!(
        "# Generated: bace scenario generate --jobs {} --regions {} --load {} --seed {}{gpus}\n\
         # Poisson arrivals; iterations are Pareto of shape {SHAPE}, from {} to {}.\n\n\
         name = \"generated-{}\"\nseed = {}\n",
        args.jobs,
        args.regions,
        args.load,
        args.seed,
        ITERATIONS.0,
        ITERATIONS.1,
        args.seed,
        args.seed
    );
    let mut places = Vec::new();
    for index in 1..=args.regions {
        let place = (dice.share() * MAP_KM.0, dice.share() * MAP_KM.1);
        let gbps = GBPS[dice.below(GBPS.len())];
        let drawn = GPUS[dice.below(GPUS.len())];
        let price = 0.10 + 0.25 * dice.share();
        places.push((place, gbps));
        line(
            &mut text,
            format_args!(
                "\n[[region]]\nname = \"r{index}\"\ngpus = {}\ngpu = \"a6000\"\nprice_usd_per_kwh = {price:.3}",
                args.gpus.unwrap_or(drawn)
            ),
        );
    }
    for (to, (there, there_gbps)) in places.iter().enumerate() {
        for (from, (here, here_gbps)) in places[..to].iter().enumerate() {
            let km = (here.0 - there.0).hypot(here.1 - there.1);
            line(
                &mut text,
                format_args!(
                    "\n[[link]]\nbetween = [\"r{}\", \"r{}\"]\nbandwidth_mbps = {}\none_way_delay_ms = {:.1}",
                    from + 1,
                    to + 1,
                    (here_gbps + there_gbps) * 500,
                    km / KM_PER_MS
                ),
            );
        }
    }
    text
}

fn sketches(args: &GenerateArgs) -> Vec<Sketch> {
    let mut dice = Dice::new(args.seed, JOBS);
    // Weights, gradients and optimizer state of larger ones would not fit the smallest cluster.
    let models: Vec<&'static str> = catalogue::models()
        .filter(|(_, model)| model.parameters() < 110_000_000_000)
        .map(|(name, _)| name)
        .collect();
    let sketch = |_| Sketch {
        model: models[dice.below(models.len())],
        iterations: pareto(dice.share()).round() as u32,
        micro_batches: MICRO_BATCHES[dice.below(MICRO_BATCHES.len())],
    };
    (0..args.jobs).map(sketch).collect()
}

/// The bounded Pareto distribution's value at `share` of its cases.
fn pareto(share: f64) -> f64 {
    let (least, most) = ITERATIONS;
    let tail = (least / most).powf(SHAPE);
    least * (1.0 - share * (1.0 - tail)).powf(-1.0 / SHAPE)
}

fn jobs(sketches: &[Sketch], arrivals: &[f64]) -> String {
    let mut text = String::new();
    for (index, (job, at_s)) in sketches.iter().zip(arrivals).enumerate() {
        line(
            &mut text,
            format_args!(
                "\n[[job]]\nname = \"j{}\"\nmodel = \"{}\"\narrival_s = {at_s:.3}\niterations = {}\n\
                 micro_batches = {}\nmicro_batch = 1\nsequence = 2048",
                index + 1,
                job.model,
                job.iterations,
                job.micro_batches
            ),
        );
    }
    text
}

/// GPU seconds that the jobs hold, each alone with K* stages, and all GPUs. Jobs that no GPUs can hold hold none.
fn held_gpu_seconds(text: &str) -> anyhow::Result<(f64, f64)> {
    let scenario = parse(text)?;
    let estimates = Estimates::of(&scenario);
    let mut held_s = 0.0;
    for (job, id) in scenario.jobs.iter().zip(0..) {
        let id = JobId(id);
        let Ok(stages) = estimates.best_stages(id, job.micro_batches) else {
            continue;
        };
        let kind = estimates.kind(estimates.kind_id(id));
        let stage_s = kind.largest_stage_s(stages, estimates.slowest_speed());
        let slots = f64::from(job.micro_batches) + f64::from(stages) - 1.0;
        held_s += f64::from(stages) * f64::from(job.iterations) * slots * stage_s;
    }
    let gpus = scenario.regions.iter().map(|region| f64::from(region.gpus));
    Ok((held_s, gpus.sum()))
}

fn parse(text: &str) -> anyhow::Result<Scenario> {
    let no_files = |name: &str| Err(format!("{name}: generated scenarios name no files"));
    Scenario::parse(text, "the generated scenario", &no_files).or_wrong_input()
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("strings take all text");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(jobs: u32, load: f64, seed: u64) -> GenerateArgs {
        GenerateArgs {
            jobs,
            regions: 4,
            load,
            seed,
            gpus: Some(64),
        }
    }

    #[test]
    fn a_seed_is_a_scenario() {
        let one = generate(&args(20, 0.5, 1)).unwrap();
        assert_eq!(one, generate(&args(20, 0.5, 1)).unwrap());
        assert_ne!(one, generate(&args(20, 0.5, 2)).unwrap());
        let scenario = parse(&one).unwrap();
        assert_eq!((scenario.jobs.len(), scenario.regions.len()), (20, 4));
        assert_eq!(scenario.links.len(), 12);
    }

    #[test]
    fn the_load_is_what_was_asked_for() {
        let text = generate(&args(2000, 0.8, 3)).unwrap();
        let (held_s, gpus) = held_gpu_seconds(&text).unwrap();
        let last_s = parse(&text).unwrap().jobs[1999].arrival_s;
        // 2000 exponential gaps: their sum deviates by 2.2 % in two of three cases.
        assert!((held_s / (gpus * last_s) - 0.8).abs() < 0.08);
    }

    #[test]
    fn sizes_have_a_heavy_tail() {
        assert!((pareto(0.0) - 10.0).abs() < 1e-9);
        assert!((pareto(1.0) - 10_000.0).abs() < 1e-6);
        assert!((pareto(0.5) - 15.87).abs() < 0.01, "{}", pareto(0.5));
    }

    #[test]
    fn a_load_that_is_none_is_a_wrong_input() {
        for load in [0.0, -1.0, f64::NAN] {
            assert!(generate(&args(1, load, 0)).is_err());
        }
    }
}
