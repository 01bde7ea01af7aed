//! What a model costs: bytes over a boundary, operations, parameters, memory.
//!
//! Operations are real numbers (they only become times); parameters and bytes are whole, computed in 128 bits
//! and capped at `u64::MAX`, so that absurd sizes cannot wrap around into small ones.

use serde::{Deserialize, Serialize};

use crate::ModelSpec;

/// Bytes of weights, gradients and Adam state a parameter takes in mixed-precision training: 2 + 2 for
/// weight and gradient, 4 for the master weight, 4 + 4 for the moments.
pub const STATE_BYTES_PER_PARAMETER: u64 = 16;

/// Operations of forward and backward together, as a multiple of the forward's.
pub const FORWARD_AND_BACKWARD: f64 = 3.0;

/// Bytes of an activation kept for the backward, in mixed precision.
const KEPT_BYTES_PER_ELEMENT: u64 = 2;

/// Bytes of one logit while the loss and its gradient are computed: one `f32` each.
const LOGIT_BYTES: u64 = 8;

/// The shape of one micro-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MicroBatchShape {
    /// Sequences of the micro-batch.
    pub sequences: u32,
    /// Tokens of a sequence.
    pub sequence: u32,
    /// Bytes of one element where it crosses a stage boundary.
    pub bytes_per_element: u32,
}

impl MicroBatchShape {
    /// Tokens of the micro-batch, τ.
    pub fn tokens(&self) -> u64 {
        u64::from(self.sequences) * u64::from(self.sequence)
    }

    /// Bytes over one stage boundary, one direction, one micro-batch: A = τ·h·e.
    pub fn boundary_bytes(&self, model: &ModelSpec) -> u64 {
        capped(
            u128::from(self.tokens())
                * u128::from(model.hidden)
                * u128::from(self.bytes_per_element),
        )
    }

    /// Forward operations of one layer on one micro-batch: F = τ·(2·W + 2·s·n·q), causal attention.
    pub fn layer_operations(&self, model: &ModelSpec) -> f64 {
        let attention =
            f64::from(self.sequence) * f64::from(model.heads) * f64::from(model.head_size);
        self.tokens() as f64 * (2.0 * model.layer_parameters() as f64 + 2.0 * attention)
    }

    /// Forward operations of the head on one micro-batch: τ·2·h·V.
    pub fn head_operations(&self, model: &ModelSpec) -> f64 {
        self.tokens() as f64 * 2.0 * model.embedding_parameters() as f64
    }

    /// Forward and backward operations of a stage of `layers` layers on one micro-batch.
    pub fn stage_operations(&self, model: &ModelSpec, layers: u32, holds_head: bool) -> f64 {
        let head = if holds_head {
            self.head_operations(model)
        } else {
            0.0
        };
        FORWARD_AND_BACKWARD * (f64::from(layers) * self.layer_operations(model) + head)
    }

    /// Bytes that one layer keeps of one micro-batch from its forward to its backward.
    ///
    /// Two bytes for each of: the block's input, both norms' outputs and the residual between (4·h), queries and the
    /// attention's output (2·n·q), keys and values (2·n_kv·q), and the feed-forward's inner values (gate, up and their product, or
    /// the inner values before and after GELU). Attention is computed in blocks, so no square of the sequence is kept.
    pub fn layer_activation_bytes(&self, model: &ModelSpec) -> u64 {
        let [hidden, heads, kv_heads, head_size, inner] = [
            model.hidden,
            model.heads,
            model.kv_heads,
            model.head_size,
            model.feed_forward,
        ]
        .map(u128::from);
        let feed_forward = if model.gated { 3 * inner } else { 2 * inner };
        let elements = 4 * hidden + 2 * (heads + kv_heads) * head_size + feed_forward;
        capped(
            (u128::from(self.tokens()) * u128::from(KEPT_BYTES_PER_ELEMENT))
                .saturating_mul(elements),
        )
    }
}

impl ModelSpec {
    /// Weights of one layer: W = h·n·q + 2·h·n_kv·q + n·q·h + g·h·f, with g = 3 (gated) or 2.
    pub fn layer_parameters(&self) -> u64 {
        let [hidden, heads, kv_heads, head_size, inner] = [
            self.hidden,
            self.heads,
            self.kv_heads,
            self.head_size,
            self.feed_forward,
        ]
        .map(u128::from);
        let matrices = if self.gated { 3 } else { 2 };
        capped(
            2 * hidden * heads * head_size
                + 2 * hidden * kv_heads * head_size
                + matrices * hidden * inner,
        )
    }

    /// Weights of the embedding, and as many of the head: h·V.
    pub fn embedding_parameters(&self) -> u64 {
        u64::from(self.hidden) * u64::from(self.vocabulary)
    }

    /// Weights of the whole model: P = L·W + 2·h·V.
    pub fn parameters(&self) -> u64 {
        capped(
            u128::from(self.layers) * u128::from(self.layer_parameters())
                + 2 * u128::from(self.embedding_parameters()),
        )
    }

    /// Fewest GPUs of `memory_bytes` that hold weights, gradients and Adam state: K_min = ceil(16·P / memory).
    ///
    /// `u64::MAX` without any memory.
    pub fn fewest_gpus(&self, memory_bytes: u64) -> u64 {
        if memory_bytes == 0 {
            return u64::MAX;
        }
        let state = u128::from(STATE_BYTES_PER_PARAMETER) * u128::from(self.parameters());
        capped(state.div_ceil(u128::from(memory_bytes)))
    }
}

/// What a stage needs of its GPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageMemory {
    /// Weights, gradients and Adam state, bytes.
    pub state_bytes: u64,
    /// Activations kept of one micro-batch between its forward and its backward, bytes.
    pub activation_bytes: u64,
    /// Logits and their gradient, of one micro-batch at a time, bytes; 0 without the head.
    pub working_bytes: u64,
}

