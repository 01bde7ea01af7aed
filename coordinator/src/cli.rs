//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use bace_api::{ComputeRung, NetworkRung, Receipts};
use bace_engine::Scenario;
use bace_netem::TimeScale;
use bace_sim::IterationModel;
use bace_stage::JoinArgs;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::profile::{Asked, FOLDER, asked_rung};

/// Emulates geo-distributed LLM training: real pipelines, shaped links, measured completion time and cost.
///
/// A scenario file says which regions exist, what their electricity costs, how they are linked and which jobs
/// arrive. `bace run` trains those jobs for real on emulated GPUs; `bace simulate` predicts the same run.
#[derive(Debug, Parser)]
#[command(name = "bace", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  bace run three-regions              train the built-in scenario on this machine
  bace run my.toml --policy lcf       your scenario under a baseline policy
  bace simulate three-regions         the same run, predicted in virtual time
  bace scenario show three-regions    a commented scenario to start from
  bace report runs/three-regions-1    the tables of a finished run, from its ledger
  bace compare paper --seeds 20       all policies over twenty draws of the paper's setting
  bace replay runs/three-regions-1    the same inputs, the same decisions
  bace doctor three-regions           what this machine can carry, and whether the scenario fits

Exit status: 0 all jobs finished; 1 the run or a job failed, or links were not what the scenario says; 2 the command
line or the scenario is wrong.

Runs that name no --out go to runs/NAME-1, runs/NAME-2, … in the present folder. BACE_LOG=debug tells more on
standard error (levels as in tracing's filters, such as bace=debug,warn).";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a scenario's jobs for real on emulated GPUs.
    Run(RunArgs),
    /// Predict a scenario in virtual time.
    Simulate(SimulateArgs),
    /// Print the tables of a run or a simulation from its ledger alone.
    Report(ReportArgs),
    /// Feed a ledger's inputs back to the scheduler; fails at the first decision that differs.
    Replay(ReplayArgs),
    /// Explain where jobs are placed and why, and print their pipelines as grids.
    Plan(PlanArgs),
    /// Compare policies in a table, over seeds and changed quantities.
    Compare(CompareArgs),
    /// List the scheduling policies.
    Policies,
    /// List, print or check scenarios.
    #[command(subcommand)]
    Scenario(ScenarioCommand),
    /// Make a scenario's links of network namespaces and tc, by hand.
    #[command(subcommand)]
    Netem(NetemCommand),
    /// Measure this machine's emulation.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Measure what models take on this machine's device, so that native runs of them can be predicted.
    ///
    /// Forward, backward and optimizer step of a layer, the embedding, the head and the copies at a stage's boundary, and the
    /// peak of memory. Needs bace-worker with libtorch. What was measured before of other models stays in the file.
    Profile(ProfileArgs),
    /// Stand for one emulated GPU that computes nothing: what `bace run --compute modelled` starts for each.
    Worker(JoinArgs),
    /// Look at what this machine has and measure what size of scenario it can carry; takes about ten seconds.
    ///
    /// Exit status: 0 a run on the CPU works here, and the scenario fits if one is named; 1 it does not.
    Doctor(DoctorArgs),
    /// Compare GPUs with the CPU, train on them, and write a report with a verdict for each check.
    ///
    /// Exit status: 0 no check failed; 1 one did, or there is no GPU.
    GpuCheck(GpuCheckArgs),
}

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
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(5..=10_000))]
    pub repeats: u32,
    /// How uncertain a layer's time may be, and how much it may drift while it is measured, as a share; beyond it nothing is kept.
    #[arg(long, default_value_t = 0.05, value_name = "SHARE", value_parser = positive)]
    pub most_error: f64,
    /// How far a whole model's forward and backward, and its step, may be from the sum of their parts, as a share; beyond it
    /// nothing is kept.
    #[arg(long, default_value_t = 0.25, value_name = "SHARE", value_parser = positive)]
    pub most_residual: f64,
    /// Text to train on: a file or a folder. Default: the Python sources that came with libtorch.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Folder of the profiles.
    #[arg(long, value_name = "DIR", default_value = FOLDER)]
    pub out: PathBuf,
}

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

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Also tell whether this scenario fits, and which limit it meets first.
    pub scenario: Option<String>,
    /// Print the findings as one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct GpuCheckArgs {
    /// What to check: `cuda` (all devices) or `cuda:0,2` (these); `cpu` shows what is done without a GPU.
    #[arg(long, default_value = "cuda")]
    pub device: DeviceChoice,
    /// The scenario to train, natively and paced: a file, or the name of a built-in one.
    #[arg(long, default_value = "three-regions")]
    pub scenario: String,
    /// Text to train on. Default: the Python sources that came with libtorch.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Script that measures throughput beside torch.distributed.pipelining; left out without it.
    #[arg(long, value_name = "SCRIPT")]
    pub bench_torch: Option<PathBuf>,
    /// Folder for gpu-check.txt, gpu-check.json and the runs, whose folders there are replaced.
    #[arg(long, value_name = "DIR", default_value = "gpu-check")]
    pub out: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum NetemCommand {
    /// Print every ip and tc command that `up` would run, for a shell; needs no privileges.
    Plan(NetemPlanArgs),
    /// Put the network up until `down`: a namespace for each region and a hub, shaped links between them. Needs root;
    /// a run with `--network kernel` has a network of its own and needs neither.
    Up {
        /// A scenario file, or the name of a built-in one.
        scenario: String,
    },
    /// Take down what `up` has put up, and what runs have left behind that were killed.
    Down {
        /// A scenario file, or the name of a built-in one.
        scenario: String,
    },
    /// Tell what is up; the exit status is 0 if the network is, complete and as the scenario says, else 1.
    Status {
        /// A scenario file, or the name of a built-in one.
        scenario: String,
    },
}

