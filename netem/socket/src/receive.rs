//! The receiving end of a shaped link: reads messages early and shows them when they are due.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bace_netem::{ClockEstimate, LATE_TOLERANCE_NS, Timing};
use bytes::Bytes;
use quinn::{ReadError, RecvStream, VarInt};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use crate::SocketError;
use crate::cell::LinkCell;
use crate::frame::{Decoded, Decoder, FrameError, ON_ARRIVAL_NS};
use crate::hold::HoldQueue;
use crate::peer_clock::PeerClock;
use crate::pool::BufferPool;
use crate::quic::Connection;
use crate::timer::{DeadlineTimer, now_ns};

/// How much is taken from QUIC at a time.
const READ_BYTES: usize = 1 << 20;
/// Messages being read or held at once: many more than a link's rate x delay holds of real ones.
/// At the bound the peer's next stream waits, and its lateness shows.
const MAX_MESSAGES_HELD: usize = 4096;
/// The code of a stream whose bytes are no message.
const MALFORMED: VarInt = VarInt::from_u32(2);

/// A message, handed up when the link would have delivered it.
#[derive(Debug, Clone)]
pub struct ReceivedMessage {
    /// The sender's certificate name.
    pub peer: Arc<str>,
    /// The header as the sender encoded it.
    pub header: Bytes,
    /// The payload; its buffer returns to the pool with the last clone. Empty where payloads are not kept.
    pub payload: Bytes,
    /// When what happened.
    pub timing: Timing,
}

/// What a receiver hands up.
#[derive(Debug)]
pub enum Received {
    /// A whole message, due now.
    Message(ReceivedMessage),
    /// A message that never became whole, told at once; others may follow.
    Failed {
        /// The sender's certificate name.
        peer: Arc<str>,
        /// Why.
        error: SocketError,
    },
    /// The connection is over; nothing follows.
    Ended {
        /// The peer's certificate name.
        peer: Arc<str>,
        /// Why, an orderly close included.
        error: SocketError,
    },
}

/// The knobs of a receiver.
#[derive(Debug, Clone)]
pub struct ReceiverConfig {
    /// Longer payloads are refused before anything is allocated for them.
    pub max_message_bytes: u64,
    /// Whether payloads are handed up. Where nobody looks at them, reading and dropping them saves their memory and the
    /// copy into it; they cross the link all the same, are counted, and are as late as they are.
    pub keeps_payloads: bool,
    /// The link's cell, to count arrivals where all processes see them.
    pub cell: Option<LinkCell>,
    /// The cell of a link whose rate something else gives and whose delay nobody: what no clock has timed is handed up
    /// that long after its arrival.
    pub hold: Option<LinkCell>,
    /// The peer's clock where it is on another host: what its messages say of times is translated.
    pub peer_clock: Option<PeerClock>,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        Self {
            max_message_bytes: 1 << 30,
            keeps_payloads: true,
            cell: None,
            hold: None,
            peer_clock: None,
        }
    }
}

/// What a receiver has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiverStats {
    /// Whole messages.
    pub messages: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Messages whose last byte came more than 1 ms after the link would have delivered it: the
    /// host could not keep up with the link, and the emulation was too slow by so much.
    pub late_arrivals: u64,
    /// The most by which one was late, us; within the 1 ms that a link is true to, it is no fault.
    pub late_max_us: u64,
}

/// The task that receives from one connection. Dropping it leaves the task running until the
/// connection ends.
#[derive(Debug)]
pub struct ReceiverTask {
    task: JoinHandle<()>,
    counters: Arc<Counters>,
}

