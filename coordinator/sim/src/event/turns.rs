//! A job's messages on a link that is taken in turns: the sender's own arithmetic, at the times that the event model finds.
//!
//! Its nanoseconds are the machine's, as a sender's are, which decide how large chunks are and how far ahead they are asked for.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use bace_netem::{Ahead, Flow, FlowKey, LinkSpec, Sending, chunk_bytes};

use super::link::SharedLink;
use super::machine_time::MachineTime;

/// How far ahead senders work on links between regions.
const AHEAD: Ahead = Ahead {
    lookahead_ns: Ahead::LOOKAHEAD_NS,
    is_shared: true,
};

/// The smallest tensor on a shared link takes so many turns at most, but for chunks that a known change would meet: more would cost
/// time in proportion. That moves the end of a
/// tensor by about users x turn, and by twice that at most: each user may have a turn before its first, and one before its last.
const MOST_TURNS: u64 = 64;

/// A flow's messages that have not left, chunk by chunk.
#[derive(Debug)]
pub(super) struct Turns {
    flow: Flow,
    /// Payload of a turn, at most.
    turn_bytes: u64,
    /// Oldest first.
    queue: VecDeque<Turn>,
    /// From when each carrier that has no message is free, ns: one carries a job's messages, or several those that are flows.
    free_ns: BinaryHeap<Reverse<u64>>,
    /// Until when slots of others stand on the link, some of whom may be gone, ns.
    taken_until_ns: u64,
    time: MachineTime,
    /// Where times count from, seconds from the start of the simulation.
    origin_s: f64,
}

#[derive(Debug)]
struct Turn {
    sending: Sending,
    state: TurnState,
    delivered_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TurnState {
    /// For a carrier.
    Waits,
    /// Asks for slots.
    Asks,
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
    pub fn new(spec: &LinkSpec, key: FlowKey, time: MachineTime) -> Self {
        let machine = time.scale.wall_link(*spec);
        Self {
            flow: Flow::new(&machine, key),
            turn_bytes: chunk_bytes(machine.rate).into(),
            queue: VecDeque::new(),
            free_ns: vec![Reverse(0); spec.sharing.most_at_once()].into(),
            taken_until_ns: 0,
            time,
            origin_s: 0.0,
        }
    }

    /// Who uses `link` has changed, and the smallest of their messages has `least_bytes`: a turn is a chunk, or where not every
    /// chunk matters so much more that this message has few turns.
    pub fn set_company(&mut self, link: &SharedLink, least_bytes: u64, by_chunk: bool) {
        let chunk = link.chunk_bytes();
        self.turn_bytes = if by_chunk {
            chunk
        } else {
            chunk.max(least_bytes / MOST_TURNS)
        };
        self.taken_until_ns = link.free_at_ns();
    }

    /// Whether slots that were given before stand on the link at `now_s` or later.
    pub fn is_taken(&self, now_s: f64) -> bool {
        self.nanos(now_s) < self.taken_until_ns
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
            sending: Sending::new(message, AHEAD),
            state: TurnState::Waits,
            delivered_ns: 0,
        });
        self.begin_next();
    }

    /// When a message asks for a slot, earliest first; infinite if none does.
    pub fn asks_s(&self) -> f64 {
        self.asks_ns()
            .map_or(f64::INFINITY, |asks_ns| self.seconds(asks_ns))
    }

    /// As [`Turns::asks_s`], in nanoseconds of the machine from the start of the simulation.
    pub fn asks_ns(&self) -> Option<u64> {
        self.asks().map(|(asks_ns, _)| asks_ns)
    }

    /// When the oldest message has left; infinite while it has not all its time on the link.
    pub fn leaves_s(&self) -> f64 {
        match self.queue.front() {
            Some(turn) if turn.state == TurnState::Reserved => {
                self.seconds(turn.sending.message().departure().left_ns)
            }
            _ => f64::INFINITY,
        }
    }

    /// The oldest message has left.
    pub fn take_left(&mut self) -> Option<Left> {
        let turn = self.queue.pop_front()?;
        let message = turn.sending.message();
        let departure = message.departure();
        Some(Left {
            ready_s: self.seconds(message.ready_ns()),
            left_s: self.seconds(departure.left_ns),
            queued_s: self.time.seconds(departure.queued_ns),
            delivered_s: self.seconds(turn.delivered_ns),
        })
    }

    /// Gives the message that asks next what it asks for. Nothing happens where none asks, or while `link` is down; else a message
    /// has less to ask for afterwards, or asks later for the same chunk, once.
    pub fn serve(&mut self, link: &mut SharedLink) {
        self.serve_before(link, u64::MAX);
    }

    /// Serves what asks by `at_s` of the simulation, when something about `link` changes.
    pub fn serve_until(&mut self, link: &mut SharedLink, at_s: f64) {
        let at_ns = self.time.nanos(at_s);
        while !link.is_down() && self.asks_ns().is_some_and(|asks_ns| asks_ns <= at_ns) {
            self.serve_before(link, at_ns);
        }
    }

    /// As [`Turns::serve`]; what is not over by `change_ns` is taken chunk by chunk, since slots are kept.
    fn serve_before(&mut self, link: &mut SharedLink, change_ns: u64) {
        let (Some((asks_ns, index)), false) = (self.asks(), link.is_down()) else {
            return;
        };
        let (flow, turn, state) = (&mut self.flow, &mut self.queue[index], link.state());
        let most_bytes = link.turn_bytes(self.turn_bytes, asks_ns, change_ns);
        let Some(mut chunk) = turn.sending.ask(flow, most_bytes, state) else {
            return;
        };
        let Some(slot) = link.reserve(&mut chunk) else {
            return;
        };
        turn.delivered_ns = turn.sending.take(flow, chunk, slot, state);
        if turn.sending.message().left_bytes() == 0 {
            turn.state = TurnState::Reserved;
            self.free_ns.push(Reverse(turn.sending.asks_ns()));
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

    /// Gives messages that wait, the oldest first, to carriers that have none.
    fn begin_next(&mut self) {
        for turn in &mut self.queue {
            if turn.state == TurnState::Waits {
                let Some(Reverse(free_ns)) = self.free_ns.pop() else {
                    return;
                };
                turn.sending.wait_for(free_ns);
                turn.state = TurnState::Asks;
            }
        }
    }

    /// When the next message asks, and its place; the older one of two at once.
    fn asks(&self) -> Option<(u64, usize)> {
        let turns = self.queue.iter().enumerate();
        // Thousands may wait behind those that are carried.
        let carried = turns.take_while(|(_, turn)| turn.state != TurnState::Waits);
        let asking = carried.filter(|(_, turn)| turn.state == TurnState::Asks);
        asking
            .map(|(index, turn)| (turn.sending.asks_ns(), index))
            .min()
    }

    fn nanos(&self, at_s: f64) -> u64 {
        self.time.nanos(self.origin_s + at_s)
    }

    fn seconds(&self, at_ns: u64) -> f64 {
        self.time.seconds(at_ns) - self.origin_s
    }
}

#[cfg(test)]
mod tests;
