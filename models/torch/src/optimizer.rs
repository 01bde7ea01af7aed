//! AdamW, with its state in tensors of ours, since tch's optimizers cannot save theirs.

use tch::Tensor;

/// Knobs of AdamW. The learning rate is constant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptimizerSettings {
    /// Size of a step; larger learns faster until it diverges.
    pub learning_rate: f64,
    /// Memory of the mean gradient, in 0..1.
    pub beta1: f64,
    /// Memory of the mean squared gradient, in 0..1.
    pub beta2: f64,
    /// Keeps the step finite where gradients vanish.
    pub epsilon: f64,
    /// Share of a matrix's weights, times the learning rate, that a step takes off; gains of
    /// norms do not decay.
    pub weight_decay: f64,
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
        }
    }
}

/// AdamW (decoupled weight decay, bias correction) over a fixed list of weights.
#[derive(Debug)]
pub(crate) struct AdamW {
    settings: OptimizerSettings,
    steps: i32,
    moments: Vec<Moments>,
}

/// What AdamW remembers of one weight tensor, in its shape.
#[derive(Debug)]
struct Moments {
    mean: Tensor,
    mean_square: Tensor,
}

impl AdamW {
    pub(crate) fn new<'a>(
        settings: OptimizerSettings,
        weights: impl Iterator<Item = &'a Tensor>,
    ) -> Self {
        let moments = weights
            .map(|weight| Moments {
                mean: weight.zeros_like().set_requires_grad(false),
                mean_square: weight.zeros_like().set_requires_grad(false),
            })
            .collect();
        Self {
            settings,
            steps: 0,
            moments,
        }
    }

    /// Takes one step along the weights' gradients and zeroes these. The weights come in the
    /// order of [`AdamW::new`].
    pub(crate) fn step<'a>(&mut self, weights: impl Iterator<Item = &'a Tensor>) {
        self.steps += 1;
        let OptimizerSettings {
            learning_rate,
            beta1,
            beta2,
            epsilon,
            weight_decay,
        } = self.settings;
        let mean_scale = 1.0 / (1.0 - beta1.powi(self.steps));
        let square_scale = 1.0 / (1.0 - beta2.powi(self.steps));
        tch::no_grad(|| {
            for (weight, moments) in weights.zip(&mut self.moments) {
                let mut gradient = weight.grad();
                if !gradient.defined() {
                    continue;
                }
                moments.mean *= beta1;
                moments.mean += &gradient * (1.0 - beta1);
                moments.mean_square *= beta2;
                moments.mean_square += gradient.square() * (1.0 - beta2);
                let size = (&moments.mean_square * square_scale).sqrt() + epsilon;
                let step = &moments.mean * (learning_rate * mean_scale) / size;
                let mut weight = weight.detach();
                if weight.dim() > 1 {
                    weight *= 1.0 - learning_rate * weight_decay;
                }
                weight -= step;
                let _ = gradient.zero_();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: OptimizerSettings = OptimizerSettings {
        learning_rate: 0.1,
        beta1: 0.5,
        beta2: 0.75,
        epsilon: 1e-3,
        weight_decay: 0.2,
    };

    /// Two steps with the gradients 2 and -1, worked by hand:
    /// step 1: m = 1, v = 1; corrected 2 and 4; 2 / 2.001.
    /// step 2: m = 0, v = 1; corrected 0; only decay is left.
    #[test]
    fn two_steps_match_a_calculation_by_hand() {
        let mut weight = Tensor::from_slice(&[3f32])
            .view([1, 1])
            .set_requires_grad(true);
        let mut optimizer = AdamW::new(SETTINGS, std::iter::once(&weight));
        let after_one = 3.0 * (1.0 - 0.02) - 0.1 * 2.0 / 2.001;
        for (factor, expected) in [(2.0, after_one), (-1.0, after_one * 0.98)] {
            (&weight * factor).sum(tch::Kind::Float).backward();
            optimizer.step(std::iter::once(&weight));
            let actual = weight.double_value(&[0, 0]);
            assert!((actual - expected).abs() < 1e-6, "{actual} {expected}");
            assert_eq!(weight.grad().double_value(&[0, 0]), 0.0);
        }
        weight = weight.detach();
        assert_eq!(weight.size(), [1, 1]);
    }

    #[test]
    fn gains_do_not_decay_and_idle_weights_stay() {
        let gain = Tensor::from_slice(&[1f32, 1.0]).set_requires_grad(true);
        let idle = Tensor::from_slice(&[5f32]).set_requires_grad(true);
        let mut optimizer = AdamW::new(SETTINGS, [&gain, &idle].into_iter());
        (&gain * Tensor::from_slice(&[0f32, 4.0]))
            .sum(tch::Kind::Float)
            .backward();
        optimizer.step([&gain, &idle].into_iter());
        assert_eq!(gain.double_value(&[0]), 1.0);
        assert!((gain.double_value(&[1]) - (1.0 - 0.1 * 4.0 / 4.001)).abs() < 1e-6);
        assert_eq!(idle.double_value(&[0]), 5.0);
    }
}
