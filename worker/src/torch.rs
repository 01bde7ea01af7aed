//! libtorch computes.

use std::num::NonZeroUsize;

use bace_api::{ComputeRung, Iteration, MicroBatch, Prepare, WorkerDevice};
use bace_stage::{Begin, ComputeError, Computer, Forwarded, Modelled, StageCompute};
use bace_torch::{
    Batch, BatchKey, BatchShape, Departure, Device, DeviceClock, Element, Error, OptimizerSettings,
    Precision, Stage, StageInput, StageOutput, StagePlan, Tensor, Transfer,
};
use bytes::Bytes;

use crate::text::Text;

/// One thread inside an operation: results do not depend on the machine's cores, and workers do not fight over them.
pub const THREADS: u32 = 1;

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

    fn beyond_bytes_per_parameter(&self) -> u64 {
        self.precision.cast_bytes_per_parameter()
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
    bace_torch::use_threads(THREADS);
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
    transfer: Transfer,
    clock: DeviceClock,
    /// What the device has worked since it was asked last, seconds; absent where the host's clock tells.
    device_s: Option<f64>,
    /// Of a tensor at the stage's boundaries.
    boundary_bytes: usize,
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
        let element = Element::of_size(job.shape.bytes_per_element)?;
        Ok(Self {
            transfer: Transfer::new(device, stage.boundary_shape(), element)?,
            clock: DeviceClock::new(device)?,
            device_s: None,
            boundary_bytes: stage.boundary_shape().bytes(element),
            stage,
            text,
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

    fn arrived(&mut self, bytes: Option<&Bytes>) -> Result<Option<Tensor>, Error> {
        bytes.map(|bytes| self.transfer.arrive(bytes)).transpose()
    }

    /// Waits until the device has done what this action gave it, its kernels and then the copy of its result, which is here
    /// then. The kernels' time alone is the device's; the copy follows them, and nothing is computed meanwhile.
    fn departed(&mut self, tensor: Option<&Tensor>) -> Result<Option<Bytes>, Error> {
        let departure = tensor.map(|tensor| self.transfer.depart(tensor));
        let departure = departure.transpose()?;
        if let Some(seconds) = self.clock.end()? {
            *self.device_s.get_or_insert(0.0) += seconds;
        }
        let bytes = departure.map(Departure::wait).transpose()?;
        Ok(bytes.map(Bytes::from))
    }
}

impl StageCompute for TorchStage<'_> {
    fn rehearse(&mut self) -> Result<(), ComputeError> {
        let boundary = Bytes::from(vec![0; self.boundary_bytes]);
        let input = (!self.stage.is_first()).then(|| boundary.clone());
        let gradient = (!self.stage.is_last()).then_some(boundary);
        self.forward(Iteration(0), MicroBatch(0), input)?;
        self.backward(MicroBatch(0), gradient)?;
        self.stage.forget();
        self.device_s = None;
        Ok(())
    }

    fn forward(
        &mut self,
        iteration: Iteration,
        micro_batch: MicroBatch,
        input: Option<Bytes>,
    ) -> Result<Forwarded, ComputeError> {
        self.clock.begin().map_err(failed)?;
        let batch = if input.is_none() || self.stage.is_last() {
            Some(self.batch(iteration, micro_batch).map_err(failed)?)
        } else {
            None
        };
        let targets = batch
            .as_ref()
            .filter(|_| self.stage.is_last())
            .map(|batch| &batch.targets);
        let input = match (self.arrived(input.as_ref()).map_err(failed)?, &batch) {
            (Some(activation), _) => StageInput::Activation(activation),
            (None, Some(batch)) => StageInput::Tokens(batch.tokens.shallow_clone()),
            (None, None) => unreachable!("a stage without input derives its batch"),
        };
        let output = self.stage.forward(micro_batch.0, input, targets);
        match output.map_err(failed)? {
            StageOutput::Activation(tensor) => {
                let bytes = self.departed(Some(&tensor)).map_err(failed)?;
                let bytes = bytes.expect("a tensor departed");
                Ok(Forwarded::Activation(bytes))
            }
            StageOutput::Loss(loss) => {
                self.departed(None).map_err(failed)?;
                Ok(Forwarded::Loss(Some(loss)))
            }
        }
    }

    fn backward(
        &mut self,
        micro_batch: MicroBatch,
        gradient: Option<Bytes>,
    ) -> Result<Option<Bytes>, ComputeError> {
        self.clock.begin().map_err(failed)?;
        let gradient = self.arrived(gradient.as_ref()).map_err(failed)?;
        let input = self.stage.backward(micro_batch.0, gradient);
        let input = input.map_err(failed)?;
        self.departed(input.as_ref()).map_err(failed)
    }

    fn step(&mut self) -> Result<(), ComputeError> {
        self.clock.begin().map_err(failed)?;
        self.stage.step().map_err(failed)?;
        self.departed(None).map_err(failed)?;
        Ok(())
    }

    fn take_device_s(&mut self) -> Option<f64> {
        self.device_s.take()
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
