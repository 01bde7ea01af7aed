//! A link's receipt: what is sent over it, and what the times of those messages say.
//!
//! Sender and receiver make the same [`Script`] from the link's spec. The sender sends it, the receiver tells when each
//! message came, and [`alone`] and [`together`] hold that against what the link promises.

use std::ops::Range;

use bace_netem::{
    BitRate, DATAGRAM_BYTES, Delay, Finding, LinkSpec, LossModel, Promise, SEGMENT_BYTES, Shaping,
    Sharing, Timing, chunk_bytes, jain_index, seconds_between,
};
use bytes::Bytes;

use crate::SocketError;
use crate::now_ns;
use crate::receive::ReceivedMessage;
use crate::send::{LinkSender, OutgoingMessage, SenderTask};

mod reason;

pub use reason::{Arrivals, Circumstances, Emulator, reason, unjudged};

/// How long a link is to be busy with one message, s: 2 % of it are about the millisecond that a link is true to, and all
/// messages of a script take half a second.
const MESSAGE_S: f64 = 0.04;
/// What a message of several chunks may take instead on a slow link, s; a chunk of 1 Mbit/s takes 0.13 s.
const LONGEST_MESSAGE_S: f64 = 0.15;
/// Chunks that a message should have: what is measured is the clock, not one reservation.
const CHUNKS: u64 = 2;
/// Longest message: at 10 Gbit/s the back-to-back ones still take 50 ms, and both workers hold them in memory.
const MOST_BYTES: u64 = 12 << 20;
/// Messages for the delay; their median survives two that meet a hiccup of the host.
const TINY: usize = 5;
/// Isolated messages; their median survives one.
const ISOLATED: usize = 3;
/// Messages back to back: as many stretches between two deliveries, and one.
const BACK_TO_BACK: usize = 6;
/// Messages of each of two processes that send at once.
const TOGETHER: usize = 5;
/// From the order to send to the first message, s: all are queued by then.
const LEAD_S: f64 = 0.005;
/// What a link idles before an isolated message, s: more than the sender's lookahead, so that nothing of the message
/// before is still on its way to QUIC.
const IDLE_S: f64 = 0.01;
/// What a path that no clock times gets on top, as a share of the message before: datagrams have headers, and losses are
/// sent again.
const UNCLOCKED_SHARE: f64 = 0.25;
/// Idle time before a message where nothing says how long the one before takes, s: it takes 25 ms at 4 Gbit/s.
const UNSHAPED_IDLE_S: f64 = 0.05;
/// UDP payload of a message of one byte: the byte, 20 + 4 + 12 bytes of a message's frame, and what QUIC puts around them.
const TINY_DATAGRAM_BYTES: u64 = 1 + 36 + (DATAGRAM_BYTES - SEGMENT_BYTES);
/// Share of the shorter stretch for which two senders must have sent at once.
const OVERLAP: f64 = 0.5;

/// What a message is sent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Opens windows and touches the pages of buffers: not measured, and the rest waits until it is there.
    WarmUp,
    /// One byte on an idle link.
    Tiny,
    /// A message on an idle link.
    Isolated,
    /// Ready together with others.
    BackToBack,
}

/// The messages that measure a link, in the order of their sending.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    messages: Vec<Planned>,
    /// From the order to send to the last delivery on the link as it should be, s.
    seconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Planned {
    part: Part,
    bytes: u64,
    /// From the order to send, if warming up takes no longer than the link does.
    ready_ns: u64,
}

/// Why the times of messages say nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// The receiver's script is another one.
    #[error("measure a link: {received} messages were received, {planned} sent")]
    OtherMessages {
        /// By the receiver's account.
        received: usize,
        /// By the script.
        planned: usize,
    },
    /// Two senders took turns instead of sharing.
    #[error("measure a shared link: one of two senders was done before the other had begun")]
    NotTogether,
    /// Deliveries at one instant.
    #[error("measure a link: messages of {0} bytes took no time")]
    NoTime(u64),
}

impl Script {
    /// What one sender sends over an otherwise idle link: the delay of tiny messages, the completion of isolated ones, the
    /// rate of messages back to back.
    pub fn alone(spec: &LinkSpec, shaping: Shaping) -> Self {
        let bytes = message_bytes(spec, shaping);
        let mut script = Writer::new(spec, shaping);
        script.isolated(Part::WarmUp, bytes);
        (0..TINY).for_each(|_| script.isolated(Part::Tiny, 1));
        (0..ISOLATED).for_each(|_| script.isolated(Part::Isolated, bytes));
        script.back_to_back(BACK_TO_BACK, bytes);
        script.end(1)
    }

