//! Decides: scenario, cluster state, prices, policies, pipeline programs, accounts.
//!
//! What belongs here: everything that follows from a scenario and from what happened so far. What does not:
//! clocks, files, sockets, threads, and any question whether a run is simulated.
//!
//! docs/scheduling.md is the contract. Where it is silent:
//! - K* follows from the scenario as configured. K° follows from the idle cluster with links as they are now and GPUs as
//!   configured, which is the most they ever are, and is looked for again whenever a link's capacity changes.
//! - A job without K° that links hold at their best from its arrival on waits, with K_min for K°. A job that was accepted
//!   is not refused later.
//! - At one instant finishes come first, then changes of links and GPUs, then arrivals, then placements. A step of a
//!   price is no instant: nothing is placed for it alone.
//! - A missing direction of a link has nothing left, and less than 1e-9 of a link's capacity left is rounding: both count
//!   as 0.
//! - Regions compare by the electricity price alone; PUE counts in a candidate's dollars and in accounts.
//! - A boundary's delay counts twice that of the link its activations take, also where the way back has another one.
//! - A candidate's T assumes the smaller of its demand and the least residual on its path; a running job's T uses its
//!   max-min shares.
//! - Where GPU types differ, paths are searched with the slowest type's time, and the placement's own stages may be faster
//!   and so demand more than was found free. Such a job takes its max-min share, as section 4 says, and can slow others;
//!   among equal GPUs BACE-Pipe never does.
//! - Joules of results are those at the GPU; PUE enters dollars and grams of CO2.
//! - Where a region loses GPUs that are held, the jobs that started last lose theirs. They keep their arrival and the C of
//!   the whole job, and go on behind their last whole iteration.
//! - An input about a job that does not run is recorded and changes nothing.

mod accounts;
mod agenda;
mod cluster;
mod command;
mod engine;
mod error;
mod estimate;
#[cfg(test)]
mod golden;
mod input;
pub mod pipeline;
pub mod policy;
mod replay;
mod running;
mod scenario;
mod series;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use agenda::{Scheduled, agenda};
pub use cluster::Cluster;
pub use command::{Command, DEAD_LINK, Rates, Start};
pub use engine::{Detail, Engine};
pub use error::EngineError;
pub use estimate::{Estimates, JobKind, JobKindId, ProfileGap, Unprofiled};
pub use input::{Input, Names, Told};
pub use policy::{Policy, PolicyInfo, policies, policy_by_name};
pub use replay::{Difference, Replay, ReplayError, Replayed};
pub use scenario::{
    ComputeSettings, Dice, Draw, GpuChange, Knob, LinkChange, NetworkSettings, PolicySettings,
    ReadSource, Region, Scenario, ScenarioError,
};
pub use series::{Series, SeriesError, Step};