impl StageMemory {
    /// The memory of `stage` of a pipeline whose stages hold `layers` layers each.
    pub fn of(model: &ModelSpec, shape: &MicroBatchShape, layers: &[u32], stage: usize) -> Self {
        let own = u128::from(layers[stage]);
        let ends = u128::from(stage == 0) + u128::from(stage + 1 == layers.len());
        let parameters = own * u128::from(model.layer_parameters())
            + ends * u128::from(model.embedding_parameters());
        let logits = if stage + 1 == layers.len() {
            u128::from(shape.tokens())
                .saturating_mul(u128::from(model.vocabulary))
                .saturating_mul(u128::from(LOGIT_BYTES))
        } else {
            0
        };
        Self {
            state_bytes: capped(parameters.saturating_mul(u128::from(STATE_BYTES_PER_PARAMETER))),
            activation_bytes: capped(own * u128::from(shape.layer_activation_bytes(model))),
            working_bytes: capped(logits),
        }
    }

    /// Peak bytes with `in_flight` micro-batches between their forward and their backward.
    pub fn peak_bytes(&self, in_flight: u32) -> u64 {
        let activations = u128::from(self.activation_bytes) * u128::from(in_flight);
        capped(u128::from(self.state_bytes) + u128::from(self.working_bytes) + activations)
    }

    /// Most micro-batches in flight that fit into `memory_bytes`; 0 if not even one does.
    pub fn most_in_flight(&self, memory_bytes: u64) -> u64 {
        memory_bytes
            .saturating_sub(self.state_bytes)
            .saturating_sub(self.working_bytes)
            .checked_div(self.activation_bytes)
            .unwrap_or(u64::MAX)
    }
}

fn capped(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;

    fn tiny() -> ModelSpec {
        ModelSpec {
            layers: 8,
            hidden: 256,
            heads: 4,
            kv_heads: 2,
            head_size: 64,
            feed_forward: 1024,
            gated: false,
            vocabulary: 256,
        }
    }

    #[test]
    fn a_tiny_model_by_hand() {
        let (model, shape) = (
            tiny(),
            MicroBatchShape {
                sequences: 4,
                sequence: 128,
                bytes_per_element: 4,
            },
        );
        // Queries and output 65 536 each, keys and values 32 768 each, two matrices of 262 144.
        assert_eq!(model.layer_parameters(), 720_896);
        assert_eq!(model.parameters(), 8 * 720_896 + 2 * 65_536);
        assert_eq!(shape.boundary_bytes(&model), 524_288);
        assert_eq!(
            shape.layer_operations(&model),
            512.0 * (2.0 * 720_896.0 + 2.0 * 128.0 * 256.0)
        );
        assert_eq!(shape.head_operations(&model), 512.0 * 2.0 * 65_536.0);
        assert_eq!(
            shape.stage_operations(&model, 3, true),
            3.0 * (3.0 * shape.layer_operations(&model) + shape.head_operations(&model))
        );
    }

    #[test]
    fn published_sizes_come_out() {
        // Within 2 % of the sizes in the models' names; untied heads count for those that tie them.
        for (name, billions) in [
            ("llama-3.1-70b", 70.6),
            ("qwen2.5-14b", 14.8),
            ("qwen2.5-32b", 32.8),
            ("flm-101b", 101.0),
        ] {
            let parameters = catalogue::model(name).unwrap().parameters() as f64 / 1e9;
            assert!(
                (parameters / billions - 1.0).abs() < 0.02,
                "{name}: {parameters}"
            );
        }
    }

    #[test]
    fn fewest_gpus_rounds_up_and_survives_no_memory() {
        let model = tiny();
        let state = 16 * model.parameters();
        assert_eq!(model.fewest_gpus(state), 1);
        assert_eq!(model.fewest_gpus(state - 1), 2);
        assert_eq!(model.fewest_gpus(0), u64::MAX);
    }

    #[test]
    fn absurd_sizes_saturate() {
        let model = ModelSpec {
            layers: u32::MAX,
            hidden: u32::MAX,
            heads: u32::MAX,
            kv_heads: u32::MAX,
            head_size: u32::MAX,
            feed_forward: u32::MAX,
            gated: true,
            vocabulary: u32::MAX,
        };
        let shape = MicroBatchShape {
            sequences: u32::MAX,
            sequence: u32::MAX,
            bytes_per_element: u32::MAX,
        };
        assert_eq!(model.parameters(), u64::MAX);
        assert_eq!(shape.boundary_bytes(&model), u64::MAX);
        assert_eq!(shape.layer_activation_bytes(&model), u64::MAX);
        assert_eq!(
            StageMemory::of(&model, &shape, &[u32::MAX], 0).peak_bytes(u32::MAX),
            u64::MAX
        );
    }

    #[test]
    fn memory_limits_what_is_in_flight() {
        let shape = MicroBatchShape {
            sequences: 1,
            sequence: 128,
            bytes_per_element: 2,
        };
        let memory = StageMemory::of(&tiny(), &shape, &[4, 4], 0);
        assert_eq!(memory.working_bytes, 0);
        assert_eq!(memory.most_in_flight(memory.peak_bytes(5)), 5);
        assert_eq!(memory.most_in_flight(memory.peak_bytes(5) - 1), 4);
        assert_eq!(memory.most_in_flight(0), 0);
        let last = StageMemory::of(&tiny(), &shape, &[4, 4], 1);
        assert_eq!(last.working_bytes, 128 * 256 * 8);
        assert_eq!(last.state_bytes, memory.state_bytes);
    }
}
