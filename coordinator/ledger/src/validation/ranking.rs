//! Whether the prediction puts policies into the order in which they were measured.

use super::Compared;
use crate::{Figure, Sample};

/// Policies in order by one figure, the smaller the better.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// What they are ranked by: `mean_jct_s`, `makespan_s` or `cost_usd`.
    pub figure: &'static str,
    /// Policies as predicted, best first.
    pub predicted: Vec<String>,
    /// Policies as measured, by the mean of their repeats, best first.
    pub measured: Vec<String>,
    /// Kendall's tau-b between both: 1 if every pair of policies is in the same order, −1 if every pair is reversed.
    pub tau_b: Figure,
    /// Pairs of policies in the same order on both sides. No pairs are counted where a policy has one repeat alone.
    pub agreeing: usize,
    /// Pairs that are the other way round: which is predicted to be better, and which was measured to be.
    pub reversed: Vec<(String, String)>,
    /// Pairs that the noise of what was measured does not tell apart, on one side or both.
    pub tied: usize,
}

/// A policy's figure on both sides.
#[derive(Debug, Clone)]
struct Entrant<'a> {
    policy: &'a str,
    predicted: f64,
    measured: f64,
    /// Half of the 95 % confidence interval of the mean; absent for a single repeat.
    half_width: Option<f64>,
}

impl Ranking {
    /// Of all policies that have the figure on both sides.
    pub(super) fn of<'a>(
        figure: &'static str,
        policies: impl Iterator<Item = (&'a str, &'a Compared)>,
    ) -> Self {
        let entrants: Vec<Entrant<'_>> = policies
            .filter_map(|(policy, compared)| Entrant::of(policy, compared))
            .collect();
        let order = |key: fn(&Entrant<'_>) -> f64| {
            let mut order: Vec<&Entrant<'_>> = entrants.iter().collect();
            order.sort_by(|one, two| key(one).total_cmp(&key(two)));
            order
                .iter()
                .map(|entrant| entrant.policy.to_owned())
                .collect()
        };
        let mut ranking = Self {
            figure,
            predicted: order(|entrant| entrant.predicted),
            measured: order(|entrant| entrant.measured),
            tau_b: Figure::Unknown("fewer than two policies have the figure".into()),
            agreeing: 0,
            reversed: Vec::new(),
            tied: 0,
        };
        ranking.count_pairs(&entrants);
        ranking
    }

    /// Counts pairs by hand: ties by noise are not transitive, so that no ranks with ties could be made of them.
    fn count_pairs(&mut self, entrants: &[Entrant<'_>]) {
        if entrants.len() < 2 {
            return;
        }
        let half_widths: Option<Vec<f64>> = entrants.iter().map(|it| it.half_width).collect();
        let Some(half_widths) = half_widths else {
            self.tau_b = Figure::Unknown("one repeat: chance is not known".into());
            return;
        };
        let (mut predicted_ties, mut measured_ties) = (0, 0);
        for (place, one) in entrants.iter().enumerate() {
            for (two, width) in entrants.iter().zip(&half_widths).skip(place + 1) {
                let noise = half_widths[place].hypot(*width);
                let sign = |difference: f64| {
                    if difference.abs() <= noise {
                        0.0
                    } else {
                        difference.signum()
                    }
                };
                let (predicted, measured) = (
                    sign(one.predicted - two.predicted),
                    sign(one.measured - two.measured),
                );
                if predicted == 0.0 || measured == 0.0 {
                    self.tied += 1;
                    predicted_ties += usize::from(measured != 0.0);
                    measured_ties += usize::from(predicted != 0.0);
                } else if predicted == measured {
                    self.agreeing += 1;
                } else {
                    let (better, worse) = if predicted < 0.0 {
                        (one, two)
                    } else {
                        (two, one)
                    };
                    self.reversed
                        .push((better.policy.to_owned(), worse.policy.to_owned()));
                }
            }
        }
        let told = self.agreeing + self.reversed.len();
        let pairs = ((told + predicted_ties) as f64 * (told + measured_ties) as f64).sqrt();
        let tau_b = (self.agreeing as f64 - self.reversed.len() as f64) / pairs;
        let why = "the noise of what was measured ties all policies on one side";
        self.tau_b = Figure::new((pairs > 0.0).then_some(tau_b), why);
    }
}

