//! Messages under way on a link.
//!
//! A message is cut into chunks. Each chunk reserves its slot on the link's cell, is written a little before the slot begins,
//! and carries the time at which the link would have delivered it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bace_netem::{
    Ahead, Chunk, Delay, Flow, LinkSpec, LinkState, Sending, Sharing, StandIn, chunk_bytes,
};
use bytes::Bytes;
use quinn::{SendStream, VarInt, WriteError};

use crate::SocketError;
use crate::cell::LinkCell;
use crate::credit::CreditGate;
use crate::delay_line::{DelayLine, HandedOver, HeldMessage};
use crate::frame::{self, ChunkTimes, ON_ARRIVAL_NS};
use crate::quic::Connection;
use crate::send::{OutgoingMessage, SenderConfig, Shaper};
use crate::timer::{DeadlineTimer, now_ns};

/// The code of a stream that its sender gave up.
const ABANDONED: VarInt = VarInt::from_u32(1);
/// How often a link that is down is looked at, ns.
pub(crate) const DOWN_POLL_NS: u64 = 2_000_000;
/// What is written at a time where no link is clocked: the whole of a larger piece would stay in memory until its last
/// byte is acknowledged.
const UNCLOCKED_CHUNK_BYTES: usize = 256 * 1024;

/// A sender's link, shared by its messages under way.
pub(crate) struct OutgoingLink {
    connection: Connection,
    /// Absent where something below gives the link its rate.
    clocked: Option<ClockedLink>,
    /// Where messages wait that the receiver cannot hold; absent on the same host.
    delay_line: Option<DelayLine>,
    sharing: Sharing,
}

impl OutgoingLink {
    pub fn new(
        connection: &Connection,
        shaper: Shaper,
        spec: &LinkSpec,
        config: SenderConfig,
    ) -> Result<Self, SocketError> {
        let (cell, peer_clock) = match shaper {
            Shaper::Clock(cell) => (Some(cell), None),
            Shaper::ClockAcross(cell, peer_clock) => (Some(cell), Some(peer_clock)),
            Shaper::Below => (None, None),
        };
        Ok(Self {
            connection: connection.clone(),
            clocked: cell.map(|cell| ClockedLink::new(cell, spec, config)),
            delay_line: peer_clock.map(DelayLine::new).transpose()?,
            sharing: spec.sharing,
        })
    }

    /// A stream for the next message. What has to be sent again of an older message goes before all newer ones, which are
    /// handed up after it; flows that share the link alike take turns.
    pub async fn open(&self) -> Result<OutgoingStream, SocketError> {
        let opened = self.connection.quinn().open_uni().await;
        let stream = opened.map_err(|error| self.connection.ended(&error))?;
        if self.sharing == Sharing::PerJob {
            // An error says that the stream is closed already, which the first write tells.
            let _ = stream.set_priority(age(stream.id().index()));
        }
        Ok(OutgoingStream {
            stream,
            connection: self.connection.clone(),
            bytes: 0,
            finished: false,
        })
    }
}

/// The priority of a connection's message of this number: above that of all later ones, and at most 0.
fn age(index: u64) -> i32 {
    i32::try_from(index).map_or(i32::MIN, |index| -index)
}

/// A message that was carried.
pub(crate) enum Carried {
    /// All of it is written, and its stream finished.
    Written(OutgoingStream),
    /// All of it has its time on the link, and the delay line writes it.
    Held(HandedOver, Connection),
}

impl Carried {
    /// Waits until the peer's QUIC has all of it; its payload bytes.
    pub async fn acknowledged(self) -> Result<u64, SocketError> {
        match self {
            Self::Written(stream) => stream.acknowledged().await,
            Self::Held(handed_over, connection) => {
                // What is held may not be due for hours.
                let stream = tokio::select! {
                    biased;
                    stream = handed_over.written() => stream?,
                    error = connection.closed() => return Err(error),
                };
                stream.acknowledged().await
            }
        }
    }
}

