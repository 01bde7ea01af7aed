//! Models that stand for larger ones.

use crate::ModelSpec;

/// Fewest elements of an attention head, and what its size is a multiple of: rotary positions turn pairs.
const PAIR: u64 = 2;

/// Why a model cannot be scaled to a width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScaleError {
    /// Nothing to scale down.
    #[error("{width} is more than the model's own width, {hidden}")]
    Wider {
        /// The width asked for.
        width: u32,
        /// The model's.
        hidden: u32,
    },
    /// Query heads that share one key and value head would be less than two elements wide.
    #[error(
        "{width} is too narrow for the {heads} query heads that share a key head; use at least {least}"
    )]
    Narrow {
        /// The width asked for.
        width: u32,
        /// Query heads of one key and value head.
        heads: u32,
        /// The least width that serves.
        least: u32,
    },
}

impl ModelSpec {
    /// The small model that stands for this one where it is `width` elements wide and knows `vocabulary` tokens.
    ///
    /// It has as many layers, and is gated if this one is. The feed-forward block keeps its proportion to the width, rounded,
    /// at least 1. Attention keeps its proportion too: one key and value head with the query heads that share one here, each of
    /// the even size that comes nearest to it.
    ///
    /// # Errors
    /// When the width is larger than this model's, or leaves a head fewer than two elements.
    pub fn scaled_to(&self, width: u32, vocabulary: u32) -> Result<Self, ScaleError> {
        let hidden = u64::from(self.hidden);
        if width > self.hidden {
            return Err(ScaleError::Wider {
                width,
                hidden: self.hidden,
            });
        }
        let heads = self.heads / self.kv_heads;
        let attention = u64::from(self.heads) * u64::from(self.head_size);
        // Of one head: width x attention / hidden / heads.
        let (size, parts) = (u64::from(width) * attention, hidden * u64::from(heads));
        if size < PAIR * parts {
            let least = (PAIR * parts).div_ceil(attention);
            return Err(ScaleError::Narrow {
                width,
                heads,
                least: u32::try_from(least).unwrap_or(u32::MAX),
            });
        }
        let narrowed = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Ok(Self {
            layers: self.layers,
            hidden: width,
            heads,
            kv_heads: 1,
            head_size: narrowed(PAIR * nearest(size, PAIR * parts)),
            feed_forward: narrowed(
                nearest(u64::from(width) * u64::from(self.feed_forward), hidden).max(1),
            ),
            gated: self.gated,
            vocabulary,
        })
    }
}

/// The quotient rounded, halves up.
fn nearest(value: u64, by: u64) -> u64 {
    (value + by / 2) / by
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalogue;

    fn scaled(name: &str, width: u32) -> [u32; 6] {
        let model = catalogue::model(name).unwrap();
        let small = model.scaled_to(width, 256).unwrap();
        assert_eq!(
            (small.layers, small.gated, small.vocabulary),
            (model.layers, model.gated, 256)
        );
        [
            small.hidden,
            small.heads,
            small.kv_heads,
            small.head_size,
            small.feed_forward,
            small.layers,
        ]
    }

    #[test]
    fn published_models_keep_their_proportions() {
        assert_eq!(scaled("llama-3.1-70b", 32), [32, 8, 1, 4, 112, 80]);
        assert_eq!(scaled("falcon-40b", 32), [32, 16, 1, 2, 128, 60]);
        assert_eq!(scaled("flm-101b", 32), [32, 1, 1, 32, 128, 80]);
        // 86.4, heads of 6.4.
        assert_eq!(scaled("qwen2.5-14b", 32), [32, 5, 1, 6, 86, 48]);
        // 4096 of 5376 elements in two heads: 24.4.
        assert_eq!(scaled("gemma-3-27b", 32), [32, 2, 1, 12, 128, 62]);
    }

    #[test]
    fn widths_that_make_no_model_are_told() {
        let falcon = catalogue::model("falcon-40b").unwrap();
        assert_eq!(
            falcon.scaled_to(31, 256).unwrap_err().to_string(),
            "31 is too narrow for the 16 query heads that share a key head; use at least 32"
        );
        assert_eq!(
            falcon.scaled_to(8193, 256).unwrap_err().to_string(),
            "8193 is more than the model's own width, 8192"
        );
    }

    proptest! {
        #[test]
        fn what_is_scaled_is_a_model_and_the_least_width_serves(
            hidden in 1u32..1 << 20,
            kv_heads in 1u32..1 << 7,
            grouped in 1u32..1 << 7,
            half_head in 1u32..1 << 13,
            feed_forward in 1u32..1 << 22,
            width in 0u32..1 << 12,
        ) {
            let model = ModelSpec {
                layers: 3,
                hidden,
                heads: kv_heads * grouped,
                kv_heads,
                head_size: 2 * half_head,
                feed_forward,
                gated: true,
                vocabulary: 1,
            };
            match model.scaled_to(width, 256) {
                Ok(small) => {
                    prop_assert_eq!(small.validate(), Ok(()));
                    let exact = f64::from(width) / f64::from(hidden);
                    let inner = f64::from(feed_forward) * exact;
                    prop_assert!((f64::from(small.feed_forward) - inner.max(1.0)).abs() <= 0.5);
                    let head = f64::from(kv_heads * 2 * half_head) * exact;
                    prop_assert!((f64::from(small.head_size) - head).abs() <= 1.0);
                }
                Err(ScaleError::Wider { .. }) => prop_assert!(width > hidden),
                Err(ScaleError::Narrow { least, .. }) => {
                    prop_assert!(least > width);
                    if least <= hidden {
                        prop_assert!(model.scaled_to(least, 256).is_ok());
                        prop_assert!(model.scaled_to(least - 1, 256).is_err());
                    }
                }
            }
        }
    }
}
