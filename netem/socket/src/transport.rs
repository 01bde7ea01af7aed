//! Transport settings: fast on one host, polite between hosts.

use std::any::Any;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bace_netem::{Congestion, DATAGRAM_BYTES};
use quinn::congestion::{BbrConfig, Controller, ControllerFactory, CubicConfig};
use quinn::{IdleTimeout, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::SocketError;
use crate::packet::{PacketSocket, Tuning};

/// Datagram payload on loopback: two of them make one batch of segmentation offload. Each packet costs the same whatever it
/// holds, so that smaller ones take a quarter more processor time a byte (6500 bytes) or twice as much (1452).
const LOCAL_MTU: u16 = 32_700;
/// Datagram payload on an emulated link: what Ethernet's frames carry.
const LINK_MTU: u16 = DATAGRAM_BYTES as u16;
/// What a datagram may hold at most; announced to the peer, which would else stop at 1472.
pub(crate) const MAX_DATAGRAM_BYTES: u16 = 65527;
/// Socket buffers asked for; the system may cap them.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Bytes in flight on loopback, given that the receiving socket holds twice as much.
const LOCAL_WINDOW_BYTES: u64 = 1_000_000;
/// Unread bytes of one message that the peer may have sent.
const STREAM_WINDOW_BYTES: u32 = 256 << 20;
/// Unread bytes of all messages of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 30;
/// Bytes that wait in QUIC for their acknowledgement.
const SEND_WINDOW_BYTES: u64 = 256 << 20;
/// Messages that may be under way on one connection.
const MAX_STREAMS: u32 = 1024;

/// How a connection is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// Silence after which the peer counts as lost; the smaller value of both ends holds.
    pub idle_timeout: Duration,
    /// How often a silent end shows that it lives; well below both ends' `idle_timeout`.
    pub keep_alive: Duration,
    /// Whether it carries tensors: large datagrams and a fixed window between processes of one
    /// host. Control messages keep QUIC's own settings.
    pub bulk: bool,
}

impl Profile {
    /// For tensors between neighbouring stages.
    pub const fn data() -> Self {
        Self {
            idle_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(1),
            bulk: true,
        }
    }

    /// For commands and records: a dead peer is noticed within 4 s.
    pub const fn control() -> Self {
        Self {
            idle_timeout: Duration::from_millis(3500),
            keep_alive: Duration::from_millis(500),
            bulk: false,
        }
    }

    /// Settings from `socket` towards `peer`; `window_bytes` is what the local sockets can take in.
    pub(crate) fn transport(
        &self,
        socket: &PacketSocket,
        peer: SocketAddr,
        window_bytes: u64,
    ) -> TransportConfig {
        let mut config = TransportConfig::default();
        let idle = IdleTimeout::try_from(self.idle_timeout).unwrap_or(VarInt::MAX.into());
        config
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(Some(self.keep_alive))
            .max_concurrent_uni_streams(VarInt::from_u32(MAX_STREAMS));
        if self.bulk {
            config
                .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
                .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
                .send_window(SEND_WINDOW_BYTES);
        }
        if let Some(tuning) = socket.tuning(peer) {
            over_link(&mut config, &tuning);
        } else if self.bulk && socket.is_local(peer) {
            config
                .initial_mtu(LOCAL_MTU)
                .mtu_discovery_config(None)
                .initial_rtt(Duration::from_millis(1))
                // Messages are handed up in the order of their sending: what is sent of a later one
                // before the first is whole only delays both. Where datagrams may be lost, what is sent
                // again of an older message must not wait for the end of the one in progress.
                .send_fairness(false)
                .congestion_controller_factory(Arc::new(FixedWindow(window_bytes)));
        }
        config
    }
}

/// What QUIC needs to fill a link, and to outlast one that is down.
fn over_link(config: &mut TransportConfig, tuning: &Tuning) {
    let Tuning {
        route,
        congestion,
        batches,
    } = tuning;
    let receive = route.receive_window_bytes().min(u32::MAX.into()) as u32;
    let stream_window = receive.max(STREAM_WINDOW_BYTES);
    let connection_window = receive.max(CONNECTION_WINDOW_BYTES);
    let window = route.fixed_window_bytes();
    config
        // What the link carries is known, so nothing is searched for and no loss is taken for a narrower path.
        .initial_mtu(LINK_MTU)
        .min_mtu(LINK_MTU)
        .mtu_discovery_config(None)
        .initial_rtt(Duration::from_secs_f64(route.round_trip().seconds()))
        .stream_receive_window(VarInt::from_u32(stream_window))
        .receive_window(VarInt::from_u32(connection_window))
        .send_window(route.send_window_bytes().max(SEND_WINDOW_BYTES))
        .enable_segmentation_offload(*batches)
        // A link that is down for an hour is silent for an hour, and its peer lives.
        .max_idle_timeout(None)
        .congestion_controller_factory(match congestion {
            Congestion::Bbr => Arc::new(BbrConfig::default()),
            Congestion::Cubic => Arc::new(CubicConfig::default()),
            Congestion::Fixed => Arc::new(FixedWindow(window)),
        });
}

/// A UDP socket with large buffers, and the bytes in flight that they bear without a loss.
pub(crate) fn bind(address: SocketAddr) -> Result<(UdpSocket, u64), SocketError> {
    let bind_error = |source| SocketError::Bind { address, source };
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )
    .map_err(bind_error)?;
    socket.set_nonblocking(true).map_err(bind_error)?;
    socket.bind(&address.into()).map_err(bind_error)?;
    // The system silently gives less; what it gave is read back.
    let given = socket
        .set_send_buffer_size(SOCKET_BUFFER_BYTES)
        .and_then(|()| socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES))
        .and_then(|()| socket.recv_buffer_size())
        .map_err(SocketError::system("size socket buffers"))?;
    // Linux reports twice the payload it was asked for; half of the payload is left as headroom.
    let window_bytes = (given as u64 / 4).clamp(4 * u64::from(LOCAL_MTU), LOCAL_WINDOW_BYTES);
    Ok((socket.into(), window_bytes))
}

/// A congestion window that never changes.
///
/// On loopback nothing is congested: a window that grows ends up overflowing the receiver's socket
/// buffer, and one that shrinks upon losses only adds waiting.
#[derive(Debug, Clone, Copy)]
struct FixedWindow(u64);

impl ControllerFactory for FixedWindow {
    fn build(self: Arc<Self>, _now: Instant, _current_mtu: u16) -> Box<dyn Controller> {
        Box::new(*self)
    }
}

impl Controller for FixedWindow {
    fn on_congestion_event(
        &mut self,
        _now: Instant,
        _sent: Instant,
        _is_persistent_congestion: bool,
        _lost_bytes: u64,
    ) {
    }

    fn on_mtu_update(&mut self, _new_mtu: u16) {}

    fn window(&self) -> u64 {
        self.0
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(*self)
    }

    fn initial_window(&self) -> u64 {
        self.0
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
