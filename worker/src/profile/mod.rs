//! `bace-worker profile`: what stages take on a device, measured as real runs compute them.

mod answer;
mod memory;
mod set_up;
mod subject;
mod times;

pub use answer::profile;
