//! Hashes of weights, by which two trainings of the same model are compared.

use std::fmt;

use tch::Tensor;

use crate::boundary::{Element, write_bytes};

/// A piece of the model that is never split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The embedding.
    Embedding,
    /// The layer of this index in the whole model.
    Layer(u32),
    /// The head with its norm.
    Head,
}

/// A hash of one part's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartDigest {
    /// The part.
    pub part: Part,
    /// BLAKE3 of its weights' elements, fp32 little endian, in a fixed order.
    pub digest: [u8; 32],
}

impl PartDigest {
    pub(crate) fn of(part: Part, weights: &[&Tensor]) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut bytes = Vec::new();
        for weight in weights {
            bytes.resize(weight.numel() * Element::Fp32.size(), 0);
            write_bytes(weight, Element::Fp32, &mut bytes)
                .expect("the buffer was made for this tensor");
            hasher.update(&bytes);
        }
        let digest = *hasher.finalize().as_bytes();
        Self { part, digest }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Embedding => out.write_str("embedding"),
            Part::Layer(index) => write!(out, "layer {index}"),
            Part::Head => out.write_str("head"),
        }
    }
}
