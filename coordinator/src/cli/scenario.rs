//! Arguments of what lists and makes scenarios.

use clap::{Args, Subcommand};

use super::choice::load;

#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Jobs.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub jobs: u32,
    /// Regions.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=300))]
    pub regions: u32,
    /// GPU time that the jobs would hold, each alone with its best number of stages, over all GPUs' time until the last
    /// arrival.
    #[arg(long, default_value_t = 0.9, value_parser = load)]
    pub load: f64,
    /// Seed of all draws; TOML's integers end at 2^63 − 1.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: u64,
    /// GPUs of every region. Default: 16, 32, 64 or 128, drawn.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub gpus: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub enum ScenarioCommand {
    /// List the built-in scenarios.
    List,
    /// Print a built-in scenario's file.
    Show {
        /// Its name.
        name: String,
    },
    /// Print a random scenario: jobs arrive as a Poisson process and have heavy-tailed sizes.
    Generate(GenerateArgs),
    /// Check a scenario file without running it.
    Check {
        /// A scenario file, or the name of a built-in one.
        scenario: String,
    },
}
