//! A scenario, checked: what is emulated, what is trained, who decides.

mod types;

pub use types::{GpuChange, LinkChange, PolicySettings, Region, Scenario};
