//! Errors of a prediction, their statistics, and the noise floor below which they say nothing.

use crate::totals::{mean, percentile};
use crate::{Figure, Measured, Predicted, Sample};

/// A figure that was predicted once and measured in some of the repeats.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pairing {
    pub predicted: Predicted<f64>,
    /// By repeat; absent where it is not known or not comparable.
    pub measured: Vec<Option<Measured<f64>>>,
}

/// Statistics of errors. In the unit of the errors: shares of what was measured, or that of the figures themselves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorStatistics {
    /// Errors.
    pub count: usize,
    /// Mean of the absolute errors.
    pub mean: f64,
    /// Median of the absolute errors.
    pub median: f64,
    /// 95th percentile of the absolute errors, linear between ranks.
    pub p95: f64,
    /// Largest absolute error.
    pub max: f64,
    /// Mean of the signed errors: positive where the prediction is above what was measured.
    pub bias: f64,
}

/// How far a prediction is off, and how far a repeat is from the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Accuracy {
    /// Of the prediction, over all repeats.
    pub errors: Figure<ErrorStatistics>,
    /// The noise floor: the same statistics with the mean of the other repeats in place of the prediction. Its bias is half of the
    /// 95 % confidence interval (Student's t) of the mean over repeats of each one's bias, since the bias is a mean over repeats too.
    pub noise: Figure<ErrorStatistics>,
}

/// Which of the statistics are at most their noise floor, so that nothing can be claimed of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WithinNoise {
    /// The mean.
    pub mean: bool,
    /// The median.
    pub median: bool,
    /// The 95th percentile.
    pub p95: bool,
    /// The maximum.
    pub max: bool,
    /// The bias, by its absolute value.
    pub bias: bool,
}

/// How an error is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// (predicted − measured) ÷ measured, where that is above 0.
    Share,
    /// predicted − measured, in the figures' own unit.
    Difference,
}

/// Errors under collection.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Errors {
    scale: Scale,
    errors: Vec<f64>,
    /// Errors of the mean of the other repeats.
    noise: Vec<f64>,
    /// The signed errors once more: set of repeats by set, in each repeat by repeat.
    sets: Vec<Vec<Vec<f64>>>,
    /// Whether there are errors of runs among them whose noise is not known, so that it is known of none together.
    lacks_noise: bool,
    /// Pairs without an error: not finite, or nothing measured to divide by.
    pub incomparable: usize,
}

impl Errors {
    /// None yet.
    pub fn new(scale: Scale) -> Self {
        Self {
            scale,
            errors: Vec::new(),
            noise: Vec::new(),
            sets: Vec::new(),
            lacks_noise: false,
            incomparable: 0,
        }
    }

