//! Times of whole stages taken apart into their parts.
//!
//! A round times several stages one right after the other, so that what drifts (clocks, neighbours, temperature) drifts for
//! all of them alike. The parts are differences of the stages' medians over all rounds, so that one-layer stages are what was measured;
//! the 5th and the 95th percentile are those of the differences within rounds. A whole model is timed besides and used for nothing but to say by how much
//! the sum of its parts misses it.

use serde::{Deserialize, Serialize};

use crate::{Part, Parts, StagePlace};

/// Layers of the stages that have few.
pub const FEW_LAYERS: u32 = 1;
/// Layers of the stage that has many; the difference to the few is what layers take.
pub const MANY_LAYERS: u32 = 4;
/// Layers of the whole model that checks the sum.
pub const WHOLE_LAYERS: u32 = 3;

/// Fewest rounds that have percentiles worth the name.
pub const FEWEST_ROUNDS: usize = 5;

/// Standard error of a median over that of a mean, for normal noise.
const MEDIAN_OVER_MEAN: f64 = 1.2533;
/// Interquartile range of normal noise over its standard deviation.
const QUARTILES_OVER_DEVIATION: f64 = 1.349;

/// What was timed in one round, seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    /// A stage of [`FEW_LAYERS`] layers between two others.
    pub few: Part<f64>,
    /// A stage of [`MANY_LAYERS`] layers between two others.
    pub many: Part<f64>,
    /// The first stage, of [`FEW_LAYERS`] layers.
    pub first: Part<f64>,
    /// The last stage, of [`FEW_LAYERS`] layers.
    pub last: Part<f64>,
    /// A model of [`WHOLE_LAYERS`] layers in one stage.
    pub whole: Part<f64>,
    /// A boundary tensor from bytes onto the device.
    pub copy_in_s: f64,
    /// A boundary tensor from the device to bytes.
    pub copy_out_s: f64,
}

/// A quantity over all rounds, seconds: what follows from the stages' medians, and the spread within rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// 5 % of the rounds are below.
    pub p5: f64,
    /// What follows from medians.
    pub median: f64,
    /// 95 % of them are below.
    pub p95: f64,
}

/// What rounds say together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// The parts of a stage.
    pub parts: Parts<Percentiles>,
    /// Standard error of a layer's median forward and backward, as a share of it.
    pub error_share: f64,
    /// By how much a layer's forward and backward differ between the first and the second half of the rounds, as a share.
    pub drift_share: f64,
    /// How much longer a whole model's forward and backward take than the sum of their parts, as a share; negative where
    /// they take less.
    pub residual_share: f64,
    /// The same of its optimizer step.
    pub step_residual_share: f64,
    /// Rounds that it follows from.
    pub rounds: u32,
}

impl Round {
    /// The median of each quantity over `rounds`.
    fn median_of(rounds: &[Self]) -> Self {
        let over = |of: &dyn Fn(&Self) -> f64| median(&rounds.iter().map(of).collect::<Vec<_>>());
        let stage = |of: fn(&Self) -> &Part<f64>| Part {
            forward_s: over(&|round| of(round).forward_s),
            backward_s: over(&|round| of(round).backward_s),
            step_s: over(&|round| of(round).step_s),
        };
        Self {
            few: stage(|round| &round.few),
            many: stage(|round| &round.many),
            first: stage(|round| &round.first),
            last: stage(|round| &round.last),
            whole: stage(|round| &round.whole),
            copy_in_s: over(&|round| round.copy_in_s),
            copy_out_s: over(&|round| round.copy_out_s),
        }
    }

