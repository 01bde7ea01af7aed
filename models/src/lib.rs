//! Model specs, the catalogue of published models, GPU types, costs, stage split and power model.
//!
//! What belongs here: anything that follows from a model's or a GPU type's numbers alone.
//! What does not: networks, jobs, scheduling, files, clocks, threads.

mod cost;
mod gpu;
mod spec;

pub use cost::MicroBatchShape;
pub use gpu::GpuType;
pub use spec::{ModelError, ModelSpec};
