//! One link as a member's datagrams meet it: loss, queue, departure.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bace_netem::{Congestion, DatagramLine, Draws, Route};
use quinn::udp::{EcnCodepoint, Transmit};

use super::counters::DatagramCounters;
use super::release::{MAX_HELD_BYTES, Schedule};
use super::socket::MAX_UDP_PAYLOAD;
use crate::SocketError;
use crate::carry::DOWN_POLL_NS;
use crate::cell::{LinkCell, Unreserved};
use crate::credit::CreditGate;
use crate::timer::now_ns;

/// What lies between a member and one peer: the link there and back, and what draws its chances.
#[derive(Debug, Clone)]
pub struct PacketLink {
    /// The clock of the link there, which all its senders share.
    pub cell: LinkCell,
    /// The links there and back.
    pub route: Route,
    /// How connections over it find their sending rate.
    pub congestion: Congestion,
    /// Draws for loss and jitter of the datagrams there.
    pub draws: Draws,
}

/// A link's queue and what leaves it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) route: Route,
    pub(super) congestion: Congestion,
    pub(super) counters: DatagramCounters,
    cell: LinkCell,
    schedule: Arc<Schedule>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    arithmetic: DatagramLine,
    /// What waits for a link that is down, in order.
    held: VecDeque<(Batch, u64)>,
    /// Charged bytes of `held`; at most the link's queue.
    held_bytes: u64,
    /// In front of the link's clock, where the link has burst credit.
    credit: Option<CreditGate>,
    /// Charged bytes for which credit was taken.
    credited_bytes: u64,
}

/// Datagrams that depart and arrive together: all but the last of one size.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) line: Arc<Line>,
    pub(super) contents: Vec<u8>,
    /// Bytes of each datagram but the last; absent for a single one.
    pub(super) segment: Option<usize>,
    pub(super) datagrams: u64,
    /// As the link counts them.
    pub(super) charged_bytes: u64,
    destination: SocketAddr,
    ecn: Option<EcnCodepoint>,
    source: Option<IpAddr>,
}

impl PacketLink {
    /// Whether an endpoint can hold what this link keeps in its queue and under way; for all who want to know before there is
    /// one.
    ///
    /// # Errors
    /// When it is more than 2 GiB.
    pub fn admit(route: &Route) -> Result<(), SocketError> {
        let bytes = route.held_bytes();
        let limit = MAX_HELD_BYTES as u64;
        if bytes <= limit {
            return Ok(());
        }
        Err(SocketError::TooMuchHeld {
            rate_mbps: route.there.rate.bps() / 1e6,
            round_trip_ms: route.round_trip().seconds() * 1e3,
            bytes,
            limit,
        })
    }
}

impl Line {
    pub(super) fn new(link: PacketLink, schedule: Arc<Schedule>) -> Self {
        let credit = CreditGate::new(&link.cell, &link.route.there);
        Self {
            route: link.route,
            congestion: link.congestion,
            counters: DatagramCounters::default(),
            cell: link.cell,
            schedule,
            state: Mutex::new(State {
                arithmetic: DatagramLine::new(link.route, link.draws),
                held: VecDeque::new(),
                held_bytes: 0,
                credit,
                credited_bytes: 0,
            }),
        }
    }

    /// Takes what quinn sends: one datagram, or several of one size with a shorter last.
    pub(super) fn take(self: &Arc<Self>, transmit: &Transmit<'_>) {
        let now_ns = now_ns();
        let mut state = self.lock();
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
        if segment == 0 {
            return;
        }
        let survivors = self.draw(&mut state, transmit.contents, segment);
        let together = state
            .arithmetic
            .batch(segment as u64, self.cell.state().bits_per_second);
        // One system call sends a batch.
        let together = together.min(MAX_UDP_PAYLOAD / segment).max(1);
        for contents in survivors.chunks(segment * together) {
            let datagrams = contents.len().div_ceil(segment) as u64;
            let batch = Batch {
                line: Arc::clone(self),
                contents: contents.to_vec(),
                segment: (datagrams > 1).then_some(segment),
                datagrams,
                charged_bytes: state
                    .arithmetic
                    .charged_bytes(contents.len() as u64, datagrams),
                destination: transmit.destination,
                ecn: transmit.ecn,
                source: transmit.src_ip,
            };
            self.queue(&mut state, batch, now_ns);
        }
    }

