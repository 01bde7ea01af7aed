//! libtorch computes.

use std::num::NonZeroUsize;

use bace_api::{ComputeRung, Iteration, MicroBatch, Prepare, WorkerDevice};
use bace_stage::{Begin, ComputeError, Computer, Forwarded, Modelled, StageCompute};
use bace_torch::{
    Batch, BatchKey, BatchShape, BoundaryShape, Device, Element, Error, OptimizerSettings,
    Precision, Stage, StageInput, StageOutput, StagePlan, Tensor, from_bytes, to_bytes,
};
use bytes::Bytes;

use crate::text::Text;

/// libtorch on one device.
pub struct Torch {
    device: Device,
    precision: Precision,
    /// Loaded once for all stages; absent where nothing is computed.
    text: Option<Text>,
}

impl Torch {
    /// A computer on `device` that computes in `precision`.
    pub fn new(device: Device, precision: Precision) -> Self {
        Self {
            device,
            precision,
            text: None,
        }
    }
}

impl Computer for Torch {
    fn set_up(&mut self) -> WorkerDevice {
        set_up(self.device, self.precision)
    }

    fn begin(&mut self, begin: &Begin) -> Result<Option<String>, ComputeError> {
        if begin.compute == ComputeRung::Modelled {
            return Ok(None);
        }
        let text = Text::load(begin.text.as_deref());
        let text = text.map_err(|error| ComputeError::Computer(error.into()))?;
        text.warm_up(self.device, self.precision).map_err(failed)?;
        Ok(Some(self.text.insert(text).hash()))
    }

    fn load<'a>(&'a self, prepare: &Prepare) -> Result<Box<dyn StageCompute + 'a>, ComputeError> {
        match &self.text {
            None => Modelled.load(prepare),
            Some(text) => {
                let stage = TorchStage::new(self, text, prepare);
                Ok(Box::new(stage.map_err(failed)?))
            }
        }
    }
}

/// Sets libtorch up for one emulated GPU; what it computes on.
pub fn set_up(device: Device, precision: Precision) -> WorkerDevice {
    // One thread: results do not depend on the machine's cores, and workers do not fight over them.
    bace_torch::use_threads(1);
    // A device that cannot be used is told of when training on it is tried.
    let words = device.describe().unwrap_or_else(|_| device.to_string());
    WorkerDevice {
        name: device.identity(),
        words: if precision == Precision::Fp32 {
            words
        } else {
            format!("{words}, computing in {precision}")
        },
        slots: match device {
            // A worker computes with one thread.
            Device::Cpu => cores(),
            Device::Cuda(_) => 1,
        },
    }
}

/// Cores that this process may use.
fn cores() -> u32 {
    // A processor that does not tell has at least one.
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    u32::try_from(cores).unwrap_or(u32::MAX)
}

fn failed(error: Error) -> ComputeError {
    ComputeError::Computer(error.into())
}

/// A stage on libtorch.
struct TorchStage<'a> {
    stage: Stage,
    text: &'a Text,
    device: Device,
    element: Element,
    shape: BoundaryShape,
    batch: BatchShape,
    seed: u64,
    job: u64,
}

impl<'a> TorchStage<'a> {
    /// Builds `prepare`'s stage with its first weights.
    fn new(torch: &Torch, text: &'a Text, prepare: &Prepare) -> Result<Self, Error> {
        let device = torch.device;
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
                precision: torch.precision,
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
    fn batch(&self, iteration: Iteration, micro_batch: MicroBatch) -> Result<Batch, Error> {
        let key = BatchKey {
            seed: self.seed,
            job: self.job,
            iteration: u64::from(iteration.0),
            micro_batch: micro_batch.0,
        };
        self.text.0.batch(key, self.batch)
    }

    fn tensor(&self, bytes: &Bytes) -> Result<Tensor, Error> {
        from_bytes(bytes, self.shape, self.element, self.device)
    }

    fn bytes(&self, tensor: &Tensor) -> Bytes {
        Bytes::from(to_bytes(tensor, self.element))
    }
}

impl StageCompute for TorchStage<'_> {
    fn forward(
        &mut self,
        iteration: Iteration,
        micro_batch: MicroBatch,
        input: Option<Bytes>,
    ) -> Result<Forwarded, ComputeError> {
        let batch = if input.is_none() || self.stage.is_last() {
            Some(self.batch(iteration, micro_batch).map_err(failed)?)
        } else {
            None
        };
        let targets = batch
            .as_ref()
            .filter(|_| self.stage.is_last())
            .map(|batch| &batch.targets);
        let input = match (&input, &batch) {
            (Some(bytes), _) => StageInput::Activation(self.tensor(bytes).map_err(failed)?),
            (None, Some(batch)) => StageInput::Tokens(batch.tokens.shallow_clone()),
            (None, None) => unreachable!("a stage without input derives its batch"),
        };
        let output = self.stage.forward(micro_batch.0, input, targets);
        let output = match output.map_err(failed)? {
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
        let gradient = gradient.map(|bytes| self.tensor(&bytes));
        let gradient = gradient.transpose().map_err(failed)?;
        let input = self.stage.backward(micro_batch.0, gradient);
        let input = input.map_err(failed)?;
        let input = input.map(|tensor| self.bytes(&tensor));
        self.device.synchronize();
        Ok(input)
    }

    fn step(&mut self) -> Result<(), ComputeError> {
        self.stage.step().map_err(failed)?;
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

/// Bytes as people write hashes.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