/// A message's stream. It is reset unless it was finished: a dropped one would end cleanly, and its message look whole.
#[derive(Debug)]
pub(crate) struct OutgoingStream {
    stream: SendStream,
    connection: Connection,
    /// Of payload, written.
    bytes: u64,
    finished: bool,
}

impl OutgoingStream {
    /// Writes the next bytes; no piece may be empty.
    pub async fn write(&mut self, pieces: &mut [Bytes]) -> Result<(), SocketError> {
        let written = self.stream.write_all_chunks(pieces).await;
        written.map_err(|error| self.write_failed(&error))
    }

    /// Ends a stream whose bytes are all written.
    pub fn finish(&mut self) {
        // An error says that the peer stopped the stream; `stopped` then tells.
        self.finished = self.stream.finish().is_ok();
    }

    /// Waits until the peer's QUIC has all of it; its payload bytes.
    async fn acknowledged(self) -> Result<u64, SocketError> {
        match self.stream.stopped().await {
            Ok(None) => Ok(self.bytes),
            Ok(Some(code)) => {
                let why = format_args!("it stopped reading, code {code}");
                Err(self.connection.stream_failed(&why))
            }
            Err(error) => Err(self.connection.stream_failed(&error)),
        }
    }

    fn write_failed(&self, error: &WriteError) -> SocketError {
        match error {
            WriteError::ConnectionLost(error) => self.connection.ended(error),
            other => self.connection.stream_failed(other),
        }
    }
}

impl Drop for OutgoingStream {
    fn drop(&mut self) {
        if !self.finished {
            // An error says that the stream is closed already.
            let _ = self.stream.reset(ABANDONED);
        }
    }
}

/// Where a message's chunks go.
enum Outlet<'a> {
    /// To the peer, which holds them until they are due.
    Written(OutgoingStream),
    /// To where they are held until they may leave.
    Held(HeldMessage<'a>),
}

/// Carries one message at a time.
pub(crate) struct Carrier {
    link: Arc<OutgoingLink>,
    timer: DeadlineTimer,
}

impl Carrier {
    pub fn new(link: &Arc<OutgoingLink>) -> Result<Self, SocketError> {
        Ok(Self {
            link: Arc::clone(link),
            timer: DeadlineTimer::new()?,
        })
    }

    /// Writes a whole message, or hands it over to the delay line; the carrier, free for the next one, and the message.
    pub async fn carry(
        mut self,
        mut stream: OutgoingStream,
        message: OutgoingMessage,
    ) -> Result<(Self, Carried), SocketError> {
        let link = Arc::clone(&self.link);
        stream.bytes = message.payload.len() as u64;
        // One place holds all of a message, however well the clock comes to be known meanwhile.
        let held_by = link.delay_line.as_ref();
        let held_by = held_by.and_then(|line| Some((line, line.latency_ns()?)));
        let mut outlet = match held_by {
            Some((line, latency_ns)) => Outlet::Held(line.begin(stream, latency_ns)),
            None => Outlet::Written(stream),
        };
        let ready_ns = message.ready_ns;
        let bytes = message.payload.len() as u64;
        let mut head = frame::encode_head(&message.header, bytes, ready_ns);
        let mut on_link = link
            .clocked
            .as_ref()
            .map(|link| link.begin(bytes, ready_ns));
        let mut payload = message.payload;
        loop {
            let next = self.next_piece(payload.len(), ready_ns, on_link.as_mut());
            let (size, times) = next.await?;
            let deliver_at_ns = times.deliver_at_ns;
            let framed = match outlet {
                Outlet::Written(_) => times,
                Outlet::Held(_) => ChunkTimes {
                    deliver_at_ns: ON_ARRIVAL_NS,
                    ..times
                },
            };
            frame::put_chunk_frame(&mut head, size as u32, framed);
            let mut pieces = [head.split().freeze(), payload.split_to(size)];
            // An empty piece is never written.
            let pieces = &mut pieces[..if size == 0 { 1 } else { 2 }];
            let is_last = payload.is_empty();
            outlet = match outlet {
                Outlet::Written(mut stream) => {
                    stream.write(pieces).await?;
                    if is_last {
                        stream.finish();
                        return Ok((self, Carried::Written(stream)));
                    }
                    Outlet::Written(stream)
                }
                Outlet::Held(message) if is_last => {
                    let handed_over = message.hold_last(pieces.to_vec(), deliver_at_ns).await?;
                    return Ok((self, Carried::Held(handed_over, link.connection.clone())));
                }
                Outlet::Held(message) => {
                    message.hold(pieces.to_vec(), deliver_at_ns).await?;
                    Outlet::Held(message)
                }
            };
        }
    }

