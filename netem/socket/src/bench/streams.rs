//! QUIC streams without a message format, read and dropped: what the transport alone carries.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use tokio::task::JoinSet;

use super::carrier::{ReceiveEnd, SendEnd};
use super::{RECEIVER_NAME, receipt};
use crate::SocketError;
use crate::credentials::Credentials;
use crate::quic::Endpoint;
use crate::runtime::NetThread;
use crate::transport::Profile;

/// Messages under way at once; one at a time leaves both ends waiting for each other by turns.
const IN_FLIGHT: usize = 4;
/// What is written and read at a time.
const PIECE_BYTES: usize = 1 << 20;

pub(super) struct Sender {
    thread: NetThread,
    connection: quinn::Connection,
    payload: Bytes,
}

pub(super) struct Receiver {
    thread: NetThread,
    door: Option<Door>,
    connection: Option<quinn::Connection>,
}

/// An endpoint with this program's settings, or with quinn's own.
enum Door {
    Tuned(Endpoint),
    Stock(quinn::Endpoint),
}

impl Door {
    fn open(credentials: &Credentials, is_tuned: bool) -> Result<Self, SocketError> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        if is_tuned {
            return Ok(Self::Tuned(Endpoint::bind(
                any,
                credentials,
                Profile::data(),
            )?));
        }
        let refused = |error: quinn::crypto::rustls::NoInitialCipherSuite| {
            SocketError::Credentials(error.to_string())
        };
        let server = QuicServerConfig::try_from(credentials.server_config()?).map_err(refused)?;
        let client = QuicClientConfig::try_from(credentials.client_config()?).map_err(refused)?;
        let config = quinn::ServerConfig::with_crypto(Arc::new(server));
        let mut endpoint =
            quinn::Endpoint::server(config, any).map_err(|source| SocketError::Bind {
                address: any,
                source,
            })?;
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(client)));
        Ok(Self::Stock(endpoint))
    }

    fn local_addr(&self) -> Result<SocketAddr, SocketError> {
        match self {
            Self::Tuned(endpoint) => endpoint.local_addr(),
            Self::Stock(endpoint) => endpoint
                .local_addr()
                .map_err(SocketError::system("read the bound address")),
        }
    }

    async fn connect(&self, to: SocketAddr) -> Result<quinn::Connection, SocketError> {
        match self {
            Self::Tuned(endpoint) => {
                let connection = endpoint.connect(to, RECEIVER_NAME).await?;
                Ok(connection.quinn().clone())
            }
            Self::Stock(endpoint) => {
                let failed = |reason: String| SocketError::Connect {
                    name: RECEIVER_NAME.to_owned(),
                    address: to,
                    reason,
                };
                endpoint
                    .connect(to, RECEIVER_NAME)
                    .map_err(|error| failed(error.to_string()))?
                    .await
                    .map_err(|error| failed(error.to_string()))
            }
        }
    }

    async fn accept(&self) -> Result<quinn::Connection, SocketError> {
        match self {
            Self::Tuned(endpoint) => {
                let pending = endpoint.accept().await.ok_or(SocketError::TaskEnded)?;
                Ok(pending.establish().await?.quinn().clone())
            }
            Self::Stock(endpoint) => {
                let incoming = endpoint.accept().await.ok_or(SocketError::TaskEnded)?;
                let address = incoming.remote_address();
                incoming.await.map_err(|error| SocketError::Accept {
                    address,
                    reason: error.to_string(),
                })
            }
        }
    }
}

impl Sender {
    pub fn connect(
        credentials: &Credentials,
        to: SocketAddr,
        message_bytes: usize,
        is_tuned: bool,
    ) -> Result<Self, SocketError> {
        let thread = NetThread::start("bench-send")?;
        let credentials = credentials.clone();
        let connection =
            thread.run(async move { Door::open(&credentials, is_tuned)?.connect(to).await })??;
        Ok(Self {
            thread,
            connection,
            payload: Bytes::from(vec![0x5a; message_bytes]),
        })
    }
}

impl SendEnd for Sender {
    fn carry(&mut self, messages: u32) -> Result<(), SocketError> {
        let (connection, payload) = (self.connection.clone(), self.payload.clone());
        self.thread.run(async move {
            let mut under_way = JoinSet::new();
            for _ in 0..messages {
                if under_way.len() == IN_FLIGHT {
                    joined(under_way.join_next().await)?;
                }
                under_way.spawn(send(connection.clone(), payload.clone()));
            }
            // Of those still under way the receipt tells.
            receipt::take(&connection).await?;
            while let Some(sent) = under_way.join_next().await {
                joined(Some(sent))?;
            }
            Ok(())
        })?
    }

    fn lost_packets(&self) -> Option<u64> {
        Some(self.connection.stats().path.lost_packets)
    }
}

impl Receiver {
    pub fn listen(
        credentials: &Credentials,
        is_tuned: bool,
    ) -> Result<(SocketAddr, Self), SocketError> {
        let thread = NetThread::start("bench-receive")?;
        let credentials = credentials.clone();
        let door = thread.run(async move { Door::open(&credentials, is_tuned) })??;
        let address = door.local_addr()?;
        let end = Self {
            thread,
            door: Some(door),
            connection: None,
        };
        Ok((address, end))
    }
}

impl ReceiveEnd for Receiver {
    fn carry(&mut self, messages: u32) -> Result<(), SocketError> {
        let connection = match &self.connection {
            Some(connection) => connection.clone(),
            None => {
                let door = self.door.take().ok_or(SocketError::TaskEnded)?;
                let accepted = self.thread.run(async move { door.accept().await })??;
                self.connection.insert(accepted).clone()
            }
        };
        self.thread.run(async move {
            let mut under_way = JoinSet::new();
            for _ in 0..messages {
                let stream = connection.accept_uni().await;
                under_way.spawn(drain(stream.map_err(receipt::stream_failed)?));
            }
            while let Some(drained) = under_way.join_next().await {
                joined(Some(drained))?;
            }
            receipt::give(&connection).await
        })?
    }
}

async fn send(connection: quinn::Connection, mut payload: Bytes) -> Result<(), SocketError> {
    let mut stream = connection
        .open_uni()
        .await
        .map_err(receipt::stream_failed)?;
    while !payload.is_empty() {
        let piece = payload.split_to(payload.len().min(PIECE_BYTES));
        stream
            .write_chunk(piece)
            .await
            .map_err(receipt::stream_failed)?;
    }
    stream.finish().map_err(receipt::stream_failed)?;
    stream.stopped().await.map_err(receipt::stream_failed)?;
    Ok(())
}

async fn drain(mut stream: quinn::RecvStream) -> Result<(), SocketError> {
    while stream
        .read_chunk(PIECE_BYTES, true)
        .await
        .map_err(receipt::stream_failed)?
        .is_some()
    {}
    Ok(())
}

fn joined(
    ended: Option<Result<Result<(), SocketError>, tokio::task::JoinError>>,
) -> Result<(), SocketError> {
    match ended {
        Some(Ok(result)) => result,
        Some(Err(_)) => Err(SocketError::TaskEnded),
        None => Ok(()),
    }
}
