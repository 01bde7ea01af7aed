//! Prices and carbon intensities over time, as steps.

/// One step of a series: `value` holds from `from_s` on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Begin of the step, seconds.
    pub from_s: f64,
    /// Value from then on.
    pub value: f64,
}

/// A step function of time: the last value holds for ever, or the day repeats.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    steps: Vec<Step>,
    daily: bool,
}

/// Why steps do not make a series.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SeriesError {
    /// No step at all.
    #[error("the series is empty; it needs an entry with `from_s` = 0")]
    Empty,
    /// The first step is not at 0.
    #[error("the series begins at {0} s; its first entry needs `from_s` = 0")]
    Start(f64),
    /// Two steps out of order, or at the same time.
    #[error(
        "entry {index} at {from_s} s does not come after the one before it; sort the series by `from_s`"
    )]
    Order {
        /// Which entry, from 0.
        index: usize,
        /// Its time.
        from_s: f64,
    },
    /// A time or value that is negative or not finite.
    #[error("entry {index} holds {value}; times and values have to be finite and not negative")]
    Value {
        /// Which entry, from 0.
        index: usize,
        /// The offending number.
        value: f64,
    },
    /// A daily series with a step after the day's end.
    #[error("entry {index} of a daily series begins at {from_s} s; a day has 86400 s")]
    PastDay {
        /// Which entry, from 0.
        index: usize,
        /// Its time.
        from_s: f64,
    },
}

/// Seconds of a day.
const DAY_S: f64 = 86_400.0;

impl Series {
    /// The same value at all times.
    pub fn constant(value: f64) -> Result<Self, SeriesError> {
        Self::steps(vec![Step { from_s: 0.0, value }], false)
    }

    /// A series from its steps, repeated every day if `daily`.
    pub fn steps(steps: Vec<Step>, daily: bool) -> Result<Self, SeriesError> {
        let first = steps.first().ok_or(SeriesError::Empty)?;
        for (index, step) in steps.iter().enumerate() {
            for value in [step.from_s, step.value] {
                if !value.is_finite() || value < 0.0 {
                    return Err(SeriesError::Value { index, value });
                }
            }
            if daily && step.from_s >= DAY_S {
                return Err(SeriesError::PastDay {
                    index,
                    from_s: step.from_s,
                });
            }
            if index > 0 && step.from_s <= steps[index - 1].from_s {
                return Err(SeriesError::Order {
                    index,
                    from_s: step.from_s,
                });
            }
        }
        if first.from_s != 0.0 {
            return Err(SeriesError::Start(first.from_s));
        }
        Ok(Self { steps, daily })
    }

    /// The steps, by time, and whether they repeat every day.
    pub fn parts(&self) -> (&[Step], bool) {
        (&self.steps, self.daily)
    }

