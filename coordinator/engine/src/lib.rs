//! Decides: scenario, cluster state, prices, policies, pipeline programs, accounts.
//!
//! What belongs here: everything that follows from a scenario and from what happened so far. What does not:
//! clocks, files, sockets, threads, and any question whether a run is simulated.

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
mod reason;
mod running;
mod scenario;
mod series;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use agenda::{Scheduled, agenda};
pub use cluster::Cluster;
pub use command::{Command, Rates, Start};
pub use engine::{Detail, Engine};
pub use error::EngineError;
pub use estimate::{Estimates, Profile, ProfileId};
pub use input::{Input, Names, Told};
pub use policy::{Policy, PolicyInfo, policies, policy_by_name};
pub use reason::{PathOutcome, PathReason, PlacementReason, PriorityTerms, Refusal, Shortfall};
pub use scenario::{
    GpuChange, LinkChange, PolicySettings, ReadSource, Region, Scenario, ScenarioError,
};
pub use series::{Series, SeriesError, Step};
