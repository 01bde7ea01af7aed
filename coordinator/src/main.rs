//! The `bace` command: emulates, simulates and reports geo-distributed training.
//!
//! What belongs here: the command line, the real-time driver, worker processes, what people see. What does not:
//! any decision (`bace-engine`), any fold over records (`bace-ledger`), tensors.

mod attributed;
mod bench;
mod cli;
mod compare;
mod doctor;
mod explain;
mod generate;
mod gpu_check;
mod kept_prediction;
mod ladder;
mod machine;
mod netem;
mod output;
mod page;
mod plan;
mod predicted;
mod profile;
mod real_runs;
mod recorded;
mod replay;
mod report;
mod run;
mod scenario_command;
mod scenarios;
mod simulate;
mod trace;
mod validate;
mod wall;
mod wrong_input;

use std::io::IsTerminal;
use std::process::ExitCode;

use bace_stage::{JoinArgs, Modelled, tell_failure};
use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{BenchCommand, Cli, Command};
use crate::wrong_input::WrongInput;

/// The run or a job failed.
const FAILED: u8 = 1;
/// The command line or the scenario is wrong.
const WRONG_INPUT: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let usual = match cli.command {
        // What a worker logs goes to its run's folder.
        Command::Worker(_) => "info",
        _ => "warn",
    };
    let filter = EnvFilter::try_from_env("BACE_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let outcome = match cli.command {
        Command::Run(args) => run::run(args),
        Command::Simulate(args) => simulate::simulate(&args),
        Command::Report(args) => report::report(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Ladder(args) => ladder::ladder(&args),
        Command::Trace(args) => trace::trace(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Plan(args) => plan::plan(&args),
        Command::Compare(args) => compare::compare(&args),
        Command::Validate(args) => validate::validate(&args),
        Command::Policies => Ok(scenario_command::policies()),
        Command::Scenario(command) => scenario_command::scenario(&command),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::GpuCheck(args) => gpu_check::gpu_check(&args),
        Command::Netem(command) => netem::netem(&command),
        Command::Profile(args) => profile::profile(&args),
        Command::Worker(args) => return worker(&args),
        Command::Bench(BenchCommand::Link(args)) => bench::link(&args),
        Command::Bench(BenchCommand::Transport(args)) => bench::transport(&args),
        Command::Bench(BenchCommand::Meter(args)) => bench::meter(&args),
        Command::Bench(BenchCommand::Pipeline(args)) => bench::pipeline(&args),
        Command::Bench(BenchCommand::Peer) => bench::peer(),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            eprintln!("bace: failed to {}", bace_api::told(error.as_ref()));
            let wrong_input = error.downcast_ref::<WrongInput>().is_some();
            ExitCode::from(if wrong_input { WRONG_INPUT } else { FAILED })
        }
    }
}

/// A worker tells of its failure as every worker does.
fn worker(args: &JoinArgs) -> ExitCode {
    match bace_stage::join(args, &mut Modelled) {
        Ok(never) => match never {},
        Err(error) => {
            tell_failure(error.as_ref());
            ExitCode::from(FAILED)
        }
    }
}