    /// The next piece of the `left` bytes of a message that are not yet written, once it may be: its size, and when it leaves
    /// the link and is delivered. Ends with the connection, which a link that is down or slow may outlast by hours.
    async fn next_piece(
        &mut self,
        left: usize,
        ready_ns: u64,
        on_link: Option<&mut OnLink>,
    ) -> Result<(usize, ChunkTimes), SocketError> {
        let Self { link, timer } = self;
        let piece = async {
            match (&link.clocked, on_link) {
                (Some(clocked), Some(message)) => clocked.next_piece(timer, message).await,
                _ => {
                    timer.wait_until(ready_ns).await?;
                    Ok((left.min(UNCLOCKED_CHUNK_BYTES), ChunkTimes::UNTIMED))
                }
            }
        };
        tokio::select! {
            biased;
            piece = piece => piece,
            error = link.connection.closed() => Err(error),
        }
    }
}

/// A link with a clock, and what one job sends over it.
struct ClockedLink {
    cell: LinkCell,
    spec: LinkSpec,
    config: SenderConfig,
    lookahead_ns: u64,
    outgoing: Mutex<Outgoing>,
}

/// A message under way on a link with a clock.
struct OnLink {
    /// As the link sees it.
    sending: Sending,
    stand_in: StandIn,
    /// Own bytes handed over to be written.
    written: u64,
}

impl OnLink {
    /// Own bytes that leave with the next `carried` of the link's.
    fn own_bytes_of(&self, carried: u64) -> u64 {
        let before = self.sending.message().sent_bytes();
        let [from, to] = [before, before + carried].map(|sent| self.stand_in.own_bytes_with(sent));
        to - from
    }

    /// Own bytes that have their time on the link and are not written.
    fn due_bytes(&self) -> u64 {
        let carried = self.sending.message().sent_bytes();
        self.stand_in.own_bytes_with(carried) - self.written
    }
}

/// What messages under way share. Whoever holds it gets the next slot and the next time of delivery.
struct Outgoing {
    flow: Flow,
    credit: Option<CreditGate>,
    in_flight: InFlight,
}

impl ClockedLink {
    fn new(cell: LinkCell, spec: &LinkSpec, config: SenderConfig) -> Self {
        let outgoing = Outgoing {
            flow: Flow::new(spec, config.flow),
            credit: CreditGate::new(&cell, spec),
            in_flight: InFlight::default(),
        };
        Self {
            cell,
            spec: *spec,
            config,
            lookahead_ns: u64::try_from(config.lookahead.as_nanos()).unwrap_or(u64::MAX),
            outgoing: Mutex::new(outgoing),
        }
    }

    fn begin(&self, bytes: u64, ready_ns: u64) -> OnLink {
        let carried = self.config.carried_bytes;
        let stand_in = carried.map_or(StandIn::itself(bytes), |carried| {
            StandIn::new(bytes, carried)
        });
        let carried_bytes = stand_in.carried_bytes();
        let message = self.outgoing().flow.message(carried_bytes, ready_ns);
        let ahead = Ahead {
            lookahead_ns: self.lookahead_ns,
            is_shared: self.cell.is_shared(),
        };
        OnLink {
            sending: Sending::new(message, ahead),
            stand_in,
            written: 0,
        }
    }

