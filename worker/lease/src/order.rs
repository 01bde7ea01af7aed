//! Whose turn it is: the rule, on values alone.

/// Bits of a word that say what sort of state it holds.
const KIND_BITS: u32 = 3;
/// Bits of a claim that say whose seat it is.
const SEAT_BITS: u32 = 16;
/// Bits of a claim that say with which ticket.
const TICKET_BITS: u32 = u64::BITS - SEAT_BITS;

/// Most seats of a table.
pub(crate) const MAX_SEATS: usize = 1 << SEAT_BITS;

/// The ticket of one who wants to be done by `due_ns`: that instant in microseconds, but later than all tickets that its seat has
/// drawn before, so that no state and no claim ever comes again. 48 bits last for nine years after the host's start.
pub(crate) fn ticket_due(due_ns: u64, drawn_before: u64) -> u64 {
    let latest = (1 << TICKET_BITS) - 1;
    (due_ns / 1000).max(drawn_before + 1).min(latest)
}

/// What a seat does. A seat draws a ticket once and never again.
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

/// Who takes a device, or wants to: the smaller goes first, by ticket and where two have the same by seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub ticket: u64,
    pub seat: usize,
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

/// Whether who waits as `own` may take a device of `slots` slots, given the states of all its seats: fewer hold it or wait to go
/// before it than there are slots.
pub(crate) fn may_claim(
    states: impl Iterator<Item = (usize, State)>,
    own: Claim,
    slots: usize,
) -> bool {
    let before = states.filter(|&(seat, state)| match state {
        State::Holding(_) => true,
        State::Waiting(ticket) => Claim { ticket, seat } < own,
        State::Vacant | State::Idle | State::Passed(_) | State::Changing(_) => false,
    });
    before.take(slots).count() < slots
}

/// Those who may take the device now, the first to go first.
pub(crate) fn with_room(states: impl Iterator<Item = (usize, State)>, slots: usize) -> Vec<Claim> {
    let mut room = slots;
    let mut waiting = Vec::new();
    for (seat, state) in states {
        match state {
            State::Holding(_) => room = room.saturating_sub(1),
            State::Waiting(ticket) => waiting.push(Claim { ticket, seat }),
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
    fn a_ticket_is_the_instant_of_its_end_and_never_comes_again() {
        assert_eq!(ticket_due(5_000_999, 0), 5_000);
        assert_eq!(ticket_due(5_000_999, 4_999), 5_000);
        assert_eq!(ticket_due(5_000_999, 5_000), 5_001);
        assert_eq!(ticket_due(0, 0), 1);
        assert_eq!(ticket_due(u64::MAX, 0), (1 << 48) - 1);
    }

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
        /// To be done so many microseconds from now.
        Draw(u64),
        Show,
        Claim,
        Release,
        Die,
        PassOver,
        Resume,
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
        fn no_more_hold_than_there_are_slots_and_whoever_is_due_first_goes_first(
            slots in 1usize..4,
            steps in steps(),
        ) {
            let mut seats = [State::Idle; 6];
            let mut drawn = [None; 6];
            let mut last = [0; 6];
            for (at_us, (seat, step)) in (0u64..).zip(steps) {
                match (step, seats[seat]) {
                    (Step::Draw(ahead_us), State::Idle) if drawn[seat].is_none() => {
                        last[seat] = ticket_due((at_us + ahead_us) * 1000, last[seat]);
                        drawn[seat] = Some(last[seat]);
                    }
                    (Step::Show, State::Idle) => {
                        if let Some(ticket) = drawn[seat].take() {
                            seats[seat] = State::Waiting(ticket);
                        }
                    }
                    (Step::Claim, State::Waiting(ticket)) => {
                        let own = Claim { ticket, seat };
                        let room = with_room(seats.iter().copied().enumerate(), slots);
                        let may = may_claim(seats.iter().copied().enumerate(), own, slots);
                        prop_assert_eq!(may, room.contains(&own));
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
                let holding = |state: &&State| matches!(state, State::Holding(_));
                let waiting = |state: &&State| matches!(state, State::Waiting(_));
                let holders = seats.iter().filter(holding).count();
                let waiters = seats.iter().filter(waiting).count();
                prop_assert!(holders <= slots);
                // Somebody can always go on.
                let room = with_room(seats.iter().copied().enumerate(), slots);
                prop_assert_eq!(room.len(), waiters.min(slots - holders));
                // Nobody who may go is due later than one who may not.
                let left = seats.iter().enumerate().filter_map(|(seat, state)| match *state {
                    State::Waiting(ticket) => Some(Claim { ticket, seat }),
                    _ => None,
                });
                let left = left.filter(|claim| !room.contains(claim)).min();
                if let (Some(last), Some(left)) = (room.last(), left) {
                    prop_assert!(*last < left);
                }
            }
        }
    }
}
