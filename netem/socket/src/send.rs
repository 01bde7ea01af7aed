//! The sending end of a shaped link.
//!
//! One task a job and directed link cuts messages into chunks. Each chunk reserves its slot on the
//! link's cell, is written a little before the slot begins, and carries the time at which the link
//! would have delivered it. The task holds one reservation at a time, so that jobs that share a
//! link take turns and share it equally.

use std::collections::VecDeque;
use std::time::Duration;

use bace_netem::{Delay, LinkSpec, Slot, chunk_bytes};
use bytes::Bytes;
use quinn::{SendStream, VarInt, WriteError};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use crate::SocketError;
use crate::cell::LinkCell;
use crate::frame::{self, MAX_HEADER_BYTES, ON_ARRIVAL_NS};
use crate::quic::Connection;
use crate::timer::{DeadlineTimer, now_ns};

/// The code of a stream that its sender gave up.
const ABANDONED: VarInt = VarInt::from_u32(1);
/// How often a link that is down is looked at, ns.
pub(crate) const DOWN_POLL_NS: u64 = 2_000_000;
/// Chunks that may always be in flight, however slow the link.
const MIN_CHUNKS_IN_FLIGHT: u64 = 4;
/// Bytes that may be in flight, as a multiple of those that the link itself holds.
const IN_FLIGHT_SHARE: f64 = 2.0;
/// What is written at a time where no link is clocked: the whole of a larger piece would stay in memory until its last
/// byte is acknowledged.
const UNCLOCKED_CHUNK_BYTES: usize = 256 * 1024;
const BITS_PER_BYTE: f64 = 8.0;
const BITS_PER_MEGABIT: f64 = 1e6;

/// A message to send.
#[derive(Debug, Clone)]
pub struct OutgoingMessage {
    /// The encoded header, at most [`MAX_HEADER_BYTES`]; not charged to the link.
    pub header: Bytes,
    /// The payload, may be empty; its bytes are what the link is charged.
    pub payload: Bytes,
    /// When the message can leave, ns of [`now_ns`]. Queued before that, it leaves on time however late its sender
    /// wakes up; queued after, its slot is taken as of then.
    pub ready_ns: u64,
}

/// Who gives a link its rate and delay.
#[derive(Debug, Clone)]
pub enum Shaper {
    /// The sender and its receiver: every chunk reserves its slot on the link's clock.
    Clock(LinkCell),
    /// Whatever carries QUIC's datagrams, if anything does: chunks are written as soon as they are ready, and messages
    /// are handed up when they are whole.
    Below,
}

/// The knobs of a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderConfig {
    /// Messages that may wait; their payloads stay in memory. A full queue blocks the stage, which
    /// with a pipeline's bounded micro-batches in flight means that the queue is too short.
    pub queue_messages: usize,
    /// How long before its slot a chunk is written. It hides the lateness of timers and of the
    /// physical transfer; more of it costs memory at the receiver.
    pub lookahead: Duration,
    /// A link whose rate x delay may need more bytes in flight than this is refused.
    pub max_in_flight_bytes: u64,
}

impl Default for SenderConfig {
    fn default() -> Self {
        Self {
            queue_messages: 256,
            lookahead: Duration::from_millis(2),
            max_in_flight_bytes: 2 << 30,
        }
    }
}

impl SenderConfig {
    /// Whether a sender can carry what `spec` gives; for all who want to know before there is one.
    ///
    /// # Errors
    /// When the link needs more bytes in flight than `max_in_flight_bytes`.
    pub fn admit(&self, spec: &LinkSpec) -> Result<(), SocketError> {
        let bytes = bytes_in_flight(spec, spec.delay, self.lookahead);
        let limit = self.max_in_flight_bytes;
        if bytes <= limit {
            return Ok(());
        }
        let seconds = spec.delay.seconds() + self.lookahead.as_secs_f64();
        let most_mbps = limit as f64 * BITS_PER_BYTE / IN_FLIGHT_SHARE / seconds / BITS_PER_MEGABIT;
        Err(SocketError::TooMuchInFlight {
            rate_mbps: spec.rate.bps() / BITS_PER_MEGABIT,
            delay_ms: spec.delay.seconds() * 1e3,
            bytes,
            limit,
            most_mbps: three_digits_down(most_mbps),
        })
    }
}

/// The queue of one job's messages on one directed link; clones feed the same queue. The task ends
/// once the last clone is dropped and everything was sent.
#[derive(Debug, Clone)]
pub struct LinkSender {
    queue: mpsc::Sender<OutgoingMessage>,
}

/// The task behind a [`LinkSender`]. Dropping it leaves the task running.
#[derive(Debug)]
pub struct SenderTask {
    task: JoinHandle<Result<SenderReport, SocketError>>,
}