    /// The next own bytes once they may be written, and when they leave the link and are delivered. Those of a message that stands for a
    /// larger one gather until they are worth a chunk: a write costs the same, however little it holds.
    async fn next_piece(
        &self,
        timer: &mut DeadlineTimer,
        on_link: &mut OnLink,
    ) -> Result<(usize, ChunkTimes), SocketError> {
        loop {
            let (chunk, deliver_at_ns) = self.next_chunk(timer, on_link).await?;
            let (due, message) = (on_link.due_bytes(), on_link.sending.message());
            if due >= chunk.payload_bytes || message.left_bytes() == 0 {
                let times = ChunkTimes {
                    deliver_at_ns,
                    departure: message.departure(),
                };
                on_link.written += due;
                return Ok((due as usize, times));
            }
        }
    }

    /// The next chunk once its bytes may be written, and when the link delivers it, ns.
    async fn next_chunk(
        &self,
        timer: &mut DeadlineTimer,
        on_link: &mut OnLink,
    ) -> Result<(Chunk, u64), SocketError> {
        if self.spec.sharing == Sharing::PerFlow {
            // Flows that are late and need not wait for their slots take turns all the same.
            tokio::task::yield_now().await;
        }
        let chunk = loop {
            timer.wait_until(on_link.sending.asks_ns()).await?;
            let state = self.cell.state();
            if state.bits_per_second == 0 {
                timer.wait_until(now_ns() + DOWN_POLL_NS).await?;
                continue;
            }
            if let Some(chunk) = self.ask(on_link, state) {
                break chunk;
            }
        };
        // Memory holds a message's own bytes, whatever it stands for.
        let own_bytes = on_link.own_bytes_of(chunk.payload_bytes);
        self.wait_for_room(timer, own_bytes).await?;
        let deliver_at_ns = self.reserve(timer, on_link, chunk).await?;
        // It is written when the next one may ask.
        timer.wait_until(on_link.sending.asks_ns()).await?;
        Ok((chunk, deliver_at_ns))
    }

    /// The chunk for which the message asks now; `None` where it has to ask again.
    fn ask(&self, on_link: &mut OnLink, state: LinkState) -> Option<Chunk> {
        let most_bytes = self.most_bytes(on_link, state);
        let mut outgoing = self.outgoing();
        on_link.sending.ask(&mut outgoing.flow, most_bytes, state)
    }

    /// Payload of the message's next chunk, at most. Nobody takes turns on a link of one's own, and a message that stands for
    /// a larger one has little to write: it takes all its time there at once.
    fn most_bytes(&self, on_link: &OnLink, state: LinkState) -> u64 {
        if on_link.stand_in.is_other() && !self.cell.is_shared() {
            on_link.sending.message().left_bytes()
        } else {
            chunk_bytes(state.rate()).into()
        }
    }

    /// Waits until `bytes` more may be in flight. Comes before the reservation, which others would have to wait for.
    async fn wait_for_room(
        &self,
        timer: &mut DeadlineTimer,
        bytes: u64,
    ) -> Result<(), SocketError> {
        loop {
            let state = self.cell.state();
            let mut present = self.spec;
            present.rate = state.rate();
            present.delay = Delay::from_nanos(state.delay_ns);
            let limit = self.config.bytes_in_flight(&present);
            let limit = limit.min(self.config.max_in_flight_bytes);
            let taken = self.outgoing().in_flight.take_room(bytes, limit, now_ns());
            match taken {
                Ok(()) => return Ok(()),
                Err(earliest_ns) => timer.wait_until(earliest_ns).await?,
            }
        }
    }

    /// Gives a chunk its slot as soon as the link is up; when it is delivered, ns.
    async fn reserve(
        &self,
        timer: &mut DeadlineTimer,
        on_link: &mut OnLink,
        chunk: Chunk,
    ) -> Result<u64, SocketError> {
        let mut credited_ns = None;
        loop {
            if let Some(deliver_at_ns) = self.try_reserve(on_link, chunk, &mut credited_ns) {
                return Ok(deliver_at_ns);
            }
            timer.wait_until(now_ns() + DOWN_POLL_NS).await?;
        }
    }

