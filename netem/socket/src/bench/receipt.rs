//! A receiver's word that it has everything: what QUIC itself acknowledges nobody may have read.

use std::fmt;

use crate::SocketError;

/// What a receipt says; that it comes is what counts.
const RECEIPT: &[u8] = &[1];
/// Whom errors name: there is only one other end.
const PEER: &str = "the other end";

/// Tells the sender on the other end of `connection`; the word leaves while the connection lives.
pub(super) async fn give(connection: &quinn::Connection) -> Result<(), SocketError> {
    let mut stream = connection.open_uni().await.map_err(stream_failed)?;
    stream.write_all(RECEIPT).await.map_err(stream_failed)?;
    stream.finish().map_err(stream_failed)
}

/// Waits for the receiver's word.
pub(super) async fn take(connection: &quinn::Connection) -> Result<(), SocketError> {
    let mut stream = connection.accept_uni().await.map_err(stream_failed)?;
    let receipt = stream
        .read_to_end(RECEIPT.len())
        .await
        .map_err(stream_failed)?;
    if receipt == RECEIPT {
        Ok(())
    } else {
        Err(stream_failed("it ended without a receipt"))
    }
}

pub(super) fn stream_failed(error: impl fmt::Display) -> SocketError {
    SocketError::Stream {
        peer: PEER.to_owned(),
        reason: error.to_string(),
    }
}