    /// What each of two senders sends over a link at the same time.
    pub fn together(spec: &LinkSpec, shaping: Shaping) -> Self {
        let mut script = Writer::new(spec, shaping);
        script.back_to_back(TOGETHER, message_bytes(spec, shaping));
        script.end(2)
    }

    /// How many messages it has.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Payload of its longest message.
    pub fn largest_bytes(&self) -> u64 {
        let bytes = self.messages.iter().map(|planned| planned.bytes);
        bytes.max().unwrap_or_default()
    }

    /// From the order to send to the last delivery, s, on the link as it should be.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Sends it over one connection: to warm up with the first of two senders, and the rest with the other once that is
    /// there. How long a cold connection takes nobody can say beforehand: slow start overshoots and repeats what the queue
    /// dropped.
    ///
    /// # Errors
    /// Why a sender ended before its messages were acknowledged.
    pub async fn send(
        &self,
        warming: (LinkSender, SenderTask),
        sending: (LinkSender, SenderTask),
    ) -> Result<(), SocketError> {
        let warm_ups = self.of_part(Part::WarmUp).count();
        let start_ns = now_ns();
        send_all(warming, self.outgoing(0..warm_ups, start_ns)).await?;
        let start_ns = self.start_after(warm_ups, start_ns, now_ns());
        send_all(sending, self.outgoing(warm_ups..self.len(), start_ns)).await
    }

    /// From when the messages behind the first `warm_ups` count, where those were acknowledged at `acknowledged_ns` after
    /// a start at `start_ns`: as planned, or as much later as lets the link idle before them.
    fn start_after(&self, warm_ups: usize, start_ns: u64, acknowledged_ns: u64) -> u64 {
        if warm_ups == 0 {
            return start_ns;
        }
        let first = self.messages.get(warm_ups);
        let planned_ns = first.map_or(0, |planned| planned.ready_ns);
        let idle_ns = (IDLE_S * 1e9) as u64;
        start_ns.max((acknowledged_ns + idle_ns).saturating_sub(planned_ns))
    }

    /// Its messages at `places`, for a sender that began at `start_ns` of [`now_ns`].
    fn outgoing(
        &self,
        places: Range<usize>,
        start_ns: u64,
    ) -> impl Iterator<Item = OutgoingMessage> {
        // All send the same bytes: what they are matters to nobody.
        let payload = Bytes::from(vec![0x5a; self.largest_bytes() as usize]);
        let numbers = (places.start as u32)..;
        self.messages[places]
            .iter()
            .zip(numbers)
            .map(move |(planned, place)| OutgoingMessage {
                header: Bytes::copy_from_slice(&place.to_le_bytes()),
                payload: payload.slice(..planned.bytes as usize),
                ready_ns: start_ns.saturating_add(planned.ready_ns),
            })
    }

    /// Whether `message` is the one at `place`.
    ///
    /// # Errors
    /// When it is another one.
    pub fn check(&self, place: usize, message: &ReceivedMessage) -> Result<(), SocketError> {
        let planned = self.messages.get(place).map(|planned| planned.bytes);
        let header = u32::try_from(place).unwrap_or(u32::MAX).to_le_bytes();
        if planned == Some(message.payload.len() as u64) && message.header == header[..] {
            return Ok(());
        }
        Err(SocketError::OutOfScript {
            peer: message.peer.to_string(),
            place,
        })
    }

    fn of_part(&self, part: Part) -> impl Iterator<Item = usize> + '_ {
        let places = self.messages.iter().enumerate();
        places.filter_map(move |(place, planned)| (planned.part == part).then_some(place))
    }

    fn fits(&self, timings: &[Timing]) -> Result<(), ReceiptError> {
        if timings.len() == self.messages.len() {
            return Ok(());
        }
        Err(ReceiptError::OtherMessages {
            received: timings.len(),
            planned: self.messages.len(),
        })
    }
}

/// Sends `messages` and waits until all are acknowledged.
async fn send_all(
    (sender, task): (LinkSender, SenderTask),
    messages: impl Iterator<Item = OutgoingMessage>,
) -> Result<(), SocketError> {
    for message in messages {
        if sender.send(message).await.is_err() {
            // Its task tells why.
            break;
        }
    }
    drop(sender);
    task.finish().await?;
    Ok(())
}

