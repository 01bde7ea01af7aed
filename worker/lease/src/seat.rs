//! One worker's place in the order, and the lease it takes.

use std::sync::atomic::Ordering;

use bace_socket::now_ns;
use rustix::thread::futex::{self, Flags, Timespec};

use crate::order::{Claim, State, may_claim, with_room};
use crate::table::{CLAIM, LOOKED_AT_NS, LeaseTable, SLOTS, SUSPECT, TICKETS};

/// Longest sleep of one that waits: who is to wake it may be killed before it does.
const SLEEP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 40_000_000,
};
/// How often one of those that wait looks whether those before it live. Longer than a sleep, so that whoever had room at one
/// look and has not taken it by the next does not run. A device whose holder is killed is free after this time at the latest.
const LOOK_NS: u64 = 100_000_000;

/// A worker's seat; it is vacant again when this is dropped.
#[derive(Debug)]
pub struct Seat {
    table: LeaseTable,
    index: usize,
    device: usize,
}

/// The right to compute on a device, until it is dropped.
#[derive(Debug)]
pub struct Lease<'a> {
    seat: &'a Seat,
    ticket: u64,
    waited_ns: u64,
}

impl Seat {
    pub(crate) fn new(table: LeaseTable, index: usize, device: usize) -> Self {
        Self {
            table,
            index,
            device,
        }
    }

    /// Waits for the device, behind all who have asked for it before.
    pub fn acquire(&mut self) -> Lease<'_> {
        let begin_ns = now_ns();
        let ticket = self.word(TICKETS).fetch_add(1, Ordering::SeqCst) + 1;
        let line = self.table.seat(self.index);
        // Whoever frees the device after this sees it; whoever has freed it before is seen below.
        let idle = self
            .table
            .change(self.index, State::Idle, State::Waiting(ticket));
        debug_assert!(idle, "a seat asks for one lease at a time");
        loop {
            let rung = line.bell.load(Ordering::Acquire);
            if self.claim(ticket) {
                break;
            }
            if !self.look_at_others() {
                // Rung meanwhile, a signal, the time is over: in any case the next thing is to look again.
                let _ = futex::wait(&line.bell, Flags::empty(), rung, Some(&SLEEP));
            }
        }
        let since_ns = now_ns();
        self.table.account_held(self.index, since_ns);
        Lease {
            seat: self,
            ticket,
            waited_ns: since_ns - begin_ns,
        }
    }

    /// Takes the device if it is this ticket's turn.
    fn claim(&self, ticket: u64) -> bool {
        let own = Claim {
            seat: self.index,
            ticket,
        };
        loop {
            let latest = self.word(CLAIM).load(Ordering::SeqCst);
            self.show(Claim::of(latest));
            // Whoever was passed over is back in its old place.
            let (waiting, passed) = (State::Waiting(ticket), State::Passed(ticket));
            self.table.change(self.index, passed, waiting);
            let states = self.table.states(self.device).map(|(_, state)| state);
            if !may_claim(states, ticket, self.slots()) {
                return false;
            }
            let claimed = self.word(CLAIM).compare_exchange(
                latest,
                own.word(),
                Ordering::SeqCst,
                Ordering::SeqCst,
            );
            if claimed.is_ok() {
                self.show(Some(own));
                return true;
            }
        }
    }

    /// Makes the seat of the latest claimant show that it holds, in case it has not come to that itself. A seat that has gone
    /// on since has another state.
    fn show(&self, claim: Option<Claim>) {
        let Some(Claim { seat, ticket }) = claim.filter(|claim| claim.seat < self.table.seats())
        else {
            return;
        };
        let holding = State::Holding(ticket);
        // It may be passed over, or come back, between two of these; each can happen only once more.
        while let state @ (State::Waiting(of) | State::Passed(of)) = self.table.state(seat)
            && of == ticket
            && !self.table.change(seat, state, holding)
        {}
    }

    /// Takes those out of the way who are dead, or stopped while they could hold the device; whether there were any.
    fn look_at_others(&self) -> bool {
        let now_ns = now_ns();
        let looked_at_ns = self.word(LOOKED_AT_NS).load(Ordering::Relaxed);
        if now_ns.saturating_sub(looked_at_ns) < LOOK_NS {
            return false;
        }
        let is_first = self.word(LOOKED_AT_NS).compare_exchange(
            looked_at_ns,
            now_ns,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if is_first.is_err() {
            return false;
        }
        self.show(Claim::of(self.word(CLAIM).load(Ordering::SeqCst)));
        let mut found = false;
        for (seat, state) in self.table.states(self.device) {
            let is_gone = || self.table.process(seat).is_gone();
            if matches!(state, State::Holding(_)) && is_gone() {
                found |= self.table.clear(seat, state);
            }
        }
        found |= self.pass_over_the_first();
        if found {
            self.ring();
        }
        found
    }

    /// Clears the first of those who may take the device if it is dead, and passes it over if it could have taken it since the
    /// last look; whether it did either.
    fn pass_over_the_first(&self) -> bool {
        let mut found = false;
        loop {
            let first = with_room(self.table.states(self.device), self.slots());
            let first = first.first().filter(|(_, seat)| *seat != self.index);
            let Some(&(ticket, seat)) = first else {
                return found;
            };
            let waiting = State::Waiting(ticket);
            if self.table.process(seat).is_gone() {
                found |= self.table.clear(seat, waiting);
            } else if self.word(SUSPECT).swap(ticket, Ordering::Relaxed) == ticket {
                return self.table.change(seat, waiting, State::Passed(ticket)) || found;
            } else {
                return found;
            }
        }
    }

    /// Wakes those who may take the device now.
    fn ring(&self) {
        for (_, seat) in with_room(self.table.states(self.device), self.slots()) {
            if seat != self.index {
                let bell = &self.table.seat(seat).bell;
                bell.fetch_add(1, Ordering::AcqRel);
                // Without anybody asleep there it is looked at before the next sleep.
                let _ = futex::wake(bell, Flags::empty(), 1);
            }
        }
    }

    fn slots(&self) -> usize {
        usize::try_from(self.word(SLOTS).load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    fn word(&self, index: usize) -> &std::sync::atomic::AtomicU64 {
        &self.table.device(self.device).words[index]
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.table.change(self.index, State::Idle, State::Vacant);
    }
}

impl Lease<'_> {
    /// For how long it was waited for, ns.
    pub fn waited_ns(&self) -> u64 {
        self.waited_ns
    }

    /// Gives the device to whoever is next; for how long it was held, ns.
    pub fn release(self) -> u64 {
        let held_ns = self.give_back();
        std::mem::forget(self);
        held_ns
    }

    fn give_back(&self) -> u64 {
        let Seat { table, index, .. } = self.seat;
        let held_ns = table.account_released(*index, now_ns());
        let held = table.change(*index, State::Holding(self.ticket), State::Idle);
        debug_assert!(held, "nobody takes a lease from a process that lives");
        self.seat.ring();
        held_ns
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}
