//! A job's messages on a link that is taken in turns: the sender's own arithmetic, at the times that the event model finds.
//!
//! A message asks for the slot of its next chunk when it is ready, or, behind its first, shortly before the slot of the one
//! before begins. So whoever has something to send has one slot reserved beyond the one that is on the link, and all get equally many.

use std::collections::VecDeque;

use bace_netem::{Chunk, Flow, FlowKey, LinkSpec, Message, Sharing, chunk_bytes};

use super::link::SharedLink;

const NANOS_PER_SECOND: f64 = 1e9;

/// How long before a slot begins its sender asks for the next one, ns: it writes each chunk so much ahead of its time.
const LOOKAHEAD_NS: u64 = 2_000_000;

/// What rounding to seconds and back may change: ns, and a share of the time.
const ROUNDING_NS: f64 = 2.0;
const ROUNDING: f64 = 4.0 * f64::EPSILON;

/// The smallest tensor on a shared link takes so many turns at most: more would cost time in proportion, and change its end by less
/// than such a turn for each job that uses the link.
const MOST_TURNS: u64 = 64;

/// A flow's messages that have not left, chunk by chunk.
#[derive(Debug)]
pub(super) struct Turns {
    flow: Flow,
    /// Payload of a turn, at most.
    turn_bytes: u64,
    /// Oldest first.
    queue: VecDeque<Turn>,
    /// From when the next message may ask, ns: each waits for the one before, or none for another.
    free_ns: u64,
    is_per_job: bool,
    /// Where times count from, seconds from the start of the simulation.
    origin_s: f64,
}

#[derive(Debug)]
struct Turn {
    message: Message,
    ready_ns: u64,
    state: TurnState,
    delivered_ns: u64,
}

#[derive(Debug, Clone, Copy)]
enum TurnState {
    /// Those before it are not done.
    Waits,
    /// Asks for a slot at this time, ns; for the chunk, if it had to wait for something else first.
    Asks(u64, Option<Chunk>),
    /// All of it has its time on the link.
    Reserved,
}

/// A message that has left, on the run's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    pub ready_s: f64,
    pub left_s: f64,
    pub queued_s: f64,
    pub delivered_s: f64,
}

impl Turns {
    /// Those of the idle flow of `key` over a link of `spec`.
    pub fn new(spec: &LinkSpec, key: FlowKey) -> Self {
        Self {
            flow: Flow::new(spec, key),
            turn_bytes: chunk_bytes(spec.rate).into(),
            queue: VecDeque::new(),
            free_ns: 0,
            is_per_job: spec.sharing == Sharing::PerJob,
            origin_s: 0.0,
        }
    }

    /// Payload of a turn where the smallest message on a link of `spec` has `least_bytes`: a chunk, or where not every chunk
    /// matters so much more that this message has few turns.
    pub fn bytes_for(spec: &LinkSpec, least_bytes: u64, by_chunk: bool) -> u64 {
        let chunk = u64::from(chunk_bytes(spec.rate));
        if by_chunk {
            chunk
        } else {
            chunk.max(least_bytes / MOST_TURNS)
        }
    }

