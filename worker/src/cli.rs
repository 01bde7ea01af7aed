//! The command line.

use std::path::PathBuf;

use bace_stage::JoinArgs;
use bace_torch::{Device, Precision};
use clap::{Args, Parser, Subcommand};

/// One emulated GPU: a process that runs one pipeline stage at a time.
///
/// `bace run` starts workers itself. Started by hand, a worker joins a coordinator that waits with
/// `bace run --await-workers`, which also writes the credentials file.
#[derive(Debug, Parser)]
#[command(
    name = "bace-worker",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Exit status: 0 the run has ended; 1 it failed here, or its coordinator is gone; 2 the command line is \
                  wrong.\nBACE_LOG=debug tells more on standard error."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub join: Option<JoinArgs>,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// On what and in which numbers to compute.
#[derive(Debug, Clone, Copy, Args)]
pub struct ComputeArgs {
    /// What to compute on: `cpu` or `cuda:N`.
    #[arg(long, default_value = "cpu")]
    pub device: Device,
    /// In which numbers to compute: `fp32` or `bf16`; weights are kept in fp32. Default: fp32 on the CPU, bf16 on a GPU.
    #[arg(long)]
    precision: Option<Precision>,
}

impl ComputeArgs {
    /// In which numbers to compute.
    pub fn precision(&self) -> Precision {
        self.precision.unwrap_or(Precision::usual(self.device))
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check device and training text without joining a run; prints what was found as JSON.
    Check(CheckArgs),
    /// Compare a device with the CPU, a pipeline on it with one process, and tensors with themselves after their way to the
    /// device and back, and find out what it says where memory is short; prints JSON, takes some seconds.
    Parity(ParityArgs),
    /// Measure what is asked for on standard input, as JSON, and answer likewise; `bace profile` starts this.
    Profile,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// Text to train on; default: the Python sources that came with libtorch.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Longest sequence that has to be cut from the text, tokens.
    #[arg(long, default_value_t = 1)]
    pub sequence: u32,
    /// Also measure how fast the device trains a small model and how much memory this process takes.
    #[arg(long)]
    pub speed: bool,
}

#[derive(Debug, Args)]
pub struct ParityArgs {
    /// What to compare: `cpu` or `cuda:N`.
    #[arg(long, default_value = "cpu")]
    pub device: Device,
    /// Text to train on; default: the Python sources that came with libtorch.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
