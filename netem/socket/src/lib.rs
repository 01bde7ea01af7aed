//! What carries bytes between the processes of a run: shaped links over QUIC.
//!
//! What belongs here: sockets, timers, the shared cells of link clocks, the credentials of a run,
//! senders and receivers of whole messages. What does not: the meaning of a message (`bace-api`),
//! the arithmetic of links (`bace-netem`), tensors, jobs.
//!
//! A link is emulated, not throttled: the sender reserves each chunk's slot on the link's clock
//! ([`LinkCell`]), writes it a little early, and the receiver hands the message up when the link
//! would have delivered it. The physical transfer hides in between; where it does not fit, late
//! arrivals are counted.
//!
//! All tasks live on one [`NetThread`]; compute threads use [`LinkSender::blocking_send`] and the
//! blocking side of the channel given to [`ReceiverTask::spawn`], and [`yield_to_network`].

pub mod bench;
mod carry;
mod cell;
mod control;
mod credentials;
mod credit;
mod delay_line;
mod error;
mod frame;
mod hold;
mod host;
pub mod kernel;
mod packet;
mod peer_clock;
mod pool;
mod quic;
pub mod receipt;
mod receive;
mod runtime;
mod send;
mod shared;
#[cfg(test)]
mod tests;
mod timer;
mod transport;

pub use bench::{LINKS_SHARE, LoopbackCeiling, loopback_ceiling, tcp_ceiling};
pub use cell::{CellCounters, CellTable, LinkCell, Unreserved};
pub use control::{MessageReader, MessageWriter};
pub use credentials::{Credentials, RunAuthority};
pub use error::SocketError;
pub use frame::{FrameError, MAX_HEADER_BYTES};
pub use host::host_id;
pub use packet::{DatagramCounters, DatagramCounts, PacketLink};
pub use peer_clock::{MAX_UNCERTAINTY_NS, PeerClock};
pub use pool::{BufferPool, PooledBuffer};
pub use quic::{Connection, Endpoint, PendingPeer};
pub use receive::{Received, ReceivedMessage, ReceiverConfig, ReceiverStats, ReceiverTask};
pub use runtime::{NetThread, yield_to_network};
pub use send::{LinkSender, OutgoingMessage, SenderConfig, SenderReport, SenderTask, Shaper};
pub use shared::{Line, Section, SharedLines, SharedMemory};
pub use timer::{DeadlineTimer, now_ns};
pub use transport::Profile;