impl ReceiverTask {
    /// Starts to receive all messages of `connection` within the current tokio runtime and hands
    /// them up through `out`, in the order in which the peer began to send them: a message that is
    /// late makes those behind it late too, whole as they may be, until it is whole or has failed.
    /// Several receivers may share one `out`, and `T` may be what else its reader waits for.
    ///
    /// The capacity of `out` bounds the messages that are due and not yet taken: it must hold what
    /// the peers may send while the reader computes, else reading stops and later messages are late.
    ///
    /// # Errors
    /// When no timer is left.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn<T>(
        connection: &Connection,
        pool: &BufferPool,
        config: ReceiverConfig,
        out: mpsc::Sender<T>,
    ) -> Result<Self, SocketError>
    where
        T: From<Received> + Send + 'static,
    {
        let counters = Arc::new(Counters::default());
        let receiver = Receiver {
            connection: connection.clone(),
            peer: connection.peer_name().into(),
            pool: pool.clone(),
            config,
            out,
            counters: Arc::clone(&counters),
            timer: DeadlineTimer::new()?,
            reading: JoinSet::new(),
            hold: HoldQueue::new(),
        };
        let task = tokio::spawn(receiver.run());
        Ok(Self { task, counters })
    }

    /// What has been received so far.
    pub fn stats(&self) -> ReceiverStats {
        self.counters.stats()
    }

    /// Stops receiving at once; nothing more is handed up. The connection stays open.
    pub fn stop(&self) {
        self.task.abort();
    }
}

#[derive(Debug, Default)]
struct Counters {
    messages: AtomicU64,
    bytes: AtomicU64,
    late_arrivals: AtomicU64,
    late_max_ns: AtomicU64,
}

impl Counters {
    fn count(&self, message: &Arrived) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes
            .fetch_add(message.decoded.payload_bytes as u64, Ordering::Relaxed);
        let late_ns = message.late_ns();
        self.late_max_ns.fetch_max(late_ns, Ordering::Relaxed);
        if late_ns > LATE_TOLERANCE_NS {
            self.late_arrivals.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn stats(&self) -> ReceiverStats {
        ReceiverStats {
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            late_arrivals: self.late_arrivals.load(Ordering::Relaxed),
            late_max_us: self.late_max_ns.load(Ordering::Relaxed).div_ceil(1_000),
        }
    }
}

/// A whole message, when its last byte came, and when it is handed up.
struct Arrived {
    decoded: Decoded,
    arrived_ns: u64,
    due_ns: u64,
}

impl Arrived {
    fn late_ns(&self) -> u64 {
        self.arrived_ns.saturating_sub(self.due_ns)
    }
}

/// What a reading task has come to: a message's place among those sent, and the message.
type Read = (u64, Result<Arrived, SocketError>);

struct Receiver<T> {
    connection: Connection,
    peer: Arc<str>,
    pool: BufferPool,
    config: ReceiverConfig,
    out: mpsc::Sender<T>,
    counters: Arc<Counters>,
    timer: DeadlineTimer,
    reading: JoinSet<Read>,
    hold: HoldQueue<Arrived>,
}

impl<T: From<Received> + Send + 'static> Receiver<T> {
    /// Runs until the connection has ended and what it brought was handed up, or until nobody
    /// listens any more.
    async fn run(mut self) {
        let mut ended = None;
        loop {
            // All that is read by now, so that what is due is handed up in order.
            while let Some(read) = self.reading.try_join_next() {
                if self.take(read).await.is_err() {
                    return;
                }
            }
            while let Some(message) = self.hold.pop_due(now_ns()) {
                if self.hand_up(message).await.is_err() {
                    return;
                }
            }
            let due_ns = self.hold.next_due_ns();
            if due_ns.is_none()
                && self.reading.is_empty()
                && let Some(error) = ended.take()
            {
                self.end(error).await;
                return;
            }
            // Streams are accepted in the order of their opening, so that the message which holds
            // back all others is always among those being read.
            let room = self.hold.len() < MAX_MESSAGES_HELD;
            tokio::select! {
                accepted = self.connection.quinn().accept_uni(), if ended.is_none() && room => {
                    match accepted {
                        Ok(stream) => self.start_reading(stream),
                        Err(error) => ended = Some(self.connection.ended(&error)),
                    }
                }
                Some(read) = self.reading.join_next() => {
                    if self.take(read).await.is_err() {
                        return;
                    }
                }
                waited = self.timer.wait_until(due_ns.unwrap_or(0)), if due_ns.is_some() => {
                    if let Err(error) = waited {
                        self.end(error).await;
                        return;
                    }
                }
                () = self.out.closed() => return,
            }
        }
    }

    fn start_reading(&mut self, stream: RecvStream) {
        let pool = self.config.keeps_payloads.then(|| self.pool.clone());
        let decoder = Decoder::new(pool, self.config.max_message_bytes);
        let connection = self.connection.clone();
        let (hold, peer_clock) = (self.config.hold.clone(), self.config.peer_clock.clone());
        let place = self.hold.next_place();
        self.reading.spawn(async move {
            let read = read(connection, stream, decoder, hold, peer_clock).await;
            (place, read)
        });
    }

