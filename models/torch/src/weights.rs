//! First weights, the same for every split and every machine.

use tch::{Device, Kind, Tensor};

/// Elements made at a time, so that a large matrix needs no second copy of itself.
const CHUNK: usize = 1 << 16;

/// A trainable tensor.
#[derive(Debug)]
pub(crate) struct Weight {
    /// What the optimizer works on, and where gradients are summed.
    pub(crate) master: Tensor,
    /// The same numbers as they are computed with; the master itself where that has their kind. Made once a step, since a
    /// copy for each micro-batch would be kept until its backward.
    computed: Tensor,
    kind: Kind,
}

impl Weight {
    /// A weight that is computed with in `kind`.
    pub(crate) fn new(master: Tensor, kind: Kind) -> Self {
        Self {
            computed: master.to_kind(kind),
            master,
            kind,
        }
    }

    /// What to compute with; its gradient arrives at the master.
    pub(crate) fn computed(&self) -> &Tensor {
        &self.computed
    }

    /// Takes over what the optimizer has changed.
    pub(crate) fn refresh(&mut self) {
        if self.master.kind() != self.kind {
            self.computed = self.master.to_kind(self.kind);
        }
    }
}

/// Draws first weights for one part of the model (a layer, the embedding, the head), from the
/// model's seed and the part's name alone.
///
/// The numbers are uniform, not normal, so that they need nothing but exact arithmetic: a normal
/// draw goes through a logarithm that differs between mathematics libraries.
pub(crate) struct Seeded {
    stream: blake3::OutputReader,
    device: Device,
}

impl Seeded {
    /// The source of one part's weights.
    pub(crate) fn new(seed: u64, part: &str, device: Device) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("bace-torch 1 first weights");
        hasher.update(&seed.to_le_bytes()).update(part.as_bytes());
        Self {
            stream: hasher.finalize_xof(),
            device,
        }
    }

    /// A trainable matrix (rows, columns) with mean 0 and this standard deviation.
    pub(crate) fn matrix(&mut self, rows: i64, columns: i64, deviation: f64) -> Tensor {
        let elements = usize::try_from(rows * columns).expect("a size is not negative");
        // A uniform number in -1..1 has the standard deviation 1/sqrt(3).
        let scale = (deviation * 3f64.sqrt()) as f32;
        let mut values = Vec::with_capacity(elements);
        let mut bytes = vec![0; 4 * CHUNK.min(elements)];
        while values.len() < elements {
            let count = CHUNK.min(elements - values.len());
            self.stream.fill(&mut bytes[..4 * count]);
            values.extend(bytes[..4 * count].chunks_exact(4).map(|word| {
                let word = i32::from_le_bytes([word[0], word[1], word[2], word[3]]);
                // The upper 24 bits fit an fp32 exactly.
                (word >> 8) as f32 / (1 << 23) as f32 * scale
            }));
        }
        trainable(
            Tensor::from_slice(&values).view([rows, columns]),
            self.device,
        )
    }

    /// A trainable gain of a norm: ones.
    pub(crate) fn gain(&self, size: i64) -> Tensor {
        trainable(
            Tensor::ones([size], (Kind::Float, Device::Cpu)),
            self.device,
        )
    }
}

fn trainable(tensor: Tensor, device: Device) -> Tensor {
    tensor.to_device(device).set_requires_grad(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_part_and_seed_give_the_same_weights() {
        let draw = |seed, part| Seeded::new(seed, part, Device::Cpu).matrix(300, 300, 0.5);
        assert!(draw(1, "layer 3") == draw(1, "layer 3"));
        assert!(draw(1, "layer 3") != draw(1, "layer 4"));
        assert!(draw(1, "layer 3") != draw(2, "layer 3"));
    }

    #[test]
    fn mean_and_deviation_are_as_asked() {
        let weights = Seeded::new(7, "head", Device::Cpu).matrix(500, 400, 0.25);
        let mean = weights.mean(Kind::Double).double_value(&[]);
        let deviation = weights.std(true).double_value(&[]);
        assert!(mean.abs() < 0.002, "{mean}");
        assert!((deviation - 0.25).abs() < 0.002, "{deviation}");
    }
}
