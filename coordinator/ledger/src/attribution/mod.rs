//! Where the time of a run's stages went: every stage-second goes to exactly one cause. docs/attribution.md has the rules.
//!
//! `transit` takes apart how messages came, `timeline` what each stage did, `roots` follows waits to their causes over all stages
//! of a start, and `attribute` does it for a ledger.

mod attribute;
mod beside;
mod cause;
mod json;
mod link_rates;
mod roots;
mod sums;
mod table;
mod timeline;
mod transit;

pub use attribute::{
    AttemptAttribution, AttemptTimes, Attribution, JobAttribution, StageAttribution, attribute,
};
pub use beside::Attributed;
pub use cause::Cause;
pub use sums::{LinkName, Sums};
pub use table::render_attribution;
