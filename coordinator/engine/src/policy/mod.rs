//! Policies: who is placed next, and where.
//!
//! A policy is one file with one type that implements [`Policy`], named here and in one entry of `registry.rs`. It sees a [`ClusterView`]
//! and answers with one placement or none; the engine applies it and asks again until there is none.

mod bace_pipe;
mod candidates;
mod cost_min;
mod cr_lcf;
mod cr_ldf;
mod first_come;
mod lcf;
mod ldf;
mod pathfinder;
mod registry;
#[cfg(test)]
mod tests;
mod view;

pub use bace_pipe::BacePipe;
pub use cr_lcf::CrLcf;
pub use cr_ldf::CrLdf;
pub use lcf::Lcf;
pub use ldf::Ldf;
pub use registry::{PolicyInfo, policies, policy_by_name};
pub use view::{Choice, ClusterView, Decision, IdleView, PassedOver, Policy, Waiting};
