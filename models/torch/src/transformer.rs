//! The model: a decoder-only transformer with pre-norm RMSNorm, rotary positions, grouped-query
//! causal attention, a gated or plain feed-forward and an untied head. The residual stream has the
//! numbers of the [`Precision`].
//!
//! A model of `L` layers has `L·W + 2·h·V` weights in matrices (the count that costs are made
//! with) and `(2·L + 1)·h` more in the norms' gains.

use bace_models::ModelSpec;
use tch::{Device, Kind, Reduction, Tensor};

use crate::precision::Precision;
use crate::weights::{Seeded, Weight};

/// Keeps a norm finite on a row of zeros.
const NORM_EPSILON: f64 = 1e-6;
/// Slowest turn of the rotary positions, in tokens per radian.
const ROTARY_BASE: f64 = 10_000.0;
/// Standard deviation of the embedding's first weights.
const EMBEDDING_DEVIATION: f64 = 0.1;

/// No target is left out of the loss: the id that would be is no token's.
const NO_IGNORED: i64 = -100;

/// Where weights live, and in which numbers they are computed with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) device: Device,
    pub(crate) precision: Precision,
}

/// Turns token ids into the residual stream.
#[derive(Debug)]
pub(crate) struct Embedding {
    table: Tensor, // (vocabulary, hidden)
    kind: Kind,
}

/// One transformer block.
#[derive(Debug)]
pub(crate) struct Layer {
    heads: i64,
    kv_heads: i64,
    head_size: i64,
    gated: bool,
    attention_gain: Weight,    // (hidden)
    query_key_value: Weight,   // ((heads + 2 kv_heads) head_size, hidden)
    attention_output: Weight,  // (hidden, heads head_size)
    feed_forward_gain: Weight, // (hidden)
    inner: Weight,             // (feed_forward, hidden), or twice the rows: gate, then value
    outer: Weight,             // (hidden, feed_forward)
}

/// Turns the residual stream into the loss.
#[derive(Debug)]
pub(crate) struct Head {
    gain: Weight,       // (hidden)
    projection: Weight, // (vocabulary, hidden)
}

/// Cosines and sines of the rotary positions of one sequence length, in fp32: angles need more than 8 bits.
#[derive(Debug)]
pub(crate) struct Rotary {
    cosine: Tensor, // (tokens, head_size)
    sine: Tensor,   // (tokens, head_size), the first half negated
}

impl Embedding {
    pub(crate) fn new(spec: &ModelSpec, seed: u64, place: Place) -> Self {
        let mut seeded = Seeded::new(seed, "embedding", place.device);
        let (rows, columns) = (i64::from(spec.vocabulary), i64::from(spec.hidden));
        Self {
            table: seeded.matrix(rows, columns, EMBEDDING_DEVIATION),
            kind: place.precision.kind(),
        }
    }

    /// (batch, tokens) of ids to (batch, tokens, hidden).
    pub(crate) fn forward(&self, tokens: &Tensor) -> Tensor {
        // From the master, so that the gradients of a token that occurs often are summed in fp32.
        Tensor::embedding(&self.table, tokens, -1, false, false).to_kind(self.kind)
    }

    pub(crate) fn weights(&self) -> Vec<&Tensor> {
        vec![&self.table]
    }
}

impl Layer {
    pub(crate) fn new(spec: &ModelSpec, index: u32, seed: u64, place: Place) -> Self {
        let mut seeded = Seeded::new(seed, &format!("layer {index}"), place.device);
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
        let weight = |master| Weight::new(master, place.precision.kind());
        Self {
            heads,
            kv_heads,
            head_size,
            gated: spec.gated,
            attention_gain: weight(seeded.gain(hidden)),
            query_key_value: weight(seeded.matrix(
                (heads + 2 * kv_heads) * head_size,
                hidden,
                deviation(hidden),
            )),
            attention_output: weight(seeded.matrix(
                hidden,
                attended,
                deviation(attended) / branches,
            )),
            feed_forward_gain: weight(seeded.gain(hidden)),
            inner: weight(seeded.matrix(inner_rows, hidden, deviation(hidden))),
            outer: weight(seeded.matrix(hidden, feed_forward, deviation(feed_forward) / branches)),
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
            &self.attention_gain.master,
            &self.query_key_value.master,
            &self.attention_output.master,
            &self.feed_forward_gain.master,
            &self.inner.master,
            &self.outer.master,
        ]
    }

