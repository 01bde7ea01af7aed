//! The sending end of a shaped link.
//!
//! One task a job and directed link takes messages from a queue and carries one at a time, so that jobs that share a link take
//! turns and share it equally; or several at once where each message counts as a flow.

use std::sync::Arc;
use std::time::Duration;

use bace_netem::{Ahead, FlowKey, LinkId, LinkSpec, LossModel, RegionId, chunk_bytes};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, JoinSet};

use crate::SocketError;
use crate::carry::{Carried, Carrier, OutgoingLink};
use crate::cell::LinkCell;
use crate::frame::MAX_HEADER_BYTES;
use crate::peer_clock::PeerClock;
use crate::quic::Connection;

/// Chunks that may always be in flight, however slow the link.
const MIN_CHUNKS_IN_FLIGHT: u64 = 4;
/// Bytes that may be in flight, as a multiple of those that the link itself holds.
const IN_FLIGHT_SHARE: f64 = 2.0;
const BITS_PER_BYTE: f64 = 8.0;
const BITS_PER_MEGABIT: f64 = 1e6;

/// A message to send.
#[derive(Debug, Clone)]
pub struct OutgoingMessage {
    /// The encoded header, at most [`MAX_HEADER_BYTES`]; not charged to the link.
    pub header: Bytes,
    /// The payload, may be empty; its bytes are what the link is charged, unless the sender has `carried_bytes`.
    pub payload: Bytes,
    /// When the message can leave, ns of [`now_ns`](crate::now_ns). Queued before that, it leaves on time however late its sender
    /// wakes up; queued after, its slot is taken as of then.
    pub ready_ns: u64,
}

/// Who gives a link its rate and delay.
#[derive(Debug, Clone)]
pub enum Shaper {
    /// The sender and its receiver: every chunk reserves its slot on the link's clock.
    Clock(LinkCell),
    /// The same towards another host, whose clock this is: where it is not known well enough, the sender alone does it.
    ClockAcross(LinkCell, PeerClock),
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
    /// What the link's random draws are keyed by; matters where it has jitter or loss.
    pub flow: FlowKey,
    /// Payload bytes for which a link with a clock carries each message, whatever it holds: its time, headers, credit, jitter
    /// and losses are those of a message so large. Absent where messages stand for themselves.
    pub carried_bytes: Option<u64>,
}

impl Default for SenderConfig {
    fn default() -> Self {
        Self {
            queue_messages: 256,
            lookahead: Duration::from_nanos(Ahead::LOOKAHEAD_NS),
            max_in_flight_bytes: 2 << 30,
            flow: FlowKey {
                seed: 0,
                link: LinkId::new(RegionId::new(0), RegionId::new(1)),
                job: 0,
                from_stage: 0,
                to_stage: 1,
            },
            carried_bytes: None,
        }
    }
}

impl SenderConfig {
    /// Payload bytes that a sender may have written over a link of `spec` and that are not yet due at the receiver, at most:
    /// what both sides together hold for it, messages that wait in its queue aside.
    pub fn bytes_in_flight(&self, spec: &LinkSpec) -> u64 {
        let least = MIN_CHUNKS_IN_FLIGHT.max(spec.sharing.most_at_once() as u64);
        let least = least * u64::from(chunk_bytes(spec.rate));
        let held = IN_FLIGHT_SHARE * spec.rate.bps() / BITS_PER_BYTE * self.seconds_in_flight(spec);
        least.max(held as u64)
    }

    /// From the writing of a chunk's first bytes to its delivery, on a link that is not waited for; s, at most.
    fn seconds_in_flight(&self, spec: &LinkSpec) -> f64 {
        let recovers = spec.loss.share > 0.0 && spec.loss.model == LossModel::Goodput;
        let recovery_s = if recovers {
            spec.round_trip().seconds()
        } else {
            0.0
        };
        let delay_s = spec.delay.seconds() + spec.jitter.most().seconds();
        delay_s + recovery_s + self.lookahead.as_secs_f64()
    }

