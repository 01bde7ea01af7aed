//! Arguments of measurements of the emulation.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::DeviceChoice;
use super::choice::gigabytes;

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