    fn parts(&self) -> Parts<f64> {
        let layer =
            each(|of| (of(&self.many) - of(&self.few)) / f64::from(MANY_LAYERS - FEW_LAYERS));
        let both_s = self.copy_in_s + self.copy_out_s;
        let mut stage = each(|of| of(&self.few) - f64::from(FEW_LAYERS) * of(&layer));
        stage.forward_s -= both_s;
        stage.backward_s -= both_s;
        let mut embedding = each(|of| of(&self.first) - of(&self.few));
        embedding.forward_s += self.copy_in_s;
        embedding.backward_s += self.copy_out_s;
        let mut head = each(|of| of(&self.last) - of(&self.few));
        head.forward_s += self.copy_out_s;
        head.backward_s += self.copy_in_s;
        Parts {
            layer,
            embedding,
            head,
            stage,
            copy_in_s: self.copy_in_s,
            copy_out_s: self.copy_out_s,
        }
    }
}

impl Fit {
    /// What `rounds` say together; `None` if they are fewer than [`FEWEST_ROUNDS`].
    pub fn of(rounds: &[Round]) -> Option<Self> {
        if rounds.len() < FEWEST_ROUNDS {
            return None;
        }
        let found: Vec<Parts<f64>> = rounds.iter().map(Round::parts).collect();
        let over = |of: &dyn Fn(&Parts<f64>) -> f64| -> Vec<f64> { found.iter().map(of).collect() };
        let central = Round::median_of(rounds).parts();
        let spread = |of: &dyn Fn(&Parts<f64>) -> f64| Percentiles {
            median: of(&central),
            ..percentiles(&over(of))
        };
        let part = |of: fn(&Parts<f64>) -> &Part<f64>| Part {
            forward_s: spread(&|parts| of(parts).forward_s),
            backward_s: spread(&|parts| of(parts).backward_s),
            step_s: spread(&|parts| of(parts).step_s),
        };
        let parts = Parts {
            layer: part(|parts| &parts.layer),
            embedding: part(|parts| &parts.embedding),
            head: part(|parts| &parts.head),
            stage: part(|parts| &parts.stage),
            copy_in_s: spread(&|parts| parts.copy_in_s),
            copy_out_s: spread(&|parts| parts.copy_out_s),
        };
        let layers = over(&|parts| parts.layer.forward_s + parts.layer.backward_s);
        let whole = parts
            .map(|times| times.median)
            .stage(WHOLE_LAYERS, StagePlace::Only);
        let beyond = |of: &dyn Fn(&Part<f64>) -> f64, sum_s: f64| {
            let measured: Vec<f64> = rounds.iter().map(|round| of(&round.whole)).collect();
            let median_s = median(&measured);
            (median_s - sum_s) / median_s
        };
        let (early, late) = layers.split_at(layers.len() / 2);
        let median_s = median(&layers);
        Some(Self {
            parts,
            error_share: error_of_median(&layers) / median_s.abs(),
            drift_share: (median(late) - median(early)) / median_s.abs(),
            residual_share: beyond(
                &|whole| whole.forward_s + whole.backward_s,
                whole.micro_batch_s(),
            ),
            step_residual_share: beyond(&|whole| whole.step_s, whole.step_s),
            rounds: u32::try_from(rounds.len()).unwrap_or(u32::MAX),
        })
    }
}

/// The value that half of `values` are below.
///
/// # Panics
/// Without values.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

fn each(value: impl Fn(&dyn Fn(&Part<f64>) -> f64) -> f64) -> Part<f64> {
    Part {
        forward_s: value(&|part| part.forward_s),
        backward_s: value(&|part| part.backward_s),
        step_s: value(&|part| part.step_s),
    }
}

pub(crate) fn percentiles(values: &[f64]) -> Percentiles {
    Percentiles {
        p5: quantile(values, 0.05),
        median: median(values),
        p95: quantile(values, 0.95),
    }
}

/// Standard error of the median of `values`, from their quartiles. `values` is not empty.
pub(crate) fn error_of_median(values: &[f64]) -> f64 {
    let quartiles = quantile(values, 0.75) - quantile(values, 0.25);
    MEDIAN_OVER_MEAN * quartiles / QUARTILES_OVER_DEVIATION / (values.len() as f64).sqrt()
}