    /// Looks whether a link that was down is up again, and sends on what waited for it.
    pub(super) fn look_again(self: &Arc<Self>) {
        let mut state = self.lock();
        while let Some((batch, ready_ns)) = state.held.pop_front() {
            state.held_bytes -= batch.charged_bytes;
            // It found its place in the queue when it came.
            match self.cell.reserve(batch.charged_bytes, ready_ns) {
                Some(slot) => self.depart(&mut state, batch, slot.end_ns),
                None => {
                    state.held_bytes += batch.charged_bytes;
                    state.held.push_front((batch, ready_ns));
                    self.schedule.look_at(now_ns() + DOWN_POLL_NS, self);
                    return;
                }
            }
        }
    }

    /// The datagrams of `contents` that are not lost.
    fn draw<'a>(&self, state: &mut State, contents: &'a [u8], segment: usize) -> Cow<'a, [u8]> {
        let mut survivors = Cow::Borrowed(contents);
        let mut lost = 0;
        for (index, datagram) in contents.chunks(segment).enumerate() {
            if !state.arithmetic.survives() {
                if lost == 0 {
                    survivors = Cow::Owned(contents[..index * segment].to_vec());
                }
                lost += 1;
            } else if let Cow::Owned(survivors) = &mut survivors {
                survivors.extend_from_slice(datagram);
            }
        }
        self.counters.lost(lost);
        survivors
    }

    fn queue(self: &Arc<Self>, state: &mut State, batch: Batch, now_ns: u64) {
        let bytes = batch.charged_bytes;
        if state.held.is_empty() {
            let Some(ready_ns) = self.credited(state, bytes, now_ns) else {
                return self.counters.dropped(batch.datagrams);
            };
            let latest = |rate| state.arithmetic.latest_start_ns(bytes, now_ns, rate);
            match self.cell.reserve_by(bytes, ready_ns, latest) {
                Ok(slot) => return self.depart(state, batch, slot.end_ns),
                Err(Unreserved::Full) => return self.counters.dropped(batch.datagrams),
                Err(Unreserved::Down) => self.schedule.look_at(now_ns + DOWN_POLL_NS, self),
            }
        }
        // The link is down, or what waited for it is about to leave.
        if state.arithmetic.has_room(state.held_bytes, bytes) {
            state.held_bytes += bytes;
            state.held.push_back((batch, now_ns));
        } else {
            self.counters.dropped(batch.datagrams);
        }
    }

    /// From when `bytes` have burst credit, which is now on a link without; `None` where the queue for it is full, and then
    /// nothing is taken.
    fn credited(&self, state: &mut State, bytes: u64, now_ns: u64) -> Option<u64> {
        let State {
            credit: Some(credit),
            arithmetic,
            credited_bytes,
            ..
        } = state
        else {
            return Some(now_ns);
        };
        let rate = self.cell.state().bits_per_second;
        let latest_ns = arithmetic.latest_start_ns(bytes, now_ns, rate);
        let start_ns = self
            .cell
            .free_at_ns()
            .max(credit.earliest_ns(bytes, now_ns));
        if rate > 0 && start_ns > latest_ns {
            return None;
        }
        let at_ns = credit.take(*credited_bytes, bytes, now_ns);
        *credited_bytes += bytes;
        Some(at_ns)
    }

    fn depart(&self, state: &mut State, batch: Batch, departed_ns: u64) {
        let datagrams = batch.datagrams;
        let delay_ns = self.cell.state().delay_ns;
        let deliver_at_ns = state.arithmetic.deliver_at_ns(departed_ns, delay_ns);
        if !self.schedule.release(deliver_at_ns, batch) {
            self.counters.dropped(datagrams);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic in between at worst leaves a datagram out, which is what links do.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    /// As quinn's UDP layer takes it.
    pub(super) fn transmit(&self) -> Transmit<'_> {
        Transmit {
            destination: self.destination,
            ecn: self.ecn,
            contents: &self.contents,
            segment_size: self.segment,
            src_ip: self.source,
        }
    }

    /// Each of its datagrams, as quinn's UDP layer takes it.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = Transmit<'_>> {
        let size = self.segment.unwrap_or(self.contents.len());
        let each = self.contents.chunks(size.max(1));
        each.map(|contents| Transmit {
            contents,
            segment_size: None,
            ..self.transmit()
        })
    }

    /// Counts `datagrams` of it, of `bytes` together, that were due at `at_ns` and have just been written.
    pub(super) fn count_sent(&self, datagrams: u64, bytes: usize, at_ns: u64) {
        let late_ns = now_ns().saturating_sub(at_ns);
        let headers = (self.charged_bytes - self.contents.len() as u64) / self.datagrams;
        let bytes = bytes as u64 + headers * datagrams;
        self.line.counters.sent(datagrams, bytes, late_ns);
    }
}
