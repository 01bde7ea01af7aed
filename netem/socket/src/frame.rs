//! A message on its stream, as bytes.
//!
//! ```text
//! prelude  header length u32 | payload length u64 | ready_ns u64      (20 bytes, little-endian)
//! header   as the sender encoded it                                   (at most 4 KiB)
//! chunk    payload bytes that follow u32 | deliver_at_ns u64 |
//!          left_ns u64 | queued_ns u64 | bytes                        (28 bytes and the payload's, repeated)
//! ```
//! An empty payload has one chunk of length 0, which carries the times. Those of a chunk are: when the link delivers it (0: as
//! soon as it is here), when its last bit leaves the link's near end, and what of the time until then the link's clock gave to
//! others, over all chunks so far (both 0: no clock timed it).

use bace_netem::Departure;
use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::pool::{BufferPool, PooledBuffer};

/// The longest header of a message, bytes.
pub const MAX_HEADER_BYTES: usize = 4096;

/// The time of delivery of a chunk that no clock has timed: it is due as soon as it is here.
pub(crate) const ON_ARRIVAL_NS: u64 = 0;

/// What a chunk's frame says of times, ns of the sender's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ChunkTimes {
    /// When the link delivers it; [`ON_ARRIVAL_NS`] where that is when it is here.
    pub deliver_at_ns: u64,
    /// How the message has left the link with this chunk; all 0 where no clock timed it.
    pub departure: Departure,
}

impl ChunkTimes {
    /// Of a chunk that no clock has timed.
    pub const UNTIMED: Self = Self {
        deliver_at_ns: ON_ARRIVAL_NS,
        departure: Departure {
            left_ns: 0,
            queued_ns: 0,
        },
    };
}

const PRELUDE_BYTES: usize = 20;
const CHUNK_FRAME_BYTES: usize = 28;

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The announced header is too long.
    #[error("header of {0} bytes announced, the limit is {MAX_HEADER_BYTES}")]
    HeaderTooLong(u32),
    /// The announced payload is too long.
    #[error("payload of {announced} bytes announced, the limit is {limit}")]
    PayloadTooLong {
        /// Bytes announced.
        announced: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A chunk is longer than what is left of the payload.
    #[error("chunk of {chunk} bytes where {left} are left")]
    ChunkTooLong {
        /// Bytes of the chunk.
        chunk: u32,
        /// Bytes of the payload still to come.
        left: u64,
    },
    /// An empty chunk within a payload that is not empty.
    #[error("empty chunk")]
    EmptyChunk,
    /// Bytes after the last chunk.
    #[error("{0} bytes after the end")]
    Trailing(usize),
    /// The stream ended within the message.
    #[error("end of stream within the message")]
    Truncated,
}

/// The prelude and header of a message; `header` within its limit.
pub(crate) fn encode_head(header: &[u8], payload_bytes: u64, ready_ns: u64) -> BytesMut {
    debug_assert!(header.len() <= MAX_HEADER_BYTES);
    let room = PRELUDE_BYTES + header.len() + CHUNK_FRAME_BYTES;
    let mut head = BytesMut::with_capacity(room);
    head.put_u32_le(header.len() as u32);
    head.put_u64_le(payload_bytes);
    head.put_u64_le(ready_ns);
    head.put_slice(header);
    head
}

/// Appends what precedes a chunk's bytes.
pub(crate) fn put_chunk_frame(to: &mut BytesMut, chunk_bytes: u32, times: ChunkTimes) {
    to.put_u32_le(chunk_bytes);
    to.put_u64_le(times.deliver_at_ns);
    to.put_u64_le(times.departure.left_ns);
    to.put_u64_le(times.departure.queued_ns);
}

/// A whole message as read from its stream.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub header: Bytes,
    /// Empty where payloads are not kept.
    pub payload: PooledBuffer,
    pub payload_bytes: usize,
    pub ready_ns: u64,
    /// The latest delivery of its chunks.
    pub deliver_at_ns: u64,
    /// Of its last chunk; absent where no clock timed it.
    pub departure: Option<Departure>,
}

/// Reads one message from pieces of a stream, however they are cut.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// Absent where payloads are read and dropped.
    pool: Option<BufferPool>,
    max_payload_bytes: u64,
    stage: Stage,
    /// Bytes gathered of a part that is needed as a whole.
    gathered: Vec<u8>,
    message: Decoded,
    /// Bytes of the payload that have come.
    filled: usize,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Prelude,
    Header { bytes: usize, payload_bytes: usize },
    ChunkFrame,
    Chunk { left: usize },
    Whole,
}