/// What a sender has carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SenderReport {
    /// Messages that the peer's QUIC has acknowledged.
    pub messages: u64,
    /// Their payload bytes.
    pub bytes: u64,
}

impl LinkSender {
    /// Starts a sender on `connection` within the current tokio runtime. The rate of a clocked link is the cell's,
    /// whatever it changes to; delay and the bound on bytes in flight are `spec`'s.
    ///
    /// # Errors
    /// When `config` does not [`admit`](SenderConfig::admit) the link, or no timer is left.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn(
        connection: &Connection,
        shaper: Shaper,
        spec: &LinkSpec,
        config: SenderConfig,
    ) -> Result<(Self, SenderTask), SocketError> {
        let lookahead_ns = u64::try_from(config.lookahead.as_nanos()).unwrap_or(u64::MAX);
        config.admit(spec)?;
        let (queue, waiting) = mpsc::channel(config.queue_messages.max(1));
        let worker = Worker {
            connection: connection.clone(),
            shaper,
            delay: spec.delay,
            lookahead: config.lookahead,
            lookahead_ns,
            max_in_flight_bytes: config.max_in_flight_bytes,
            timer: DeadlineTimer::new()?,
            in_flight: InFlight::default(),
            unacknowledged: JoinSet::new(),
            report: SenderReport::default(),
        };
        let task = tokio::spawn(worker.run(waiting));
        Ok((Self { queue }, SenderTask { task }))
    }

    /// Queues a message, waiting for room; for threads outside the runtime.
    ///
    /// # Errors
    /// When the header is too long or the task has ended ([`SenderTask::finish`] tells why).
    ///
    /// # Panics
    /// Within a tokio runtime.
    pub fn blocking_send(&self, message: OutgoingMessage) -> Result<(), SocketError> {
        check_header(&message)?;
        self.queue
            .blocking_send(message)
            .map_err(|_| SocketError::TaskEnded)
    }

    /// Queues a message, waiting for room. Cancel-safe: given up, nothing was queued.
    ///
    /// # Errors
    /// As [`blocking_send`](Self::blocking_send).
    pub async fn send(&self, message: OutgoingMessage) -> Result<(), SocketError> {
        check_header(&message)?;
        self.queue
            .send(message)
            .await
            .map_err(|_| SocketError::TaskEnded)
    }

    /// Queues a message if there is room at once.
    ///
    /// # Errors
    /// As [`blocking_send`](Self::blocking_send), and when the queue is full.
    pub fn try_send(&self, message: OutgoingMessage) -> Result<(), SocketError> {
        check_header(&message)?;
        self.queue.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SocketError::QueueFull(self.queue.max_capacity()),
            mpsc::error::TrySendError::Closed(_) => SocketError::TaskEnded,
        })
    }
}

impl SenderTask {
    /// Waits until all [`LinkSender`]s are dropped and the peer's QUIC has acknowledged everything.
    ///
    /// # Errors
    /// Why the task ended earlier.
    pub async fn finish(self) -> Result<SenderReport, SocketError> {
        self.task.await.unwrap_or(Err(SocketError::TaskEnded))
    }

    /// Gives up at once: the message under way is reset at the receiver, those queued are dropped.
    pub fn cancel(&self) {
        self.task.abort();
    }
}

fn check_header(message: &OutgoingMessage) -> Result<(), SocketError> {
    if message.header.len() > MAX_HEADER_BYTES {
        return Err(SocketError::TooLarge {
            what: "a header",
            bytes: message.header.len() as u64,
            limit: MAX_HEADER_BYTES as u64,
        });
    }
    Ok(())
}

/// Bytes written and not yet due at the receiver, at most.
fn bytes_in_flight(spec: &LinkSpec, delay: Delay, lookahead: Duration) -> u64 {
    let least = MIN_CHUNKS_IN_FLIGHT * u64::from(chunk_bytes(spec.rate));
    let seconds = delay.seconds() + lookahead.as_secs_f64();
    least.max((IN_FLIGHT_SHARE * spec.rate.bps() / BITS_PER_BYTE * seconds) as u64)
}

/// A positive number of which no digit but the first three is left, so that it is no larger.
fn three_digits_down(number: f64) -> f64 {
    let unit = 10f64.powi(number.log10().floor() as i32 - 2);
    let units = (number / unit).floor();
    // A division by a whole number prints without the noise of a product with a fraction.
    if unit < 1.0 {
        units / (1.0 / unit).round()
    } else {
        units * unit
    }
}

struct Worker {
    connection: Connection,
    shaper: Shaper,
    delay: Delay,
    lookahead: Duration,
    lookahead_ns: u64,
    max_in_flight_bytes: u64,
    timer: DeadlineTimer,
    in_flight: InFlight,
    unacknowledged: JoinSet<Result<u64, SocketError>>,
    report: SenderReport,
}

