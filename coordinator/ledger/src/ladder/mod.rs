//! One scenario on every rung of emulation, and which step from rung to rung changes what by how much.
//!
//! `rung` names the rungs, `run` is what a ladder keeps of a run, `measure` what is compared, `steps` compares and finds whom to
//! blame, `sentence`, `table`, `json` and `chart` show it. docs/ladder.md says how to read it.

mod chart;
mod json;
mod measure;
mod run;
mod rung;
mod sentence;
mod steps;
mod table;
#[cfg(test)]
mod tests;

pub use run::LadderRun;
pub use rung::LadderRung;
pub use steps::{Climbed, Ladder};