impl Decoder {
    /// A decoder that takes its payload's buffer from `pool` once the announced size is known to
    /// be at most `max_payload_bytes`; without a pool it drops the payload.
    pub fn new(pool: Option<BufferPool>, max_payload_bytes: u64) -> Self {
        let message = Decoded {
            header: Bytes::new(),
            payload: PooledBuffer::empty(),
            payload_bytes: 0,
            ready_ns: 0,
            deliver_at_ns: 0,
            departure: None,
        };
        Self {
            pool,
            max_payload_bytes,
            stage: Stage::Prelude,
            gathered: Vec::new(),
            message,
            filled: 0,
        }
    }

    /// Takes the next bytes of the stream. After an error the decoder is of no more use.
    pub fn push(&mut self, mut input: &[u8]) -> Result<(), FrameError> {
        loop {
            match self.stage {
                Stage::Prelude => {
                    let Some(prelude) = self.gather::<PRELUDE_BYTES>(&mut input) else {
                        return Ok(());
                    };
                    self.take_prelude(&prelude)?;
                }
                Stage::Header {
                    bytes,
                    payload_bytes,
                } => {
                    if !self.gather_up_to(&mut input, bytes) {
                        return Ok(());
                    }
                    self.message.header = std::mem::take(&mut self.gathered).into();
                    self.message.payload_bytes = payload_bytes;
                    if let Some(pool) = &self.pool {
                        self.message.payload = pool.take(payload_bytes);
                    }
                    self.stage = Stage::ChunkFrame;
                }
                Stage::ChunkFrame => {
                    let Some(frame) = self.gather::<CHUNK_FRAME_BYTES>(&mut input) else {
                        return Ok(());
                    };
                    self.take_chunk_frame(&frame)?;
                }
                Stage::Chunk { left } => {
                    if input.is_empty() {
                        return Ok(());
                    }
                    let (taken, rest) = input.split_at(left.min(input.len()));
                    let end = self.filled + taken.len();
                    if self.pool.is_some() {
                        self.message.payload[self.filled..end].copy_from_slice(taken);
                    }
                    self.filled = end;
                    input = rest;
                    self.stage = self.in_chunk(left - taken.len());
                }
                Stage::Whole if input.is_empty() => return Ok(()),
                Stage::Whole => return Err(FrameError::Trailing(input.len())),
            }
        }
    }

    /// The message, once the stream has ended.
    pub fn finish(self) -> Result<Decoded, FrameError> {
        match self.stage {
            Stage::Whole => Ok(self.message),
            _ => Err(FrameError::Truncated),
        }
    }

    fn take_prelude(&mut self, mut prelude: &[u8]) -> Result<(), FrameError> {
        let header_bytes = prelude.get_u32_le();
        let announced = prelude.get_u64_le();
        self.message.ready_ns = prelude.get_u64_le();
        if header_bytes as usize > MAX_HEADER_BYTES {
            return Err(FrameError::HeaderTooLong(header_bytes));
        }
        let limit = self.max_payload_bytes;
        let payload_bytes = usize::try_from(announced)
            .ok()
            .filter(|_| announced <= limit)
            .ok_or(FrameError::PayloadTooLong { announced, limit })?;
        self.stage = Stage::Header {
            bytes: header_bytes as usize,
            payload_bytes,
        };
        Ok(())
    }

    fn take_chunk_frame(&mut self, mut frame: &[u8]) -> Result<(), FrameError> {
        let chunk = frame.get_u32_le();
        let deliver_at_ns = frame.get_u64_le();
        let departure = Departure {
            left_ns: frame.get_u64_le(),
            queued_ns: frame.get_u64_le(),
        };
        let left = self.message.payload_bytes - self.filled;
        if chunk as usize > left {
            let left = left as u64;
            return Err(FrameError::ChunkTooLong { chunk, left });
        }
        if chunk == 0 && left > 0 {
            return Err(FrameError::EmptyChunk);
        }
        self.message.deliver_at_ns = self.message.deliver_at_ns.max(deliver_at_ns);
        self.message.departure = (departure.left_ns > 0).then_some(departure);
        self.stage = self.in_chunk(chunk as usize);
        Ok(())
    }

    /// The stage with `left` bytes of a chunk still to come.
    fn in_chunk(&self, left: usize) -> Stage {
        if left > 0 {
            Stage::Chunk { left }
        } else if self.filled < self.message.payload_bytes {
            Stage::ChunkFrame
        } else {
            Stage::Whole
        }
    }

