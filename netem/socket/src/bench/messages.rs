//! Messages as a run sends them: from a link's sender without a clock into a receiver's buffers.

use std::net::{Ipv4Addr, SocketAddr};

use bace_netem::{BitRate, Delay, LinkSpec};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::carrier::{ReceiveEnd, SendEnd};
use super::{RECEIVER_NAME, receipt};
use crate::SocketError;
use crate::credentials::Credentials;
use crate::pool::BufferPool;
use crate::quic::{Connection, Endpoint};
use crate::receive::{Received, ReceivedMessage, ReceiverConfig, ReceiverTask};
use crate::runtime::NetThread;
use crate::send::{LinkSender, OutgoingMessage, SenderConfig, Shaper};
use crate::timer::now_ns;
use crate::transport::Profile;

/// Messages queued or handed up and not yet taken.
const QUEUE_MESSAGES: usize = 4;

/// The end that sends.
pub(super) struct Sender {
    thread: NetThread,
    connection: Connection,
    queue: LinkSender,
    payload: Bytes,
}

/// The end that receives.
pub(super) struct Receiver {
    thread: NetThread,
    door: Option<Endpoint>,
    connection: Option<Connection>,
    pool: BufferPool,
    max_message_bytes: u64,
    out: Option<mpsc::Sender<Received>>,
    received: mpsc::Receiver<Received>,
}

impl Sender {
    /// Connects; `message_bytes` are those of the messages of [`carry`](SendEnd::carry).
    pub fn connect(
        credentials: &Credentials,
        to: SocketAddr,
        message_bytes: usize,
    ) -> Result<Self, SocketError> {
        let thread = NetThread::start("bench-send")?;
        let credentials = credentials.clone();
        let (connection, queue) = thread.run(async move {
            let endpoint = Endpoint::bind(any_port(), &credentials, Profile::data())?;
            let connection = endpoint.connect(to, RECEIVER_NAME).await?;
            let unclocked = LinkSpec::new(BitRate::ZERO, Delay::ZERO);
            let config = SenderConfig {
                queue_messages: QUEUE_MESSAGES,
                ..SenderConfig::default()
            };
            let (queue, _task) = LinkSender::spawn(&connection, Shaper::Below, &unclocked, config)?;
            Ok::<_, SocketError>((connection, queue))
        })??;
        Ok(Self {
            thread,
            connection,
            queue,
            payload: Bytes::from(vec![0x5a; message_bytes]),
        })
    }

    /// Sends one message.
    pub fn send(&mut self, payload: Bytes) -> Result<(), SocketError> {
        self.queue.blocking_send(OutgoingMessage {
            header: Bytes::new(),
            payload,
            ready_ns: now_ns(),
        })
    }

    /// Waits for the receiver's word that it has all.
    pub fn wait_for_receipt(&mut self) -> Result<(), SocketError> {
        let connection = self.connection.clone();
        self.thread
            .run(async move { receipt::take(connection.quinn()).await })?
    }
}

impl SendEnd for Sender {
    fn carry(&mut self, messages: u32) -> Result<(), SocketError> {
        for _ in 0..messages {
            self.send(self.payload.clone())?;
        }
        self.wait_for_receipt()
    }

    fn lost_packets(&self) -> Option<u64> {
        Some(self.connection.lost_packets())
    }
}

impl Receiver {
    /// Listens on loopback. Buffers are kept for reuse if `is_pooled`, else each message gets a new one.
    pub fn listen(
        credentials: &Credentials,
        message_bytes: usize,
        is_pooled: bool,
    ) -> Result<(SocketAddr, Self), SocketError> {
        let thread = NetThread::start("bench-receive")?;
        let credentials = credentials.clone();
        let door = thread
            .run(async move { Endpoint::bind(any_port(), &credentials, Profile::data()) })??;
        let address = door.local_addr()?;
        let (out, received) = mpsc::channel(QUEUE_MESSAGES);
        let end = Self {
            thread,
            door: Some(door),
            connection: None,
            pool: if is_pooled {
                BufferPool::default()
            } else {
                BufferPool::new(0)
            },
            max_message_bytes: message_bytes as u64,
            out: Some(out),
            received,
        };
        Ok((address, end))
    }

    /// The next message; waits for the sender to connect if it has not yet.
    pub fn next(&mut self) -> Result<ReceivedMessage, SocketError> {
        if self.connection.is_none() {
            self.accept()?;
        }
        match self.received.blocking_recv() {
            Some(Received::Message(message)) => Ok(message),
            Some(Received::Failed { error, .. } | Received::Ended { error, .. }) => Err(error),
            None => Err(SocketError::TaskEnded),
        }
    }

    /// Tells the sender that all is here.
    pub fn give_receipt(&mut self) -> Result<(), SocketError> {
        let connection = self.connection.clone().ok_or(SocketError::TaskEnded)?;
        self.thread
            .run(async move { receipt::give(connection.quinn()).await })?
    }

    fn accept(&mut self) -> Result<(), SocketError> {
        let door = self.door.take().ok_or(SocketError::TaskEnded)?;
        let out = self.out.take().ok_or(SocketError::TaskEnded)?;
        let pool = self.pool.clone();
        let config = ReceiverConfig {
            max_message_bytes: self.max_message_bytes,
            ..ReceiverConfig::default()
        };
        let connection = self.thread.run(async move {
            let pending = door.accept().await.ok_or(SocketError::TaskEnded)?;
            let connection = pending.establish().await?;
            ReceiverTask::spawn(&connection, &pool, config, out)?;
            Ok::<_, SocketError>(connection)
        })??;
        self.connection = Some(connection);
        Ok(())
    }
}

impl ReceiveEnd for Receiver {
    fn carry(&mut self, messages: u32) -> Result<(), SocketError> {
        for _ in 0..messages {
            self.next()?;
        }
        self.give_receipt()
    }
}

/// Any port of loopback.
pub(super) fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}
