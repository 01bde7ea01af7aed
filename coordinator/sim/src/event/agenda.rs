//! Who has something to do next.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// When each of many has something to do next; of two at once the lesser comes first.
#[derive(Debug)]
pub(super) struct Agenda<W, T> {
    by_time: BTreeSet<(T, W)>,
    times: BTreeMap<W, T>,
}

/// Seconds, which are ordered.
#[derive(Debug, Clone, Copy)]
pub(super) struct At(pub f64);

impl<W: Ord + Copy, T: Ord + Copy> Agenda<W, T> {
    /// Nobody has anything to do.
    pub fn new() -> Self {
        Self {
            by_time: BTreeSet::new(),
            times: BTreeMap::new(),
        }
    }

    /// `who` has something to do at that time, and not when it was said before; `None` for nothing at all.
    pub fn set(&mut self, who: W, at: Option<T>) {
        if self.times.get(&who).copied() == at {
            return;
        }
        let before = match at {
            Some(at) => self.times.insert(who, at),
            None => self.times.remove(&who),
        };
        if let Some(before) = before {
            self.by_time.remove(&(before, who));
        }
        self.by_time.extend(at.map(|at| (at, who)));
    }

    /// Who is next, and when.
    pub fn first(&self) -> Option<(T, W)> {
        self.by_time.first().copied()
    }
}

impl Ord for At {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for At {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for At {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_the_lesser_of_two_at_once() {
        let mut agenda = Agenda::new();
        assert_eq!(agenda.first(), None::<(At, u32)>);
        for (who, at_s) in [(7, 2.0), (3, 2.0), (5, 4.0)] {
            agenda.set(who, Some(At(at_s)));
        }
        assert_eq!(agenda.first(), Some((At(2.0), 3)));
        agenda.set(3, Some(At(4.0)));
        assert_eq!(agenda.first(), Some((At(2.0), 7)));
        agenda.set(7, None);
        agenda.set(7, None);
        assert_eq!(agenda.first(), Some((At(4.0), 3)));
    }
}