    /// Whether a sender can carry what `spec` gives; for all who want to know before there is one.
    ///
    /// # Errors
    /// When the link needs more bytes in flight than `max_in_flight_bytes`.
    pub fn admit(&self, spec: &LinkSpec) -> Result<(), SocketError> {
        let bytes = self.bytes_in_flight(spec);
        let limit = self.max_in_flight_bytes;
        if bytes <= limit {
            return Ok(());
        }
        let seconds = self.seconds_in_flight(spec);
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
    /// Starts a sender on `connection` within the current tokio runtime. Rate and delay of a clocked link are the cell's,
    /// whatever they change to; all else is `spec`'s.
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
        config.admit(spec)?;
        let (queue, waiting) = mpsc::channel(config.queue_messages.max(1));
        let link = Arc::new(OutgoingLink::new(connection, shaper, spec, config)?);
        let worker = Worker {
            idle: vec![Carrier::new(&link)?],
            link,
            most_at_once: spec.sharing.most_at_once(),
            under_way: JoinSet::new(),
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

/// The task of a [`LinkSender`]. Dropped, it takes the messages under way with it.
struct Worker {
    link: Arc<OutgoingLink>,
    most_at_once: usize,
    idle: Vec<Carrier>,
    under_way: JoinSet<Result<(Carrier, Carried), SocketError>>,
    unacknowledged: JoinSet<Result<u64, SocketError>>,
    report: SenderReport,
}

impl Worker {
    async fn run(
        mut self,
        mut waiting: mpsc::Receiver<OutgoingMessage>,
    ) -> Result<SenderReport, SocketError> {
        let mut is_open = true;
        while is_open || !self.under_way.is_empty() || !self.unacknowledged.is_empty() {
            let has_room = self.under_way.len() < self.most_at_once;
            tokio::select! {
                biased;
                Some(written) = self.under_way.join_next() => self.take_written(written)?,
                Some(acknowledged) = self.unacknowledged.join_next() => self.count(acknowledged)?,
                message = waiting.recv(), if is_open && has_room => match message {
                    Some(message) => self.begin(message).await?,
                    None => is_open = false,
                },
            }
        }
        Ok(self.report)
    }

    /// Opens a message's stream, whose place among all streams is the message's place at the receiver.
    async fn begin(&mut self, message: OutgoingMessage) -> Result<(), SocketError> {
        let stream = self.link.open().await?;
        let carrier = match self.idle.pop() {
            Some(carrier) => carrier,
            None => Carrier::new(&self.link)?,
        };
        self.under_way.spawn(carrier.carry(stream, message));
        Ok(())
    }

    fn take_written(
        &mut self,
        written: Result<Result<(Carrier, Carried), SocketError>, JoinError>,
    ) -> Result<(), SocketError> {
        let (carrier, message) = written.unwrap_or(Err(SocketError::TaskEnded))?;
        self.idle.push(carrier);
        self.unacknowledged.spawn(message.acknowledged());
        Ok(())
    }

    fn count(
        &mut self,
        acknowledged: Result<Result<u64, SocketError>, JoinError>,
    ) -> Result<(), SocketError> {
        let bytes = acknowledged.unwrap_or(Err(SocketError::TaskEnded))?;
        self.report.messages += 1;
        self.report.bytes += bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bace_netem::{BitRate, Delay, Jitter, Sharing};

    use super::*;

    #[test]
    fn bytes_in_flight_follow_rate_and_delay() {
        let spec = |bps, delay_s| {
            LinkSpec::new(
                BitRate::from_bps(bps).unwrap(),
                Delay::from_seconds(delay_s).unwrap(),
            )
        };
        let in_flight = |spec: LinkSpec| SenderConfig::default().bytes_in_flight(&spec);
        assert_eq!(in_flight(spec(10e6, 0.0)), 65_536);
        assert_eq!(in_flight(spec(1e9, 0.038)), 10_000_000);
        assert_eq!(in_flight(spec(10e9, 0.298)), 750_000_000);
        let uniform = Jitter::Uniform(Delay::from_seconds(0.01).unwrap());
        let mut far = spec(1e9, 0.038);
        far.jitter = uniform;
        assert_eq!(in_flight(far), 12_500_000);
        // A round trip of recovery more.
        far.loss.share = 0.01;
        assert_eq!(in_flight(far), 31_500_000);
        let mut flows = spec(10e6, 0.0);
        flows.sharing = Sharing::PerFlow;
        assert_eq!(in_flight(flows), 32 * 16_384);
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
}