/// The value below which `share` of `values` lie, between its two neighbours in proportion. `values` is not empty.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (place - place.floor()) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth() -> Parts<f64> {
        let part = |forward_s, backward_s, step_s| Part {
            forward_s,
            backward_s,
            step_s,
        };
        Parts {
            layer: part(2.0, 5.0, 3.0),
            embedding: part(0.5, 0.75, 10.0),
            head: part(4.0, 6.0, 11.0),
            stage: part(0.25, 0.125, 1.0),
            copy_in_s: 0.01,
            copy_out_s: 0.02,
        }
    }

    /// A device that takes `factor` times as long as [`truth`] says.
    fn round(factor: f64) -> Round {
        let stage = |layers, place| {
            let takes = truth().stage(layers, place);
            takes.map(|seconds| factor * seconds)
        };
        Round {
            few: stage(FEW_LAYERS, StagePlace::Middle),
            many: stage(MANY_LAYERS, StagePlace::Middle),
            first: stage(FEW_LAYERS, StagePlace::First),
            last: stage(FEW_LAYERS, StagePlace::Last),
            whole: stage(WHOLE_LAYERS, StagePlace::Only),
            copy_in_s: factor * truth().copy_in_s,
            copy_out_s: factor * truth().copy_out_s,
        }
    }

    fn assert_close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    }

    #[test]
    fn known_parts_come_out_of_whole_stages() {
        let fit = Fit::of(&[round(1.0); 5]).unwrap();
        let found = fit.parts.map(|times| times.median);
        for (found, expected) in [
            (found.layer, truth().layer),
            (found.embedding, truth().embedding),
            (found.head, truth().head),
            (found.stage, truth().stage),
        ] {
            assert_close(found.forward_s, expected.forward_s);
            assert_close(found.backward_s, expected.backward_s);
            assert_close(found.step_s, expected.step_s);
        }
        assert_close(found.copy_in_s, 0.01);
        assert_close(found.copy_out_s, 0.02);
        assert_close(fit.residual_share, 0.0);
        assert_close(fit.step_residual_share, 0.0);
        assert_eq!(
            (fit.error_share, fit.drift_share, fit.rounds),
            (0.0, 0.0, 5)
        );
    }

    #[test]
    fn a_few_disturbed_rounds_move_percentiles_and_no_median() {
        let mut rounds = vec![round(1.0); 18];
        rounds.extend([round(3.0), round(10.0)]);
        let layer = Fit::of(&rounds).unwrap().parts.layer;
        assert_close(layer.forward_s.median, 2.0);
        assert_close(layer.forward_s.p5, 2.0);
        assert!(layer.forward_s.p95 > 6.0, "{layer:?}");
    }

    #[test]
    fn drift_and_noise_are_shares_of_a_layer() {
        let heating: Vec<Round> = (0..10)
            .map(|k| round(if k < 5 { 1.0 } else { 1.2 }))
            .collect();
        let fit = Fit::of(&heating).unwrap();
        assert_close(fit.drift_share, 0.2 / 1.1);
        assert!(fit.error_share > 0.05, "{}", fit.error_share);
    }

    #[test]
    fn a_whole_that_is_more_than_its_parts_shows() {
        let mut rounds = [round(1.0); 5];
        for round in &mut rounds {
            round.whole.forward_s += 1.0;
            round.whole.step_s *= 0.5;
        }
        let fit = Fit::of(&rounds).unwrap();
        let whole = truth().stage(WHOLE_LAYERS, StagePlace::Only);
        assert_close(fit.residual_share, 1.0 / (whole.micro_batch_s() + 1.0));
        assert_close(fit.step_residual_share, -1.0);
        assert_eq!(Fit::of(&rounds[..4]), None);
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        let values = [4.0, 1.0, 2.0, 3.0];
        assert_eq!(quantile(&values, 0.5), 2.5);
        assert_eq!((quantile(&values, 0.0), quantile(&values, 1.0)), (1.0, 4.0));
        assert_eq!(quantile(&[7.0], 0.95), 7.0);
    }
}
