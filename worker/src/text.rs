//! The training text, and what can be learned of a device by training on it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use bace_models::{MicroBatchShape, ModelSpec};
use bace_torch::{
    BatchShape, Corpus, Device, Error, OptimizerSettings, Precision, Training, train_alone,
};

use crate::torch::hexadecimal;

/// How long a device's speed is measured.
const SPEED_TIME: Duration = Duration::from_millis(500);
/// Micro-batches of an iteration by which it is measured: enough that building the stage and its step hardly count.
const SPEED_MICRO_BATCHES: u32 = 16;

/// The training text, loaded once for all stages that a worker runs.
pub struct Text(pub Corpus);

impl Text {
    /// Reads a file or a folder of text; without a path, the Python sources that came with libtorch.
    pub fn load(path: Option<&Path>) -> anyhow::Result<Self> {
        let default = bace_torch::default_corpus_dir();
        let path = path.or(default.as_deref()).context(
            "find text to train on: libtorch's sources are not there; name some with --data",
        )?;
        Ok(Self(Corpus::load(path)?))
    }

    /// Hash of the text, hexadecimal.
    pub fn hash(&self) -> String {
        hexadecimal(&self.0.digest())
    }

    /// Bytes of the text; a token is a byte.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Whether sequences of `tokens` tokens can be cut from it.
    pub fn check(&self, tokens: u32) -> Result<(), Error> {
        self.0.check(BatchShape {
            sequences: 1,
            tokens,
        })
    }

    /// Trains a tiny model on the device: what libtorch loads and compiles at first use is then there, and a
    /// device that does not work is known before a run begins.
    pub fn warm_up(&self, device: Device, precision: Precision) -> Result<(), Error> {
        let training = Training {
            model: ModelSpec {
                layers: 1,
                hidden: 16,
                heads: 2,
                kv_heads: 1,
                head_size: 8,
                feed_forward: 32,
                gated: true,
                vocabulary: 256,
            },
            batch: BatchShape {
                sequences: 1,
                tokens: self.0.bytes().clamp(2, 9) as u32 - 1,
            },
            micro_batches: 1,
            iterations: 1,
            seed: 0,
            job: 0,
            optimizer: OptimizerSettings::default(),
            precision,
        };
        train_alone(&training, &self.0, device)?;
        Ok(())
    }

    /// Operations a second, as the scheduler counts them, at which the device trains a small model in this process; takes
    /// about half a second. Larger models with larger batches run faster.
    pub fn speed(&self, device: Device, precision: Precision) -> Result<f64, Error> {
        let model = ModelSpec {
            layers: 4,
            hidden: 96,
            heads: 3,
            kv_heads: 3,
            head_size: 32,
            feed_forward: 256,
            gated: true,
            vocabulary: 256,
        };
        let shape = MicroBatchShape {
            sequences: 2,
            sequence: 64,
            bytes_per_element: 4,
        };
        let training = Training {
            batch: BatchShape {
                sequences: shape.sequences,
                tokens: shape.sequence,
            },
            micro_batches: SPEED_MICRO_BATCHES,
            iterations: 1,
            seed: 0,
            job: 0,
            optimizer: OptimizerSettings::default(),
            precision,
            model,
        };
        self.0.check(training.batch)?;
        let operations = shape.stage_operations(&training.model, training.model.layers, true)
            * f64::from(SPEED_MICRO_BATCHES);
        // What the first iteration loads and allocates belongs to no speed.
        train_alone(&training, &self.0, device)?;
        device.synchronize();
        let (begin, mut iterations) = (Instant::now(), 0);
        while begin.elapsed() < SPEED_TIME {
            train_alone(&training, &self.0, device)?;
            device.synchronize();
            iterations += 1;
        }
        Ok(operations * f64::from(iterations) / begin.elapsed().as_secs_f64())
    }
}