impl Worker {
    async fn run(
        mut self,
        mut waiting: mpsc::Receiver<OutgoingMessage>,
    ) -> Result<SenderReport, SocketError> {
        while let Some(message) = waiting.recv().await {
            self.send(message).await?;
            while let Some(acknowledged) = self.unacknowledged.try_join_next() {
                self.count(acknowledged)?;
            }
        }
        while let Some(acknowledged) = self.unacknowledged.join_next().await {
            self.count(acknowledged)?;
        }
        Ok(self.report)
    }

    async fn send(&mut self, message: OutgoingMessage) -> Result<(), SocketError> {
        let opened = self.connection.quinn().open_uni().await;
        let mut stream = Guarded {
            stream: opened.map_err(|error| self.connection.ended(&error))?,
            finished: false,
        };
        let bytes = message.payload.len() as u64;
        let mut head = frame::encode_head(&message.header, bytes, message.ready_ns);
        let mut payload = message.payload;
        loop {
            let (size, deliver_at_ns) = self.next_chunk(payload.len(), message.ready_ns).await?;
            frame::put_chunk_frame(&mut head, size as u32, deliver_at_ns);
            let mut pieces = [head.split().freeze(), payload.split_to(size)];
            // An empty piece is never written.
            let pieces = if size == 0 {
                &mut pieces[..1]
            } else {
                &mut pieces[..]
            };
            let written = stream.stream.write_all_chunks(pieces).await;
            written.map_err(|error| self.write_failed(&error))?;
            if payload.is_empty() {
                break;
            }
        }
        self.finish(stream, bytes);
        Ok(())
    }

    /// Ends a stream whose bytes are all written, and watches for its acknowledgement.
    fn finish(&mut self, mut stream: Guarded, bytes: u64) {
        // An error says that the peer stopped the stream; `stopped` then tells.
        stream.finished = stream.stream.finish().is_ok();
        let connection = self.connection.clone();
        self.unacknowledged.spawn(async move {
            match stream.stream.stopped().await {
                Ok(None) => Ok(bytes),
                Ok(Some(code)) => {
                    Err(connection.stream_failed(&format_args!("it stopped reading, code {code}")))
                }
                Err(error) => Err(connection.stream_failed(&error)),
            }
        });
    }

    fn count(
        &mut self,
        acknowledged: Result<Result<u64, SocketError>, tokio::task::JoinError>,
    ) -> Result<(), SocketError> {
        let bytes = acknowledged.unwrap_or(Err(SocketError::TaskEnded))?;
        self.report.messages += 1;
        self.report.bytes += bytes;
        Ok(())
    }

    /// The next chunk of the `left` bytes of a message that are not yet written, once it may be: its size, and when the
    /// link delivers it. Ends with the connection, which a link that is down or slow may outlast by hours.
    async fn next_chunk(
        &mut self,
        left: usize,
        ready_ns: u64,
    ) -> Result<(usize, u64), SocketError> {
        let connection = self.connection.clone();
        let slot = async {
            let cell = match &self.shaper {
                Shaper::Clock(cell) => cell.clone(),
                Shaper::Below => {
                    self.timer.wait_until(ready_ns).await?;
                    return Ok((left.min(UNCLOCKED_CHUNK_BYTES), ON_ARRIVAL_NS));
                }
            };
            let size = left.min(chunk_bytes(cell.rate()) as usize);
            self.wait_until_near(&cell, ready_ns).await?;
            self.wait_for_room(&cell, size as u64).await?;
            let slot = self.reserve(&cell, size as u64, ready_ns).await?;
            self.timer
                .wait_until(slot.start_ns.saturating_sub(self.lookahead_ns))
                .await?;
            let deliver_at_ns = slot.end_ns.saturating_add(self.delay.nanos());
            self.in_flight.add(deliver_at_ns, size as u64);
            Ok((size, deliver_at_ns))
        };
        tokio::select! {
            biased;
            slot = slot => slot,
            error = connection.closed() => Err(error),
        }
    }

    /// Waits for a message that is queued before it is ready. On a link that others use its slot is not reserved before:
    /// they would have to wait for a message that does not exist yet.
    async fn wait_until_near(&mut self, cell: &LinkCell, ready_ns: u64) -> Result<(), SocketError> {
        let early_ns = if cell.is_shared() {
            0
        } else {
            self.lookahead_ns
        };
        self.timer
            .wait_until(ready_ns.saturating_sub(early_ns))
            .await
    }

