//! A worker's part in a run, whatever computes: joining, meeting neighbours, walking a stage's action list, timing it.
//!
//! What belongs here: all that a worker does but compute, and the stand-in that computes nothing. What does not: tensors and
//! libtorch, which stand behind [`Computer`]; any choice of what to run where, since a worker does what its list says.
//!
//! Two threads do the work (a third only watches whether the coordinator lives): networking runs on its own, so that no chunk
//! waits for compute, and tensors never leave the compute thread; only bytes cross between them.

mod compute;
mod join;
mod measure;
mod meeting;
mod memory;
mod neighbour;
mod peers;
mod session;
mod stage;
mod tables;
mod timeline;
mod trainer;

pub use compute::{ComputeError, Computer, Forwarded, Modelled, StageCompute};
pub use join::{JoinArgs, join, tell_failure};
pub use memory::lack_of_memory;
pub use session::Begin;
pub use tables::HostTables;
pub use trainer::words_of_panic;
