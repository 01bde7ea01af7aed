//! What another process is asked to do in a measurement, and what it answers: one line of JSON each.
//!
//! ```text
//! parent   task              answers, in this order
//!          Receive           Listening, Carried
//!          Send              Carried
//!          ReceiveChecked    Listening, Checked for each message
//!          SendChecked       Sent
//!          Share             Shared
//!          Spin              Spun
//! ```
//! Any of them may answer `Failed` instead and end.

use std::any::Any;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bace_netem::BitRate;
use serde::{Deserialize, Serialize};

use super::carrier::{self, Carried, Carrier, Plan};
use super::checked;
use super::shared::{self, SharePlan};
use crate::SocketError;
use crate::credentials::Credentials;

/// What a process is asked to do.
#[derive(Clone, Serialize, Deserialize)]
pub enum PeerTask {
    /// Take what another process sends.
    Receive {
        /// By what it comes.
        carrier: Carrier,
        /// How much.
        plan: Plan,
        /// Its own.
        credentials: Credentials,
    },
    /// Send to a process that receives.
    Send {
        /// By what.
        carrier: Carrier,
        /// How much.
        plan: Plan,
        /// Its own.
        credentials: Credentials,
        /// Where the receiver listens.
        address: SocketAddr,
    },
    /// Take messages of these sizes, one after the other, and compare every byte.
    ReceiveChecked {
        /// Payload bytes of each message.
        sizes: Vec<usize>,
        /// Its own.
        credentials: Credentials,
    },
    /// Send messages of these sizes.
    SendChecked {
        /// Payload bytes of each message.
        sizes: Vec<usize>,
        /// Its own.
        credentials: Credentials,
        /// Where the receiver listens.
        address: SocketAddr,
    },
    /// Use a link that others use too.
    Share {
        /// The link clocks to open.
        cells: PathBuf,
        /// The link's rate.
        rate: BitRate,
        /// When.
        plan: SharePlan,
    },
    /// Keep one core busy.
    Spin {
        /// For how long.
        seconds: f64,
    },
}

/// What a process answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum PeerReport {
    /// It listens there.
    Listening {
        /// Its address.
        address: SocketAddr,
    },
    /// All was carried.
    Carried(Carried),
    /// A message was here, whole and with the bytes that were sent.
    Checked {
        /// Its payload.
        bytes: u64,
        /// From its readiness to its receipt, s.
        seconds: f64,
    },
    /// All messages were sent and acknowledged.
    Sent,
    /// The shared link was used.
    Shared {
        /// Payload bytes delivered within the window.
        bytes: u64,
    },
    /// The time is over.
    Spun,
    /// It could not.
    Failed {
        /// Why, a fragment that fits after "failed to".
        reason: String,
    },
}

/// Does what `task` says, hands the answers to `report`, and keeps its end of the connection until `dismissed` returns:
/// what the other end still waits for may have to leave. For the process at the other end of a measurement.
///
/// # Errors
/// Why it could not, which was not reported yet.
///
/// # Panics
/// Within a tokio runtime: it blocks.
pub fn serve_peer(
    task: PeerTask,
    report: &mut dyn FnMut(PeerReport),
    dismissed: impl FnOnce(),
) -> Result<(), SocketError> {
    let _end = serve(task, report)?;
    dismissed();
    Ok(())
}

/// What has to live until the other end is done.
type End = Box<dyn Any>;

fn serve(task: PeerTask, report: &mut dyn FnMut(PeerReport)) -> Result<End, SocketError> {
    match task {
        PeerTask::Receive {
            carrier,
            plan,
            credentials,
        } => {
            let (address, mut end) = carrier::listen(carrier, &credentials, plan)?;
            report(PeerReport::Listening { address });
            let carried = carrier::drive_receiver(end.as_mut(), plan)?;
            report(PeerReport::Carried(carried));
            Ok(Box::new(end))
        }
        PeerTask::Send {
            carrier,
            plan,
            credentials,
            address,
        } => {
            let mut end = carrier::connect(carrier, &credentials, plan, address)?;
            let carried = carrier::drive_sender(end.as_mut(), plan)?;
            report(PeerReport::Carried(carried));
            Ok(Box::new(end))
        }
        PeerTask::ReceiveChecked { sizes, credentials } => {
            Ok(Box::new(checked::receive(&sizes, &credentials, report)?))
        }
        PeerTask::SendChecked {
            sizes,
            credentials,
            address,
        } => {
            let end = checked::send(&sizes, &credentials, address)?;
            report(PeerReport::Sent);
            Ok(Box::new(end))
        }
        PeerTask::Share { cells, rate, plan } => {
            let bytes = shared::take_part(&cells, rate, plan)?;
            report(PeerReport::Shared { bytes });
            Ok(Box::new(()))
        }
        PeerTask::Spin { seconds } => {
            let until = Instant::now() + Duration::from_secs_f64(seconds);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            report(PeerReport::Spun);
            Ok(Box::new(()))
        }
    }
}
