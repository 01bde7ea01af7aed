//! The socket that quinn sees.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};

use bace_netem::{Congestion, Route};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use tokio::sync::watch;

use super::counters::DatagramCounters;
use super::line::{Line, PacketLink};
use super::release::{Releaser, Schedule};
use crate::SocketError;

/// What one UDP datagram holds at most over IPv4, and all of those that one system call sends.
pub(super) const MAX_UDP_PAYLOAD: usize = 65_507;

/// A UDP socket that shapes what it sends to the peers that lie behind a link. What it sends to all others, and all that it
/// receives, passes as it is.
pub(crate) struct PacketSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    /// The same socket, for the thread that releases datagrams.
    plain: UdpSocket,
    releaser: Mutex<Option<Releaser>>,
    /// By address; as many as workers that were ever this one's neighbours.
    peers: RwLock<HashMap<SocketAddr, Way>>,
    /// Changes whenever `peers` does.
    named: watch::Sender<()>,
}

/// What a connection over emulated links is made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tuning {
    /// The links to the peer and back.
    pub route: Route,
    /// How the connection finds its rate.
    pub congestion: Congestion,
    /// Whether datagrams may be handed down in batches: not where what lies beneath would lose whole batches.
    pub batches: bool,
}

/// What lies between this member and a peer.
#[derive(Debug, Clone)]
enum Way {
    Unshaped,
    /// Something beneath this program shapes it.
    Tuned(Tuning),
    Shaped(Arc<Line>),
}

impl PacketSocket {
    /// Within a tokio runtime.
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        Ok(Self {
            plain: socket.try_clone()?,
            inner: TokioRuntime.wrap_udp_socket(socket)?,
            releaser: Mutex::default(),
            peers: RwLock::default(),
            named: watch::Sender::new(()),
        })
    }

    /// Sends what goes to `peer` over `link` from now on. What is under way already arrives as it would have.
    pub(crate) fn shape(
        &self,
        peer: SocketAddr,
        link: PacketLink,
    ) -> Result<DatagramCounters, SocketError> {
        PacketLink::admit(&link.route)?;
        let line = Arc::new(Line::new(link, self.schedule()?));
        let counters = line.counters.clone();
        self.name(peer, Way::Shaped(line));
        Ok(counters)
    }

    /// Sends what goes to `peer` as it is from now on.
    pub(crate) fn pass(&self, peer: SocketAddr) {
        self.name(peer, Way::Unshaped);
    }

    /// Sends what goes to `peer` as it is from now on, over links that something beneath this program shapes.
    pub(crate) fn tune(&self, peer: SocketAddr, tuning: Tuning) {
        self.name(peer, Way::Tuned(tuning));
    }

    /// Waits until `peer` was given to [`shape`](Self::shape) or [`pass`](Self::pass). Cancel-safe.
    pub(crate) async fn named(&self, peer: SocketAddr) {
        let mut named = self.named.subscribe();
        while self.way(peer).is_none() {
            if named.changed().await.is_err() {
                // Never, since the sender lives as long as `self`.
                return;
            }
        }
    }

    /// What connections to `peer` are made for; `None` where nothing is shaped.
    pub(crate) fn tuning(&self, peer: SocketAddr) -> Option<Tuning> {
        match self.way(peer)? {
            Way::Shaped(line) => Some(Tuning {
                route: line.route,
                congestion: line.congestion,
                batches: true,
            }),
            Way::Tuned(tuning) => Some(tuning),
            Way::Unshaped => None,
        }
    }

    /// Whether `peer` is reached without leaving this host: over loopback, or at this socket's own address.
    pub(crate) fn is_local(&self, peer: SocketAddr) -> bool {
        let ip = canonical(peer).ip();
        let own = self.inner.local_addr().map(|own| canonical(own).ip());
        ip.is_loopback() || own.is_ok_and(|own| own == ip)
    }

    fn name(&self, peer: SocketAddr, way: Way) {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        peers.insert(canonical(peer), way);
        self.named.send_replace(());
    }

    fn way(&self, peer: SocketAddr) -> Option<Way> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.get(&canonical(peer)).cloned()
    }

    /// The schedule of the thread that releases datagrams, which starts with the first link.
    fn schedule(&self) -> Result<Arc<Schedule>, SocketError> {
        let mut releaser = self.releaser.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(releaser) = &*releaser {
            return Ok(releaser.schedule());
        }
        let socket = self.plain.try_clone();
        let socket = socket.map_err(SocketError::system("share a socket"))?;
        Ok(releaser.insert(Releaser::start(socket)?).schedule())
    }
}

/// The same for an IPv4 address in whatever form.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl PacketSocket {
    /// Sends datagrams as they are. Together they may be more than one system call takes: the rest is sent by further ones. If
    /// the system has no room for one of those, quinn sends all of them again, and its peer drops what it has already.
    fn pass_on(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(size) = transmit.segment_size else {
            return self.inner.try_send(transmit);
        };
        let most = (MAX_UDP_PAYLOAD / size).max(1) * size;
        transmit.contents.chunks(most).try_for_each(|contents| {
            self.inner.try_send(&Transmit {
                destination: transmit.destination,
                ecn: transmit.ecn,
                contents,
                segment_size: (contents.len() > size).then_some(size),
                src_ip: transmit.src_ip,
            })
        })
    }
}

impl AsyncUdpSocket for PacketSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        // Only what passes unshaped is ever refused for now; the rest is queued or dropped.
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match self.way(transmit.destination) {
            Some(Way::Shaped(line)) => {
                line.take(transmit);
                Ok(())
            }
            Some(Way::Unshaped | Way::Tuned(_)) | None => self.pass_on(transmit),
        }
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

impl fmt::Debug for PacketSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketSocket")
            .field("local_addr", &self.inner.local_addr().ok())
            .finish_non_exhaustive()
    }
}
