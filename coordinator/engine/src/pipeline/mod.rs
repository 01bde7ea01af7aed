//! Pipelines as data: how deep each stage starts, the action lists, their check, and their picture.
//!
//! `plan` puts it together for a placed job; `depth` knows the schedules, `generate` writes the lists, `check`
//! proves what a list promises, `timeline` predicts and draws an iteration.

mod check;
mod depth;
mod generate;
mod plan;
#[cfg(test)]
mod tests;
mod text;
mod timeline;

pub use check::{Backlog, ProgramError, ProgramFacts, check};
pub use depth::{DepthCut, Depths, StageRoom, depths};
pub use generate::generate;
pub use plan::{BoundaryTime, PipelinePlan, plan};
pub use text::program_text;
pub use timeline::{Span, Timeline, timeline};