impl<'a> Entrant<'a> {
    fn of(policy: &'a str, compared: &Compared) -> Option<Self> {
        let predicted = compared.predicted.known()?.0;
        let repeats: Vec<f64> = compared
            .repeats
            .iter()
            .flatten()
            .map(|measured| measured.0)
            .collect();
        let sample = Sample::of(&repeats)?;
        let half_width = sample.half_width;
        let is_known = sample.mean.is_finite() && half_width.is_none_or(f64::is_finite);
        is_known.then_some(Self {
            policy,
            predicted,
            measured: sample.mean,
            half_width,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::errors::Pairing;
    use super::*;
    use crate::{Measured, Predicted};

    fn ranking(policies: &[(&str, f64, &[f64])]) -> Ranking {
        let compared: Vec<(&str, Compared)> = policies
            .iter()
            .map(|&(policy, predicted, measured)| {
                let measured = measured.iter().map(|&it| Some(Measured(it))).collect();
                let pairing = Pairing {
                    predicted: Predicted(predicted),
                    measured,
                };
                (policy, Compared::of(&[pairing], "nothing"))
            })
            .collect();
        Ranking::of(
            "mean_jct_s",
            compared
                .iter()
                .map(|(policy, compared)| (*policy, compared)),
        )
    }

    #[test]
    fn the_same_order_is_one_and_the_reverse_minus_one() {
        let same = ranking(&[
            ("a", 1.0, &[10.0, 10.0]),
            ("b", 2.0, &[11.0, 11.0]),
            ("c", 3.0, &[12.0, 12.0]),
        ]);
        assert_eq!(same.tau_b, Figure::Known(1.0));
        assert_eq!((same.agreeing, same.tied), (3, 0));
        let reverse = ranking(&[
            ("a", 1.0, &[12.0, 12.0]),
            ("b", 2.0, &[11.0, 11.0]),
            ("c", 3.0, &[10.0, 10.0]),
        ]);
        assert_eq!(reverse.tau_b, Figure::Known(-1.0));
        assert_eq!(reverse.reversed[0], ("a".to_owned(), "b".to_owned()));
        assert_eq!(reverse.predicted, ["a", "b", "c"]);
        assert_eq!(reverse.measured, ["c", "b", "a"]);
        let one_swapped = ranking(&[
            ("a", 1.0, &[11.0, 11.0]),
            ("b", 2.0, &[10.0, 10.0]),
            ("c", 3.0, &[12.0, 12.0]),
        ]);
        assert_eq!(one_swapped.tau_b, Figure::Known(1.0 / 3.0));
    }

    #[test]
    fn what_noise_does_not_tell_apart_is_a_tie() {
        // a and b lie within each other's intervals, which are 3.2 wide on either side; c is far off.
        let noisy = ranking(&[
            ("a", 1.0, &[9.5, 10.0]),
            ("b", 2.0, &[9.6, 9.9]),
            ("c", 30.0, &[50.0, 50.1]),
        ]);
        assert_eq!((noisy.agreeing, noisy.tied), (2, 1));
        assert_eq!(noisy.tau_b, Figure::Known(1.0));
        // Told apart by the prediction alone, which costs it.
        let claimed = ranking(&[
            ("a", 1.0, &[9.5, 10.0]),
            ("b", 20.0, &[9.6, 9.9]),
            ("c", 30.0, &[50.0, 50.1]),
        ]);
        assert_eq!((claimed.agreeing, claimed.tied), (2, 1));
        let tau_b = claimed.tau_b.known().unwrap();
        assert!((tau_b - 2.0 / 6.0_f64.sqrt()).abs() < 1e-12, "{tau_b}");
    }

    #[test]
    fn nothing_to_rank_has_a_reason() {
        assert!(
            ranking(&[("a", 1.0, &[1.0])])
                .tau_b
                .reason()
                .unwrap()
                .contains("fewer than two")
        );
        let tied = ranking(&[("a", 1.0, &[1.0, 1.0]), ("b", 1.0, &[1.0, 1.0])]);
        assert!(tied.tau_b.reason().unwrap().contains("ties all policies"));
        assert_eq!(tied.tied, 1);
        assert_eq!(ranking(&[]).tau_b.known(), None);
        let once = ranking(&[("a", 1.0, &[1.0]), ("b", 2.0, &[2.0, 2.0])]);
        assert!(once.tau_b.reason().unwrap().contains("one repeat"));
        assert_eq!((once.agreeing, once.tied), (0, 0));
        assert_eq!(once.measured, ["a", "b"]);
    }
}
