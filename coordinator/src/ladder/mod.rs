//! `bace ladder`: one scenario on every rung, and which step from rung to rung changes what.
//!
//! `plan` settles which rungs there are before anything starts, `climb` runs them.

mod climb;
mod command;
mod plan;

pub use command::ladder;
