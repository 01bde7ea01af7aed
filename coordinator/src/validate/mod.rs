//! `bace validate`: how far the simulator is from reality, on one scenario.
//!
//! `plan` says which runs there are and in which order, `folder` keeps them and what has become of them, `judge` holds predictions
//! against them.

mod command;
mod folder;
mod judge;
mod plan;

pub use command::validate;
pub use folder::{MEASURED, PLAN_FILE, PREDICTED};
pub use plan::program_hash;
