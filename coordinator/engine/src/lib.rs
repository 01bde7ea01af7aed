//! Decides: scenario, cluster state, prices, policies, pipeline programs, accounts.
//!
//! What belongs here: everything that follows from a scenario and from what happened so far. What does not:
//! clocks, files, sockets, threads, and any question whether a run is simulated.

#[cfg(test)]
mod golden;
pub mod pipeline;
mod scenario;
mod series;

pub use scenario::{
    GpuChange, LinkChange, PolicySettings, ReadSource, Region, Scenario, ScenarioError,
};
pub use series::{Series, SeriesError, Step};
