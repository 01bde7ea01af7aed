//! What QUIC carries over loopback, beside TCP.

use std::thread;

use super::carrier::{self, Carried, Carrier, Plan};
use super::figure::{Bound, Figure};
use super::peer::{PeerReport, PeerTask};
use super::processes::{Peer, PeerProgram, unexpected};
use super::stats::median;
use super::{RECEIVER_NAME, SENDER_NAME};
use crate::SocketError;
use crate::credentials::{Credentials, RunAuthority};
use crate::runtime::NetThread;

const BYTES_PER_GB: f64 = 1e9;
const BITS_PER_BYTE: f64 = 8.0;
/// Warm-up as a share of what counts: buffers are touched and windows open after a fraction of it.
const WARM_UP_SHARE: u32 = 8;

/// Who holds the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// A process each.
    Processes,
    /// Two threads of this process, as in [`loopback_ceiling`](super::loopback_ceiling).
    Threads,
}

/// One carrier in one layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Variant {
    /// By what bytes cross.
    pub carrier: Carrier,
    /// Who holds the ends.
    pub layout: Layout,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportPlan {
    /// Times that every variant is measured, one variant after the other.
    pub rounds: u32,
    /// What each measurement carries.
    pub plan: Plan,
}

/// One measurement of one variant.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct TransportRun {
    /// Payload rate from the first byte's leaving to the receipt for the last, 10^9 bit/s.
    pub gbps: f64,
    /// Processor time at the sender, s for each 10^9 bytes; absent for threads of one process.
    pub sender_cpu_s_per_gb: Option<f64>,
    /// The same at the receiver.
    pub receiver_cpu_s_per_gb: Option<f64>,
    /// Cores that both ends kept busy; well below 1.5 for QUIC something else had them.
    pub busy_cores: f64,
    /// Packets that QUIC sent again; absent for TCP.
    pub lost_packets: Option<u64>,
}

/// All measurements of one variant, one for each round.
#[derive(Debug, Clone)]
pub struct TransportRow {
    /// What was measured.
    pub variant: Variant,
    /// In the order of the rounds.
    pub runs: Vec<TransportRun>,
}

/// A message that arrived as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct CheckedMessage {
    /// Its payload.
    pub bytes: u64,
    /// From its readiness to its receipt, s.
    pub seconds: f64,
}

impl TransportPlan {
    /// Messages of `message_bytes` that add up to about `gigabytes` (10^9 bytes), at least one.
    pub fn new(rounds: u32, message_bytes: usize, gigabytes: f64) -> Self {
        let messages = ((gigabytes * BYTES_PER_GB / message_bytes as f64).round() as u32).max(1);
        Self {
            rounds,
            plan: Plan {
                message_bytes,
                warm_up: messages.div_ceil(WARM_UP_SHARE),
                messages,
            },
        }
    }
}

impl TransportRow {
    /// The median of a quantity over the rounds that have it.
    pub fn median(&self, of: impl Fn(&TransportRun) -> Option<f64>) -> Option<f64> {
        let samples: Vec<f64> = self.runs.iter().filter_map(of).collect();
        median(&samples)
    }

    /// The rate of each round over that of `other` in the same round.
    pub fn ratios(&self, other: &Self) -> Vec<f64> {
        let pairs = self.runs.iter().zip(&other.runs);
        pairs.map(|(own, other)| own.gbps / other.gbps).collect()
    }
}

impl TransportRun {
    fn new(plan: Plan, sender: Carried, receiver: Carried, layout: Layout) -> Self {
        let bytes = f64::from(plan.messages) * plan.message_bytes as f64;
        let apart = layout == Layout::Processes;
        let cpu = |end: Carried| apart.then(|| end.cpu_s / bytes * BYTES_PER_GB);
        // Ends in one process each count what both use.
        let cpu_s = if apart {
            sender.cpu_s + receiver.cpu_s
        } else {
            sender.cpu_s
        };
        Self {
            gbps: bytes * BITS_PER_BYTE / sender.seconds / 1e9,
            sender_cpu_s_per_gb: cpu(sender),
            receiver_cpu_s_per_gb: cpu(receiver),
            busy_cores: cpu_s / sender.seconds,
            lost_packets: sender.lost_packets,
        }
    }