    /// Waits until `bytes` more may be in flight. Comes before the reservation, which others would
    /// have to wait for.
    async fn wait_for_room(&mut self, cell: &LinkCell, bytes: u64) -> Result<(), SocketError> {
        loop {
            let spec = LinkSpec::new(cell.rate(), self.delay);
            let limit =
                bytes_in_flight(&spec, self.delay, self.lookahead).min(self.max_in_flight_bytes);
            self.in_flight.forget_delivered(now_ns());
            match self.in_flight.earliest() {
                Some(deliver_at_ns) if self.in_flight.bytes + bytes > limit => {
                    self.timer.wait_until(deliver_at_ns).await?;
                }
                _ => return Ok(()),
            }
        }
    }

    /// The slot of the next chunk, as soon as the link is up.
    async fn reserve(
        &mut self,
        cell: &LinkCell,
        bytes: u64,
        ready_ns: u64,
    ) -> Result<Slot, SocketError> {
        loop {
            if let Some(slot) = cell.reserve(bytes, ready_ns) {
                return Ok(slot);
            }
            self.timer.wait_until(now_ns() + DOWN_POLL_NS).await?;
        }
    }

    fn write_failed(&self, error: &WriteError) -> SocketError {
        match error {
            WriteError::ConnectionLost(error) => self.connection.ended(error),
            other => self.connection.stream_failed(other),
        }
    }
}

/// A stream that is reset unless it was finished: a dropped one would end cleanly, and its message
/// look whole.
struct Guarded {
    stream: SendStream,
    finished: bool,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if !self.finished {
            // An error says that the stream is closed already.
            let _ = self.stream.reset(ABANDONED);
        }
    }
}

/// What was written and is not yet due at the receiver, in order of delivery.
#[derive(Debug, Default)]
struct InFlight {
    chunks: VecDeque<(u64, u64)>,
    bytes: u64,
}

impl InFlight {
    fn add(&mut self, deliver_at_ns: u64, bytes: u64) {
        self.chunks.push_back((deliver_at_ns, bytes));
        self.bytes += bytes;
    }

    fn forget_delivered(&mut self, now_ns: u64) {
        while let Some(&(deliver_at_ns, bytes)) = self.chunks.front()
            && deliver_at_ns <= now_ns
        {
            self.chunks.pop_front();
            self.bytes -= bytes;
        }
    }

    fn earliest(&self) -> Option<u64> {
        self.chunks.front().map(|&(deliver_at_ns, _)| deliver_at_ns)
    }
}

#[cfg(test)]
mod tests {
    use bace_netem::BitRate;

    use super::*;

    #[test]
    fn bytes_in_flight_follow_rate_and_delay() {
        let in_flight = |bps, delay_s| {
            let spec = LinkSpec::new(
                BitRate::from_bps(bps).unwrap(),
                Delay::from_seconds(delay_s).unwrap(),
            );
            bytes_in_flight(&spec, spec.delay, Duration::from_millis(2))
        };
        assert_eq!(in_flight(10e6, 0.0), 65_536);
        assert_eq!(in_flight(1e9, 0.038), 10_000_000);
        assert_eq!(in_flight(10e9, 0.298), 750_000_000);
    }

    #[test]
    fn a_link_too_long_for_its_rate_is_told_what_would_do() {
        let config = SenderConfig::default();
        let link = |mbps: f64, delay_ms: f64| {
            LinkSpec::new(
                BitRate::from_bps(mbps * 1e6).unwrap(),
                Delay::from_seconds(delay_ms / 1e3).unwrap(),
            )
        };
        assert_eq!(
            config.admit(&link(100e3, 120.0)).unwrap_err().to_string(),
            "carry 100000 Mbit/s at a one-way delay of 120 ms: 3.05 GB could be in flight, the limit is 2.15 GB; at this delay use at most 70400 Mbit/s"
        );
        for delay_ms in [0.0, 0.5, 120.0, 2_345.6, 86_400_000.0] {
            let Err(SocketError::TooMuchInFlight { most_mbps, .. }) =
                config.admit(&link(1e9, delay_ms))
            else {
                panic!("a petabit a second was admitted");
            };
            config.admit(&link(most_mbps, delay_ms)).unwrap();
            config.admit(&link(most_mbps * 1.02, delay_ms)).unwrap_err();
            assert!(format!("{most_mbps}").len() <= 9, "{most_mbps}");
        }
    }

    #[test]
    fn delivered_chunks_make_room() {
        let mut in_flight = InFlight::default();
        assert_eq!(in_flight.earliest(), None);
        for (deliver_at_ns, bytes) in [(10, 1), (20, 2), (30, 4)] {
            in_flight.add(deliver_at_ns, bytes);
        }
        in_flight.forget_delivered(9);
        assert_eq!((in_flight.bytes, in_flight.earliest()), (7, Some(10)));
        in_flight.forget_delivered(20);
        assert_eq!((in_flight.bytes, in_flight.earliest()), (4, Some(30)));
    }
}