    /// The next `N` bytes, once they are there.
    fn gather<const N: usize>(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        if !self.gather_up_to(input, N) {
            return None;
        }
        let whole = self.gathered.as_slice().try_into().ok();
        self.gathered.clear();
        whole
    }

    /// Moves input to `gathered` until it holds `wanted` bytes; whether it does.
    fn gather_up_to(&mut self, input: &mut &[u8], wanted: usize) -> bool {
        let missing = wanted - self.gathered.len();
        let (taken, rest) = input.split_at(missing.min(input.len()));
        self.gathered.extend_from_slice(taken);
        *input = rest;
        self.gathered.len() == wanted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: &[&[u8]], limit: u64) -> Result<Decoded, FrameError> {
        decode_into(Some(BufferPool::new(0)), pieces, limit)
    }

    fn decode_into(
        pool: Option<BufferPool>,
        pieces: &[&[u8]],
        limit: u64,
    ) -> Result<Decoded, FrameError> {
        let mut decoder = Decoder::new(pool, limit);
        for piece in pieces {
            decoder.push(piece)?;
        }
        decoder.finish()
    }

    #[test]
    fn without_a_pool_a_payload_is_counted_and_dropped() {
        let stream = encode(b"hd", b"abcdefg", 3);
        let (first, second) = stream.split_at(40);
        let message = decode_into(None, &[first, second], 100).unwrap();
        assert_eq!(message.header, b"hd"[..]);
        assert_eq!((message.payload.len(), message.payload_bytes), (0, 7));
        assert_eq!((message.ready_ns, message.deliver_at_ns), (5, 12));
        assert_eq!(message.departure, Some(times(2).departure));
        // It is as strict as one that keeps them.
        assert_eq!(
            decode_into(None, &[first], 100).unwrap_err(),
            FrameError::Truncated
        );
        assert!(decode_into(None, &[&stream, b"x"], 100).is_err());
        assert!(decode_into(None, &[&stream], 6).is_err());
    }

    /// Those of chunk i of a message that others delay.
    fn times(i: u64) -> ChunkTimes {
        let departure = Departure {
            left_ns: 7 + i,
            queued_ns: 2 * i,
        };
        ChunkTimes {
            deliver_at_ns: 10 + i,
            departure,
        }
    }

    /// A message of `chunk_bytes` chunks with the [`times`] of each.
    fn encode(header: &[u8], payload: &[u8], chunk_bytes: usize) -> Vec<u8> {
        let mut stream = encode_head(header, payload.len() as u64, 5);
        if payload.is_empty() {
            put_chunk_frame(&mut stream, 0, times(0));
        }
        for (i, chunk) in payload.chunks(chunk_bytes).enumerate() {
            put_chunk_frame(&mut stream, chunk.len() as u32, times(i as u64));
            stream.put_slice(chunk);
        }
        stream.to_vec()
    }

