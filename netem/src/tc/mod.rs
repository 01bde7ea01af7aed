//! Links between network namespaces as `ip` and `tc` commands: text in, text out.

mod command;
mod names;
mod plan;
mod shape;
#[cfg(test)]
mod tests;

pub use command::{TcCommand, shell_word};
pub use names::{MOST_TC_REGIONS, NamespaceName, NetworkName, Owner, Place};
pub use plan::{PlanError, TcPlan};
pub use shape::{Qdiscs, RateQdisc, bucket_seconds};
