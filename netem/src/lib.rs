//! Regions, links, shares and the link clock.
//!
//! What belongs here: what a link is and what it does to bytes, as arithmetic on arguments.
//! What does not: sockets, clocks, files, threads (those are in `bace-socket`), models and jobs.

mod clock;
mod link;
mod receipt;
mod region;
mod share;
mod topology;
mod units;

pub use clock::{LinkClock, Slot, duration_ns, reserve};
pub use link::{
    Accounting, BurstCredit, Delay, Jitter, LinkSpec, Loss, LossModel, NotADelay, Sharing,
    chunk_bytes,
};
pub use receipt::{
    Allowance, Finding, Miss, Promise, Quantity, Shaping, Timing, jain_index, seconds_between,
};
pub use region::RegionId;
pub use share::max_min_shares;
pub use topology::LinkId;
pub use units::{BitRate, NotARate};
