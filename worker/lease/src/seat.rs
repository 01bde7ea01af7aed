//! One worker's place in the order, and the lease it takes.

use std::sync::atomic::Ordering;

use bace_socket::now_ns;
use rustix::thread::futex::{self, Flags, Timespec};

use crate::error::LeaseError;
use crate::order::{Claim, Seen, State, Turn, may_claim, with_room};
use crate::table::{
    CLAIM, DUE_NS, LOOKED_AT_NS, LeaseTable, SLOTS, SUSPECT, SUSPECT_SINCE_NS, TICKETS,
};

/// Longest sleep of one that waits: who is to wake it may be killed before it does.
const SLEEP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 40_000_000,
};
/// How often one of those that wait looks whether those before it live. Longer than a sleep, so that whoever had room at one
/// look and has not taken it by the next does not run. A device whose holder is killed is free after this time at the latest.
const LOOK_NS: u64 = 100_000_000;
/// What was seen longer ago says nothing of the time between.
const STALE_NS: u64 = 5 * LOOK_NS;

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
    since_ns: u64,
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

    /// Waits for the device, behind all whose work is to be done before `due_ns` of the host's monotonic clock. That instant is to
    /// grow with the clock: who asks for the present one comes behind all who have asked before, and who asked again and again for
    /// one that has passed would let nobody else compute.
    ///
    /// # Errors
    /// When another process has cleared the seat: others would not see that this one computes.
    pub fn acquire(&mut self, due_ns: u64) -> Result<Lease<'_>, LeaseError> {
        let begin_ns = now_ns();
        let ticket = self.word(TICKETS).fetch_add(1, Ordering::SeqCst) + 1;
        let turn = Turn { due_ns, ticket };
        let line = self.table.seat(self.index);
        // Before the state, with which others look at it.
        line.words[DUE_NS].store(due_ns, Ordering::Relaxed);
        // Whoever frees the device after this sees it; whoever has freed it before is seen below.
        let idle = self
            .table
            .change(self.index, State::Idle, State::Waiting(ticket));
        if !idle {
            return Err(self.lost());
        }
        let mut has_waited = false;
        loop {
            let rung = line.bell.load(Ordering::Acquire);
            if self.claim(turn) {
                break;
            }
            has_waited = true;
            if !self.look_at_others() {
                // Rung meanwhile, a signal, the time is over: in any case the next thing is to look again.
                let _ = futex::wait(&line.bell, Flags::empty(), rung, Some(&SLEEP));
            }
        }
        if self.table.state(self.index) != State::Holding(ticket) {
            return Err(self.lost());
        }
        let since_ns = now_ns();
        self.table.account_held(self.index, since_ns);
        Ok(Lease {
            seat: self,
            ticket,
            since_ns,
            waited_ns: if has_waited { since_ns - begin_ns } else { 0 },
        })
    }

    fn lost(&self) -> LeaseError {
        LeaseError::Lost { seat: self.index }
    }

    /// Takes the device if it is its turn.
    fn claim(&self, turn: Turn) -> bool {
        let ticket = turn.ticket;
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
            if !may_claim(self.table.seen(self.device), turn, self.slots()) {
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
        let own = self.table.process(self.index);
        let mut found = false;
        for Seen { seat, state, .. } in self.table.seen(self.device) {
            let process = self.table.process(seat);
            if matches!(state, State::Holding(_)) && process.is_gone() {
                found |= self.table.clear(seat, state, process, own);
            }
        }
        found |= self.pass_over_the_first(now_ns);
        if found {
            self.ring();
        }
        found
    }

    /// Clears the first of those who may take the device if it is dead, and passes it over if it could have taken it since the
    /// last look; whether it did either.
    fn pass_over_the_first(&self, now_ns: u64) -> bool {
        let own = self.table.process(self.index);
        let mut found = false;
        loop {
            let first = with_room(self.table.seen(self.device), self.slots());
            let first = first.first().filter(|(_, seat)| *seat != self.index);
            let Some(&(Turn { ticket, .. }, seat)) = first else {
                // Whoever has room at the next look may have had none in between.
                self.word(SUSPECT).store(0, Ordering::Relaxed);
                return found;
            };
            let waiting = State::Waiting(ticket);
            let process = self.table.process(seat);
            if process.is_gone() {
                found |= self.table.clear(seat, waiting, process, own);
            } else if self.has_had_room(ticket, now_ns) {
                return self.table.change(seat, waiting, State::Passed(ticket)) || found;
            } else {
                return found;
            }
        }
    }

    /// Whether a ticket that has room had it at the last look, too, and time to take it since.
    fn has_had_room(&self, ticket: u64, now_ns: u64) -> bool {
        let (suspect, since) = (self.word(SUSPECT), self.word(SUSPECT_SINCE_NS));
        let known = suspect.load(Ordering::Acquire) == ticket;
        let age_ns = now_ns.saturating_sub(since.load(Ordering::Relaxed));
        if known && age_ns <= STALE_NS {
            return age_ns >= LOOK_NS;
        }
        since.store(now_ns, Ordering::Relaxed);
        suspect.store(ticket, Ordering::Release);
        false
    }

    /// Wakes those who may take the device now.
    fn ring(&self) {
        for (_, seat) in with_room(self.table.seen(self.device), self.slots()) {
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
    /// For how long it was waited for, ns; 0 where it was free.
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
        let holding = State::Holding(self.ticket);
        let now_ns = now_ns();
        if table.state(*index) == holding {
            table.account_released(*index, now_ns);
            table.change(*index, holding, State::Idle);
        }
        // A seat that was cleared has had its account settled; its next lease is refused.
        self.seat.ring();
        now_ns.saturating_sub(self.since_ns)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use bace_socket::SharedMemory;

    use super::*;
    use crate::table::SeatDevice;

    fn seats(count: usize) -> Vec<Seat> {
        let (memory, _path) = SharedMemory::create(&[LeaseTable::section(count)]).unwrap();
        let table = LeaseTable::of(&memory).unwrap();
        let device = SeatDevice {
            index: 0,
            name: "cpu".to_owned(),
            slots: 1,
        };
        let seats = (0..count).map(|seat| table.take(seat, &device));
        seats.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn a_seat_that_was_cleared_by_mistake_gives_no_lease() {
        let mut seats = seats(1);
        let seat = &mut seats[0];
        let table = seat.table.clone();
        let own = table.process(0);
        let lease = seat.acquire(0).unwrap();
        assert!(table.clear(0, State::Holding(lease.ticket), own, own));
        let held_ns = table.held_ns(0, now_ns());
        lease.release();
        assert_eq!(table.held_ns(0, now_ns()), held_ns);
        let told = seat.acquire(0).unwrap_err().to_string();
        assert!(told.starts_with("lease a device from seat 0: "), "{told}");
        assert_eq!(table.state(0), State::Vacant);
    }

    #[test]
    fn who_had_room_long_ago_is_not_passed_over_at_once() {
        let seats = seats(3);
        let (looks, table) = (&seats[0], &seats[0].table);
        let waits = |ticket| table.change(1, State::Idle, State::Waiting(ticket));
        assert!(waits(5));
        let now = 10 * STALE_NS;
        assert!(!looks.pass_over_the_first(now));
        // The device is held at the next look.
        table.change(2, State::Idle, State::Holding(4));
        assert!(!looks.pass_over_the_first(now + LOOK_NS));
        table.change(2, State::Holding(4), State::Idle);
        assert!(!looks.pass_over_the_first(now + 2 * LOOK_NS));
        // Nobody looked for long.
        let later = now + 3 * STALE_NS;
        assert!(!looks.pass_over_the_first(later));
        assert!(!looks.pass_over_the_first(later + LOOK_NS / 2));
        assert!(looks.pass_over_the_first(later + LOOK_NS));
        assert_eq!(table.state(1), State::Passed(5));
    }
}