    /// The steps from 0 up to `until_s`, every day's by itself where the day repeats.
    pub fn steps_until(&self, until_s: f64) -> impl Iterator<Item = Step> + '_ {
        let days = if self.daily {
            (until_s / DAY_S) as u64
        } else {
            0
        };
        let all = (0..=days).flat_map(|day| {
            let begin_s = day as f64 * DAY_S;
            self.steps.iter().map(move |step| Step {
                from_s: begin_s + step.from_s,
                value: step.value,
            })
        });
        all.take_while(move |step| step.from_s <= until_s)
    }

    /// The value at `at_s`.
    pub fn at(&self, at_s: f64) -> f64 {
        let within = if self.daily {
            at_s.rem_euclid(DAY_S)
        } else {
            at_s
        };
        let after = self.steps.partition_point(|step| step.from_s <= within);
        self.steps[after.saturating_sub(1)].value
    }

    /// The integral of the series from `from_s` to `to_s`, in value times seconds.
    pub fn integral(&self, from_s: f64, to_s: f64) -> f64 {
        if self.daily {
            let day = |at_s: f64| (at_s / DAY_S).floor();
            let (first, last) = (day(from_s), day(to_s));
            if first == last {
                return self.integral_of_steps(from_s - first * DAY_S, to_s - first * DAY_S);
            }
            self.integral_of_steps(from_s - first * DAY_S, DAY_S)
                + (last - first - 1.0) * self.integral_of_steps(0.0, DAY_S)
                + self.integral_of_steps(0.0, to_s - last * DAY_S)
        } else {
            self.integral_of_steps(from_s, to_s)
        }
    }

    fn integral_of_steps(&self, from_s: f64, to_s: f64) -> f64 {
        let first = self.steps.partition_point(|step| step.from_s <= from_s);
        let mut index = first.saturating_sub(1);
        let (mut sum, mut at_s) = (0.0, from_s);
        while at_s < to_s {
            let end_s = self
                .steps
                .get(index + 1)
                .map_or(to_s, |next| next.from_s.min(to_s));
            sum += self.steps[index].value * (end_s - at_s);
            at_s = end_s;
            index += 1;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn night_and_day(daily: bool) -> Series {
        let steps = [(0.0, 2.0), (28_800.0, 3.0)];
        let steps = steps.map(|(from_s, value)| Step { from_s, value });
        Series::steps(steps.to_vec(), daily).unwrap()
    }

    #[test]
    fn the_last_value_holds() {
        let series = night_and_day(false);
        assert_eq!(series.at(28_799.0), 2.0);
        assert_eq!(series.at(28_800.0), 3.0);
        assert_eq!(series.at(1e9), 3.0);
        assert_eq!(series.integral(28_790.0, 28_810.0), 50.0);
        assert_eq!(series.steps_until(1e9).count(), 2);
        assert_eq!(series.steps_until(28_799.0).count(), 1);
    }

    #[test]
    fn a_day_repeats() {
        let series = night_and_day(true);
        assert_eq!(series.at(86_400.0), 2.0);
        let day = 2.0 * 28_800.0 + 3.0 * 57_600.0;
        assert_eq!(series.integral(0.0, 86_400.0), day);
        assert_eq!(
            series.integral(28_800.0, 28_800.0 + 10.0 * 86_400.0),
            10.0 * day
        );
        assert_eq!(series.integral(86_390.0, 86_410.0), 10.0 * 3.0 + 10.0 * 2.0);
        let begins: Vec<f64> = series
            .steps_until(115_200.0)
            .map(|step| step.from_s)
            .collect();
        assert_eq!(begins, [0.0, 28_800.0, 86_400.0, 115_200.0]);
    }

    /// The integral by hand: every step of every day that the span meets, one by one.
    fn by_hand(steps: &[Step], daily: bool, from_s: f64, to_s: f64) -> f64 {
        let days = if daily { (to_s / DAY_S) as u32 } else { 0 };
        let begins = (0..=days).flat_map(|day| {
            let begin_s = f64::from(day) * DAY_S;
            steps
                .iter()
                .map(move |step| (begin_s + step.from_s, step.value))
        });
        let begins: Vec<(f64, f64)> = begins.collect();
        let ends = begins.iter().skip(1).map(|(at_s, _)| *at_s);
        let parts = begins.iter().zip(ends.chain([f64::INFINITY]));
        let parts = parts.map(|((begin_s, value), end_s)| {
            value * (end_s.min(to_s) - begin_s.max(from_s)).max(0.0)
        });
        parts.sum()
    }

    proptest! {
        #[test]
        fn integrals_are_exact_whatever_steps_and_midnights_they_span(
            gaps in prop::collection::vec((1_u32..20_000, 0_u32..1_000), 0..8),
            first in 0_u32..1_000,
            daily in any::<bool>(),
            from in 0_u32..400_000,
            length in 0_u32..1_000_000,
            cut in 0.0_f64..1.0,
        ) {
            let mut steps = vec![Step { from_s: 0.0, value: first.into() }];
            for (gap, value) in gaps {
                let from_s = steps[steps.len() - 1].from_s + f64::from(gap);
                if from_s < DAY_S {
                    steps.push(Step { from_s, value: value.into() });
                }
            }
            let series = Series::steps(steps.clone(), daily).unwrap();
            let (from_s, to_s) = (f64::from(from), f64::from(from + length));
            // Whole seconds times whole values: both are exact, to the last bit.
            let whole = series.integral(from_s, to_s);
            prop_assert_eq!(whole, by_hand(&steps, daily, from_s, to_s));
            let middle_s = (from_s + cut * f64::from(length)).floor();
            prop_assert_eq!(series.integral(from_s, middle_s) + series.integral(middle_s, to_s), whole);
        }
    }

    #[test]
    fn bad_steps_are_refused() {
        let step = |from_s, value| Step { from_s, value };
        assert_eq!(Series::steps(vec![], false), Err(SeriesError::Empty));
        assert_eq!(
            Series::steps(vec![step(1.0, 1.0)], false),
            Err(SeriesError::Start(1.0))
        );
        assert!(Series::steps(vec![step(0.0, 1.0), step(0.0, 2.0)], false).is_err());
        assert!(Series::steps(vec![step(0.0, -1.0)], false).is_err());
        assert!(Series::steps(vec![step(0.0, f64::NAN)], false).is_err());
        assert!(Series::steps(vec![step(0.0, 1.0), step(90_000.0, 1.0)], true).is_err());
    }
}