    /// Holds a message that was read, or reports why it was not; an error when nobody listens.
    async fn take(&mut self, read: Result<Read, tokio::task::JoinError>) -> Result<(), ()> {
        let (place, read) = read.expect("a reading task neither panics nor is aborted");
        match read {
            Ok(message) => {
                self.counters.count(&message);
                if let Some(cell) = &self.config.cell {
                    let late_ns = Some(message.late_ns()).filter(|&late| late > LATE_TOLERANCE_NS);
                    cell.count_arrival(message.decoded.payload_bytes as u64, late_ns);
                }
                self.hold.fill(place, message.due_ns, message);
                Ok(())
            }
            Err(error) => {
                self.hold.give_up(place);
                let peer = Arc::clone(&self.peer);
                self.pass_on(Received::Failed { peer, error }).await
            }
        }
    }

    async fn hand_up(&self, message: Arrived) -> Result<(), ()> {
        let timing = Timing {
            ready_ns: message.decoded.ready_ns,
            departure: message.decoded.departure,
            deliver_at_ns: message.due_ns,
            arrived_ns: message.arrived_ns,
            delivered_ns: now_ns(),
        };
        let message = ReceivedMessage {
            peer: Arc::clone(&self.peer),
            header: message.decoded.header,
            payload: message.decoded.payload.freeze(),
            timing,
        };
        self.pass_on(Received::Message(message)).await
    }

    async fn end(&self, error: SocketError) {
        let peer = Arc::clone(&self.peer);
        // An error says that nobody listens any more.
        let _ = self.pass_on(Received::Ended { peer, error }).await;
    }

    async fn pass_on(&self, received: Received) -> Result<(), ()> {
        self.out.send(received.into()).await.map_err(|_| ())
    }
}

/// Turns times of the sender's clock into times of this host's.
fn translate(message: &mut Decoded, clock: &ClockEstimate) {
    message.ready_ns = clock.to_own(message.ready_ns);
    if message.deliver_at_ns != ON_ARRIVAL_NS {
        message.deliver_at_ns = clock.to_own(message.deliver_at_ns);
    }
    if let Some(departure) = &mut message.departure {
        departure.left_ns = clock.to_own(departure.left_ns);
    }
}

/// Reads one message to the end of its stream; one that no clock has timed is due the delay of `hold` later.
async fn read(
    connection: Connection,
    mut stream: RecvStream,
    mut decoder: Decoder,
    hold: Option<LinkCell>,
    peer_clock: Option<PeerClock>,
) -> Result<Arrived, SocketError> {
    loop {
        let chunk = match stream.read_chunk(READ_BYTES, true).await {
            Ok(chunk) => chunk,
            Err(ReadError::ConnectionLost(error)) => return Err(connection.ended(&error)),
            Err(error) => return Err(connection.stream_failed(&error)),
        };
        let malformed = |source: FrameError| SocketError::Frame {
            peer: connection.peer_name().to_owned(),
            source,
        };
        let Some(chunk) = chunk else {
            let arrived_ns = now_ns();
            let mut decoded = decoder.finish().map_err(malformed)?;
            if let Some(clock) = &peer_clock {
                translate(&mut decoded, &clock.estimate());
            }
            let due_ns = match decoded.deliver_at_ns {
                ON_ARRIVAL_NS => {
                    let delay_ns = hold.map_or(0, |link| link.state().delay_ns);
                    arrived_ns.saturating_add(delay_ns)
                }
                deliver_at_ns => deliver_at_ns,
            };
            if let Some(departure) = &mut decoded.departure {
                // A clock that is not known well may seem to say otherwise, and a peer may say anything.
                let ready_ns = decoded.ready_ns.min(due_ns);
                departure.left_ns = departure.left_ns.clamp(ready_ns, due_ns);
                departure.queued_ns = departure.queued_ns.min(departure.left_ns - ready_ns);
            }
            return Ok(Arrived {
                due_ns,
                arrived_ns,
                decoded,
            });
        };
        if let Err(error) = decoder.push(&chunk.bytes) {
            // An error says that the stream is closed already.
            let _ = stream.stop(MALFORMED);
            return Err(malformed(error));
        }
    }
}
