//! Raw counters to energy: wrap-arounds, resets and counters that stand still.

/// More than any board or package draws, watts. A step of a counter that needs more is no energy: the counter was reset.
const MOST_WATTS: u64 = 10_000;
/// What a counter may add at once beyond the time since its last change, ns: it refreshes late.
const LATE_REFRESH_NS: u64 = 1_000_000_000;

/// What happened to a counter while it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// Times that it began anew at its range's end; nothing is lost by it.
    pub wraps: u64,
    /// Times that it began anew elsewhere, or jumped: what it had counted since the reading before is lost.
    pub resets: u64,
    /// Longest time that it stood still, ns.
    pub longest_still_ns: u64,
    /// Time that an integral left out, since it was not read for too long, ns.
    pub unread_ns: u64,
}

/// A counter whose steps are summed, whatever its width.
#[derive(Debug, Clone)]
pub(crate) struct Counter {
    /// Where it may begin anew, in its own steps, smallest first.
    ranges: Vec<u128>,
    uj_per_step: u64,
    last: Option<Last>,
    total_uj: u64,
    health: Health,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    raw: u64,
    changed_ns: u64,
}

impl Counter {
    /// A counter of steps of `uj_per_step` that begins anew after one of `ranges` steps.
    pub fn new(ranges: Vec<u128>, uj_per_step: u64) -> Self {
        Self {
            ranges,
            uj_per_step,
            last: None,
            total_uj: 0,
            health: Health::default(),
        }
    }

    /// What it has counted since the first call, uJ, when it shows `raw` at `now_ns`.
    pub fn advance(&mut self, raw: u64, now_ns: u64) -> u64 {
        let Some(last) = self.last else {
            self.last = Some(Last {
                raw,
                changed_ns: now_ns,
            });
            return 0;
        };
        let still_ns = now_ns.saturating_sub(last.changed_ns);
        self.health.longest_still_ns = self.health.longest_still_ns.max(still_ns);
        if raw != last.raw {
            let added_uj = self.step_uj(last.raw, raw, still_ns);
            self.total_uj = self.total_uj.saturating_add(added_uj);
            self.last = Some(Last {
                raw,
                changed_ns: now_ns,
            });
        }
        self.total_uj
    }

    /// What happened to it.
    pub fn health(&self) -> Health {
        self.health
    }

    fn step_uj(&mut self, before: u64, raw: u64, still_ns: u64) -> u64 {
        let most_uj =
            u128::from(still_ns.saturating_add(LATE_REFRESH_NS)) * u128::from(MOST_WATTS) / 1000;
        let energy_uj = |steps: u128| {
            let uj = steps.checked_mul(u128::from(self.uj_per_step))?;
            u64::try_from(uj).ok().filter(|_| uj <= most_uj)
        };
        if raw >= before
            && let Some(uj) = energy_uj(u128::from(raw - before))
        {
            return uj;
        }
        let wrapped = self.ranges.iter().find_map(|range| {
            let left = range.checked_sub(u128::from(before))?;
            energy_uj(left + u128::from(raw)).filter(|_| raw < before)
        });
        if let Some(uj) = wrapped {
            self.health.wraps += 1;
            return uj;
        }
        self.health.resets += 1;
        // What a counter shows after it began at 0 was drawn since; what it had not yet shown is lost.
        if raw < before {
            energy_uj(u128::from(raw)).unwrap_or_default()
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TENTH_S: u64 = 100_000_000;

    fn advance(counter: &mut Counter, readings: &[u64]) -> u64 {
        let mut now_ns = 0;
        let totals = readings.iter().map(|&raw| {
            now_ns += TENTH_S;
            counter.advance(raw, now_ns)
        });
        totals.last().unwrap()
    }

    #[test]
    fn the_first_reading_is_where_counting_begins() {
        let mut counter = Counter::new(vec![1 << 32], 1000);
        assert_eq!(advance(&mut counter, &[500]), 0);
        assert_eq!(advance(&mut counter, &[530]), 30_000);
        assert_eq!(counter.health().wraps, 0);
    }

    #[test]
    fn it_begins_anew_at_the_smallest_range_that_explains_it() {
        // A 64-bit counter whose hardware has 32 bits.
        let ranges = vec![1 << 32, 1 << 64];
        let mut counter = Counter::new(ranges.clone(), 1000);
        let end = (1_u64 << 32) - 10;
        assert_eq!(advance(&mut counter, &[end, 20]), 30_000);
        assert_eq!((counter.health().wraps, counter.health().resets), (1, 0));
        let mut counter = Counter::new(ranges, 1000);
        assert_eq!(advance(&mut counter, &[u64::MAX - 9, 20]), 30_000);
        assert_eq!((counter.health().wraps, counter.health().resets), (1, 0));
    }

    #[test]
    fn a_reset_is_no_wrap_and_what_is_counted_since_is_kept() {
        // From the middle of the range: a wrap would be 131 kJ within a tenth of a second.
        let mut counter = Counter::new(vec![262_143_328_850], 1);
        assert_eq!(
            advance(&mut counter, &[131_000_000_000, 131_000_500_000, 7_000]),
            507_000
        );
        assert_eq!((counter.health().wraps, counter.health().resets), (0, 1));
    }

    #[test]
    fn a_jump_ahead_is_no_energy() {
        let mut counter = Counter::new(vec![1 << 64], 1000);
        assert_eq!(
            advance(&mut counter, &[100, 200, u64::MAX, u64::MAX]),
            100_000
        );
        assert_eq!((counter.health().wraps, counter.health().resets), (0, 1));
    }

    #[test]
    fn it_catches_up_after_it_stood_still() {
        let mut counter = Counter::new(vec![1 << 64], 1000);
        let mut readings = vec![1000; 50];
        readings.push(1500);
        assert_eq!(advance(&mut counter, &readings), 500_000);
        assert_eq!(counter.health().longest_still_ns, 50 * TENTH_S);
    }

    proptest! {
        #[test]
        fn any_true_counter_is_followed_over_any_number_of_wraps(
            range in 2_000_000_u64..1 << 40,
            begin in 0_u64..1 << 40,
            steps in prop::collection::vec(0_u64..1_000_000, 1..200),
        ) {
            // At most 10 J in a tenth of a second.
            let mut counter = Counter::new(vec![u128::from(range)], 10);
            let (mut true_raw, mut now_ns) = (u128::from(begin % range), 0);
            counter.advance(u64::try_from(true_raw).unwrap(), now_ns);
            let mut total = 0;
            for &step in &steps {
                true_raw += u128::from(step);
                now_ns += TENTH_S;
                let raw = u64::try_from(true_raw % u128::from(range)).unwrap();
                total = counter.advance(raw, now_ns);
            }
            prop_assert_eq!(total, 10 * steps.iter().sum::<u64>());
            prop_assert_eq!(counter.health().resets, 0);
        }
    }
}
