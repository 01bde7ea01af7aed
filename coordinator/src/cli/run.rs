//! Arguments of runs, real and simulated, and of what looks at them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use bace_ledger::IterationChoice;
use clap::{Arg, Args};

use super::choice::{iteration, seconds};
use super::{
    ActionsChoice, AttributionChoice, EmulationArgs, IterationModelChoice, PredictArgs,
    ReceiptsChoice,
};

/// The port is taken when the run begins, on this machine alone.
const OWN_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

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
    #[command(flatten)]
    pub emulation: EmulationArgs,
    /// Whether every link between regions is measured before the first job and again after the last: a link that is not
    /// what the scenario says stops the run before training, or marks it as not valid after it. Takes about a second for
    /// each direction of a link, before and after.
    #[arg(long, value_enum, default_value = "full")]
    pub receipts: ReceiptsChoice,
    /// Whether the ledger holds when every action began and ended, and how its tensor came: without, nothing says where a
    /// stage's time went within an iteration, and a very long run needs less disk.
    #[arg(long, value_enum, default_value = "full")]
    pub actions: ActionsChoice,
    /// Folder for the ledger, the summary and the workers' logs; it must not hold a run yet.
    /// Default: a fresh folder under `runs`.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print the results as one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
    /// Start no workers; write a credentials file for each emulated GPU, print the commands that start them, and wait.
    #[arg(long, conflicts_with_all = ["device", "precision", "device_memory_gb"])]
    pub await_workers: bool,
    /// Where workers join; port 0 takes a free one. Of interest with --await-workers.
    #[arg(long, value_name = "ADDRESS", default_value_t = OWN_PORT)]
    pub listen: SocketAddr,
}

impl RunArgs {
    /// A run whose workers this program starts here, with links measured, actions told and a folder of its own unless that is changed.
    pub fn here(scenario: ScenarioArgs, emulation: EmulationArgs) -> Self {
        Self {
            scenario,
            emulation,
            receipts: ReceiptsChoice::Full,
            actions: ActionsChoice::Full,
            out: None,
            json: false,
            await_workers: false,
            listen: OWN_PORT,
        }
    }
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
    /// Whether the ledger also tells every action of every iteration, which makes it many times as large; `event` alone has them.
    #[arg(long, value_enum, default_value = "full", requires = "out")]
    pub actions: ActionsChoice,
    /// Print the results as one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A run's folder, or its ledger; with --html also a folder of `bace validate`.
    pub run: PathBuf,
    /// Whether it is told where the time of stages went, and for a real run, simulated once more for that, where it was
    /// predicted to go. Without, the report is what the run itself has printed.
    #[arg(long, value_enum, default_value = "full")]
    pub attribution: AttributionChoice,
    /// Also write a page about the run into this file: pictures with their tables, beside what is predicted of it. It needs
    /// no network and no scripts.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// The iteration whose pipeline the page draws, from 0. Default: the median iteration of the longest job.
    #[arg(long, value_name = "JOB:N", value_parser = iteration, requires = "html")]
    pub iteration: Option<IterationChoice>,
    /// Print the results as one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A run's folder, or its ledger.
    pub run: PathBuf,
    /// The job's name.
    pub job: String,
}

#[derive(Debug, Args)]
pub struct TraceArgs {
    /// A run's folder, or its ledger.
    pub run: PathBuf,
    /// Where to write the trace. Default: trace.json beside the ledger.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Only from this emulated second on.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub from: Option<f64>,
    /// Only up to this emulated second.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub to: Option<f64>,
    /// Only what this job did, and what was decided of it; use of links, prices and power stay everybody's.
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// Without the prediction that else stands below a real run.
    #[arg(long)]
    pub measured_only: bool,
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
#[command(mut_args(of_comparison))]
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
    #[command(flatten)]
    pub emulation: EmulationArgs,
    /// Whether links of real runs are measured before the first job and after the last.
    #[arg(long, value_enum, default_value = "full", requires = "real")]
    pub receipts: ReceiptsChoice,
    /// Folder for the folders of real runs, POLICY-SEED. Default: fresh folders under `runs`.
    #[arg(long, value_name = "DIR", requires = "real")]
    pub out: Option<PathBuf>,
}

/// What only real runs have needs --real; what else says how they are done is predicted for as well.
fn of_comparison(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "device_memory_gb" | "time_scale" | "network" | "lease" | "meters" | "data" => {
            arg.requires("real")
        }
        "compute" => arg.help(
            "Who takes the time of compute in real runs. `native` also predicts with what `bace profile` measured on the device; \
             without --real it is the only choice that changes anything. Default: what the scenario's `[compute]` says, and for \
             real runs else what `bace run` would take",
        ),
        _ => arg,
    }
}