    /// What a turn carries from now on.
    pub fn set_turn_bytes(&mut self, turn_bytes: u64) {
        self.turn_bytes = turn_bytes;
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Adds a message that is ready at `now_s`.
    pub fn enqueue(&mut self, bytes: u64, now_s: f64) {
        let ready_ns = self.nanos(now_s);
        let message = self.flow.message(bytes, ready_ns);
        self.queue.push_back(Turn {
            message,
            ready_ns,
            state: TurnState::Waits,
            delivered_ns: 0,
        });
        self.begin_next();
    }

    /// When a message asks for a slot, earliest first; infinite if none does.
    pub fn asks_s(&self) -> f64 {
        self.asks()
            .map_or(f64::INFINITY, |(asks_ns, _)| self.seconds(asks_ns))
    }

    /// When the oldest message has left; infinite while it has not all its time on the link.
    pub fn leaves_s(&self) -> f64 {
        match self.queue.front() {
            Some(turn) if matches!(turn.state, TurnState::Reserved) => {
                self.seconds(turn.message.departure().left_ns)
            }
            _ => f64::INFINITY,
        }
    }

    /// The oldest message has left.
    pub fn take_left(&mut self) -> Option<Left> {
        let turn = self.queue.pop_front()?;
        let departure = turn.message.departure();
        Some(Left {
            ready_s: self.seconds(turn.ready_ns),
            left_s: self.seconds(departure.left_ns),
            queued_s: departure.queued_ns as f64 / NANOS_PER_SECOND,
            delivered_s: self.seconds(turn.delivered_ns),
        })
    }

    /// When the next message asks that asks by `at_s` of the simulation, ns.
    pub fn asks_by(&self, at_s: f64) -> Option<u64> {
        let by_ns = (at_s * NANOS_PER_SECOND * (1.0 + ROUNDING) + ROUNDING_NS) as u64;
        let (asks_ns, _) = self.asks()?;
        (asks_ns <= by_ns).then_some(asks_ns)
    }

    /// Gives the message that asks next what it asks for, if `link` is up.
    pub fn serve(&mut self, link: &mut SharedLink) {
        let Some((now_ns, index)) = self.asks() else {
            return;
        };
        let turn = &mut self.queue[index];
        let (state, TurnState::Asks(_, begun)) = (link.state(), turn.state) else {
            return;
        };
        if state.bits_per_second == 0 {
            return;
        }
        let (flow, bytes) = (&mut self.flow, self.turn_bytes);
        let mut chunk = begun.unwrap_or_else(|| flow.next_chunk(&mut turn.message, bytes, state));
        if chunk.ready_ns > now_ns {
            turn.state = TurnState::Asks(chunk.ready_ns, Some(chunk));
            return;
        }
        let Some(slot) = link.reserve(&mut chunk) else {
            return;
        };
        turn.delivered_ns = flow.delivered_ns(&mut turn.message, chunk, slot, state);
        let next_ns = now_ns.max(slot.start_ns.saturating_sub(LOOKAHEAD_NS));
        if turn.message.left_bytes() > 0 {
            turn.state = TurnState::Asks(next_ns, None);
        } else {
            turn.state = TurnState::Reserved;
            self.free_ns = self.free_ns.max(next_ns);
            self.begin_next();
        }
    }

    /// What was sent of the flow before the messages here, without turns, has `link` until `at_s`.
    pub fn resume_at(&mut self, link: &mut SharedLink, at_s: f64) {
        let at_ns = self.nanos(at_s);
        link.keep_until(at_ns);
        self.flow.resume_at(at_ns);
    }

    /// Moves the origin of times to `origin_s`.
    pub fn rebase(&mut self, origin_s: f64) {
        self.origin_s += origin_s;
    }

    /// Lets messages ask whose turn it is.
    fn begin_next(&mut self) {
        for turn in &mut self.queue {
            match turn.state {
                TurnState::Waits if self.is_per_job => {
                    turn.state = TurnState::Asks(turn.ready_ns.max(self.free_ns), None);
                    return;
                }
                TurnState::Waits => turn.state = TurnState::Asks(turn.ready_ns, None),
                TurnState::Asks(..) if self.is_per_job => return,
                TurnState::Asks(..) | TurnState::Reserved => {}
            }
        }
    }

    /// When the next message asks, and its place; the older one of two at once.
    fn asks(&self) -> Option<(u64, usize)> {
        let turns = self.queue.iter().enumerate();
        let mut asks = turns.filter_map(|(index, turn)| match turn.state {
            TurnState::Asks(asks_ns, _) => Some((asks_ns, index)),
            _ => None,
        });
        if self.is_per_job {
            // One at a time asks, and stands before all that wait.
            asks.next()
        } else {
            asks.min()
        }
    }

    fn nanos(&self, at_s: f64) -> u64 {
        ((self.origin_s + at_s) * NANOS_PER_SECOND).round() as u64
    }

    fn seconds(&self, at_ns: u64) -> f64 {
        at_ns as f64 / NANOS_PER_SECOND - self.origin_s
    }
}
