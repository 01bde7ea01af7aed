//! Messages that are here and may not be seen yet.

use std::collections::VecDeque;

/// Items in the order in which they were sent, each from the time at which it is due: one that is
/// not yet here holds back those behind it.
#[derive(Debug)]
pub(crate) struct HoldQueue<T> {
    places: VecDeque<Place<T>>,
    /// The number of the first of `places`.
    first: u64,
}

#[derive(Debug)]
enum Place<T> {
    Awaited,
    Here { due_ns: u64, item: T },
    GivenUp,
}

impl<T> HoldQueue<T> {
    pub fn new() -> Self {
        Self {
            places: VecDeque::new(),
            first: 0,
        }
    }

    /// The place of the next item sent, which has to be filled or given up.
    pub fn next_place(&mut self) -> u64 {
        self.places.push_back(Place::Awaited);
        self.first + self.places.len() as u64 - 1
    }

    /// Holds the item of `place` until `due_ns`.
    pub fn fill(&mut self, place: u64, due_ns: u64, item: T) {
        self.set(place, Place::Here { due_ns, item });
    }

    /// Says that the item of `place` will never be here.
    pub fn give_up(&mut self, place: u64) {
        self.set(place, Place::GivenUp);
        while let Some(Place::GivenUp) = self.places.front() {
            self.leave_first();
        }
    }

    /// When the next item is due; `None` while it is not here.
    pub fn next_due_ns(&self) -> Option<u64> {
        match self.places.front()? {
            Place::Here { due_ns, .. } => Some(*due_ns),
            Place::Awaited | Place::GivenUp => None,
        }
    }

    /// The next item, if it is here and due.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<T> {
        if self.next_due_ns()? > now_ns {
            return None;
        }
        let Some(Place::Here { item, .. }) = self.leave_first() else {
            return None;
        };
        while let Some(Place::GivenUp) = self.places.front() {
            self.leave_first();
        }
        Some(item)
    }

    /// Items awaited or held.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    fn leave_first(&mut self) -> Option<Place<T>> {
        self.first += 1;
        self.places.pop_front()
    }

    fn set(&mut self, place: u64, to: Place<T>) {
        let index = (place - self.first) as usize;
        debug_assert!(matches!(self.places[index], Place::Awaited));
        self.places[index] = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue that awaits `places` items.
    fn awaiting(places: u64) -> HoldQueue<char> {
        let mut hold = HoldQueue::new();
        for place in 0..places {
            assert_eq!(hold.next_place(), place);
        }
        hold
    }

    #[test]
    fn items_come_out_when_due() {
        let mut hold = awaiting(3);
        for (place, due_ns, item) in [(2, 30, 'c'), (0, 10, 'a'), (1, 20, 'b')] {
            hold.fill(place, due_ns, item);
        }
        assert_eq!(hold.next_due_ns(), Some(10));
        assert_eq!(hold.pop_due(9), None);
        assert_eq!(hold.pop_due(10), Some('a'));
        assert_eq!(hold.pop_due(10), None);
        assert_eq!(hold.pop_due(25), Some('b'));
        assert_eq!(hold.pop_due(25), None);
        assert_eq!(hold.len(), 1);
        assert_eq!(hold.pop_due(u64::MAX), Some('c'));
        assert_eq!((hold.next_due_ns(), hold.len()), (None, 0));
        assert_eq!(hold.next_place(), 3);
    }

    #[test]
    fn an_item_that_is_not_here_holds_back_those_behind_it() {
        let mut hold = awaiting(3);
        hold.fill(1, 10, 'b');
        hold.fill(2, 5, 'c');
        assert_eq!((hold.next_due_ns(), hold.pop_due(u64::MAX)), (None, None));
        hold.fill(0, 7, 'a');
        assert_eq!(hold.pop_due(7), Some('a'));
        assert_eq!(hold.pop_due(7), None);
        assert_eq!(hold.pop_due(10), Some('b'));
        assert_eq!(hold.pop_due(10), Some('c'));
    }

    #[test]
    fn an_item_given_up_holds_back_nobody() {
        let mut hold = awaiting(5);
        hold.fill(1, 10, 'b');
        hold.give_up(2);
        hold.give_up(0);
        assert_eq!((hold.next_due_ns(), hold.len()), (Some(10), 4));
        assert_eq!(hold.pop_due(10), Some('b'));
        assert_eq!((hold.next_due_ns(), hold.len()), (None, 2));
        hold.give_up(4);
        hold.give_up(3);
        assert_eq!(hold.len(), 0);
        assert_eq!(hold.next_place(), 5);
    }
}
