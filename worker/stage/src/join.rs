//! A worker process from its command line to its end.

use std::convert::Infallible;
use std::error::Error;
use std::ffi::CStr;
use std::io::{BufRead, Read};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use bace_api::told;
use bace_socket::{Credentials, NetThread};
use clap::Args;
use tokio::sync::mpsc;

use crate::compute::Computer;
use crate::session::{self, Channels, Identity};
use crate::trainer;

/// Orders that may wait for the compute thread: the beginning and one stage.
const ORDERS: usize = 4;
/// Reports that may wait for the network: some seconds of the fastest iterations.
const OUTBOX: usize = 256;

/// What every worker's process is called; Linux cuts names at 15 bytes.
const PROCESS_NAME: &CStr = c"bace-worker";

/// How a worker finds its run.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// The coordinator's address.
    #[arg(long, value_name = "ADDRESS")]
    pub join: SocketAddr,
    /// The region this worker stands for.
    #[arg(long, value_name = "NAME")]
    pub region: String,
    /// The credentials file that the coordinator wrote for this worker; `-` reads it from standard input and
    /// ends the worker when standard input closes.
    #[arg(long, value_name = "FILE")]
    pub credentials: PathBuf,
}

/// Takes part in a run; the process ends with it.
pub fn join(args: &JoinArgs, computer: &mut dyn Computer) -> anyhow::Result<Infallible> {
    // What `ps` shows, whichever program this is.
    rustix::thread::set_name(PROCESS_NAME).context("name the process")?;
    let from_input = args.credentials.as_os_str() == "-";
    let credentials = read_credentials(args).context("read the credentials")?;
    let network = NetThread::start("network")?;
    // Before libtorch starts threads of its own: links are only as true as the network thread is prompt.
    bace_socket::yield_to_network()?;
    let device = computer.set_up();
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
                tell_failure(error.as_ref());
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
    trainer::run(computer, compute_orders, &compute_outbox);
    // The session ends the process; it outlives the compute thread only for its farewell.
    loop {
        std::thread::park();
    }
}

/// Says on standard error why a worker ends, in the words that the coordinator looks for in its log.
pub fn tell_failure(error: &(dyn Error + 'static)) {
    eprintln!("bace-worker: failed to {}", told(error));
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