    /// Those of all `pairings`.
    pub fn of<'a>(scale: Scale, pairings: impl IntoIterator<Item = &'a Pairing>) -> Self {
        let mut errors = Self::new(scale);
        for pairing in pairings {
            errors.add(pairing);
        }
        errors
    }

    /// Takes in a figure of every repeat that has it.
    pub fn add(&mut self, pairing: &Pairing) {
        let known = |measured: &Option<Measured<f64>>| measured.filter(|it| it.0.is_finite());
        let others = pairing.measured.iter().filter_map(known);
        let (count, sum) = others.fold((0_usize, 0.0), |(count, sum), it| (count + 1, sum + it.0));
        for (repeat, measured) in pairing.measured.iter().enumerate() {
            let Some(measured) = *measured else { continue };
            match self.error(pairing.predicted, measured) {
                Some(error) => {
                    self.errors.push(error);
                    self.of_repeat(repeat).push(error);
                }
                None => self.incomparable += 1,
            }
            if count > 1 && measured.0.is_finite() {
                let mean_of_others = Predicted((sum - measured.0) / (count - 1) as f64);
                let noise = self.error(mean_of_others, measured);
                self.noise.extend(noise);
            }
        }
    }

    /// Takes in those of other runs. Their repeats are others, whose biases are not compared with these.
    pub fn extend(&mut self, other: &Self) {
        self.lacks_noise |= !other.errors.is_empty() && other.noise().is_none();
        self.sets.extend_from_slice(&other.sets);
        self.errors.extend_from_slice(&other.errors);
        self.noise.extend_from_slice(&other.noise);
        self.incomparable += other.incomparable;
    }

    /// Their statistics; where there are none, `missing` says why.
    pub fn accuracy(&self, missing: &'static str) -> Accuracy {
        Accuracy {
            errors: Figure::new(ErrorStatistics::of(&self.errors), missing),
            noise: match self.lacks_noise {
                true => Figure::Unknown(NO_NOISE_OF_ONE.into()),
                false => Figure::new(self.noise(), NO_NOISE),
            },
        }
    }

    /// The noise floor; absent where no figure has two repeats.
    fn noise(&self) -> Option<ErrorStatistics> {
        let noise = ErrorStatistics::of(&self.noise)?;
        let bias = self.bias_half_width()?;
        Some(ErrorStatistics { bias, ..noise })
    }

    fn error(&self, predicted: Predicted<f64>, measured: Measured<f64>) -> Option<f64> {
        let error = match self.scale {
            Scale::Share => predicted.error(measured),
            Scale::Difference => Some(predicted.0 - measured.0),
        };
        error.filter(|error| error.is_finite())
    }

    /// Half of the 95 % interval of the bias: of each set of repeats that has one, by its share of the errors, added as squares.
    fn bias_half_width(&self) -> Option<f64> {
        let intervals = self.sets.iter().filter_map(|repeats| {
            let known = repeats.iter().filter(|errors| !errors.is_empty());
            let biases: Vec<f64> = known.map(|errors| mean(errors)).collect();
            let count: usize = repeats.iter().map(Vec::len).sum();
            Some((count as f64, Sample::of(&biases)?.half_width?))
        });
        let intervals: Vec<(f64, f64)> = intervals.collect();
        let all: f64 = intervals.iter().map(|(count, _)| count).sum();
        let squares = intervals
            .iter()
            .map(|(count, half_width)| (count / all * half_width).powi(2));
        (!intervals.is_empty()).then(|| squares.sum::<f64>().sqrt())
    }

    fn of_repeat(&mut self, repeat: usize) -> &mut Vec<f64> {
        if self.sets.is_empty() {
            self.sets.push(Vec::new());
        }
        let repeats = &mut self.sets[0];
        if repeats.len() <= repeat {
            repeats.resize(repeat + 1, Vec::new());
        }
        &mut repeats[repeat]
    }
}

const NO_NOISE: &str = "it takes two repeats that have the figure to tell how far they are apart";
const NO_NOISE_OF_ONE: &str = "of one policy among them it is not known, which takes two repeats";

impl ErrorStatistics {
    /// Those of `errors`; none of none.
    fn of(errors: &[f64]) -> Option<Self> {
        if errors.is_empty() {
            return None;
        }
        let mut sizes: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        Some(Self {
            count: errors.len(),
            mean: mean(&sizes),
            median: percentile(&sizes, 0.5),
            p95: percentile(&sizes, 0.95),
            max: percentile(&sizes, 1.0),
            bias: mean(errors),
        })
    }
}

