//! What can go wrong between two processes.

use std::io;
use std::path::PathBuf;

use crate::frame::FrameError;

const BYTES_PER_GB: f64 = 1e9;

/// Why bytes were not carried; each message fits after "failed to ...:".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// A system call on a local resource.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// What the system answered.
        source: io::Error,
    },
    /// An address that could not be bound.
    #[error("bind UDP address {address}: {source}")]
    Bind {
        /// The address asked for.
        address: std::net::SocketAddr,
        /// What the system answered.
        source: io::Error,
    },
    /// Shared memory that could not be opened.
    #[error("open the shared memory at {}: {source}", path.display())]
    OpenShared {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// A file that is no shared memory of this version.
    #[error("use the shared memory at {}: {reason}", path.display())]
    NotShared {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Shared memory without what is needed of it.
    #[error("find {0} in the host's shared memory: it was made without")]
    NoSection(String),
    /// What another version has laid out.
    #[error(
        "use {section} in the host's shared memory: it has version {version}, this program knows {known}"
    )]
    SectionVersion {
        /// What was looked for.
        section: String,
        /// Its version.
        version: u64,
        /// The version that this program knows.
        known: u64,
    },
    /// A link index beyond the table.
    #[error("use link clock {index}: the table holds {links}")]
    NoSuchCell {
        /// The index asked for.
        index: usize,
        /// Links in the table.
        links: usize,
    },
    /// Certificates or keys that do not serve.
    #[error("use the run's credentials: {0}")]
    Credentials(String),
    /// A connection that could not be made.
    #[error("connect to {name} at {address}: {reason}")]
    Connect {
        /// The certificate name that was expected.
        name: String,
        /// Where it was looked for.
        address: std::net::SocketAddr,
        /// Why not.
        reason: String,
    },
    /// A peer that was refused, or that refused, during the handshake.
    #[error("accept a peer from {address}: {reason}")]
    Accept {
        /// Where it came from.
        address: std::net::SocketAddr,
        /// Why not.
        reason: String,
    },
    /// A connection that ended.
    #[error("keep the connection to {peer}: {reason}")]
    Connection {
        /// The peer's certificate name.
        peer: String,
        /// Why it ended.
        reason: String,
    },
    /// A stream that the peer ended before its message was whole.
    #[error("exchange a message with {peer}: {reason}")]
    Stream {
        /// The peer's certificate name.
        peer: String,
        /// Why it ended.
        reason: String,
    },
    /// Bytes that are no message.
    #[error("read a message from {peer}: {source}")]
    Frame {
        /// The peer's certificate name.
        peer: String,
        /// What is wrong with it.
        source: FrameError,
    },
    /// A message that exceeds a limit of the sender.
    #[error("send {what} of {bytes} bytes: the limit is {limit}")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A link whose rate x delay keeps more bytes in flight than may be held.
    #[error(
        "carry {rate_mbps} Mbit/s at a one-way delay of {delay_ms} ms: {:.2} GB could be in flight, the limit is {:.2} GB; at this delay use at most {most_mbps} Mbit/s",
        *.bytes as f64 / BYTES_PER_GB,
        *.limit as f64 / BYTES_PER_GB
    )]
    TooMuchInFlight {
        /// The link's rate.
        rate_mbps: f64,
        /// Its one-way delay.
        delay_ms: f64,
        /// Bytes that could be in flight.
        bytes: u64,
        /// What is allowed.
        limit: u64,
        /// The highest rate allowed with this delay, rounded down to three digits.
        most_mbps: f64,
    },
    /// A link whose queue and rate x delay hold more bytes of datagrams than an endpoint may.
    #[error(
        "carry {rate_mbps} Mbit/s at a round trip of {round_trip_ms} ms datagram by datagram: {:.2} GB could be queued and under way, the limit is {:.2} GB; lower the rate, the delay or `queue_kb`",
        *.bytes as f64 / BYTES_PER_GB,
        *.limit as f64 / BYTES_PER_GB
    )]
    TooMuchHeld {
        /// The link's rate.
        rate_mbps: f64,
        /// Both delays together.
        round_trip_ms: f64,
        /// Bytes that could be held.
        bytes: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A link of rate 0 where one that carries something is needed.
    #[error("measure a link that is down")]
    LinkDown,
    /// A message whose bytes are not those that were sent.
    #[error(
        "carry a message of {bytes} bytes: byte {at} or one of the next seven is not what was sent"
    )]
    Damaged {
        /// Its payload.
        bytes: u64,
        /// Where the first difference is.
        at: u64,
    },
    /// Another process that takes part in a measurement.
    #[error("measure with another process: {reason}")]
    Peer {
        /// What it did.
        reason: String,
    },
    /// A message that is not the one that was to come while a link is measured.
    #[error("measure the link from {peer}: its message {place} is not the one that was planned")]
    OutOfScript {
        /// The sender's certificate name.
        peer: String,
        /// How many came before.
        place: usize,
    },
    /// A measurement in which no message arrived.
    #[error("measure loopback: no message arrived in time")]
    NothingCarried,
    /// The sender's queue has no room.
    #[error("queue a message: {0} are waiting already")]
    QueueFull(usize),
    /// The sending or receiving task has ended.
    #[error("reach the link's task: it has ended")]
    TaskEnded,
}

impl SocketError {
    /// Names what a system call was for.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