/// What one sender found of a link.
///
/// # Errors
/// When the timings are not those of `script`, or no time has passed.
pub fn alone(
    script: &Script,
    promise: &Promise<'_>,
    timings: &[Timing],
) -> Result<Vec<Finding>, ReceiptError> {
    script.fits(timings)?;
    let transits = |part| script.of_part(part).map(|place| timings[place].transit_s());
    let bytes = script.largest_bytes();
    let byte_s = match promise.shaping {
        Shaping::Nothing => 0.0,
        Shaping::Clocked => promise.spec.ideal_seconds(1) - promise.spec.delay.seconds(),
        // The link is charged for the whole datagram that carries it.
        Shaping::Datagrams => {
            let charged = promise.spec.accounting.datagram_bytes(TINY_DATAGRAM_BYTES);
            promise.spec.rate.seconds_for(charged)
        }
    };
    let back_to_back: Vec<Timing> = script
        .of_part(Part::BackToBack)
        .map(|place| timings[place])
        .collect();
    // Messages that come one behind the other tell the rate between them; not where one that is repeated holds up others.
    let loss = promise.spec.loss;
    let is_repeated = loss.share > 0.0 && loss.model == LossModel::Goodput;
    let is_in_turn = match promise.shaping {
        Shaping::Clocked => promise.spec.sharing == Sharing::PerJob && !is_repeated,
        Shaping::Datagrams => false,
        Shaping::Nothing => true,
    };
    let rate = if is_in_turn {
        rate(bytes, &back_to_back)?
    } else {
        rate_of_all(bytes, &back_to_back, promise.spec.delay)?
    };
    // One byte is no earlier than all of its own time.
    let tiny = Promise {
        ahead_s: promise.ahead_s.min(byte_s),
        ..*promise
    };
    Ok(vec![
        promise.rate(bytes, back_to_back.len() as u64, rate),
        promise.completion(bytes, median(transits(Part::Isolated).collect())),
        tiny.delay(median(transits(Part::Tiny).collect()) - byte_s),
    ])
}

/// What two senders at once found of a link, each with its receiver.
///
/// # Errors
/// When the timings are not those of `script`, or hardly overlap.
pub fn together(
    script: &Script,
    promise: &Promise<'_>,
    timings: [&[Timing]; 2],
) -> Result<Vec<Finding>, ReceiptError> {
    for timings in timings {
        script.fits(timings)?;
    }
    let first_ready_ns = timings.map(|timings| timings[0].ready_ns);
    let last_ns = timings.map(|timings| timings[timings.len() - 1].delivered_ns);
    let messages = 2 * script.len() as u64;
    let bytes = script.largest_bytes() * messages;
    // From the first that could leave to the last that had left: between them the link was never idle.
    let delay_s = match promise.shaping {
        Shaping::Nothing => 0.0,
        Shaping::Clocked | Shaping::Datagrams => promise.spec.delay.seconds(),
    };
    let begin_ns = first_ready_ns[0].min(first_ready_ns[1]);
    let busy_s = seconds_between(begin_ns, last_ns[0].max(last_ns[1])) - delay_s;
    // Messages that are flows of their own are under way from the start, and through at about the same time.
    let first_ns = match promise.spec.sharing {
        Sharing::PerJob => timings.map(|timings| timings[0].delivered_ns),
        Sharing::PerFlow => first_ready_ns,
    };
    let from_ns = first_ns[0].max(first_ns[1]);
    let to_ns = last_ns[0].min(last_ns[1]);
    let own = |i: usize| seconds_between(first_ns[i], last_ns[i]);
    let are_together = seconds_between(from_ns, to_ns) >= OVERLAP * own(0).min(own(1));
    // In one queue of datagrams the first flow may leave no room to the second, and nobody promises otherwise.
    if !are_together && promise.shaping != Shaping::Datagrams {
        return Err(ReceiptError::NotTogether);
    }
    if busy_s <= 0.0 {
        return Err(ReceiptError::NoTime(bytes));
    }
    let measured = BitRate::carrying(bytes, busy_s);
    let mut findings = vec![promise.shared_rate(script.largest_bytes(), messages, measured)];
    if are_together {
        let got = timings.map(|timings| delivered(timings, to_ns) - delivered(timings, from_ns));
        findings.extend(jain_index(&got).map(|index| promise.fairness(index)));
    }
    Ok(findings)
}

/// The median over all pairs of deliveries of the rate between them (Theil and Sen): one late message does not bend it.
fn rate(bytes: u64, timings: &[Timing]) -> Result<BitRate, ReceiptError> {
    let mut seconds = Vec::new();
    for (place, from) in timings.iter().enumerate() {
        for (messages, to) in (1u32..).zip(&timings[place + 1..]) {
            let between_s = seconds_between(from.delivered_ns, to.delivered_ns);
            seconds.push(between_s / f64::from(messages));
        }
    }
    let seconds = median(seconds);
    if seconds <= 0.0 {
        return Err(ReceiptError::NoTime(bytes));
    }
    Ok(BitRate::carrying(bytes, seconds))
}