#[derive(Debug, Args)]
pub struct NetemPlanArgs {
    /// A scenario file, or the name of a built-in one.
    pub scenario: String,
    /// What gives links their rates.
    #[arg(long, value_enum, default_value = "tbf")]
    pub rate_qdisc: RateQdiscChoice,
    /// The plan for a kernel without the netem discipline, which cannot delay or lose packets.
    #[arg(long)]
    pub without_netem: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RateQdiscChoice {
    Tbf,
    Htb,
}

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Send messages over shaped links and compare their times with bytes/rate + delay.
    ///
    /// Without --all or --parts: links of several rates and delays, a link being true if its worst message is within
    /// 1 % or 1 ms, whichever is larger; 90 s by default. With them: figures against their goals; --all takes about
    /// five minutes, most of it what 16 MiB take at 10 Mbit/s. Exit status 1 if a link is not true or a goal is missed.
    Link(BenchLinkArgs),
    /// Measure what QUIC carries over loopback beside TCP, and that messages of 1 byte to 1 GiB arrive intact.
    ///
    /// The two ends are two processes, and each round measures all carriers one after the other; about a minute by
    /// default. Exit status 1 if a goal is missed.
    Transport(BenchTransportArgs),
    /// Measure what reading this machine's energy meters takes.
    ///
    /// Reads every meter there is ten times a second, as a run does, while nothing else is done: what is measured is the
    /// processor time of reading, not what a run loses by it, for which docs/energy.md has the commands. Exit status 1 if it is more
    /// than 0.5 % of a core, or there is no meter.
    Meter(BenchMeterArgs),
    /// Train pipelines natively over unshaped links: tokens a second, overhead over the ideal, start and memory of workers.
    ///
    /// The ideal of an iteration is (M + K - 1) t: M micro-batches, K stages, t the largest stage's measured forward and
    /// backward of one. The overhead is by what share the first stage's time from the begin of an iteration to its end,
    /// without its optimizer step, exceeds that. Where stages share a device, waiting for its lease is no part of t, and so
    /// counts as overhead. With --beside each round also runs a peer's pipeline on the same model. Exit status 1 if a goal is
    /// missed.
    Pipeline(BenchPipelineArgs),
    /// Take part in another process's measurement.
    #[command(hide = true)]
    Peer,
}