    /// Takes over what the optimizer has changed.
    pub(crate) fn refresh(&mut self) {
        for weight in [
            &mut self.attention_gain,
            &mut self.query_key_value,
            &mut self.attention_output,
            &mut self.feed_forward_gain,
            &mut self.inner,
            &mut self.outer,
        ] {
            weight.refresh();
        }
    }
}

impl Head {
    pub(crate) fn new(spec: &ModelSpec, seed: u64, place: Place) -> Self {
        let mut seeded = Seeded::new(seed, "head", place.device);
        let weight = |master| Weight::new(master, place.precision.kind());
        let (rows, columns) = (i64::from(spec.vocabulary), i64::from(spec.hidden));
        Self {
            gain: weight(seeded.gain(columns)),
            projection: weight(seeded.matrix(rows, columns, 1.0 / (columns as f64).sqrt())),
        }
    }

    /// (batch, tokens, hidden) and (batch, tokens) of ids to the mean cross-entropy, in nats.
    pub(crate) fn loss(&self, stream: &Tensor, targets: &Tensor) -> Tensor {
        let logits = linear(&norm(stream, &self.gain), &self.projection); // (batch, tokens, vocabulary)
        let (logits, targets) = (widened(logits).flatten(0, 1), targets.flatten(0, 1));
        logits.cross_entropy_loss(&targets, None::<&Tensor>, Reduction::Mean, NO_IGNORED, 0.0)
    }

    pub(crate) fn weights(&self) -> Vec<&Tensor> {
        vec![&self.gain.master, &self.projection.master]
    }

    /// Takes over what the optimizer has changed.
    pub(crate) fn refresh(&mut self) {
        self.gain.refresh();
        self.projection.refresh();
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
        let turned = heads * &self.cosine + heads.roll([half], [3]) * &self.sine;
        turned.to_kind(heads.kind())
    }
}

/// Divides each row by its root mean square and applies the gain.
fn norm(input: &Tensor, gain: &Weight) -> Tensor {
    let gain = gain.computed();
    input.rms_norm(gain.size(), Some(gain), NORM_EPSILON)
}

fn linear(input: &Tensor, matrix: &Weight) -> Tensor {
    input.linear(matrix.computed(), None::<&Tensor>)
}

