//! Whole messages in both directions of one QUIC stream: hellos, commands, records.

use bytes::{Buf, BytesMut};
use quinn::{ReadError, RecvStream, SendStream};

use crate::SocketError;
use crate::quic::Connection;

const LENGTH_BYTES: usize = 4;
/// How much is taken from QUIC at a time.
const READ_BYTES: usize = 64 * 1024;
/// A priority above that of all other streams, which is at most 0.
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
    unread: Unread,
}

/// What was read and is not yet taken: whole messages, and the beginning of one.
#[derive(Debug)]
struct Unread {
    max_bytes: u32,
    bytes: BytesMut,
}

/// A message longer than allowed was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it announced {announced} bytes, the limit is {limit}")]
struct TooLong {
    announced: u32,
    limit: u32,
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
            unread: Unread {
                max_bytes,
                bytes: BytesMut::new(),
            },
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
            let whole = self.unread.take_whole();
            if let Some(message) = whole.map_err(|error| self.connection.stream_failed(&error))? {
                return Ok(Some(message));
            }
            let chunk = self.stream.read_chunk(READ_BYTES, true).await;
            match chunk.map_err(|error| self.read_failed(&error))? {
                Some(chunk) => self.unread.bytes.extend_from_slice(&chunk.bytes),
                None if self.unread.bytes.is_empty() => return Ok(None),
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

    fn read_failed(&self, error: &ReadError) -> SocketError {
        match error {
            ReadError::ConnectionLost(error) => self.connection.ended(error),
            other => self.connection.stream_failed(other),
        }
    }
}

impl Unread {
    /// A message whose last byte is here.
    fn take_whole(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let Some(length) = self.bytes.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let announced = u32::from_le_bytes(*length);
        let limit = self.max_bytes;
        if announced > limit {
            return Err(TooLong { announced, limit });
        }
        if self.bytes.len() - LENGTH_BYTES < announced as usize {
            return Ok(None);
        }
        self.bytes.advance(LENGTH_BYTES);
        Ok(Some(self.bytes.split_to(announced as usize).to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_survive_any_cutting(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..10),
            pieces in prop::collection::vec(1usize..400, 1..20),
        ) {
            let framed: Vec<u8> = messages
                .iter()
                .flat_map(|message| [&(message.len() as u32).to_le_bytes()[..], message].concat())
                .collect();
            let mut unread = Unread { max_bytes: 300, bytes: BytesMut::new() };
            let (mut rest, mut taken) = (&framed[..], Vec::new());
            for piece in pieces.iter().cycle() {
                while let Some(message) = unread.take_whole().unwrap() {
                    taken.push(message);
                }
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*piece).min(rest.len()));
                unread.bytes.extend_from_slice(now);
                rest = later;
            }
            prop_assert_eq!(taken, messages);
            prop_assert!(unread.bytes.is_empty());
        }

        #[test]
        fn any_bytes_are_messages_a_beginning_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut unread = Unread { max_bytes: 60_000, bytes: BytesMut::from(&bytes[..]) };
            let mut taken = 0;
            loop {
                match unread.take_whole() {
                    Ok(Some(message)) => taken += LENGTH_BYTES + message.len(),
                    Ok(None) => break,
                    Err(TooLong { announced, limit }) => {
                        prop_assert!(announced > limit);
                        break;
                    }
                }
            }
            prop_assert_eq!(taken + unread.bytes.len(), bytes.len());
        }
    }
}