    /// Processor time of both ends, s for each 10^9 bytes; absent for threads of one process.
    pub fn cpu_s_per_gb(&self) -> Option<f64> {
        Some(self.sender_cpu_s_per_gb? + self.receiver_cpu_s_per_gb?)
    }
}

/// All variants: each carrier between two processes, and what a run's tensors take between two threads.
pub const VARIANTS: [Variant; 6] = {
    const fn apart(carrier: Carrier) -> Variant {
        Variant {
            carrier,
            layout: Layout::Processes,
        }
    }
    [
        apart(Carrier::Tcp),
        apart(Carrier::QuicDropped),
        apart(Carrier::QuicPooled),
        apart(Carrier::QuicFresh),
        apart(Carrier::QuicStock),
        Variant {
            carrier: Carrier::QuicPooled,
            layout: Layout::Threads,
        },
    ]
};

/// Measures every variant `rounds` times, one variant after the other in each round, so that what disturbs the machine
/// disturbs all of them; calls `each` before every measurement.
///
/// # Errors
/// When loopback does not work or a process cannot be started.
///
/// # Panics
/// Within a tokio runtime: it blocks.
pub fn measure_transport(
    program: &PeerProgram,
    what: TransportPlan,
    mut each: impl FnMut(u32, Variant),
) -> Result<Vec<TransportRow>, SocketError> {
    let thread = NetThread::start("bench")?;
    let mut rows: Vec<TransportRow> = VARIANTS
        .into_iter()
        .map(|variant| TransportRow {
            variant,
            runs: Vec::new(),
        })
        .collect();
    for round in 0..what.rounds {
        for row in &mut rows {
            each(round, row.variant);
            let carrier = row.variant.carrier;
            let (sender, receiver) = match row.variant.layout {
                Layout::Processes => {
                    let program = program.clone();
                    thread.run(async move {
                        between_processes(&program, carrier, what.plan).await
                    })??
                }
                Layout::Threads => between_threads(carrier, what.plan)?,
            };
            let layout = row.variant.layout;
            row.runs
                .push(TransportRun::new(what.plan, sender, receiver, layout));
        }
    }
    Ok(rows)
}

