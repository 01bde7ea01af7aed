//! Model specs, the catalogue of published models, GPU types, costs, stage split and power model.
//!
//! What belongs here: anything that follows from a model's or a GPU type's numbers alone.
//! What does not: networks, jobs, scheduling, files, clocks, threads.

pub mod catalogue;
mod cost;
mod gpu;
mod power;
mod scaled;
mod spec;
mod split;
mod stage;

pub use cost::{FORWARD_AND_BACKWARD, MicroBatchShape, STATE_BYTES_PER_PARAMETER, StageMemory};
pub use gpu::GpuType;
pub use power::JOULES_PER_KWH;
pub use scaled::ScaleError;
pub use spec::{ModelError, ModelSpec};
pub use split::{Split, Workload};
pub use stage::{StagePlace, StageSeconds};
