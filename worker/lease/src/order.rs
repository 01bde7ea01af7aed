//! Whose turn it is: the rule, on values alone.

/// Bits of a word that say what sort of state it holds.
const KIND_BITS: u32 = 3;
/// Bits of a claim that say whose seat it is.
const SEAT_BITS: u32 = 16;

/// Most seats of a table.
pub(crate) const MAX_SEATS: usize = 1 << SEAT_BITS;

/// What a seat does. A ticket is drawn once and never again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nobody sits there.
    Vacant,
    /// Its worker does not want the device.
    Idle,
    /// It wants the device.
    Waiting(u64),
    /// It wants the device, had room and did not take it: those behind it need not wait.
    Passed(u64),
    /// It has the device.
    Holding(u64),
    /// The process of this word takes the seat, or clears it of one that is gone.
    Changing(u64),
}

impl State {
    pub fn word(self) -> u64 {
        let (kind, ticket) = match self {
            Self::Vacant => (0, 0),
            Self::Idle => (1, 0),
            Self::Waiting(ticket) => (2, ticket),
            Self::Passed(ticket) => (3, ticket),
            Self::Holding(ticket) => (4, ticket),
            Self::Changing(process) => (5, process),
        };
        ticket << KIND_BITS | kind
    }

    /// What `word` says; words that nobody writes stand for a vacant seat.
    pub fn of(word: u64) -> Self {
        let ticket = word >> KIND_BITS;
        match word & ((1 << KIND_BITS) - 1) {
            1 => Self::Idle,
            2 => Self::Waiting(ticket),
            3 => Self::Passed(ticket),
            4 => Self::Holding(ticket),
            5 => Self::Changing(ticket),
            _ => Self::Vacant,
        }
    }
}

/// The latest to have taken a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub seat: usize,
    pub ticket: u64,
}

impl Claim {
    pub fn word(self) -> u64 {
        self.ticket << SEAT_BITS | self.seat as u64
    }

    /// What `word` says; absent before the first claim.
    pub fn of(word: u64) -> Option<Self> {
        (word != 0).then_some(Self {
            seat: (word & (MAX_SEATS as u64 - 1)) as usize,
            ticket: word >> SEAT_BITS,
        })
    }
}

/// When one that waits goes: before all that are to be done later, and of those due at the same instant before all that came later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    pub due_ns: u64,
    pub ticket: u64,
}

/// A seat as it was seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub seat: usize,
    pub state: State,
    /// When its work is to be done. Of a seat that goes on while it is looked at, it may be a later turn's: order alone follows
    /// from it, and who goes on rings for those that are next.
    pub due_ns: u64,
}

/// Whether who waits for its turn `own` may take a device of `slots` slots, given all its seats: fewer hold it or wait for earlier
/// turns than there are slots.
pub(crate) fn may_claim(seats: impl Iterator<Item = Seen>, own: Turn, slots: usize) -> bool {
    let before = seats.filter(|seen| match seen.state {
        State::Holding(_) => true,
        State::Waiting(ticket) => {
            let due_ns = seen.due_ns;
            Turn { due_ns, ticket } < own
        }
        State::Vacant | State::Idle | State::Passed(_) | State::Changing(_) => false,
    });
    before.take(slots).count() < slots
}

