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

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use anyhow::bail;
use bace_stage::{join, tell_failure, words_of_panic};
use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};
use crate::torch::Torch;

/// Prints an answer for the coordinator.
fn answer(found: impl serde::Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&found)?);
    Ok(())
}

/// Runs `work`. libtorch's binding panics where libtorch throws; in a run its trainer tells of that.
fn caught(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| bail!(words_of_panic(&*panic)))
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
        Some(Command::Check(args)) => caught(|| check::check(&args).and_then(answer)),
        Some(Command::Parity(args)) => caught(|| parity::parity(&args).and_then(answer)),
        Some(Command::Profile) => caught(|| profile::profile(std::io::stdin()).and_then(answer)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_fails_like_an_error() {
        let failed = caught(|| panic!("CUDA out of memory. Tried to allocate 2.00 MiB. "));
        assert_eq!(
            failed.unwrap_err().to_string(),
            "find memory: libtorch could not get 2.00 MiB and does not say what there is"
        );
        assert!(caught(|| Ok(())).is_ok());
    }
}
