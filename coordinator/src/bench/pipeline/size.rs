//! What is trained: models of several sizes, each with its batch.

use bace_models::{MicroBatchShape, ModelSpec};

use crate::cli::BenchModel;

/// Bytes of an element at a stage boundary: fp32, as the peer sends it.
const BYTES_PER_ELEMENT: u32 = 4;
/// The job's name in its ledger.
pub const JOB: &str = "bench";
/// Iterations before those that are measured: in the first, allocators and libraries fill.
pub const WARM_UP: u32 = 1;
/// Seed of weights and batches.
pub const SEED: u64 = 7;

/// A model with its batch.
#[derive(Debug, Clone)]
pub struct Size {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its shape.
    pub model: ModelSpec,
    /// Its micro-batch.
    pub shape: MicroBatchShape,
    /// Micro-batches of an iteration.
    pub micro_batches: u32,
    /// Iterations to measure: enough to see their spread, in about ten seconds on two cores.
    pub iterations: u32,
}

impl Size {
    /// The size of this name.
    pub fn of(model: BenchModel) -> Self {
        // Layers, hidden, heads, kv heads, head size, feed-forward, vocabulary; gated; sequences, tokens, micro-batches,
        // iterations.
        let (name, sizes, gated, batch) = match model {
            BenchModel::Tiny => ("tiny", [2, 32, 2, 1, 16, 64, 256], true, [1, 16, 4, 3]),
            BenchModel::Small => (
                "small",
                [8, 256, 4, 4, 64, 1024, 256],
                false,
                [4, 128, 8, 6],
            ),
            BenchModel::Medium => (
                "medium",
                [8, 512, 8, 4, 64, 1408, 4096],
                true,
                [4, 128, 8, 3],
            ),
            BenchModel::Large => (
                "large",
                [12, 768, 12, 4, 64, 2048, 8192],
                true,
                [1, 256, 8, 2],
            ),
        };
        let [
            layers,
            hidden,
            heads,
            kv_heads,
            head_size,
            feed_forward,
            vocabulary,
        ] = sizes;
        let [sequences, sequence, micro_batches, iterations] = batch;
        Self {
            name,
            model: ModelSpec {
                layers,
                hidden,
                heads,
                kv_heads,
                head_size,
                feed_forward,
                gated,
                vocabulary,
            },
            shape: MicroBatchShape {
                sequences,
                sequence,
                bytes_per_element: BYTES_PER_ELEMENT,
            },
            micro_batches,
            iterations,
        }
    }

    /// A scenario of one job that takes all of `stages` GPUs, under plain 1F1B. The GPUs' figures matter to the scheduler
    /// alone: all are alike, and it takes the more the faster the fabric.
    pub fn scenario(&self, stages: u32, iterations: u32) -> String {
        let Self { model, shape, .. } = self;
        format!(
            r#"name = "bench-{name}"
seed = {SEED}

[gpu.any]
peak_tflops = 0.05
mfu = 1.0
memory_gb = 1000
busy_w = 1
idle_w = 1

[[region]]
name = "here"
gpus = {stages}
gpu = "any"
price_usd_per_kwh = 0.1
fabric_gbps = 100

[model.{name}]
layers = {layers}
hidden = {hidden}
heads = {heads}
kv_heads = {kv_heads}
head_size = {head_size}
feed_forward = {feed_forward}
gated = {gated}
vocabulary = {vocabulary}

[[job]]
name = "{JOB}"
model = "{name}"
arrival_s = 0
iterations = {iterations}
micro_batches = {micro_batches}
micro_batch = {sequences}
sequence = {sequence}
bytes_per_element = {bytes}
schedule = "1f1b"
"#,
            name = self.name,
            layers = model.layers,
            hidden = model.hidden,
            heads = model.heads,
            kv_heads = model.kv_heads,
            head_size = model.head_size,
            feed_forward = model.feed_forward,
            gated = model.gated,
            vocabulary = model.vocabulary,
            micro_batches = self.micro_batches,
            sequences = shape.sequences,
            sequence = shape.sequence,
            bytes = shape.bytes_per_element,
        )
    }

    /// Tokens of an iteration.
    pub fn tokens(&self) -> u64 {
        u64::from(self.micro_batches)
            * u64::from(self.shape.sequences)
            * u64::from(self.shape.sequence)
    }
}

#[cfg(test)]
mod tests {
    use bace_engine::Scenario;

    use super::*;

    #[test]
    fn every_size_is_a_scenario_of_one_job() {
        for model in BenchModel::ALL {
            let size = Size::of(model);
            let text = size.scenario(2, 3);
            let scenario = Scenario::parse(&text, size.name, &|_| unreachable!("no file named"));
            let scenario = scenario.expect("a valid scenario");
            assert_eq!(scenario.jobs.len(), 1);
            assert_eq!(scenario.jobs[0].model, size.model);
            assert_eq!(scenario.jobs[0].iterations, 3);
        }
        assert_eq!(Size::of(BenchModel::Small).tokens(), 4096);
    }
}