/// In fp32 what is less.
fn widened(tensor: Tensor) -> Tensor {
    match tensor.kind() {
        Kind::BFloat16 => tensor.to_kind(Kind::Float),
        _ => tensor,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: usize = 2;
    const TOKENS: usize = 5;
    const FP32: Place = Place {
        device: Device::Cpu,
        precision: Precision::Fp32,
    };

    fn spec(gated: bool) -> ModelSpec {
        ModelSpec {
            layers: 2,
            hidden: 6,
            heads: 4,
            kv_heads: 2,
            head_size: 4,
            feed_forward: 10,
            gated,
            vocabulary: 7,
        }
    }

    /// A tensor's elements, row by row.
    fn values(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(tensor.detach().flatten(0, -1).to_kind(Kind::Double)).unwrap()
    }

    fn assert_close(actual: &Tensor, expected: &[f64]) {
        let actual = values(actual);
        assert_eq!(actual.len(), expected.len());
        for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
            let gap = (actual - expected).abs();
            assert!(gap < 1e-5, "element {index}: {actual} {expected}");
        }
    }

    /// A smooth input (batch, tokens, hidden) that repeats nothing.
    fn stream(hidden: i64) -> Tensor {
        let elements = BATCH * TOKENS * hidden as usize;
        let values: Vec<f32> = (0..elements)
            .map(|i| (0.7 * i as f32).sin() * 2.0)
            .collect();
        Tensor::from_slice(&values).view([BATCH as i64, TOKENS as i64, hidden])
    }

    /// rows (.., inputs) times a matrix (outputs, inputs), transposed.
    fn plain_linear(rows: &[f64], matrix: &[f64], inputs: usize) -> Vec<f64> {
        let mut result = Vec::new();
        for row in rows.chunks(inputs) {
            for weights in matrix.chunks(inputs) {
                result.push(row.iter().zip(weights).map(|(x, w)| x * w).sum());
            }
        }
        result
    }

    fn plain_norm(rows: &[f64], gain: &[f64]) -> Vec<f64> {
        let mut result = Vec::new();
        for row in rows.chunks(gain.len()) {
            let square = row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64;
            let scale = 1.0 / (square + NORM_EPSILON).sqrt();
            result.extend(row.iter().zip(gain).map(|(x, g)| x * scale * g));
        }
        result
    }

    /// One head at one token, turned.
    fn plain_turn(head: &[f64], token: usize) -> Vec<f64> {
        let half = head.len() / 2;
        let mut result = head.to_vec();
        for pair in 0..half {
            let speed = ROTARY_BASE.powf(-(pair as f64) / half as f64);
            let (sin, cos) = (token as f64 * speed).sin_cos();
            let (x, y) = (head[pair], head[pair + half]);
            result[pair] = x * cos - y * sin;
            result[pair + half] = y * cos + x * sin;
        }
        result
    }

    fn plain_attention(spec: &ModelSpec, layer: &Layer, input: &[f64]) -> Vec<f64> {
        let [hidden, heads, kv_heads, size] =
            [spec.hidden, spec.heads, spec.kv_heads, spec.head_size].map(|x| x as usize);
        let width = (heads + 2 * kv_heads) * size;
        let projected = plain_linear(input, &values(&layer.query_key_value.master), hidden);
        let head = |sequence: usize, token: usize, head: usize| {
            let start = (sequence * TOKENS + token) * width + head * size;
            &projected[start..start + size]
        };
        let mut attended = Vec::new();
        for (sequence, token, query) in
            (0..BATCH * TOKENS * heads).map(|i| (i / heads / TOKENS, i / heads % TOKENS, i % heads))
        {
            let shared = heads + query / (heads / kv_heads);
            let query = plain_turn(head(sequence, token, query), token);
            let scores: Vec<f64> = (0..=token)
                .map(|past| {
                    let key = plain_turn(head(sequence, past, shared), past);
                    let dot: f64 = query.iter().zip(&key).map(|(q, k)| q * k).sum();
                    (dot / (size as f64).sqrt()).exp()
                })
                .collect();
            let total: f64 = scores.iter().sum();
            attended.extend((0..size).map(|element| {
                (0..=token)
                    .map(|past| {
                        scores[past] / total * head(sequence, past, shared + kv_heads)[element]
                    })
                    .sum::<f64>()
            }));
        }
        plain_linear(
            &attended,
            &values(&layer.attention_output.master),
            heads * size,
        )
    }

    fn plain_layer(spec: &ModelSpec, layer: &Layer, input: &[f64]) -> Vec<f64> {
        let (hidden, feed_forward) = (spec.hidden as usize, spec.feed_forward as usize);
        let add = |left: &[f64], right: &[f64]| -> Vec<f64> {
            left.iter().zip(right).map(|(l, r)| l + r).collect()
        };
        let normed = plain_norm(input, &values(&layer.attention_gain.master));
        let stream = add(input, &plain_attention(spec, layer, &normed));
        let normed = plain_norm(&stream, &values(&layer.feed_forward_gain.master));
        let inner = plain_linear(&normed, &values(&layer.inner.master), hidden);
        let active: Vec<f64> = if spec.gated {
            inner
                .chunks(2 * feed_forward)
                .flat_map(|row| {
                    let (gate, value) = row.split_at(feed_forward);
                    gate.iter()
                        .zip(value)
                        .map(|(g, v)| g / (1.0 + (-g).exp()) * v)
                        .collect::<Vec<_>>()
                })
                .collect()
        } else {
            inner.iter().map(|&x| x * normal_share_below(x)).collect()
        };
        add(
            &stream,
            &plain_linear(&active, &values(&layer.outer.master), feed_forward),
        )
    }

    /// The normal distribution's share below `x`, from its power series.
    fn normal_share_below(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for k in 1..60 {
            term *= x * x / f64::from(2 * k + 1);
            sum += term;
        }
        0.5 + sum * (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt()
    }

    #[test]
    fn a_layer_matches_a_plain_calculation() {
        for gated in [false, true] {
            let spec = spec(gated);
            let layer = Layer::new(&spec, 1, 5, FP32);
            // Gains of one would hide a missing gain.
            let gain = Tensor::linspace(0.5, 1.5, 6, (Kind::Float, Device::Cpu));
            layer.attention_gain.master.detach().copy_(&gain);
            layer.feed_forward_gain.master.detach().copy_(&gain);
            let input = stream(6);
            let rotary = Rotary::new(TOKENS as i64, 4, Device::Cpu);
            let expected = plain_layer(&spec, &layer, &values(&input));
            assert_close(&layer.forward(&input, &rotary), &expected);
        }
    }

    #[test]
    fn rotary_keeps_lengths_and_sees_only_distances() {
        let rotary = Rotary::new(TOKENS as i64, 8, Device::Cpu);
        let heads = stream(8).narrow(1, 0, 1).unsqueeze(1).repeat([1, 1, 5, 1]); // every token alike
        let turned = rotary.turn(&heads);
        let product = turned.matmul(&turned.transpose(2, 3)); // (batch, 1, tokens, tokens)
        for distance in 0..4i64 {
            let first = product.double_value(&[0, 0, 0, distance]);
            let later = product.double_value(&[0, 0, 4 - distance, 4]);
            assert!((first - later).abs() < 1e-4, "{distance}: {first} {later}");
        }
    }

    #[test]
    fn a_token_sees_nothing_of_the_tokens_after_it() {
        let layer = Layer::new(&spec(true), 0, 3, FP32);
        let rotary = Rotary::new(TOKENS as i64, 4, Device::Cpu);
        let input = stream(6);
        let changed = input.copy();
        let _ = changed.narrow(1, 3, 2).fill_(9.0);
        let [before, after] = [&input, &changed].map(|x| layer.forward(x, &rotary));
        assert!(before.narrow(1, 0, 3) == after.narrow(1, 0, 3));
        assert!(before.narrow(1, 3, 2) != after.narrow(1, 3, 2));
    }

    #[test]
    fn the_loss_of_a_head_that_knows_nothing_is_the_logarithm_of_the_vocabulary() {
        let head = Head::new(&spec(true), 1, FP32);
        let _ = head.projection.master.detach().zero_();
        let targets = Tensor::from_slice(&[1i64; BATCH * TOKENS]).view([2, 5]);
        let loss = head.loss(&stream(6), &targets).double_value(&[]);
        assert!((loss - 7f64.ln()).abs() < 1e-6, "{loss}");
    }

    #[test]
    fn weights_are_as_many_as_costs_count_and_the_gains() {
        for gated in [false, true] {
            let spec = spec(gated);
            let count = |weights: Vec<&Tensor>| weights.iter().map(|w| w.numel()).sum::<usize>();
            let layer = count(Layer::new(&spec, 0, 0, FP32).weights());
            let matrices = 6 * 16 + 2 * 6 * 8 + 16 * 6 + if gated { 3 } else { 2 } * 6 * 10;
            assert_eq!(layer, matrices + 2 * 6);
            assert_eq!(count(Embedding::new(&spec, 0, FP32).weights()), 7 * 6);
            assert_eq!(count(Head::new(&spec, 0, FP32).weights()), 7 * 6 + 6);
        }
    }

    /// A weight in double precision, since finite differences need it.
    fn double(weight: &Tensor) -> Tensor {
        let weight = weight.detach().to_kind(Kind::Double);
        weight.set_requires_grad(true)
    }

    #[test]
    fn gradients_match_finite_differences() {
        const STEP: f64 = 1e-5;
        let spec = spec(true);
        let mut embedding = Embedding::new(&spec, 2, FP32);
        let mut layer = Layer::new(&spec, 0, 2, FP32);
        let mut head = Head::new(&spec, 2, FP32);
        for weight in [
            &mut layer.attention_gain,
            &mut layer.query_key_value,
            &mut layer.attention_output,
            &mut layer.feed_forward_gain,
            &mut layer.inner,
            &mut layer.outer,
            &mut head.gain,
            &mut head.projection,
        ] {
            *weight = Weight::new(double(&weight.master), Kind::Double);
        }
        embedding.table = double(&embedding.table);
        embedding.kind = Kind::Double;
        let rotary = Rotary::new(TOKENS as i64, 4, Device::Cpu);
        let ids: Vec<i64> = (0..11).map(|i| i * i % 7).collect();
        let tokens = Tensor::from_slice(&ids[..10]).view([2, 5]);
        let targets = Tensor::from_slice(&ids[1..]).view([2, 5]);
        let loss = || {
            head.loss(
                &layer.forward(&embedding.forward(&tokens), &rotary),
                &targets,
            )
        };
        loss().backward();
        for weight in [embedding.weights(), layer.weights(), head.weights()].concat() {
            let gradient = values(&weight.grad());
            let flat = weight.detach().flatten(0, -1);
            for (index, expected) in gradient.iter().enumerate().step_by(5) {
                let element = flat.get(index as i64);
                let at = |shift: f64| {
                    let _ = element.shallow_clone().g_add_scalar_(shift);
                    let value = loss().double_value(&[]);
                    let _ = element.shallow_clone().g_add_scalar_(-shift);
                    value
                };
                let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                let gap = (slope - expected).abs();
                assert!(gap < 1e-7 + 1e-5 * expected.abs(), "{slope} {expected}");
            }
        }
    }
}
