//! Model specs, the catalogue of published models, GPU types, costs, stage split, power model, and
//! what was measured on a device.
//!
//! What belongs here: anything that follows from a model's, a GPU type's or a measurement's numbers alone.
//! What does not: networks, jobs, scheduling, files, clocks, threads.

pub mod catalogue;
mod cost;
mod fit;
mod gpu;
mod power;
mod profile;
mod scaled;
mod set_up;
mod spec;
mod split;
mod stage;

pub use cost::{FORWARD_AND_BACKWARD, MicroBatchShape, STATE_BYTES_PER_PARAMETER, StageMemory};
pub use fit::{
    FEW_LAYERS, FEWEST_ROUNDS, Fit, MANY_LAYERS, Percentiles, Round, WHOLE_LAYERS, median,
};
pub use gpu::GpuType;
pub use power::JOULES_PER_KWH;
pub use profile::{
    DeviceKind, DeviceProfile, DeviceTimes, LayerShape, Part, Parts, PartsError, ProfileEntry,
    ProfileKey, ProfiledDevice,
};
pub use scaled::ScaleError;
pub use set_up::{SetUp, SetUpFit, SetUpRound, SetUpStage};
pub use spec::{ModelError, ModelSpec};
pub use split::{Split, Work, Workload};
pub use stage::{StagePlace, StageSeconds};
