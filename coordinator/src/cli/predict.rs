//! Arguments of what predicts, and of what it predicts from.

use std::path::PathBuf;

use bace_api::ComputeRung;
use bace_engine::Scenario;
use clap::Args;

use super::choice::positive;
use super::{ComputeChoice, DeviceChoice, PrecisionChoice, ScenarioArgs};
use crate::profile::{Asked, FOLDER, asked_rung};

/// Rounds of measuring a profile, usually.
const ROUNDS: u32 = 21;
/// How uncertain a layer's time may usually be, as a share.
const MOST_ERROR: f64 = 0.05;
/// How far the sum of a model's parts may usually be from the whole, as a share.
const MOST_RESIDUAL: f64 = 0.25;

/// What `simulate` and `plan` predict.
#[derive(Debug, Clone, Args)]
pub struct PredictArgs {
    /// Whose times of compute are predicted: `modelled` those of the scenario's GPU types, as on the rungs modelled and paced;
    /// `native` those of this machine's device, whatever GPU types it stands for, from what `bace profile` measured.
    /// Default: what the scenario's `[compute]` says, else those of the GPU types.
    #[arg(long, value_enum)]
    pub compute: Option<ComputeChoice>,
    /// The device of a native run: `cpu`, `cuda` or `cuda:0,2`, all of them alike.
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
    /// In which numbers it computes. Default: fp32 on the CPU, bf16 on a GPU.
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionChoice>,
    /// The profile of the device of a native run. Default: the one under `profiles` that this machine's device has.
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
}

impl PredictArgs {
    /// What is asked for of `scenario`, which `named` names.
    pub fn asked<'a>(&'a self, named: &'a ScenarioArgs, scenario: &Scenario) -> Asked<'a> {
        Asked {
            is_native: asked_rung(self.compute, scenario) == Some(ComputeRung::Native),
            device: &self.device,
            precision: self.precision,
            profile: self.profile.as_deref(),
            scenario: &named.scenario,
            seed: named.seed,
        }
    }
}

#[derive(Debug, Args)]
pub struct ProfileArgs {
    /// A scenario whose jobs' models and micro-batches are measured: a file, or the name of a built-in one.
    #[arg(required_unless_present = "model")]
    pub scenario: Option<String>,
    /// Only these models; without a scenario, built-in ones.
    #[arg(long, value_name = "NAME")]
    pub model: Vec<String>,
    /// Seed of the scenario's draws, instead of its own.
    #[arg(long, requires = "scenario")]
    pub seed: Option<u64>,
    /// What to measure: `cpu` or `cuda:N`.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// In which numbers to compute. Default: fp32 on the CPU, bf16 on a GPU.
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionChoice>,
    /// Micro-batch sizes, in sequences. Default: those of the scenario's jobs; 1 without a scenario.
    #[arg(long, value_delimiter = ',', value_name = "N,…", value_parser = clap::value_parser!(u32).range(1..))]
    pub micro_batch: Vec<u32>,
    /// Tokens of a sequence. Default: those of the scenario's jobs; 128 without a scenario.
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub sequence: Option<u32>,
    /// Bytes of an element where it crosses a stage boundary, 2 or 4. Default: those of the scenario's jobs; 2 without a scenario.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(2..=4))]
    pub bytes_per_element: Option<u32>,
    /// Rounds of measuring, after the warm-up; the median counts.
    #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(5..=10_000))]
    pub repeats: u32,
    /// How uncertain a layer's time may be, and how much it may drift while it is measured, as a share; beyond it nothing is kept.
    #[arg(long, default_value_t = MOST_ERROR, value_name = "SHARE", value_parser = positive)]
    pub most_error: f64,
    /// How far a whole model's forward and backward, and its step, may be from the sum of their parts, and how uncertain a stage's set-up
    /// in a fresh process may be, as a share; beyond it nothing is kept.
    #[arg(long, default_value_t = MOST_RESIDUAL, value_name = "SHARE", value_parser = positive)]
    pub most_residual: f64,
    /// Text to train on: a file or a folder. Default: the Python sources that came with libtorch.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Folder of the profiles.
    #[arg(long, value_name = "DIR", default_value = FOLDER)]
    pub out: PathBuf,
}

impl ProfileArgs {
    /// All that the jobs of a scenario need on the device `device`, measured as usual into the usual folder.
    pub fn of_scenario(scenario: &str, seed: Option<u64>, device: String) -> Self {
        Self {
            scenario: Some(scenario.to_owned()),
            model: Vec::new(),
            seed,
            device,
            precision: None,
            micro_batch: Vec::new(),
            sequence: None,
            bytes_per_element: None,
            repeats: ROUNDS,
            most_error: MOST_ERROR,
            most_residual: MOST_RESIDUAL,
            data: None,
            out: PathBuf::from(FOLDER),
        }
    }
}