impl Accuracy {
    /// Which statistics are at most their noise floor; absent where one of both is not known.
    pub fn within_noise(&self) -> Option<WithinNoise> {
        let (errors, noise) = (self.errors.known()?, self.noise.known()?);
        Some(WithinNoise {
            mean: errors.mean <= noise.mean,
            median: errors.median <= noise.median,
            p95: errors.p95 <= noise.p95,
            max: errors.max <= noise.max,
            bias: errors.bias.abs() <= noise.bias,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairing(predicted: f64, measured: &[f64]) -> Pairing {
        Pairing {
            predicted: Predicted(predicted),
            measured: measured.iter().map(|&it| Some(Measured(it))).collect(),
        }
    }

    fn accuracy(pairings: &[Pairing]) -> Accuracy {
        Errors::of(Scale::Share, pairings).accuracy("nothing")
    }

    fn close(one: f64, two: f64) -> bool {
        (one - two).abs() <= 1e-12 * (1.0 + one.abs())
    }

    #[test]
    fn statistics_of_known_errors() {
        let all = [
            pairing(1.1, &[1.0]),
            pairing(1.8, &[2.0]),
            pairing(4.0, &[4.0]),
        ];
        let errors = *accuracy(&all).errors.known().unwrap();
        assert_eq!(errors.count, 3);
        assert!(close(errors.mean, 0.2 / 3.0), "{errors:?}");
        assert!(
            close(errors.median, 0.1) && close(errors.max, 0.1),
            "{errors:?}"
        );
        assert!(close(errors.bias, 0.0), "{errors:?}");
        assert_eq!(accuracy(&all).noise, Figure::Unknown(NO_NOISE.into()));
        assert_eq!(accuracy(&all).within_noise(), None);
    }

    #[test]
    fn the_noise_floor_is_the_error_of_the_other_repeats() {
        // Of 1, 2 and 3: 2.5, 2 and 1.5 stand in for the prediction.
        let noise = *accuracy(&[pairing(2.0, &[1.0, 2.0, 3.0])])
            .noise
            .known()
            .unwrap();
        assert_eq!(noise.count, 3);
        assert!(close(noise.mean, (1.5 + 0.0 + 0.5) / 3.0), "{noise:?}");
        assert!(close(noise.max, 1.5), "{noise:?}");
        // The prediction is off by 1, 0 and −1/3: deviation 0.694, and t of two degrees of freedom 4.303.
        assert!((noise.bias - 1.7238).abs() < 1e-3, "{noise:?}");
    }

    #[test]
    fn a_bias_that_repeats_share_is_no_noise() {
        // Repeats 2 % apart one by one, and the prediction 1 % above the mean of each repeat.
        let all: Vec<Pairing> = (0..100)
            .map(|at| {
                let swing = if at % 2 == 0 { 0.01 } else { -0.01 };
                pairing(1.01, &[1.0 + swing, 1.0 - swing, 1.0 + swing])
            })
            .collect();
        let found = accuracy(&all);
        let within = found.within_noise().unwrap();
        assert!(within.mean && !within.bias, "{found:?}");
    }

    #[test]
    fn sets_of_repeats_are_as_wide_as_each_is() {
        let set =
            |predicted: f64| Errors::of(Scale::Difference, &[pairing(predicted, &[1.0, 1.1])]);
        let one = set(1.0).accuracy("nothing").noise.known().unwrap().bias;
        let mut both = set(1.0);
        both.extend(&set(9.0));
        let both = both.accuracy("nothing").noise.known().unwrap().bias;
        assert!(close(both, one / 2.0_f64.sqrt()), "{one} {both}");
    }

    #[test]
    fn a_repeat_that_is_slow_throughout_widens_the_floor_of_the_bias() {
        // One repeat is 2 % slow throughout, the other in step with the prediction.
        let all: Vec<Pairing> = (1..=9)
            .map(|at| pairing(at.into(), &[f64::from(at), 1.02 * f64::from(at)]))
            .collect();
        let found = accuracy(&all);
        let noise = found.noise.known().unwrap();
        // t of one degree of freedom is 12.706; half of the biases' distance stands for the deviation of their mean.
        assert!(
            (noise.bias - 12.706 * 0.02 / 1.02 / 2.0).abs() < 1e-4,
            "{noise:?}"
        );
        let within = found.within_noise().unwrap();
        assert!(within.mean && within.bias, "{found:?}");
    }

    #[test]
    fn what_cannot_be_divided_is_counted_and_not_averaged() {
        let mut odd = vec![
            pairing(1.0, &[0.0, f64::NAN]),
            pairing(f64::NAN, &[1.0, 1.0]),
        ];
        let errors = Errors::of(Scale::Share, &odd);
        assert_eq!(errors.incomparable, 4);
        assert_eq!(errors.accuracy("nothing").errors.reason(), Some("nothing"));
        odd.push(pairing(0.5, &[0.0]));
        let seconds = Errors::of(Scale::Difference, &odd[2..]);
        assert_eq!(
            seconds.accuracy("nothing").errors.known().unwrap().mean,
            0.5
        );
    }

    proptest! {
        #[test]
        fn the_order_of_repeats_does_not_matter(
            rows in proptest::collection::vec((0.1..9.0_f64, proptest::collection::vec(0.1..9.0_f64, 4)), 1..20),
            turn in 0..4_usize,
        ) {
            let all: Vec<Pairing> = rows.iter().map(|(predicted, measured)| pairing(*predicted, measured)).collect();
            let mut turned = all.clone();
            for row in &mut turned {
                row.measured.rotate_left(turn);
            }
            let (one, two) = (accuracy(&all), accuracy(&turned));
            for (one, two) in [(&one.errors, &two.errors), (&one.noise, &two.noise)] {
                let (one, two) = (one.known().unwrap(), two.known().unwrap());
                prop_assert!(close(one.mean, two.mean) && close(one.bias, two.bias));
                prop_assert!(close(one.max, two.max) && close(one.p95, two.p95));
            }
        }

        #[test]
        fn a_prediction_that_came_true_has_no_error(value in 1e-6..1e9_f64, repeats in 1..6_usize) {
            let found = accuracy(&[pairing(value, &vec![value; repeats])]);
            let errors = found.errors.known().unwrap();
            prop_assert_eq!((errors.mean, errors.max, errors.bias), (0.0, 0.0, 0.0));
        }
    }
}
