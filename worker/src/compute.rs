//! Who computes a stage.

mod modelled;
mod torch;

use bace_api::{ComputeRung, Element, Iteration, MicroBatch, Prepare};
use bytes::Bytes;

pub use torch::{Text, default_text};

/// A stage's layers on something that computes. It lives and dies on one thread, like its tensors.
pub trait StageCompute {
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
    /// The model, the data or the device do not serve.
    #[error(transparent)]
    Torch(#[from] bace_torch::Error),
    /// A boundary element that no tensor has.
    #[error("carry tensors of `bytes_per_element` = {0}: use 4 (fp32) or 2 (bf16)")]
    Element(u32),
}

/// Loads the stage that `prepare` describes; `text` is absent where nothing is computed.
pub fn load<'a>(
    device: bace_torch::Device,
    text: Option<&'a Text>,
    prepare: &Prepare,
) -> Result<Box<dyn StageCompute + 'a>, ComputeError> {
    match text {
        None => Ok(Box::new(modelled::Modelled::new(prepare))),
        Some(text) => Ok(Box::new(torch::Torch::new(device, text, prepare)?)),
    }
}

/// How a job's boundary tensors travel. Where nothing is computed any size will do.
pub fn element_of(prepare: &Prepare) -> Result<Element, ComputeError> {
    match (prepare.job.shape.bytes_per_element, prepare.compute.rung) {
        (2, _) => Ok(Element::Bf16),
        (4, _) | (_, ComputeRung::Modelled) => Ok(Element::F32),
        (other, _) => Err(ComputeError::Element(other)),
    }
}
