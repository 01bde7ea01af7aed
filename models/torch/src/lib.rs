//! Transformer stages on libtorch, and the text they train on; the only road to tch.
//!
//! What belongs here: the model's arithmetic, its optimizer, a pipeline stage's forward and
//! backward, tensors as bytes at a stage boundary, batches from text.
//! What does not: who sends the bytes, in which order a stage works (an action list decides that),
//! clocks, energy, processes.
//!
//! A program calls [`use_threads`] once, makes a [`Stage`] for its [`StagePlan`], and for each
//! iteration walks its actions: [`Stage::forward`], [`Stage::backward`] per micro-batch, then
//! [`Stage::step`]. A [`Transfer`] carries tensors over the boundary as bytes, and
//! [`Corpus::batch`] gives the first and the last stage their tokens and targets. On a CPU with
//! one thread and lossless boundaries (fp32, or bf16 where that is the [`Precision`]), losses and
//! weights are bit-identical for every stage split and schedule.
//!
//! Where libtorch itself fails in the middle of a computation (no memory left on the device), tch
//! panics with libtorch's message; everything that can be checked beforehand is an [`Error`].

mod boundary;
mod device;
mod digest;
mod error;
mod optimizer;
mod precision;
mod stage;
mod text;
mod training;
mod transfer;
mod transformer;
mod weights;

pub use boundary::{BoundaryShape, Element, from_bytes, to_bytes, write_bytes};
pub use device::{Device, LIBTORCH_VERSION, exhaust, has_cuda, use_threads};
pub use digest::{Part, PartDigest};
pub use error::Error;
pub use optimizer::OptimizerSettings;
pub use precision::Precision;
pub use stage::{Stage, StageInput, StageOutput, StagePlan};
pub use tch::Tensor;
pub use text::{Batch, BatchKey, BatchShape, Corpus, default_corpus_dir};
pub use training::{Trained, Training, train_alone};
pub use transfer::{Departure, DeviceClock, Transfer};
