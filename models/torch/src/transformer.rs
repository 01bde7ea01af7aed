//! The model: a decoder-only transformer with pre-norm RMSNorm, rotary positions, grouped-query
//! causal attention, a gated or plain feed-forward and an untied head.
//!
//! A model of `L` layers has `L·W + 2·h·V` weights in matrices (the count that costs are made
//! with) and `(2·L + 1)·h` more in the norms' gains.

use bace_models::ModelSpec;
use tch::{Device, Tensor};

use crate::weights::Seeded;

/// Keeps a norm finite on a row of zeros.
const NORM_EPSILON: f64 = 1e-6;
/// Slowest turn of the rotary positions, in tokens per radian.
const ROTARY_BASE: f64 = 10_000.0;
/// Standard deviation of the embedding's first weights.
const EMBEDDING_DEVIATION: f64 = 0.1;

/// Turns token ids into the residual stream.
#[derive(Debug)]
pub(crate) struct Embedding {
    table: Tensor, // (vocabulary, hidden)
}

/// One transformer block.
#[derive(Debug)]
pub(crate) struct Layer {
    heads: i64,
    kv_heads: i64,
    head_size: i64,
    gated: bool,
    attention_gain: Tensor,    // (hidden)
    query_key_value: Tensor,   // ((heads + 2 kv_heads) head_size, hidden)
    attention_output: Tensor,  // (hidden, heads head_size)
    feed_forward_gain: Tensor, // (hidden)
    inner: Tensor,             // (feed_forward, hidden), or twice the rows: gate, then value
    outer: Tensor,             // (hidden, feed_forward)
}

/// Turns the residual stream into the loss.
#[derive(Debug)]
pub(crate) struct Head {
    gain: Tensor,       // (hidden)
    projection: Tensor, // (vocabulary, hidden)
}

/// Cosines and sines of the rotary positions of one sequence length.
#[derive(Debug)]
pub(crate) struct Rotary {
    cosine: Tensor, // (tokens, head_size)
    sine: Tensor,   // (tokens, head_size), the first half negated
}

impl Embedding {
    pub(crate) fn new(spec: &ModelSpec, seed: u64, device: Device) -> Self {
        let mut seeded = Seeded::new(seed, "embedding", device);
        let (rows, columns) = (i64::from(spec.vocabulary), i64::from(spec.hidden));
        Self {
            table: seeded.matrix(rows, columns, EMBEDDING_DEVIATION),
        }
    }

    /// (batch, tokens) of ids to (batch, tokens, hidden).
    pub(crate) fn forward(&self, tokens: &Tensor) -> Tensor {
        Tensor::embedding(&self.table, tokens, -1, false, false)
    }

    pub(crate) fn weights(&self) -> Vec<&Tensor> {
        vec![&self.table]
    }
}

impl Layer {
    pub(crate) fn new(spec: &ModelSpec, index: u32, seed: u64, device: Device) -> Self {
        let mut seeded = Seeded::new(seed, &format!("layer {index}"), device);
        let [hidden, heads, kv_heads, head_size, feed_forward] = [
            spec.hidden,
            spec.heads,
            spec.kv_heads,
            spec.head_size,
            spec.feed_forward,
        ]
        .map(i64::from);
        // What a matrix puts out is about as large as what it takes in; the sum of all branches
        // on the residual stream is about as large as one.
        let deviation = |inputs: i64| 1.0 / (inputs as f64).sqrt();
        let branches = (2.0 * f64::from(spec.layers)).sqrt();
        let inner_rows = feed_forward * if spec.gated { 2 } else { 1 };
        let attended = heads * head_size;
        Self {
            heads,
            kv_heads,
            head_size,
            gated: spec.gated,
            attention_gain: seeded.gain(hidden),
            query_key_value: seeded.matrix(
                (heads + 2 * kv_heads) * head_size,
                hidden,
                deviation(hidden),
            ),
            attention_output: seeded.matrix(hidden, attended, deviation(attended) / branches),
            feed_forward_gain: seeded.gain(hidden),
            inner: seeded.matrix(inner_rows, hidden, deviation(hidden)),
            outer: seeded.matrix(hidden, feed_forward, deviation(feed_forward) / branches),
        }
    }

    /// (batch, tokens, hidden) to the same shape.
    pub(crate) fn forward(&self, stream: &Tensor, rotary: &Rotary) -> Tensor {
        let stream = stream + self.attention(&norm(stream, &self.attention_gain), rotary);
        &stream + self.feed_forward(&norm(&stream, &self.feed_forward_gain))
    }

