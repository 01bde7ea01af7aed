//! Arguments of runs, real and simulated, and of what looks at them.

use std::net::SocketAddr;
use std::path::PathBuf;

use bace_netem::TimeScale;
use clap::Args;

use super::choice::{device_memory, seconds, time_scale};
use super::{
    ComputeChoice, DeviceChoice, IterationModelChoice, MetersChoice, NetworkChoice,
    PrecisionChoice, PredictArgs, ReceiptsChoice,
};

/// What `run`, `simulate` and `plan` share.
#[derive(Debug, Args)]
pub struct ScenarioArgs {
    /// A scenario file, or the name of a built-in one (`bace scenario list`).
    pub scenario: String,
    /// Who decides (`bace policies` lists them).
    #[arg(long, default_value = "bace-pipe")]
    pub policy: String,
    /// Seed of weights, batches and draws, instead of the scenario's.
    #[arg(long)]
    pub seed: Option<u64>,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub scenario: ScenarioArgs,
    /// What workers compute on: `cpu`, `cuda` (all devices) or `cuda:0,2` (these). Workers that people start
    /// are told their own.
    #[arg(long, default_value = "cpu", conflicts_with = "await_workers")]
    pub device: DeviceChoice,
    /// In which numbers workers compute; weights are kept in fp32. Default: fp32 on the CPU, bf16 on GPUs.
    #[arg(long, value_enum, conflicts_with = "await_workers")]
    pub precision: Option<PrecisionChoice>,
    /// Most memory that each worker may take of its GPU, 10^9 bytes. Default: all of it, or where several workers share a
    /// GPU an equal share of what CUDA itself leaves.
    #[arg(long, value_name = "GB", value_parser = device_memory, conflicts_with = "await_workers")]
    pub device_memory_gb: Option<f64>,
    /// Who takes the time of compute: `paced` gives every action the emulated GPU's time, `native` lets
    /// libtorch take as long as it takes, `modelled` computes nothing. Default: native with --device
    /// cuda where there are as many CUDA devices as emulated GPUs, else paced; paced with --await-workers.
    #[arg(long)]
    pub compute: Option<ComputeChoice>,
    /// What the scheduler of a native run takes times of compute from. Default: the profile under `profiles` that the
    /// device has, if there is one, else the GPU types.
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Whether the profile that the device has is looked for; no choice of the user's.
    #[arg(skip = true)]
    pub finds_profile: bool,
    /// Emulated seconds that pass in a second of this machine, from 0.001 to 100000: below 1 a slow machine emulates what is
    /// faster than it, above 1 hours are compressed. Compute, links, arrivals, changes and prices all follow (`bace doctor
    /// SCENARIO` says what this machine can). Default: what the scenario's `[compute]` says, else 1.
    #[arg(long, value_name = "SCALE", value_parser = time_scale)]
    pub time_scale: Option<TimeScale>,
    /// Who gives links their rates and delays: `virtual` clocks every chunk, exactly; `packet` delays, queues and loses
    /// QUIC's datagrams in user space; `kernel` lets tc shape them between network namespaces; `none` shapes
    /// nothing. Default: what the scenario's `[network]` says, else virtual.
    #[arg(long)]
    pub network: Option<NetworkChoice>,
    /// Whether every link between regions is measured before the first job and again after the last: a link that is not
    /// what the scenario says stops the run before training, or marks it as not valid after it. Takes about a second for
    /// each direction of a link, before and after.
    #[arg(long, value_enum, default_value = "full")]
    pub receipts: ReceiptsChoice,
    /// Workers that may compute on one device at a time; the others wait for their turn. Default: what the scenario's
    /// `[compute]` says, else 1 on a GPU and as many as there are cores on the CPU.
    #[arg(long, value_name = "WORKERS", value_parser = clap::value_parser!(u32).range(1..))]
    pub lease: Option<u32>,
    /// Whether this machine's energy is metered beside the emulated one: `auto` reads every meter there is (NVML of the
    /// boards that the run uses, RAPL), and says why others are not there.
    #[arg(long, value_enum, default_value = "auto")]
    pub meters: MetersChoice,
    /// Text to train on: a file or a folder. Default: the Python sources that came with libtorch.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Folder for the ledger, the summary and the workers' logs; it must not hold a run yet.
    /// Default: a fresh folder under `runs`.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print the results as one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
    /// Start no workers; write a credentials file for each emulated GPU, print the commands that start them, and wait.
    #[arg(long)]
    pub await_workers: bool,
    /// Where workers join; port 0 takes a free one. Of interest with --await-workers.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
}