    #[test]
    fn the_layout_is_fixed() {
        assert_eq!(
            encode(b"hd", b"abc", 2),
            [
                &[2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0][..],
                b"hd",
                &[2, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0],
                &[7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                b"ab",
                &[1, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0],
                &[8, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
                b"c",
            ]
            .concat()
        );
    }

    #[test]
    fn malformed_messages_are_told_apart() {
        let head = |header, payload| encode_head(&vec![0; header], payload, 0).to_vec();
        let chunk = |bytes| {
            let mut frame = BytesMut::new();
            put_chunk_frame(&mut frame, bytes, ChunkTimes::UNTIMED);
            frame.to_vec()
        };
        let error = |pieces: &[Vec<u8>]| {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            decode(&pieces, 100).unwrap_err()
        };
        let mut long_header = head(0, 0);
        long_header[..4].copy_from_slice(&4097u32.to_le_bytes());
        assert_eq!(error(&[long_header]), FrameError::HeaderTooLong(4097));
        assert_eq!(
            error(&[head(4, 1 << 50)]),
            FrameError::PayloadTooLong {
                announced: 1 << 50,
                limit: 100
            }
        );
        assert_eq!(
            error(&[head(0, 10), chunk(11)]),
            FrameError::ChunkTooLong {
                chunk: 11,
                left: 10
            }
        );
        assert_eq!(error(&[head(0, 10), chunk(0)]), FrameError::EmptyChunk);
        assert_eq!(
            error(&[head(0, 0), chunk(0), vec![1, 2]]),
            FrameError::Trailing(2)
        );
        for cut in [0, 1, 19, 20, 22, 25, 34, 49, 50, 51, 52, 79, 80] {
            let whole = encode(b"hd", b"abc", 2);
            assert_eq!(error(&[whole[..cut].to_vec()]), FrameError::Truncated);
        }
    }

    proptest! {
        #[test]
        fn a_message_survives_any_cutting(
            header in prop::collection::vec(any::<u8>(), 0..200),
            payload in prop::collection::vec(any::<u8>(), 0..3_000),
            chunk_bytes in 1usize..1_000,
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let stream = encode(&header, &payload, chunk_bytes);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            let decoded = decode(&pieces, 3_000).unwrap();
            prop_assert_eq!(&decoded.header[..], &header[..]);
            prop_assert_eq!(&decoded.payload[..], &payload[..]);
            prop_assert_eq!(decoded.ready_ns, 5);
            let last_chunk = payload.len().div_ceil(chunk_bytes).max(1) - 1;
            let times = times(last_chunk as u64);
            prop_assert_eq!(decoded.deliver_at_ns, times.deliver_at_ns);
            prop_assert_eq!(decoded.departure, Some(times.departure));
        }

        /// Whatever a sender says of its chunks, the message is due with the latest, and has left as the last says.
        #[test]
        fn times_are_those_of_all_chunks(
            chunks in prop::collection::vec(any::<[u64; 3]>(), 1..20),
        ) {
            let mut stream = encode_head(b"", chunks.len() as u64, 5);
            for &[deliver_at_ns, left_ns, queued_ns] in &chunks {
                let departure = Departure { left_ns, queued_ns };
                put_chunk_frame(&mut stream, 1, ChunkTimes { deliver_at_ns, departure });
                stream.put_u8(0);
            }
            let decoded = decode(&[&stream], 20).unwrap();
            prop_assert_eq!(Some(decoded.deliver_at_ns), chunks.iter().map(|times| times[0]).max());
            let [_, left_ns, queued_ns] = chunks[chunks.len() - 1];
            let departure = (left_ns > 0).then_some(Departure { left_ns, queued_ns });
            prop_assert_eq!(decoded.departure, departure);
        }

        /// Lengths that lie, chunks that are missing, doubled or too many, and ends anywhere.
        #[test]
        fn what_is_told_apart_from_a_message_is_none(
            header_bytes in 0usize..20,
            announced_header in prop_oneof![3 => Just(None), 1 => any::<u32>().prop_map(Some)],
            announced_payload in prop_oneof![4 => 0u64..300, 1 => any::<u64>()],
            chunks in prop::collection::vec((prop_oneof![6 => 0u32..100, 1 => any::<u32>()], 0usize..100), 0..6),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut stream = encode_head(&vec![7; header_bytes], announced_payload, 5);
            if let Some(announced) = announced_header {
                stream[..4].copy_from_slice(&announced.to_le_bytes());
            }
            let mut sent = 0;
            for &(announced, follow) in &chunks {
                put_chunk_frame(&mut stream, announced, times(0));
                // Honest chunks are common.
                let follow = if follow < 80 { announced.min(1_000) as usize } else { follow };
                stream.put_slice(&vec![1; follow]);
                sent += follow as u64;
            }
            let whole = stream.len();
            let end = cut.map_or(whole, |cut| cut.index(whole + 1));
            match decode(&[&stream[..end / 2], &stream[end / 2..end]], 256) {
                Ok(decoded) => {
                    prop_assert!(decoded.payload.len() <= 256 && decoded.header.len() <= MAX_HEADER_BYTES);
                    if announced_header.is_none() {
                        prop_assert_eq!(decoded.payload.len() as u64, announced_payload);
                        prop_assert!(sent >= announced_payload);
                        prop_assert_eq!(decoded.header.len(), header_bytes);
                    }
                }
                Err(FrameError::PayloadTooLong { announced, limit }) => prop_assert!(announced > limit),
                Err(FrameError::ChunkTooLong { chunk, left }) => prop_assert!(u64::from(chunk) > left),
                Err(_) => {}
            }
        }

        #[test]
        fn garbage_is_an_error_and_never_a_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..400),
            small_header: bool,
            small_payload: bool,
        ) {
            // Makes the deeper stages likely.
            for (small, range) in [(small_header, 1..4), (small_payload, 5..12)] {
                if small && bytes.len() > 12 {
                    bytes[range].fill(0);
                }
            }
            if let Ok(decoded) = decode(&[&bytes], 256) {
                prop_assert!(decoded.header.len() + decoded.payload.len() < bytes.len());
            }
        }
    }
}
