//! The `bace-worker` process: one emulated GPU that runs one pipeline stage at a time on libtorch.
//!
//! What belongs here: its command line, and libtorch behind `bace_stage::Computer`. What does not: all that a worker does
//! whatever computes (`bace-stage`), tensors' arithmetic (`bace-torch`).

mod board;
mod check;
mod cli;
mod identity;
mod parity;
mod profile;
mod text;
mod torch;

use std::process::ExitCode;

use bace_stage::{join, tell_failure};
use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};
use crate::torch::Torch;

/// Prints an answer for the coordinator.
fn answer(found: impl serde::Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&found)?);
    Ok(())
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("BACE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let done = match cli.command {
        Some(Command::Check(args)) => check::check(&args).and_then(answer),
        Some(Command::Parity(args)) => parity::parity(&args).and_then(answer),
        Some(Command::Profile) => profile::profile(std::io::stdin()).and_then(answer),
        None => {
            let args = cli
                .join
                .expect("clap demands --join where there is no subcommand");
            join(
                &args,
                &mut Torch::new(cli.compute.device, cli.compute.precision()),
            )
            .map(|never| match never {})
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell_failure(error.as_ref());
            ExitCode::FAILURE
        }
    }
}
