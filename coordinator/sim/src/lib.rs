//! The engine under a virtual clock: arrivals, finishes, the walk of pipelines, contention on links.
//!
//! What belongs here: who takes the time of stages and transfers when nothing real does, and the loop that hands it to the
//! engine. What does not: any decision, price or account (the engine's), files, clocks, threads.

mod analytic;
mod driver;
mod event;
mod simulate;

pub use analytic::Analytic;
pub use driver::{Executor, Instant, Reports, drive};
pub use event::{EventModel, EventSettings};
pub use simulate::{IterationModel, simulate, simulate_engine};
