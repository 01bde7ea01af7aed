//! What can go wrong in this crate.

use std::path::PathBuf;

/// Why a stage, a tensor or a text could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model's numbers make no model.
    #[error("build the model: {0}")]
    Model(#[from] bace_models::ModelError),
    /// Text is fed in bytes, so every byte needs a token id.
    #[error("feed text to the model: `vocabulary` = {0}, but byte tokens need at least 256")]
    Vocabulary(u32),
    /// The layers asked for are not layers of the model.
    #[error("build the stage: layers {first}..{end} are no part of a model of {layers} layers")]
    Layers {
        /// First layer of the stage.
        first: u32,
        /// One past its last layer.
        end: u32,
        /// Layers of the model.
        layers: u32,
    },
    /// An iteration needs at least one micro-batch.
    #[error("build the stage: `micro_batches` is 0; it has to be at least 1")]
    NoMicroBatches,
    /// Neither `cpu` nor `cuda:N`.
    #[error("read the device `{0}`: expected `cpu`, `cuda` or `cuda:N`")]
    DeviceName(String),
    /// Neither `fp32` nor `bf16`.
    #[error("read the precision `{0}`: expected `fp32` or `bf16`")]
    PrecisionName(String),
    /// A GPU was asked for and libtorch is the one for CPUs.
    #[error(
        "use the device cuda:{0}: this program is linked to a libtorch without CUDA; scripts/libtorch --cuda sets one up, then build again"
    )]
    WithoutCuda(u32),
    /// There is no such GPU, or the driver does not serve it.
    #[error(transparent)]
    Cuda(#[from] bace_cuda::CudaError),
    /// The driver has the GPU and libtorch does not.
    #[error(
        "use the device cuda:{index}: the driver shows it, and libtorch sees {available} CUDA devices; both have to be of one installation"
    )]
    NotInLibtorch {
        /// GPU asked for, from 0.
        index: u32,
        /// GPUs that libtorch sees.
        available: u32,
    },
    /// A boundary tensor travels as fp32 or bf16.
    #[error("cross a stage boundary with {0} bytes an element: it has to be 4 (fp32) or 2 (bf16)")]
    ElementSize(u32),
    /// Bytes and shape of a boundary tensor contradict each other.
    #[error("read a boundary tensor: {actual} bytes, but its shape needs {expected}")]
    Length {
        /// Bytes that the shape and the element need.
        expected: usize,
        /// Bytes given.
        actual: usize,
    },
    /// A tensor of another shape than the stage works on.
    #[error("{action} micro-batch {micro_batch}: shape {actual:?}, expected {expected}")]
    Shape {
        /// What the stage was about to do: "forward" or "backward".
        action: &'static str,
        /// The micro-batch.
        micro_batch: u32,
        /// Shape given.
        actual: Vec<i64>,
        /// Shape needed, in words.
        expected: String,
    },
    /// Targets, tokens, activation or gradient missing, or given to a stage that takes none.
    #[error("{action} micro-batch {micro_batch}: {problem}")]
    Argument {
        /// What the stage was about to do: "forward" or "backward".
        action: &'static str,
        /// The micro-batch.
        micro_batch: u32,
        /// What is wrong with the arguments.
        problem: &'static str,
    },
    /// An action that the iteration's order does not allow.
    #[error("{action} micro-batch {micro_batch}: {problem}")]
    Order {
        /// What the stage was about to do.
        action: &'static str,
        /// The micro-batch.
        micro_batch: u32,
        /// The rule that it breaks.
        problem: String,
    },
    /// A step before every micro-batch's backward.
    #[error("step: {done} of {expected} micro-batches went backward")]
    EarlyStep {
        /// Backward passes done in this iteration.
        done: u32,
        /// Micro-batches of an iteration.
        expected: u32,
    },
    /// A file or folder of text that cannot be read.
    #[error("read text from {}: {source}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The path is neither a regular file nor a folder.
    #[error("read text from {}: neither a file nor a folder", .0.display())]
    NotAFile(PathBuf),
    /// A single file that is not UTF-8 text.
    #[error("read text from {}: it is not UTF-8 text", .0.display())]
    NotText(PathBuf),
    /// Nothing in the folder is text.
    #[error("read text from {}: it holds no text (files in UTF-8, not empty, not hidden)", .0.display())]
    NoText(PathBuf),
    /// Text shorter than one sequence and its last target.
    #[error("cut batches from {available} bytes of text: one sequence needs {needed} bytes")]
    TooShort {
        /// Bytes of one sequence, with the byte after it.
        needed: usize,
        /// Bytes of text.
        available: usize,
    },
    /// A batch without sequences or tokens.
    #[error("cut batches of {sequences} sequences of {tokens} tokens: both have to be at least 1")]
    EmptyBatch {
        /// Sequences asked for.
        sequences: u32,
        /// Tokens of a sequence asked for.
        tokens: u32,
    },
}
