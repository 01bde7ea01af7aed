//! Whose joules a meter's are: split by time, without losing one.

use std::collections::BTreeMap;

/// One holder's part of what a meter counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// Device time, ns.
    pub held_ns: u64,
    /// Energy, uJ.
    pub energy_uj: u64,
}

/// The books of one meter. A window is the time between two changes of its counter; its energy is split by the device time
/// that holders had within it. Device time nobody had has its part of the energy too, which belongs to nobody.
///
/// Energies are whole microjoules, and parts of a window add up to it exactly, and so does everything.
#[derive(Debug, Clone)]
pub(crate) struct Attribution<K> {
    /// Holders that the device takes at once.
    slots: u64,
    window_from_ns: u64,
    /// Device time within the open window, ns.
    pending: BTreeMap<K, u64>,
    shares: BTreeMap<K, Share>,
    total_uj: u64,
    unattributed_uj: u64,
}

impl<K: Ord + Clone> Attribution<K> {
    /// Empty books of a device that takes `slots` holders at once, from `from_ns` on.
    pub fn new(slots: u64, from_ns: u64) -> Self {
        Self {
            slots: slots.max(1),
            window_from_ns: from_ns,
            pending: BTreeMap::new(),
            shares: BTreeMap::new(),
            total_uj: 0,
            unattributed_uj: 0,
        }
    }

    /// `holder` had the device for another `held_ns` of the open window.
    pub fn hold(&mut self, holder: &K, held_ns: u64) {
        if held_ns == 0 {
            return;
        }
        match self.pending.get_mut(holder) {
            Some(pending) => *pending = pending.saturating_add(held_ns),
            None => {
                self.pending.insert(holder.clone(), held_ns);
            }
        }
    }

    /// The window ends at `now_ns`, with `energy_uj`.
    pub fn close(&mut self, energy_uj: u64, now_ns: u64) {
        let window_ns = now_ns.saturating_sub(self.window_from_ns);
        let held_ns: u128 = self.pending.values().copied().map(u128::from).sum();
        // Leases and this clock are read at slightly different moments: more may seem held than there was.
        let whole_ns = held_ns
            .max(u128::from(self.slots) * u128::from(window_ns))
            .max(1);
        let (mut upto_ns, mut given_uj) = (0_u128, 0_u64);
        for (holder, held_ns) in std::mem::take(&mut self.pending) {
            upto_ns += u128::from(held_ns);
            let upto_uj = u128::from(energy_uj) * upto_ns / whole_ns;
            let upto_uj = u64::try_from(upto_uj).expect("a part is not larger than the whole");
            let share = self.shares.entry(holder).or_default();
            share.held_ns = share.held_ns.saturating_add(held_ns);
            share.energy_uj += upto_uj - given_uj;
            given_uj = upto_uj;
        }
        self.unattributed_uj += energy_uj - given_uj;
        self.total_uj += energy_uj;
        self.window_from_ns = now_ns;
    }

    /// Takes out all shares; device time whose energy was never counted is dropped.
    pub fn take_all(&mut self) -> Vec<(K, Share)> {
        self.pending.clear();
        self.take(|_| true)
    }

    /// Takes out the shares of holders that satisfy `is_over` and have no time in the open window.
    pub fn take(&mut self, is_over: impl Fn(&K) -> bool) -> Vec<(K, Share)> {
        let mut taken = Vec::new();
        self.shares.retain(|holder, share| {
            let stays = !is_over(holder) || self.pending.contains_key(holder);
            if !stays {
                taken.push((holder.clone(), *share));
            }
            stays
        });
        taken
    }

    /// All energy so far, uJ.
    pub fn total_uj(&self) -> u64 {
        self.total_uj
    }

    /// Of it what belongs to nobody, uJ.
    pub fn unattributed_uj(&self) -> u64 {
        self.unattributed_uj
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_window_is_split_by_time_under_the_lease_and_the_rest_is_nobodys() {
        let mut books = Attribution::new(1, 0);
        books.hold(&'a', 30);
        books.hold(&'b', 50);
        books.close(1000, 100);
        let shares: BTreeMap<_, _> = books.take(|_| true).into_iter().collect();
        assert_eq!(shares[&'a'].energy_uj, 300);
        assert_eq!(shares[&'b'].energy_uj, 500);
        assert_eq!(books.unattributed_uj(), 200);
        // Nobody held it.
        books.close(70, 200);
        assert_eq!((books.total_uj(), books.unattributed_uj()), (1070, 270));
        assert!(books.take(|_| true).is_empty());
    }

    #[test]
    fn free_slots_have_their_part() {
        let mut books = Attribution::new(4, 0);
        books.hold(&'a', 100);
        books.close(1000, 100);
        assert_eq!(books.take(|_| true)[0].1.energy_uj, 250);
        assert_eq!(books.unattributed_uj(), 750);
    }

    #[test]
    fn more_time_than_there_was_shares_what_there_is() {
        let mut books = Attribution::new(1, 0);
        books.hold(&'a', 100);
        books.hold(&'b', 100);
        books.close(1001, 100);
        let shares = books.take(|_| true);
        assert_eq!(shares[0].1.energy_uj + shares[1].1.energy_uj, 1001);
        assert!(
            shares
                .iter()
                .all(|(_, share)| share.energy_uj.abs_diff(500) <= 1)
        );
        assert_eq!(books.unattributed_uj(), 0);
    }

    #[test]
    fn a_holder_with_time_in_the_open_window_stays() {
        let mut books = Attribution::new(1, 0);
        books.hold(&'a', 10);
        books.close(10, 10);
        books.hold(&'a', 5);
        assert!(books.take(|_| true).is_empty());
        books.close(10, 20);
        let share = books.take(|_| true)[0].1;
        assert_eq!((share.held_ns, share.energy_uj), (15, 15));
    }

    proptest! {
        #[test]
        fn no_joule_is_lost_or_made(
            slots in 1_u64..8,
            windows in prop::collection::vec(
                (0_u64..1 << 40, 0_u64..1 << 34, prop::collection::vec((0_u8..6, 0_u64..1 << 34), 0..8)),
                1..60,
            ),
        ) {
            let mut books = Attribution::new(slots, 0);
            let (mut now_ns, mut delta_uj, mut taken_uj, mut held_ns, mut counted_ns) = (0, 0, 0, 0, 0);
            for (energy_uj, length_ns, holds) in windows {
                for (holder, ns) in holds {
                    books.hold(&holder, ns);
                    held_ns += ns;
                }
                now_ns += length_ns;
                books.close(energy_uj, now_ns);
                delta_uj += energy_uj;
                // Even numbers are done now and then.
                for (_, share) in books.take(|holder| holder % 2 == 0) {
                    taken_uj += share.energy_uj;
                    counted_ns += share.held_ns;
                }
            }
            for (_, share) in books.take(|_| true) {
                taken_uj += share.energy_uj;
                counted_ns += share.held_ns;
            }
            prop_assert_eq!(books.total_uj(), delta_uj);
            prop_assert_eq!(taken_uj + books.unattributed_uj(), delta_uj);
            prop_assert_eq!(counted_ns, held_ns);
        }
    }
}