    fn attention(&self, input: &Tensor, rotary: &Rotary) -> Tensor {
        let (batch, tokens, _) = input.size3().expect("a stage checks its input's shape");
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        let mut parts = linear(input, &self.query_key_value)
            .view([batch, tokens, heads + 2 * kv_heads, self.head_size])
            .transpose(1, 2) // (batch, heads + 2 kv_heads, tokens, head_size)
            .split_with_sizes([heads + kv_heads, kv_heads], 1)
            .into_iter();
        let mut next = || parts.next().expect("two sizes give two parts");
        let (turning, value) = (next(), next());
        let turned = rotary.turn(&turning).split_with_sizes([heads, kv_heads], 1);
        let (query, key) = (&turned[0], &turned[1]);
        let attended = Tensor::scaled_dot_product_attention(
            query,
            key,
            &value,
            None::<&Tensor>,
            0.0,
            true,
            None,
            heads != kv_heads,
        ); // (batch, heads, tokens, head_size)
        let joined = attended
            .transpose(1, 2)
            .reshape([batch, tokens, heads * self.head_size]);
        linear(&joined, &self.attention_output)
    }

    fn feed_forward(&self, input: &Tensor) -> Tensor {
        let inner = linear(input, &self.inner); // (batch, tokens, feed_forward or twice that)
        let active = if self.gated {
            let halves = inner.chunk(2, -1);
            halves[0].silu() * &halves[1]
        } else {
            inner.gelu("none")
        };
        linear(&active, &self.outer)
    }

    pub(crate) fn weights(&self) -> Vec<&Tensor> {
        vec![
            &self.attention_gain,
            &self.query_key_value,
            &self.attention_output,
            &self.feed_forward_gain,
            &self.inner,
            &self.outer,
        ]
    }
}

impl Head {
    pub(crate) fn new(spec: &ModelSpec, seed: u64, device: Device) -> Self {
        let mut seeded = Seeded::new(seed, "head", device);
        let (rows, columns) = (i64::from(spec.vocabulary), i64::from(spec.hidden));
        Self {
            gain: seeded.gain(columns),
            projection: seeded.matrix(rows, columns, 1.0 / (columns as f64).sqrt()),
        }
    }

    /// (batch, tokens, hidden) and (batch, tokens) of ids to the mean cross-entropy, in nats.
    pub(crate) fn loss(&self, stream: &Tensor, targets: &Tensor) -> Tensor {
        let logits = linear(&norm(stream, &self.gain), &self.projection); // (batch, tokens, vocabulary)
        logits
            .flatten(0, 1)
            .cross_entropy_for_logits(&targets.flatten(0, 1))
    }

    pub(crate) fn weights(&self) -> Vec<&Tensor> {
        vec![&self.gain, &self.projection]
    }
}

impl Rotary {
    pub(crate) fn new(tokens: i64, head_size: i64, device: Device) -> Self {
        let half = head_size / 2;
        let angle = |index: i64| {
            let (token, pair) = (index / head_size, index % half);
            token as f64 * ROTARY_BASE.powf(-2.0 * pair as f64 / head_size as f64)
        };
        let sign = |index: i64| if index % head_size < half { -1.0 } else { 1.0 };
        let table = |value: &dyn Fn(i64) -> f64| {
            let values: Vec<f32> = (0..tokens * head_size).map(|i| value(i) as f32).collect();
            Tensor::from_slice(&values)
                .view([tokens, head_size])
                .to_device(device)
        };
        Self {
            cosine: table(&|index| angle(index).cos()),
            sine: table(&|index| sign(index) * angle(index).sin()),
        }
    }

    /// Turns the pair of elements (i, i + head_size/2) of each head by its token's angle:
    /// (batch, heads, tokens, head_size) to the same shape.
    fn turn(&self, heads: &Tensor) -> Tensor {
        let half = heads.size()[3] / 2;
        heads * &self.cosine + heads.roll([half], [3]) * &self.sine
    }
}

/// Divides each row by its root mean square and applies the gain.
fn norm(input: &Tensor, gain: &Tensor) -> Tensor {
    input.rms_norm(gain.size(), Some(gain), NORM_EPSILON)
}

fn linear(input: &Tensor, matrix: &Tensor) -> Tensor {
    input.linear(matrix, None::<&Tensor>)
}
