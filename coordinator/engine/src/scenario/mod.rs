//! A scenario, checked: what is emulated, what is trained, who decides.
//!
//! `file` holds the keys as they are written, `parse` makes a valid [`Scenario`] of them with `link` and `change` for its
//! links, `error` finds the line and the key of what is wrong.

mod change;
mod compute;
mod draw;
mod ends;
mod error;
mod file;
mod limits;
mod link;
mod network;
mod parse;
mod scale_model;
#[cfg(test)]
mod tests;
mod types;
mod values;
mod vary;

pub use draw::{Dice, Draw};
pub use error::ScenarioError;
pub use types::{
    ComputeSettings, GpuChange, LinkChange, NetworkSettings, PolicySettings, Region, Scenario,
};
pub use values::ReadSource;
pub use vary::Knob;