/// The seats that may take the device now, with their turns, the first first.
pub(crate) fn with_room(seats: impl Iterator<Item = Seen>, slots: usize) -> Vec<(Turn, usize)> {
    let mut room = slots;
    let mut waiting = Vec::new();
    for Seen {
        seat,
        state,
        due_ns,
    } in seats
    {
        match state {
            State::Holding(_) => room = room.saturating_sub(1),
            State::Waiting(ticket) => waiting.push((Turn { due_ns, ticket }, seat)),
            State::Vacant | State::Idle | State::Passed(_) | State::Changing(_) => {}
        }
    }
    waiting.sort_unstable();
    waiting.truncate(room);
    waiting
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_hold_what_they_were_made_of() {
        for state in [
            State::Vacant,
            State::Idle,
            State::Waiting(1),
            State::Passed(7),
            State::Holding((1 << 61) - 1),
            State::Changing((1 << 61) - 1),
        ] {
            assert_eq!(State::of(state.word()), state);
        }
        let claim = Claim {
            seat: MAX_SEATS - 1,
            ticket: (1 << 48) - 1,
        };
        assert_eq!(Claim::of(claim.word()), Some(claim));
        assert_eq!(Claim::of(0), None);
        assert_eq!(State::of(0), State::Vacant);
    }

    /// What happens to a seat of the model.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// To be done so many nanoseconds from now.
        Draw(u64),
        Show,
        Claim,
        Release,
        Die,
        PassOver,
        Resume,
    }

    fn seen<'a>(seats: &'a [State], dues: &'a [u64]) -> impl Iterator<Item = Seen> + 'a {
        let seats = seats.iter().zip(dues).enumerate();
        seats.map(|(seat, (&state, &due_ns))| Seen {
            seat,
            state,
            due_ns,
        })
    }

    fn holders(seats: &[State]) -> usize {
        let holding = |state: &&State| matches!(state, State::Holding(_));
        seats.iter().filter(holding).count()
    }

    fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
        let step = prop_oneof![
            4 => (0u64..9).prop_map(Step::Draw),
            4 => Just(Step::Show),
            6 => Just(Step::Claim),
            4 => Just(Step::Release),
            1 => Just(Step::Die),
            1 => Just(Step::PassOver),
            1 => Just(Step::Resume),
        ];
        prop::collection::vec((0usize..6, step), 1..400)
    }

    proptest! {
        #[test]
        fn no_more_hold_than_there_are_slots_and_who_is_to_be_done_first_goes_first(
            slots in 1usize..4,
            steps in steps(),
        ) {
            let mut seats = [State::Idle; 6];
            let mut drawn = [None; 6];
            let mut dues = [0; 6];
            let mut tickets = 0;
            for (now_ns, (seat, step)) in (0u64..).zip(steps) {
                match (step, seats[seat]) {
                    (Step::Draw(ahead_ns), State::Idle) if drawn[seat].is_none() => {
                        tickets += 1;
                        drawn[seat] = Some(tickets);
                        dues[seat] = now_ns + ahead_ns;
                    }
                    (Step::Show, State::Idle) => {
                        if let Some(ticket) = drawn[seat].take() {
                            seats[seat] = State::Waiting(ticket);
                        }
                    }
                    (Step::Claim, State::Waiting(ticket)) => {
                        let turn = |seat: usize, ticket| Turn { due_ns: dues[seat], ticket };
                        let own = turn(seat, ticket);
                        let room = with_room(seen(&seats, &dues), slots);
                        let may = may_claim(seen(&seats, &dues), own, slots);
                        prop_assert_eq!(may, room.contains(&(own, seat)));
                        let others = seats.iter().enumerate().filter_map(|(other, state)| match state {
                            State::Waiting(ticket) => Some(turn(other, *ticket)),
                            _ => None,
                        });
                        let earlier = others.filter(|other| *other < own).count();
                        let free = slots - holders(&seats);
                        prop_assert_eq!(may, earlier < free);
                        if may {
                            seats[seat] = State::Holding(ticket);
                        }
                    }
                    (Step::Release, State::Holding(_)) => seats[seat] = State::Idle,
                    (Step::Die, _) => {
                        seats[seat] = State::Idle;
                        drawn[seat] = None;
                    }
                    (Step::PassOver, State::Waiting(ticket)) => seats[seat] = State::Passed(ticket),
                    (Step::Resume, State::Passed(ticket)) => {
                        seats[seat] = State::Waiting(ticket);
                    }
                    _ => {}
                }
                let waiting = |state: &&State| matches!(state, State::Waiting(_));
                let waiters = seats.iter().filter(waiting).count();
                prop_assert!(holders(&seats) <= slots);
                // Somebody can always go on.
                let room = with_room(seen(&seats, &dues), slots);
                prop_assert_eq!(room.len(), waiters.min(slots - holders(&seats)));
            }
        }
    }
}
