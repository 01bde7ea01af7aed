//! The ways by which bytes cross loopback, each a pair of blocking ends.

use std::net::SocketAddr;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::{messages, streams, tcp};
use crate::SocketError;
use crate::credentials::Credentials;

/// By what bytes cross loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Carrier {
    /// One TCP connection, blocking, read into one reused buffer of a message: the yardstick.
    Tcp,
    /// QUIC with this program's settings, read and dropped.
    QuicDropped,
    /// A link's sender without a clock and its receiver, into pooled buffers: what a run's tensors take.
    QuicPooled,
    /// The same into a new buffer for each message.
    QuicFresh,
    /// QUIC with quinn's own settings, read and dropped.
    QuicStock,
}

impl Carrier {
    /// All of them, the yardstick first.
    pub const ALL: [Self; 5] = [
        Self::Tcp,
        Self::QuicDropped,
        Self::QuicPooled,
        Self::QuicFresh,
        Self::QuicStock,
    ];
}

/// What is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Payload of each message.
    pub message_bytes: usize,
    /// Messages before the clock starts.
    pub warm_up: u32,
    /// Messages that count.
    pub messages: u32,
}

/// What one end says of the messages that count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    /// From the first byte's leaving to the receiver's receipt for the last; at the receiver from receipt to receipt, s.
    pub seconds: f64,
    /// Processor time of the whole process, s.
    pub cpu_s: f64,
    /// Packets that QUIC sent again; absent where there is no QUIC, and at the receiver.
    pub lost_packets: Option<u64>,
}

/// The end that sends.
pub(super) trait SendEnd {
    /// Sends `messages` and waits until the receiver has them all.
    fn carry(&mut self, messages: u32) -> Result<(), SocketError>;

    /// Packets lost so far; absent where there is no QUIC.
    fn lost_packets(&self) -> Option<u64>;
}

/// The end that receives.
pub(super) trait ReceiveEnd {
    /// Takes `messages` and gives the sender a receipt.
    fn carry(&mut self, messages: u32) -> Result<(), SocketError>;
}

/// A receiver that listens on loopback, and where.
pub(super) fn listen(
    carrier: Carrier,
    credentials: &Credentials,
    plan: Plan,
) -> Result<(SocketAddr, Box<dyn ReceiveEnd + Send>), SocketError> {
    let bytes = plan.message_bytes;
    Ok(match carrier {
        Carrier::Tcp => {
            let (address, end) = tcp::Receiver::listen(bytes)?;
            (address, Box::new(end))
        }
        Carrier::QuicDropped | Carrier::QuicStock => {
            let (address, end) =
                streams::Receiver::listen(credentials, carrier == Carrier::QuicDropped)?;
            (address, Box::new(end))
        }
        Carrier::QuicPooled | Carrier::QuicFresh => {
            let (address, end) =
                messages::Receiver::listen(credentials, bytes, carrier == Carrier::QuicPooled)?;
            (address, Box::new(end))
        }
    })
}

/// A sender that is connected to a receiver of the same kind.
pub(super) fn connect(
    carrier: Carrier,
    credentials: &Credentials,
    plan: Plan,
    to: SocketAddr,
) -> Result<Box<dyn SendEnd + Send>, SocketError> {
    let bytes = plan.message_bytes;
    Ok(match carrier {
        Carrier::Tcp => Box::new(tcp::Sender::connect(to, bytes)?),
        Carrier::QuicDropped | Carrier::QuicStock => Box::new(streams::Sender::connect(
            credentials,
            to,
            bytes,
            carrier == Carrier::QuicDropped,
        )?),
        Carrier::QuicPooled | Carrier::QuicFresh => {
            Box::new(messages::Sender::connect(credentials, to, bytes)?)
        }
    })
}

/// Sends what `plan` says.
pub(super) fn drive_sender(end: &mut dyn SendEnd, plan: Plan) -> Result<Carried, SocketError> {
    end.carry(plan.warm_up)?;
    let lost_before = end.lost_packets();
    let (begin, cpu_before_s) = (Instant::now(), cpu_s());
    end.carry(plan.messages)?;
    Ok(Carried {
        seconds: begin.elapsed().as_secs_f64(),
        cpu_s: cpu_s() - cpu_before_s,
        lost_packets: end
            .lost_packets()
            .zip(lost_before)
            .map(|(now, before)| now - before),
    })
}

/// Receives what `plan` says.
pub(super) fn drive_receiver(end: &mut dyn ReceiveEnd, plan: Plan) -> Result<Carried, SocketError> {
    end.carry(plan.warm_up)?;
    let (begin, cpu_before_s) = (Instant::now(), cpu_s());
    end.carry(plan.messages)?;
    Ok(Carried {
        seconds: begin.elapsed().as_secs_f64(),
        cpu_s: cpu_s() - cpu_before_s,
        lost_packets: None,
    })
}

/// Processor time that this process has used, s.
fn cpu_s() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}
