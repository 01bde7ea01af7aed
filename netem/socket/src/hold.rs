//! Messages that are here and may not be seen yet.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Items by the time at which they are due; items of one time in the order they were sent.
#[derive(Debug)]
pub(crate) struct HoldQueue<T> {
    items: BinaryHeap<Held<T>>,
}

#[derive(Debug)]
struct Held<T> {
    due_ns: u64,
    order: u64,
    item: T,
}

impl<T> HoldQueue<T> {
    pub fn new() -> Self {
        Self {
            items: BinaryHeap::new(),
        }
    }

    /// Holds `item` until `due_ns`; `order` is its place among those sent.
    pub fn push(&mut self, due_ns: u64, order: u64, item: T) {
        self.items.push(Held {
            due_ns,
            order,
            item,
        });
    }

    /// When the next item is due.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.items.peek().map(|held| held.due_ns)
    }

    /// The next item, if it is due.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<T> {
        let due = self.items.peek()?.due_ns <= now_ns;
        due.then(|| self.items.pop())?.map(|held| held.item)
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }
}

impl<T> Ord for Held<T> {
    /// Earliest greatest, as the heap gives its greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due_ns, other.order).cmp(&(self.due_ns, self.order))
    }
}

impl<T> PartialOrd for Held<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Held<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Held<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_out_when_due_and_in_order() {
        let mut hold = HoldQueue::new();
        for (due_ns, order, item) in [(30, 0, 'd'), (10, 1, 'a'), (20, 3, 'c'), (20, 2, 'b')] {
            hold.push(due_ns, order, item);
        }
        assert_eq!(hold.next_due_ns(), Some(10));
        assert_eq!(hold.pop_due(9), None);
        assert_eq!(hold.pop_due(10), Some('a'));
        assert_eq!(hold.pop_due(10), None);
        assert_eq!(hold.pop_due(25), Some('b'));
        assert_eq!(hold.pop_due(25), Some('c'));
        assert_eq!(hold.pop_due(25), None);
        assert_eq!(hold.len(), 1);
        assert_eq!(hold.pop_due(u64::MAX), Some('d'));
        assert_eq!(hold.next_due_ns(), None);
    }
}
