//! QUIC endpoints whose peers are members of one run.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bace_netem::{Congestion, Route};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{AsyncUdpSocket, EndpointConfig, TokioRuntime, VarInt};
use rustls::pki_types::CertificateDer;

use crate::SocketError;
use crate::credentials::Credentials;
use crate::packet::{DatagramCounters, PacketLink, PacketSocket, Tuning};
use crate::transport::{self, MAX_DATAGRAM_BYTES, Profile};

/// The application code of an orderly end.
const DONE: VarInt = VarInt::from_u32(0);

/// One UDP socket that accepts and makes connections for one member of a run.
pub struct Endpoint {
    quinn: quinn::Endpoint,
    socket: Arc<PacketSocket>,
    profile: Profile,
    window_bytes: u64,
    server: Arc<QuicServerConfig>,
    client: Arc<QuicClientConfig>,
}

impl Endpoint {
    /// Binds `address` (port 0: any) within the current tokio runtime.
    ///
    /// # Errors
    /// When the address is taken or is none of this host's, or the credentials do not serve.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind(
        address: SocketAddr,
        credentials: &Credentials,
        profile: Profile,
    ) -> Result<Self, SocketError> {
        let refused = |error: &dyn fmt::Display| SocketError::Credentials(error.to_string());
        let server = QuicServerConfig::try_from(credentials.server_config()?)
            .map_err(|error| refused(&error))?;
        let client = QuicClientConfig::try_from(credentials.client_config()?)
            .map_err(|error| refused(&error))?;
        let (socket, window_bytes) = transport::bind(address)?;
        let mut config = EndpointConfig::default();
        config
            .max_udp_payload_size(MAX_DATAGRAM_BYTES)
            .expect("65527 is the largest size allowed");
        let server = Arc::new(server);
        // A default that accepts; each peer's settings are chosen by where it comes from.
        let accepting = quinn::ServerConfig::with_crypto(server.clone());
        let bind_error = |source| SocketError::Bind { address, source };
        let socket = Arc::new(PacketSocket::new(socket).map_err(bind_error)?);
        let quinn = quinn::Endpoint::new_with_abstract_socket(
            config,
            Some(accepting),
            Arc::clone(&socket) as Arc<dyn AsyncUdpSocket>,
            Arc::new(TokioRuntime),
        )
        .map_err(bind_error)?;
        Ok(Self {
            quinn,
            socket,
            profile,
            window_bytes,
            server,
            client: Arc::new(client),
        })
    }

    /// The address bound, with the port the system chose.
    ///
    /// # Errors
    /// When the system has lost the socket.
    pub fn local_addr(&self) -> Result<SocketAddr, SocketError> {
        self.quinn
            .local_addr()
            .map_err(SocketError::system("read the bound address"))
    }

    /// Lets what this member sends to `peer` take the way of `link`, datagram by datagram: the `packet` back end. It holds
    /// for what is sent from now on; connections made from now on are tuned for the link. What goes to addresses that were
    /// never named here passes unshaped.
    ///
    /// # Errors
    /// When the link is none that [`PacketLink::admit`] lets pass, or the system gives no thread or timer.
    pub fn shape(
        &self,
        peer: SocketAddr,
        link: PacketLink,
    ) -> Result<DatagramCounters, SocketError> {
        self.socket.shape(peer, link)
    }

    /// Tunes connections made from now on with `peer` for links that something beneath this program shapes, the kernel.
    pub fn tune(&self, peer: SocketAddr, route: Route, congestion: Congestion) {
        let tuning = Tuning {
            route,
            congestion,
            // tc takes a batch for one packet, and would lose ten datagrams at once.
            batches: route.there.loss.share == 0.0,
        };
        self.socket.tune(peer, tuning);
    }

    /// Lets what this member sends to `peer` pass unshaped, and says so to who waits for
    /// [`PendingPeer::named`].
    pub fn pass(&self, peer: SocketAddr) {
        self.socket.pass(peer);
    }

    /// Connects to the member called `expected_name` at `address`.
    ///
    /// The peer's own check of this member may still fail afterwards: only an answered
    /// [`hello`](Connection::hello) shows that the peer accepted.
    ///
    /// # Errors
    /// When nobody answers there within the idle timeout, or whoever does is not that member of
    /// this run.
    pub async fn connect(
        &self,
        address: SocketAddr,
        expected_name: &str,
    ) -> Result<Connection, SocketError> {
        let failed = |reason: String| SocketError::Connect {
            name: expected_name.to_owned(),
            address,
            reason,
        };
        let mut config = quinn::ClientConfig::new(self.client.clone());
        let transport = self
            .profile
            .transport(&self.socket, address, self.window_bytes);
        config.transport_config(Arc::new(transport));
        let quinn = self
            .quinn
            .connect_with(config, address, expected_name)
            .map_err(|error| failed(error.to_string()))?
            .await
            .map_err(|error| failed(error.to_string()))?;
        Ok(Connection {
            quinn,
            peer: expected_name.into(),
        })
    }

    /// The next peer that knocks; `None` once the endpoint is closed. Cancel-safe.
    ///
    /// Its handshake is [`PendingPeer::establish`]: run it beside this loop, so that a slow peer
    /// does not keep others waiting.
    pub async fn accept(&self) -> Option<PendingPeer> {
        let incoming = self.quinn.accept().await?;
        Some(PendingPeer {
            incoming,
            socket: Arc::clone(&self.socket),
            profile: self.profile,
            window_bytes: self.window_bytes,
            config: quinn::ServerConfig::with_crypto(self.server.clone()),
        })
    }

    /// Closes all connections and waits until the peers have been told.
    pub async fn close(&self, reason: &str) {
        self.quinn.close(DONE, reason.as_bytes());
        self.quinn.wait_idle().await;
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("local_addr", &self.quinn.local_addr().ok())
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// A peer before its handshake.
#[derive(Debug)]
pub struct PendingPeer {
    incoming: quinn::Incoming,
    socket: Arc<PacketSocket>,
    profile: Profile,
    window_bytes: u64,
    config: quinn::ServerConfig,
}

impl PendingPeer {
    /// Where the peer says it is.
    pub fn address(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Waits until the endpoint was told what lies between it and this peer, by [`Endpoint::shape`], [`Endpoint::tune`] or
    /// [`Endpoint::pass`]:
    /// nothing of its handshake is answered before, and the connection is tuned for what lies between. Cancel-safe.
    pub async fn named(&self) {
        self.socket.named(self.address()).await;
    }

    /// Checks that the peer is a member of this run. *Which* member is for the caller to compare:
    /// [`Connection::peer_name`].
    ///
    /// # Errors
    /// When it is no member, speaks another protocol, or falls silent.
    pub async fn establish(self) -> Result<Connection, SocketError> {
        let address = self.address();
        let failed = |reason: String| SocketError::Accept { address, reason };
        let mut config = self.config;
        let transport = self
            .profile
            .transport(&self.socket, address, self.window_bytes);
        config.transport_config(Arc::new(transport));
        let quinn = self
            .incoming
            .accept_with(Arc::new(config))
            .map_err(|error| failed(error.to_string()))?
            .await
            .map_err(|error| failed(error.to_string()))?;
        match certificate_name(&quinn) {
            Some(peer) => Ok(Connection { quinn, peer }),
            None => {
                quinn.close(DONE, b"certificate without a name");
                Err(failed("its certificate carries no name".into()))
            }
        }
    }
}

/// A connection to another member of the run; clones are the same connection, which closes when
/// the last of them and of its streams is gone.
#[derive(Debug, Clone)]
pub struct Connection {
    quinn: quinn::Connection,
    peer: Arc<str>,
}

impl Connection {
    /// The name in the peer's certificate, checked against the run's authority.
    pub fn peer_name(&self) -> &str {
        &self.peer
    }

    /// Where the peer is.
    pub fn remote_address(&self) -> SocketAddr {
        self.quinn.remote_address()
    }

    /// Ends the connection at once: what was not yet acknowledged may be lost.
    pub fn close(&self, reason: &str) {
        self.quinn.close(DONE, reason.as_bytes());
    }

    /// Waits until the connection has ended, and says why. Cancel-safe.
    pub async fn closed(&self) -> SocketError {
        self.ended(&self.quinn.closed().await)
    }

    /// Packets that were lost so far, in either direction's view of this end; 0 on a healthy host.
    pub fn lost_packets(&self) -> u64 {
        self.quinn.stats().path.lost_packets
    }

    pub(crate) fn quinn(&self) -> &quinn::Connection {
        &self.quinn
    }

    pub(crate) fn ended(&self, error: &quinn::ConnectionError) -> SocketError {
        SocketError::Connection {
            peer: self.peer.to_string(),
            reason: error.to_string(),
        }
    }

    pub(crate) fn stream_failed(&self, error: &dyn fmt::Display) -> SocketError {
        SocketError::Stream {
            peer: self.peer.to_string(),
            reason: error.to_string(),
        }
    }
}

/// The first DNS name of the peer's certificate.
fn certificate_name(connection: &quinn::Connection) -> Option<Arc<str>> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    let certificate = webpki::EndEntityCert::try_from(chain.first()?).ok()?;
    certificate.valid_dns_names().next().map(Arc::from)
}