    fn try_reserve(
        &self,
        on_link: &mut OnLink,
        mut chunk: Chunk,
        credited_ns: &mut Option<u64>,
    ) -> Option<u64> {
        let mut outgoing = self.outgoing();
        let Outgoing {
            flow,
            credit,
            in_flight,
        } = &mut *outgoing;
        let state = self.cell.state();
        if state.bits_per_second == 0 {
            return None;
        }
        chunk.ready_ns = *credited_ns.get_or_insert_with(|| match credit {
            Some(credit) => credit.take(chunk.charged_before, chunk.charged_bytes, chunk.ready_ns),
            None => chunk.ready_ns,
        });
        let slot = self.cell.reserve(chunk.charged_bytes, chunk.ready_ns)?;
        // Whoever waits for a link that is down waits for nobody.
        chunk.ready_ns = chunk.ready_ns.max(self.cell.up_at_ns());
        let own_bytes = on_link.own_bytes_of(chunk.payload_bytes);
        let deliver_at_ns = on_link.sending.take(flow, chunk, slot, state);
        in_flight.add(deliver_at_ns, own_bytes);
        Some(deliver_at_ns)
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        // Nothing that holds it panics half-way through a change.
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What may be in memory because it was written, or is about to be, and is not yet due at the receiver.
#[derive(Debug, Default)]
struct InFlight {
    /// Time of delivery and bytes of each chunk, the earliest first.
    chunks: BinaryHeap<Reverse<(u64, u64)>>,
    /// Of these and of those that have room and no time yet.
    bytes: u64,
}

impl InFlight {
    /// Takes room for `bytes`; else, when there may be some. A sender whose chunks have no times yet is never made to wait:
    /// they are at most one for each message under way, for which `limit` has room.
    fn take_room(&mut self, bytes: u64, limit: u64, now_ns: u64) -> Result<(), u64> {
        while let Some(&Reverse((deliver_at_ns, delivered))) = self.chunks.peek()
            && deliver_at_ns <= now_ns
        {
            self.chunks.pop();
            self.bytes -= delivered;
        }
        match self.chunks.peek() {
            Some(&Reverse((earliest_ns, _))) if self.bytes + bytes > limit => Err(earliest_ns),
            _ => {
                self.bytes += bytes;
                Ok(())
            }
        }
    }

    /// Gives a chunk that has room its time of delivery.
    fn add(&mut self, deliver_at_ns: u64, bytes: u64) {
        self.chunks.push(Reverse((deliver_at_ns, bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_messages_have_the_higher_priority() {
        assert_eq!([0, 1, 2].map(age), [0, -1, -2]);
        assert_eq!(age(i32::MAX as u64), -i32::MAX);
        assert_eq!(age(u64::MAX), i32::MIN);
    }

    #[test]
    fn delivered_chunks_make_room() {
        let mut in_flight = InFlight::default();
        for (deliver_at_ns, bytes) in [(20, 2), (10, 1), (30, 4)] {
            assert_eq!(in_flight.take_room(bytes, 7, 0), Ok(()));
            in_flight.add(deliver_at_ns, bytes);
        }
        assert_eq!(in_flight.take_room(1, 7, 9), Err(10));
        assert_eq!(in_flight.take_room(2, 7, 10), Err(20));
        assert_eq!(in_flight.take_room(1, 7, 10), Ok(()));
        assert_eq!(in_flight.take_room(4, 7, 30), Ok(()));
        assert_eq!(in_flight.bytes, 5);
    }

    #[test]
    fn one_chunk_has_room_on_any_link() {
        let mut in_flight = InFlight::default();
        assert_eq!(in_flight.take_room(100, 7, 0), Ok(()));
    }
}
