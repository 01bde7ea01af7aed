//! The `bace-worker` process: one emulated GPU that runs one pipeline stage at a time.
//!
//! What belongs here: joining a run, walking a stage's action list, timing it. What does not: any choice of
//! what to run where; a worker does what its list says.
//!
//! Two threads do the work (a third only watches whether the coordinator lives): networking runs on its own, so that no chunk waits for compute, and tensors never leave the
//! compute thread; only bytes cross between them.

mod cli;
mod compute;
mod measure;
mod meeting;
mod neighbour;
mod peers;
mod session;
mod stage;
mod timeline;
mod trainer;

use std::io::{BufRead, Read};
use std::process::ExitCode;

use anyhow::Context;
use bace_socket::{Credentials, NetThread};
use clap::{CommandFactory, Parser};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;

use crate::cli::{CheckArgs, Cli, Command, JoinArgs};
use crate::session::{Channels, Identity};

/// Orders that may wait for the compute thread: the beginning and one stage.
const ORDERS: usize = 4;
/// Reports that may wait for the network: some seconds of the fastest iterations.
const OUTBOX: usize = 256;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("BACE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let done = match (cli.command, cli.join) {
        (Some(Command::Check(args)), _) => check(&args),
        (None, Some(args)) => join(&args),
        (None, None) => {
            Cli::command()
                .error(
                    clap::error::ErrorKind::MissingRequiredArgument,
                    "use --join ADDRESS --region NAME --credentials FILE, or `check`",
                )
                .exit();
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bace-worker: failed to {}", bace_api::told(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn check(args: &CheckArgs) -> anyhow::Result<()> {
    let found = trainer::check(args)?;
    println!("{found}");
    Ok(())
}

fn join(args: &JoinArgs) -> anyhow::Result<()> {
    let from_input = args.credentials.as_os_str() == "-";
    let credentials = read_credentials(args).context("read the credentials")?;
    let network = NetThread::start("network")?;
    // Before libtorch starts threads of its own: links are only as true as the network thread is prompt.
    bace_socket::yield_to_network()?;
    let device = trainer::prepare_device(args.device);
    let (orders, compute_orders) = mpsc::channel(ORDERS);
    let (compute_outbox, outbox) = mpsc::channel(OUTBOX);
    let identity = Identity {
        join: args.join,
        region: args.region.clone(),
        credentials,
        device,
    };
    network.handle().spawn(async move {
        let ended = session::serve(identity, Channels { orders, outbox }).await;
        // The compute thread may be in the middle of a long operation: the process ends under it.
        match ended {
            Ok(()) => std::process::exit(0),
            Err(error) => {
                eprintln!("bace-worker: failed to {}", bace_api::told(error.as_ref()));
                std::process::exit(1);
            }
        }
    });
    if from_input {
        std::thread::Builder::new()
            .name("coordinator-watch".to_owned())
            .spawn(end_with_input)
            .context("watch standard input")?;
    }
    trainer::run(args.device, compute_orders, &compute_outbox);
    // The session ends the process; it outlives the compute thread only for its farewell.
    loop {
        std::thread::park();
    }
}

/// Ends the process when standard input closes: whoever started this worker is gone.
fn end_with_input() {
    let mut rest = [0; 64];
    let mut input = std::io::stdin().lock();
    while matches!(input.read(&mut rest), Ok(1..)) {}
    std::process::exit(1);
}

fn read_credentials(args: &JoinArgs) -> anyhow::Result<Credentials> {
    let text = if args.credentials.as_os_str() == "-" {
        let mut line = String::new();
        std::io::stdin()
            .lock()
            .read_line(&mut line)
            .context("read standard input")?;
        line
    } else {
        std::fs::read_to_string(&args.credentials)
            .with_context(|| format!("{}", args.credentials.display()))?
    };
    serde_json::from_str(&text).context("they are no credentials of a run")
}
