//! The shape of a transformer.

use serde::{Deserialize, Serialize};

/// Shape of a decoder-only transformer; enough to build it, to cost it and to split it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// Transformer blocks.
    pub layers: u32,
    /// Width of the residual stream, in elements.
    pub hidden: u32,
    /// Query heads of attention.
    pub heads: u32,
    /// Key and value heads; `heads` is a multiple of it (grouped-query attention).
    pub kv_heads: u32,
    /// Elements of one head; even, since rotary positions turn pairs.
    pub head_size: u32,
    /// Inner width of the feed-forward block, in elements.
    pub feed_forward: u32,
    /// Gated (SwiGLU, three matrices) or plain (GELU, two matrices) feed-forward.
    pub gated: bool,
    /// Token ids the embedding and the head know.
    pub vocabulary: u32,
}

/// Why a model's numbers do not make a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// A number that has to be at least one is zero.
    #[error("`{key}` is 0; it has to be at least 1")]
    Zero {
        /// The scenario key.
        key: &'static str,
    },
    /// Query heads cannot be shared out over the key/value heads.
    #[error("`heads` = {heads} is not a multiple of `kv_heads` = {kv_heads}")]
    Heads {
        /// Query heads.
        heads: u32,
        /// Key and value heads.
        kv_heads: u32,
    },
    /// Rotary positions need an even head size.
    #[error(
        "`head_size` = {0} is odd; rotary positions turn pairs of elements, so it has to be even"
    )]
    OddHead(u32),
}

impl ModelSpec {
    /// Checks what the type cannot say.
    pub fn validate(&self) -> Result<(), ModelError> {
        for (key, value) in [
            ("layers", self.layers),
            ("hidden", self.hidden),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_size", self.head_size),
            ("feed_forward", self.feed_forward),
            ("vocabulary", self.vocabulary),
        ] {
            if value == 0 {
                return Err(ModelError::Zero { key });
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(ModelError::Heads {
                heads: self.heads,
                kv_heads: self.kv_heads,
            });
        }
        if !self.head_size.is_multiple_of(2) {
            return Err(ModelError::OddHead(self.head_size));
        }
        Ok(())
    }
}
