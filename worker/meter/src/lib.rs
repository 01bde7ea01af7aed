//! What this machine draws: counters of energy, read while a run goes on, and whose joules they are.
//!
//! What belongs here: meters behind one trait ([`Meter`]), each described by a [`Source`] with unit, resolution and
//! provenance; the thread that reads them ([`Sampler`]); the arithmetic that splits a counter's joules between workers
//! without losing one. What does not: jobs, ledgers, and what the emulated GPUs would have drawn, which the engine
//! accounts for; their power model is described here ([`modelled`]) so that all sources stand in one table.
//!
//! A source that is not there is [`Absent`] with its reason. Nothing here makes up a number: a counter that cannot be
//! read has no energy, and energy that nobody can be shown to have caused belongs to nobody. docs/energy.md has the whole.

mod absent;
mod attribution;
mod board;
mod books;
mod clock;
mod counter;
mod meter;
mod model;
mod nvml;
mod place;
mod powercap;
mod sampler;
mod sources;

pub use absent::{Absent, Missing};
pub use attribution::Share;
pub use books::{Finished, MeterTotal, SamplerCost, SettledShare};
pub use clock::now_ns;
pub use counter::Health;
pub use meter::{Meter, ReadError, Source, SourceKind};
pub use model::modelled;
pub use place::{BoardId, Place};
pub use sampler::{INTERVAL, Sampler, SamplerPlan, Started, TimeKeeper, Usage};
pub use sources::{NVML_LIBRARY, POWERCAP, Places, Survey, Wanted};
