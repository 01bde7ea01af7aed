//! Whole messages in both directions of one QUIC stream: hellos, commands, records.

use bytes::{Buf, BytesMut};
use quinn::{ReadError, RecvStream, SendStream};

use crate::SocketError;
use crate::quic::Connection;

const LENGTH_BYTES: usize = 4;
/// How much is taken from QUIC at a time.
const READ_BYTES: usize = 64 * 1024;
/// A priority above that of all other streams, which is 0.
const FIRST: i32 = 1;

/// The sending half. Dropped without [`finish`](Self::finish), it still ends cleanly after the last
/// whole message.
#[derive(Debug)]
pub struct MessageWriter {
    stream: SendStream,
    connection: Connection,
    max_bytes: u32,
}

/// The receiving half.
#[derive(Debug)]
pub struct MessageReader {
    stream: RecvStream,
    connection: Connection,
    max_bytes: u32,
    unread: BytesMut,
}

impl Connection {
    /// Opens a pair of message halves, each message at most `max_bytes`. The peer sees it with the
    /// first message sent.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn open_messages(
        &self,
        max_bytes: u32,
    ) -> Result<(MessageWriter, MessageReader), SocketError> {
        let halves = self.quinn().open_bi().await;
        halves
            .map(|halves| self.message_halves(halves, max_bytes))
            .map_err(|error| self.ended(&error))
    }

    /// The next pair of message halves that the peer opened. Cancel-safe.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn accept_messages(
        &self,
        max_bytes: u32,
    ) -> Result<(MessageWriter, MessageReader), SocketError> {
        let halves = self.quinn().accept_bi().await;
        halves
            .map(|halves| self.message_halves(halves, max_bytes))
            .map_err(|error| self.ended(&error))
    }

    /// Opens message halves, sends `greeting` and waits for the answer: the proof that the peer
    /// accepted this member, which a handshake alone is not. The peer takes it with
    /// [`accept_messages`](Self::accept_messages), receives one message and sends one.
    ///
    /// # Errors
    /// When the peer refuses this member or ends before it answered.
    pub async fn hello(
        &self,
        greeting: &[u8],
        max_bytes: u32,
    ) -> Result<(Vec<u8>, MessageWriter, MessageReader), SocketError> {
        let (mut writer, mut reader) = self.open_messages(max_bytes).await?;
        writer.send(greeting).await?;
        match reader.receive().await? {
            Some(answer) => Ok((answer, writer, reader)),
            None => Err(self.stream_failed(&"it ended before it answered the hello")),
        }
    }

    fn message_halves(
        &self,
        (send, recv): (SendStream, RecvStream),
        max_bytes: u32,
    ) -> (MessageWriter, MessageReader) {
        let writer = MessageWriter {
            stream: send,
            connection: self.clone(),
            max_bytes,
        };
        let reader = MessageReader {
            stream: recv,
            connection: self.clone(),
            max_bytes,
            unread: BytesMut::new(),
        };
        (writer, reader)
    }
}

impl MessageWriter {
    /// Sends one message. Not cancel-safe: given up half-way, the peer reads an error.
    ///
    /// # Errors
    /// When it is longer than allowed, or the peer is gone.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), SocketError> {
        let length = u32::try_from(message.len())
            .ok()
            .filter(|&length| length <= self.max_bytes)
            .ok_or(SocketError::TooLarge {
                what: "a message",
                bytes: message.len() as u64,
                limit: self.max_bytes.into(),
            })?;
        // One write, so that a small message is one packet.
        let mut framed = Vec::with_capacity(LENGTH_BYTES + message.len());
        framed.extend(length.to_le_bytes());
        framed.extend(message);
        self.stream
            .write_all(&framed)
            .await
            .map_err(|error| self.connection.stream_failed(&error))
    }

    /// Lets its messages leave before all else that waits on the connection.
    pub(crate) fn go_first(&self) {
        // An error says that the stream is closed already, which the next message tells.
        let _ = self.stream.set_priority(FIRST);
    }

    /// Ends the stream and waits until the peer's QUIC has acknowledged all of it.
    ///
    /// # Errors
    /// When the connection ends before that.
    pub async fn finish(mut self) -> Result<(), SocketError> {
        // Already stopped by the peer: then there is nothing left to tell it.
        if self.stream.finish().is_ok() {
            let stopped = self.stream.stopped().await;
            stopped.map_err(|error| self.connection.stream_failed(&error))?;
        }
        Ok(())
    }
}

impl MessageReader {
    /// The next message; `None` after the last. Cancel-safe.
    ///
    /// # Errors
    /// When a message longer than allowed is announced (nothing is allocated for it), when the
    /// stream ends within a message, or when the connection ends.
    pub async fn receive(&mut self) -> Result<Option<Vec<u8>>, SocketError> {
        loop {
            if let Some(message) = self.take_whole()? {
                return Ok(Some(message));
            }
            let chunk = self.stream.read_chunk(READ_BYTES, true).await;
            match chunk.map_err(|error| self.read_failed(&error))? {
                Some(chunk) => self.unread.extend_from_slice(&chunk.bytes),
                None if self.unread.is_empty() => return Ok(None),
                None => {
                    let reason = "its stream ended within a message";
                    return Err(self.connection.stream_failed(&reason));
                }
            }
        }
    }

    /// What is wrong with a message that was received whole.
    pub(crate) fn refuse(&self, reason: &str) -> SocketError {
        self.connection.stream_failed(&reason)
    }

    /// A message whose last byte is here.
    fn take_whole(&mut self) -> Result<Option<Vec<u8>>, SocketError> {
        let Some(length) = self.unread.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length);
        if length > self.max_bytes {
            let limit = self.max_bytes;
            return Err(self.connection.stream_failed(&format_args!(
                "it announced {length} bytes, the limit is {limit}"
            )));
        }
        if self.unread.len() - LENGTH_BYTES < length as usize {
            return Ok(None);
        }
        self.unread.advance(LENGTH_BYTES);
        Ok(Some(self.unread.split_to(length as usize).to_vec()))
    }

    fn read_failed(&self, error: &ReadError) -> SocketError {
        match error {
            ReadError::ConnectionLost(error) => self.connection.ended(error),
            other => self.connection.stream_failed(other),
        }
    }
}