#[derive(Debug, Args)]
pub struct SimulateArgs {
    #[command(flatten)]
    pub scenario: ScenarioArgs,
    #[command(flatten)]
    pub predict: PredictArgs,
    /// How an iteration's time comes about: `analytic` by formula, `event` by walking the pipeline.
    #[arg(long, value_enum, default_value = "event")]
    pub iteration_model: IterationModelChoice,
    /// Also write the ledger, as a real run does, into this folder.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print the results as one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A run's folder, or its ledger.
    pub run: PathBuf,
    /// Print the results as one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// A run's folder, or its ledger.
    pub ledger: PathBuf,
    /// The scenario of the run, where it is not the file `scenario.toml` beside the ledger.
    #[arg(long, value_name = "SCENARIO")]
    pub scenario: Option<String>,
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub scenario: ScenarioArgs,
    #[command(flatten)]
    pub predict: PredictArgs,
    /// Only placements up to this emulated second.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub at: Option<f64>,
    /// Only this job.
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
}

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// A scenario file, or the name of a built-in one (`bace scenario list`).
    pub scenario: String,
    /// Policies to compare, or `all` (`bace policies` lists them).
    #[arg(long, value_delimiter = ',', default_value = "all")]
    pub policies: Vec<String>,
    /// First seed, instead of the scenario's.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Seeds to average over, one after another.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub seeds: u32,
    /// Change a quantity of the scenario: factors on bandwidth, delay, gpus, memory or gaps (between arrivals),
    /// a number of jobs or tokens, or a value of min_share, time_slack or aging_per_hour. Several combine.
    #[arg(long, value_name = "KEY=A,B,…")]
    pub sweep: Vec<String>,
    /// How an iteration's time comes about: `analytic` by formula, `event` by walking the pipeline.
    #[arg(long, value_enum, default_value = "event")]
    pub iteration_model: IterationModelChoice,
    /// Print the comparison as one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
    /// Draw mean JCT and cost as bars into this SVG file.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Also train for real, one run after another, and show measured beside simulated.
    #[arg(long)]
    pub real: bool,
    /// What workers of real runs compute on, or would where they are only predicted: `cpu`, `cuda` or `cuda:0,2`.
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
    /// In which numbers they compute. Default: fp32 on the CPU, bf16 on GPUs.
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionChoice>,
    /// Who takes the time of compute in real runs. `native` also predicts with what `bace profile` measured on the device;
    /// without --real it is the only choice that changes anything. Default: what the scenario's `[compute]` says, and for
    /// real runs else what `bace run` would take.
    #[arg(long)]
    pub compute: Option<ComputeChoice>,
    /// The profile of the device, where compute is native. Default: the one under `profiles` that the device has.
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Emulated seconds that pass in a second of this machine in real runs, from 0.001 to 100000.
    #[arg(long, value_name = "SCALE", value_parser = time_scale, requires = "real")]
    pub time_scale: Option<TimeScale>,
    /// Who gives links their rates and delays in real runs.
    #[arg(long, requires = "real")]
    pub network: Option<NetworkChoice>,
    /// Whether links of real runs are measured before the first job and after the last.
    #[arg(long, value_enum, default_value = "full", requires = "real")]
    pub receipts: ReceiptsChoice,
    /// Folder for the folders of real runs, POLICY-SEED. Default: fresh folders under `runs`.
    #[arg(long, value_name = "DIR", requires = "real")]
    pub out: Option<PathBuf>,
}