#[derive(Debug, Args)]
pub struct BenchLinkArgs {
    /// Hold every figure of links against its goal.
    #[arg(long, conflicts_with = "parts")]
    pub all: bool,
    /// Hold these figures against their goals.
    #[arg(long, value_delimiter = ',', value_name = "PART,…")]
    pub parts: Vec<LinkPartChoice>,
    /// Message size in MiB.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub message_mib: u32,
    /// Rates in Mbit/s. Default: 10, 100 and 1000; with --all or --parts also 5000.
    #[arg(long, value_delimiter = ',', value_name = "MBPS,…")]
    pub rates_mbps: Vec<f64>,
    /// One-way delays in ms. Default: 0 and 40; with --all or --parts 20 and 100.
    #[arg(long, value_delimiter = ',', value_name = "MS,…")]
    pub delays_ms: Vec<f64>,
    /// Messages for each link, or rounds of --all and --parts; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repeats: u32,
    /// Print the results as one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Figures of links that have goals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LinkPartChoice {
    /// Messages back to back: achieved over configured rate.
    Rate,
    /// One message after idling, 64 KiB to 64 MiB: error of its completion.
    Isolated,
    /// Small messages: error of the one-way delay.
    Delay,
    /// 2, 4 and 8 processes on one link: their sum, and how equally they share it.
    Shared,
    /// Messages back to back beside two processes that compute.
    Hogs,
    /// The packet back end without loss: goodput over what the rate leaves to payload.
    Packet,
}

impl LinkPartChoice {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Rate,
        Self::Isolated,
        Self::Delay,
        Self::Shared,
        Self::Hogs,
        Self::Packet,
    ];
}

#[derive(Debug, Args)]
pub struct BenchMeterArgs {
    /// How long to read the meters.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// Print the results as one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct BenchPipelineArgs {
    /// Models to train.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "MODEL,…",
        default_value = "small,medium"
    )]
    pub models: Vec<BenchModel>,
    /// Stages, each a worker process.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub stages: u32,
    /// Iterations to measure after one of warm-up. Default: what takes about ten seconds on two cores.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub iterations: Option<u32>,
    /// Times that each model is trained, by each side in turn; the median counts.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// What to compute on: `cpu`, `cuda` (all devices) or `cuda:0,2` (these).
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
    /// Text to train on. Default: the Python sources that came with libtorch.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Print the results as one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
    /// A program that trains the same pipeline, with its arguments: `scripts/bench-torch` names one. It gets its task as a
    /// line of JSON on standard input and answers with one. Comes last.
    #[arg(long, num_args = 1.., value_name = "PROGRAM", allow_hyphen_values = true)]
    pub beside: Vec<std::ffi::OsString>,
}

/// Models of the benchmark, in ascending size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchModel {
    /// 2 layers of width 32: to see that everything works.
    Tiny,
    /// 8 layers of width 256, byte vocabulary, plain feed-forward.
    Small,
    /// 8 layers of width 512, grouped-query attention, gated feed-forward.
    Medium,
    /// 12 layers of width 768, likewise.
    Large,
}

impl BenchModel {
    /// All of them.
    #[cfg(test)]
    pub const ALL: [Self; 4] = [Self::Tiny, Self::Small, Self::Medium, Self::Large];
}

#[derive(Debug, Args)]
pub struct BenchTransportArgs {
    /// Times that every carrier is measured; the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// What each measurement carries, 10^9 bytes.
    #[arg(long, default_value_t = 1.0, value_parser = gigabytes)]
    pub gigabytes: f64,
    /// Message size in MiB.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub message_mib: u32,
    /// Largest message that is compared byte by byte, MiB.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub largest_mib: u32,
    /// Print the results as one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
}

/// How fast emulated time passes.
fn time_scale(text: &str) -> Result<TimeScale, String> {
    let scale = text.parse::<f64>().ok().and_then(TimeScale::new);
    scale.ok_or_else(|| {
        let (least, most) = (TimeScale::LEAST, TimeScale::MOST);
        format!("it has to be a number from {least} to {most}")
    })
}

