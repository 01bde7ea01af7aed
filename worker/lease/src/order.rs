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

/// Whether who waits with the ticket `own` may take a device of `slots` slots, given the states of all its seats: fewer
/// hold it or wait with smaller tickets than there are slots.
pub(crate) fn may_claim(states: impl Iterator<Item = State>, own: u64, slots: usize) -> bool {
    let before = states.filter(|state| match state {
        State::Holding(_) => true,
        State::Waiting(ticket) => *ticket < own,
        State::Vacant | State::Idle | State::Passed(_) | State::Changing(_) => false,
    });
    before.take(slots).count() < slots
}

/// The seats that may take the device now, with their tickets, smallest first.
pub(crate) fn with_room(
    states: impl Iterator<Item = (usize, State)>,
    slots: usize,
) -> Vec<(u64, usize)> {
    let mut room = slots;
    let mut waiting = Vec::new();
    for (seat, state) in states {
        match state {
            State::Holding(_) => room = room.saturating_sub(1),
            State::Waiting(ticket) => waiting.push((ticket, seat)),
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
        Draw,
        Show,
        Claim,
        Release,
        Die,
        PassOver,
        Resume,
    }

    fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
        let step = prop_oneof![
            4 => Just(Step::Draw),
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
        fn no_more_hold_than_there_are_slots_and_nobody_is_overtaken_twice(
            slots in 1usize..4,
            steps in steps(),
        ) {
            let mut seats = [State::Idle; 6];
            let mut drawn = [None; 6];
            // How often each was overtaken by each other since it showed its ticket.
            let mut overtaken = [[0; 6]; 6];
            let mut tickets = 0;
            for (seat, step) in steps {
                match (step, seats[seat]) {
                    (Step::Draw, State::Idle) if drawn[seat].is_none() => {
                        tickets += 1;
                        drawn[seat] = Some(tickets);
                    }
                    (Step::Show, State::Idle) => {
                        if let Some(ticket) = drawn[seat].take() {
                            seats[seat] = State::Waiting(ticket);
                            overtaken[seat] = [0; 6];
                        }
                    }
                    (Step::Claim, State::Waiting(own)) => {
                        let room = with_room(seats.iter().copied().enumerate(), slots);
                        let may = may_claim(seats.iter().copied(), own, slots);
                        prop_assert_eq!(may, room.contains(&(own, seat)));
                        if may {
                            seats[seat] = State::Holding(own);
                            for other in 0..6 {
                                if matches!(seats[other], State::Waiting(_)) && other != seat {
                                    overtaken[other][seat] += 1;
                                }
                            }
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
                        overtaken[seat] = [0; 6];
                    }
                    _ => {}
                }
                let holding = |state: &&State| matches!(state, State::Holding(_));
                let waiting = |state: &&State| matches!(state, State::Waiting(_));
                let holders = seats.iter().filter(holding).count();
                let waiters = seats.iter().filter(waiting).count();
                prop_assert!(holders <= slots);
                // Somebody can always go on.
                let room = with_room(seats.iter().copied().enumerate(), slots);
                prop_assert_eq!(room.len(), waiters.min(slots - holders));
                // With one slot, whoever goes first although it showed its ticket later has drawn it earlier, and the next
                // it draws is a larger one.
                if slots == 1 {
                    prop_assert!(overtaken.iter().flatten().all(|&times| times <= 1));
                }
            }
        }
    }
}
