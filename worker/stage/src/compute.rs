//! Who computes a stage.

mod modelled;

use bace_api::{ComputeRung, Element, Iteration, MicroBatch, Prepare, WorkerDevice};
use bytes::Bytes;

use crate::session::Begin;

pub use modelled::Modelled;

/// What a worker computes with as long as it lives. It belongs to one thread, like its tensors.
pub trait Computer {
    /// Sets up what all stages share, once the network thread runs; what it computes on.
    fn set_up(&mut self) -> WorkerDevice;

    /// Does before the run what would otherwise delay its first iteration. Returns the hash of the training text, hexadecimal;
    /// absent where nothing is computed.
    fn begin(&mut self, begin: &Begin) -> Result<Option<String>, ComputeError>;

    /// Bytes that it keeps for each parameter beyond those of the scheduler's formula, from cast weights.
    fn beyond_bytes_per_parameter(&self) -> u64 {
        0
    }

    /// Loads the stage that `prepare` describes.
    fn load<'a>(&'a self, prepare: &Prepare) -> Result<Box<dyn StageCompute + 'a>, ComputeError>;
}

/// A stage's layers on something that computes. It lives and dies on one thread, like its tensors.
pub trait StageCompute {
    /// Computes once what every iteration computes, and forgets it: what is loaded and allocated at first use shall not count
    /// as time of the first iteration. Weights and results are those of a stage that has not rehearsed.
    fn rehearse(&mut self) -> Result<(), ComputeError>;

    /// Runs a micro-batch forward. `input` is the previous stage's activation, absent at stage 0.
    fn forward(
        &mut self,
        iteration: Iteration,
        micro_batch: MicroBatch,
        input: Option<Bytes>,
    ) -> Result<Forwarded, ComputeError>;

    /// Runs a micro-batch backward. `gradient` is that of the stage's output, absent at the last stage; the
    /// result is that of its input, absent at stage 0.
    fn backward(
        &mut self,
        micro_batch: MicroBatch,
        gradient: Option<Bytes>,
    ) -> Result<Option<Bytes>, ComputeError>;

    /// Applies the optimizer to the gradients of all micro-batches.
    fn step(&mut self) -> Result<(), ComputeError>;

    /// What the device has worked since the last call, by its own clock, seconds; absent where the host's clock is the
    /// device's.
    fn take_device_s(&mut self) -> Option<f64> {
        None
    }

    /// Parameters of the stage.
    fn parameters(&self) -> u64;

    /// Hash of each part of the stage's weights, in model order; empty where nothing is computed.
    fn weights(&self) -> Vec<(String, String)>;
}

/// What a forward leaves.
#[derive(Debug)]
pub enum Forwarded {
    /// The activation for the next stage.
    Activation(Bytes),
    /// The last stage's mean loss, nats a token; absent where nothing is computed.
    Loss(Option<f64>),
}

/// Why a stage cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum ComputeError {
    /// The model, the data or the device do not serve; the computer's own words.
    #[error(transparent)]
    Computer(Box<dyn std::error::Error + Send + Sync>),
    /// The device cannot be had.
    #[error(transparent)]
    Lease(#[from] bace_lease::LeaseError),
    /// A boundary element that no tensor has.
    #[error("carry tensors of `bytes_per_element` = {0}: use 4 (fp32) or 2 (bf16)")]
    Element(u32),
    /// A program without libtorch was asked to compute.
    #[error("compute on the {} rung: this worker computes nothing; start bace-worker, or run with --compute modelled", .0.name())]
    ComputesNothing(ComputeRung),
}

/// How a job's boundary tensors travel. Where nothing is computed any size will do.
pub fn element_of(prepare: &Prepare) -> Result<Element, ComputeError> {
    match (prepare.job.shape.bytes_per_element, prepare.compute.rung) {
        (2, _) => Ok(Element::Bf16),
        (4, _) | (_, ComputeRung::Modelled) => Ok(Element::F32),
        (other, _) => Err(ComputeError::Element(other)),
    }
}
