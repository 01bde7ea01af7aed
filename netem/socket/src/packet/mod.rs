//! Datagrams on an emulated link: the `packet` back end.
//!
//! [`PacketSocket`] stands between quinn and the UDP socket. Each datagram towards a peer behind a link is drawn for loss,
//! finds room in the link's queue or is dropped, departs when the link's shared clock says, and is written to the real socket
//! once the link would have delivered it. What the sender sees is a long thin network: acknowledgements come a round trip
//! later, and congestion control, loss recovery and slow start are QUIC's own.

mod counters;
mod line;
mod release;
mod socket;

pub use counters::{DatagramCounters, DatagramCounts};
pub use line::PacketLink;
pub(crate) use socket::{PacketSocket, Tuning};
