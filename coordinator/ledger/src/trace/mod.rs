//! A ledger as a trace in Chrome's JSON format, which Perfetto (ui.perfetto.dev) and chrome://tracing open.
//!
//! `event` is the format, `nanos` its clock, `out` numbers what it names and cuts it to a window. `gpus`, `links`, `counters` and `instants` are what is shown; `whole` puts them together.

mod counters;
mod event;
mod gpus;
mod instants;
mod links;
mod nanos;
mod out;
mod whole;

pub use counters::RegionFacts;
pub use out::Moved;
pub use whole::{Trace, TraceCut};