/// What the rows have to show.
pub fn transport_figures(rows: &[TransportRow]) -> Vec<Figure> {
    let row = |carrier| {
        rows.iter()
            .find(|row| row.variant.carrier == carrier && row.variant.layout == Layout::Processes)
    };
    let ratio = |name: &str, over, under, least, aim| {
        let samples = row(over)?.ratios(row(under)?);
        let bounds = [Bound::AtLeast(least), Bound::AtLeast(aim)];
        Figure::new(name.to_owned(), "", samples, bounds)
    };
    let cpu = || {
        let (quic, tcp) = (row(Carrier::QuicPooled)?, row(Carrier::Tcp)?);
        let pairs = quic.runs.iter().zip(&tcp.runs);
        let samples =
            pairs.filter_map(|(quic, tcp)| Some(quic.cpu_s_per_gb()? / tcp.cpu_s_per_gb()?));
        let bounds = [Bound::AtMost(2.5), Bound::AtMost(1.8)];
        Figure::new(
            "processor time a byte, QUIC into pooled buffers / TCP".to_owned(),
            "",
            samples.collect(),
            bounds,
        )
    };
    let lost = |name: &str, carrier| {
        let runs = row(carrier)?.runs.iter();
        let samples = runs.filter_map(|run| run.lost_packets.map(|count| count as f64));
        let bounds = [Bound::AtMost(0.0), Bound::AtMost(0.0)];
        Figure::new(name.to_owned(), "packets", samples.collect(), bounds)
    };
    [
        ratio(
            "QUIC read and dropped / TCP",
            Carrier::QuicDropped,
            Carrier::Tcp,
            0.8,
            1.0,
        ),
        ratio(
            "QUIC into pooled buffers / TCP",
            Carrier::QuicPooled,
            Carrier::Tcp,
            0.5,
            0.7,
        ),
        ratio(
            "QUIC dropped / stock quinn dropped",
            Carrier::QuicDropped,
            Carrier::QuicStock,
            1.8,
            2.4,
        ),
        ratio(
            "pooled / new buffers",
            Carrier::QuicPooled,
            Carrier::QuicFresh,
            1.4,
            1.7,
        ),
        cpu(),
        lost("packets lost, dropped", Carrier::QuicDropped),
        lost("packets lost, pooled", Carrier::QuicPooled),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Sends one message of each size between two processes, the way a run's tensors go, and compares every byte.
///
/// # Errors
/// When one does not arrive as it was sent, or loopback does not work.
///
/// # Panics
/// Within a tokio runtime: it blocks.
pub fn check_messages(
    program: &PeerProgram,
    sizes: &[usize],
) -> Result<Vec<CheckedMessage>, SocketError> {
    let thread = NetThread::start("bench")?;
    let (program, sizes) = (program.clone(), sizes.to_vec());
    thread.run(async move {
        let [sending, receiving] = pair()?;
        let task = PeerTask::ReceiveChecked {
            sizes: sizes.clone(),
            credentials: receiving,
        };
        let mut receiver = Peer::start(&program, &task).await?;
        let address = listening(&mut receiver).await?;
        let task = PeerTask::SendChecked {
            sizes: sizes.clone(),
            credentials: sending,
            address,
        };
        let mut sender = Peer::start(&program, &task).await?;
        let mut messages = Vec::with_capacity(sizes.len());
        for _ in &sizes {
            match receiver.report().await? {
                PeerReport::Checked { bytes, seconds } => {
                    messages.push(CheckedMessage { bytes, seconds });
                }
                other => return Err(unexpected(&other)),
            }
        }
        match sender.report().await? {
            PeerReport::Sent => {}
            other => return Err(unexpected(&other)),
        }
        sender.end().await?;
        receiver.end().await?;
        Ok(messages)
    })?
}

async fn between_processes(
    program: &PeerProgram,
    carrier: Carrier,
    plan: Plan,
) -> Result<(Carried, Carried), SocketError> {
    let [sending, receiving] = pair()?;
    let task = PeerTask::Receive {
        carrier,
        plan,
        credentials: receiving,
    };
    let mut receiver = Peer::start(program, &task).await?;
    let address = listening(&mut receiver).await?;
    let task = PeerTask::Send {
        carrier,
        plan,
        credentials: sending,
        address,
    };
    let mut sender = Peer::start(program, &task).await?;
    // Both at once: where one fails it says why, and the other would wait for it.
    let (sent, taken) = tokio::try_join!(carried(&mut sender), carried(&mut receiver))?;
    sender.end().await?;
    receiver.end().await?;
    Ok((sent, taken))
}

fn between_threads(carrier: Carrier, plan: Plan) -> Result<(Carried, Carried), SocketError> {
    let [sending, receiving] = pair()?;
    let (address, mut receiver) = carrier::listen(carrier, &receiving, plan)?;
    let receiving = thread::spawn(move || {
        let taken = carrier::drive_receiver(receiver.as_mut(), plan);
        // Lives until the sender has its receipt.
        (taken, receiver)
    });
    let mut sender = carrier::connect(carrier, &sending, plan, address)?;
    let sent = carrier::drive_sender(sender.as_mut(), plan)?;
    let (taken, _receiver) = receiving.join().map_err(|_| SocketError::TaskEnded)?;
    Ok((sent, taken?))
}

fn pair() -> Result<[Credentials; 2], SocketError> {
    let authority = RunAuthority::new()?;
    Ok([
        authority.issue(SENDER_NAME)?,
        authority.issue(RECEIVER_NAME)?,
    ])
}

async fn listening(peer: &mut Peer) -> Result<std::net::SocketAddr, SocketError> {
    match peer.report().await? {
        PeerReport::Listening { address } => Ok(address),
        other => Err(unexpected(&other)),
    }
}

async fn carried(peer: &mut Peer) -> Result<Carried, SocketError> {
    match peer.report().await? {
        PeerReport::Carried(carried) => Ok(carried),
        other => Err(unexpected(&other)),
    }
}
