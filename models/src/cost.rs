//! What a micro-batch costs: bytes over a boundary, operations, parameters.

use serde::{Deserialize, Serialize};

use crate::ModelSpec;

/// The shape of one micro-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
        self.tokens() * u64::from(model.hidden) * u64::from(self.bytes_per_element)
    }
}