/// The rate from the first message's beginning to the last one's delivery, where they come all at once: behind one that
/// lacks a datagram, or because each is a flow and all share the link.
fn rate_of_all(bytes: u64, timings: &[Timing], delay: Delay) -> Result<BitRate, ReceiptError> {
    let (Some(first), Some(last)) = (timings.first(), timings.last()) else {
        return Err(ReceiptError::NoTime(bytes));
    };
    let bytes = bytes * timings.len() as u64;
    let busy_s = seconds_between(first.ready_ns, last.delivered_ns) - delay.seconds();
    if busy_s <= 0.0 {
        return Err(ReceiptError::NoTime(bytes));
    }
    Ok(BitRate::carrying(bytes, busy_s))
}

/// Messages of which the receiver had the last byte by `at_ns`, those under way in part.
fn delivered(timings: &[Timing], at_ns: u64) -> f64 {
    let whole = timings.partition_point(|timing| timing.delivered_ns <= at_ns);
    let (Some(before), Some(next)) = (
        whole.checked_sub(1).map(|place| timings[place]),
        timings.get(whole),
    ) else {
        return whole as f64;
    };
    let part = seconds_between(before.delivered_ns, at_ns)
        / seconds_between(before.delivered_ns, next.delivered_ns);
    whole as f64 + part
}

/// Of a number of values that is not 0.
fn median(values: Vec<f64>) -> f64 {
    crate::bench::median(&values).expect("there is a value")
}

/// Payload of a message that keeps the link busy for about [`MESSAGE_S`].
fn message_bytes(spec: &LinkSpec, shaping: Shaping) -> u64 {
    if shaping == Shaping::Nothing {
        return MOST_BYTES;
    }
    let slowest = match shaping.timed(spec).flow_cap() {
        Some(cap) if cap < spec.rate => cap,
        _ => spec.rate,
    };
    let bytes_in = |seconds: f64| (seconds / slowest.seconds_for(1)) as u64;
    let chunks = CHUNKS * u64::from(chunk_bytes(spec.rate));
    let least = chunks.min(bytes_in(LONGEST_MESSAGE_S));
    bytes_in(MESSAGE_S).clamp(least.clamp(1, MOST_BYTES), MOST_BYTES)
}

/// Puts messages one after the other.
struct Writer {
    /// As its times follow from it.
    spec: LinkSpec,
    shaping: Shaping,
    messages: Vec<Planned>,
    /// When the next isolated message may leave, s from the order to send.
    free_s: f64,
}

impl Writer {
    fn new(spec: &LinkSpec, shaping: Shaping) -> Self {
        Self {
            spec: shaping.timed(spec),
            shaping,
            messages: Vec::new(),
            free_s: LEAD_S,
        }
    }

    fn isolated(&mut self, part: Part, bytes: u64) {
        self.put(part, bytes);
        self.free_s += self.busy_s(bytes) + self.idle_s(bytes);
    }

    fn back_to_back(&mut self, count: usize, bytes: u64) {
        (0..count).for_each(|_| self.put(Part::BackToBack, bytes));
    }

    fn put(&mut self, part: Part, bytes: u64) {
        self.messages.push(Planned {
            part,
            bytes,
            ready_ns: (self.free_s * 1e9) as u64,
        });
    }

    /// Time of the link that `bytes` take.
    fn busy_s(&self, bytes: u64) -> f64 {
        match self.shaping {
            Shaping::Nothing => 0.0,
            Shaping::Clocked | Shaping::Datagrams => {
                self.spec.ideal_seconds(bytes) - self.spec.delay.seconds()
            }
        }
    }

    fn idle_s(&self, bytes: u64) -> f64 {
        match self.shaping {
            Shaping::Clocked => IDLE_S,
            // Until its acknowledgement is back.
            Shaping::Datagrams => {
                IDLE_S + UNCLOCKED_SHARE * self.busy_s(bytes) + 2.0 * self.spec.delay.seconds()
            }
            Shaping::Nothing => UNSHAPED_IDLE_S,
        }
    }

    /// The script, on a link that `senders` of it share at the end.
    fn end(self, senders: u64) -> Script {
        let tail = self.messages.iter().rev();
        let tail = tail.take_while(|planned| planned.part == Part::BackToBack);
        let bytes: u64 = tail.map(|planned| planned.bytes).sum();
        let delay_s = match self.shaping {
            Shaping::Nothing => 0.0,
            Shaping::Clocked | Shaping::Datagrams => self.spec.delay.seconds(),
        };
        Script {
            seconds: self.free_s + self.busy_s(senders * bytes) + delay_s,
            messages: self.messages,
        }
    }
}

#[cfg(test)]
mod tests;
