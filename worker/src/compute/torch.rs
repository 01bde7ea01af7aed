//! libtorch computes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bace_api::{Iteration, MicroBatch, Prepare};
use bace_models::{MicroBatchShape, ModelSpec};
use bace_torch::{
    Batch, BatchKey, BatchShape, BoundaryShape, Corpus, Device, Element, OptimizerSettings, Stage,
    StageInput, StageOutput, StagePlan, Tensor, Training, from_bytes, to_bytes, train_alone,
};
use bytes::Bytes;

use super::{ComputeError, Forwarded, StageCompute};

/// How long a device's speed is measured.
const SPEED_TIME: Duration = Duration::from_millis(500);
/// Micro-batches of an iteration by which it is measured: enough that building the stage and its step hardly count.
const SPEED_MICRO_BATCHES: u32 = 16;

/// The training text, loaded once for all stages that a worker runs.
pub struct Text(Corpus);

impl Text {
    /// Reads a file or a folder of text.
    pub fn load(path: &Path) -> Result<Self, ComputeError> {
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
    pub fn check(&self, tokens: u32) -> Result<(), ComputeError> {
        Ok(self.0.check(BatchShape {
            sequences: 1,
            tokens,
        })?)
    }

    /// Trains a tiny model on the device: what libtorch loads and compiles at first use is then there, and a
    /// device that does not work is known before a run begins.
    pub fn warm_up(&self, device: Device) -> Result<(), ComputeError> {
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
        };
        train_alone(&training, &self.0, device)?;
        Ok(())
    }

    /// Operations a second, as the scheduler counts them, at which the device trains a small model in this process; takes
    /// about half a second. Larger models with larger batches run faster.
    pub fn speed(&self, device: Device) -> Result<f64, ComputeError> {
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

/// Text that is there without the user naming any.
pub fn default_text() -> Option<PathBuf> {
    bace_torch::default_corpus_dir()
}

/// A stage on libtorch.
pub struct Torch<'a> {
    stage: Stage,
    text: &'a Text,
    device: Device,
    element: Element,
    shape: BoundaryShape,
    batch: BatchShape,
    seed: u64,
    job: u64,
}

impl<'a> Torch<'a> {
    /// Builds `prepare`'s stage with its first weights.
    pub fn new(device: Device, text: &'a Text, prepare: &Prepare) -> Result<Self, ComputeError> {
        let job = &prepare.job;
        let batch = BatchShape {
            sequences: job.shape.sequences,
            tokens: job.shape.sequence,
        };
        text.0.check(batch)?;
        let stage = Stage::new(
            StagePlan {
                model: job.model.clone(),
                layers: prepare.layers.clone(),
                batch,
                micro_batches: job.micro_batches,
                seed: prepare.seed,
                optimizer: OptimizerSettings {
                    learning_rate: job.learning_rate,
                    ..OptimizerSettings::default()
                },
            },
            device,
        )?;
        Ok(Self {
            shape: stage.boundary_shape(),
            stage,
            text,
            device,
            element: Element::of_size(job.shape.bytes_per_element)?,
            batch,
            seed: prepare.seed,
            job: u64::from(prepare.id.0),
        })
    }

    /// The first and the last stage derive the same batch, each on its own.
    fn batch(&self, iteration: Iteration, micro_batch: MicroBatch) -> Result<Batch, ComputeError> {
        let key = BatchKey {
            seed: self.seed,
            job: self.job,
            iteration: u64::from(iteration.0),
            micro_batch: micro_batch.0,
        };
        Ok(self.text.0.batch(key, self.batch)?)
    }

    fn tensor(&self, bytes: &Bytes) -> Result<Tensor, ComputeError> {
        Ok(from_bytes(bytes, self.shape, self.element, self.device)?)
    }

    fn bytes(&self, tensor: &Tensor) -> Bytes {
        Bytes::from(to_bytes(tensor, self.element))
    }
}

impl StageCompute for Torch<'_> {
    fn forward(
        &mut self,
        iteration: Iteration,
        micro_batch: MicroBatch,
        input: Option<Bytes>,
    ) -> Result<Forwarded, ComputeError> {
        let batch = if input.is_none() || self.stage.is_last() {
            Some(self.batch(iteration, micro_batch)?)
        } else {
            None
        };
        let targets = batch
            .as_ref()
            .filter(|_| self.stage.is_last())
            .map(|batch| &batch.targets);
        let input = match (&input, &batch) {
            (Some(bytes), _) => StageInput::Activation(self.tensor(bytes)?),
            (None, Some(batch)) => StageInput::Tokens(batch.tokens.shallow_clone()),
            (None, None) => unreachable!("a stage without input derives its batch"),
        };
        let output = match self.stage.forward(micro_batch.0, input, targets)? {
            StageOutput::Activation(tensor) => Forwarded::Activation(self.bytes(&tensor)),
            StageOutput::Loss(loss) => Forwarded::Loss(Some(loss)),
        };
        self.device.synchronize();
        Ok(output)
    }

    fn backward(
        &mut self,
        micro_batch: MicroBatch,
        gradient: Option<Bytes>,
    ) -> Result<Option<Bytes>, ComputeError> {
        let gradient = gradient.map(|bytes| self.tensor(&bytes)).transpose()?;
        let input = self.stage.backward(micro_batch.0, gradient)?;
        let input = input.map(|tensor| self.bytes(&tensor));
        self.device.synchronize();
        Ok(input)
    }

    fn step(&mut self) -> Result<(), ComputeError> {
        self.stage.step()?;
        self.device.synchronize();
        Ok(())
    }

    fn parameters(&self) -> u64 {
        self.stage.parameters()
    }

    fn weights(&self) -> Vec<(String, String)> {
        self.stage
            .part_digests()
            .into_iter()
            .map(|part| (part.part.to_string(), hexadecimal(&part.digest)))
            .collect()
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
