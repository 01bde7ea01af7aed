//! The one place where messages become bytes and back.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest control message, in bytes: a program of thousands of micro-batches fits.
pub const CONTROL_LIMIT: usize = 16 << 20;

/// Largest header of a tensor message, in bytes.
pub const HEADER_LIMIT: usize = 4 << 10;

/// Why bytes are no message, or a message has no bytes.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The message is longer than its kind may be.
    #[error("encode a message of {bytes} bytes: the limit is {limit}")]
    TooLong {
        /// Encoded length.
        bytes: usize,
        /// Longest allowed.
        limit: usize,
    },
    /// A value that the format cannot hold.
    #[error("encode a message: {0}")]
    Encode(#[from] bincode::error::EncodeError),
    /// Bytes that are not this message.
    #[error("decode a message: {0}; programs of different builds do not understand each other")]
    Decode(#[from] bincode::error::DecodeError),
    /// More bytes than the message has.
    #[error("decode a message: {0} bytes left over behind it")]
    Trailing(usize),
}

/// Encodes `message`; at most `LIMIT` bytes.
pub fn encode<const LIMIT: usize>(message: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::serde::encode_to_vec(message, bincode::config::standard())?;
    // The configured limit binds decoding only.
    if bytes.len() > LIMIT {
        return Err(CodecError::TooLong {
            bytes: bytes.len(),
            limit: LIMIT,
        });
    }
    Ok(bytes)
}

/// Decodes one message that is all of `bytes`; never allocates more than `LIMIT` bytes for it.
pub fn decode<const LIMIT: usize, T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let config = bincode::config::standard().with_limit::<LIMIT>();
    let (message, used) = bincode::serde::decode_from_slice(bytes, config)?;
    if used != bytes.len() {
        return Err(CodecError::Trailing(bytes.len() - used));
    }
    Ok(message)
}
