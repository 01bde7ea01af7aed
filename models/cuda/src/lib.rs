//! NVIDIA's driver: which GPUs there are, and copies and events on their streams; the only road to cudarc.
//!
//! What belongs here: everything that is asked of the driver itself, and pools of the memory that it pins. What does not:
//! tensors (`bace-torch`), energy (NVML has a library of its own), any choice of a device.
//!
//! The driver's library is looked for when it is asked for, so that the same program runs where there is none. Everything
//! that is called is looked up first: what is missing is a [`CudaError`], never a panic.
//!
//! Streams do what they are given in order, later than they are given it. [`Context::legacy_default_stream`] is the one on which
//! libtorch computes unless it is told otherwise.

mod copies;
mod device;
mod driver;
mod error;
mod pool;

pub use copies::{Copying, Held};
pub use device::{ComputeCapability, CudaVersion, DeviceInfo, DeviceMemory};
pub use driver::{Context, DeviceRange, Driver, Event, PinnedBuffer, Stream};
pub use error::{CudaError, DriverFailure};
pub use pool::{Pool, Pooled};