/// What a measurement carries.
fn gigabytes(text: &str) -> Result<f64, String> {
    let gigabytes = text.parse::<f64>().ok();
    let gigabytes = gigabytes.filter(|gigabytes| (0.001..=1000.0).contains(gigabytes));
    gigabytes.ok_or_else(|| "it has to be a number from 0.001 to 1000".to_owned())
}

/// A load between an idle cluster and one whose queue never ends.
fn load(text: &str) -> Result<f64, String> {
    let load = text.parse::<f64>().ok();
    let load = load.filter(|load| (0.001..=1000.0).contains(load));
    load.ok_or_else(|| "it has to be a number from 0.001 to 1000".to_owned())
}

/// A part of a GPU's memory.
fn device_memory(text: &str) -> Result<f64, String> {
    let gigabytes = text.parse::<f64>().ok();
    let gigabytes = gigabytes.filter(|gigabytes| (0.1..=10_000.0).contains(gigabytes));
    gigabytes.ok_or_else(|| "it has to be a number from 0.1 to 10000".to_owned())
}

/// A share above 0.
fn positive(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok();
    let share = share.filter(|share| share.is_finite() && *share > 0.0);
    share.ok_or_else(|| "it has to be a number above 0".to_owned())
}

/// An instant of emulated time.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok();
    let seconds = seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    seconds.ok_or_else(|| "it has to be a number of seconds, 0 or more".to_owned())
}

/// What workers compute on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceChoice {
    /// libtorch's CPU backend.
    Cpu,
    /// CUDA devices; empty means all there are.
    Cuda(Vec<u32>),
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no device; use cpu, cuda, or cuda:0,2");
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(Vec::new())),
            Some(("cuda", list)) => list
                .split(',')
                .map(|index| index.parse().map_err(|_| wrong()))
                .collect::<Result<_, _>>()
                .map(Self::Cuda),
            _ => Err(wrong()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrecisionChoice {
    Fp32,
    Bf16,
}

impl PrecisionChoice {
    /// As `bace-worker --precision` takes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Bf16 => "bf16",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ComputeChoice {
    Modelled,
    Paced,
    Native,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NetworkChoice {
    Virtual,
    Packet,
    Kernel,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReceiptsChoice {
    /// Measure.
    Full,
    /// Do not; the report says so.
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MetersChoice {
    /// All that are there.
    Auto,
    /// None; the report says so.
    Off,
}

impl From<ReceiptsChoice> for Receipts {
    fn from(choice: ReceiptsChoice) -> Self {
        match choice {
            ReceiptsChoice::Full => Self::Full,
            ReceiptsChoice::Off => Self::Off,
        }
    }
}

impl From<NetworkChoice> for NetworkRung {
    fn from(choice: NetworkChoice) -> Self {
        match choice {
            NetworkChoice::Virtual => Self::Shaped,
            NetworkChoice::Packet => Self::Packet,
            NetworkChoice::Kernel => Self::Kernel,
            NetworkChoice::None => Self::None,
        }
    }
}

impl From<ComputeChoice> for ComputeRung {
    fn from(choice: ComputeChoice) -> Self {
        match choice {
            ComputeChoice::Modelled => Self::Modelled,
            ComputeChoice::Paced => Self::Paced,
            ComputeChoice::Native => Self::Native,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IterationModelChoice {
    Analytic,
    Event,
}

impl IterationModelChoice {
    /// As ledgers write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Analytic => "analytic",
            Self::Event => "event",
        }
    }
}

impl From<IterationModelChoice> for IterationModel {
    fn from(choice: IterationModelChoice) -> Self {
        match choice {
            IterationModelChoice::Analytic => Self::Analytic,
            IterationModelChoice::Event => Self::Event,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn devices_parse() {
        assert_eq!("cpu".parse(), Ok(DeviceChoice::Cpu));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(vec![])));
        assert_eq!("cuda:0,2".parse(), Ok(DeviceChoice::Cuda(vec![0, 2])));
        for wrong in ["gpu", "cuda:", "cuda:x", "cpu:0"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }
}
