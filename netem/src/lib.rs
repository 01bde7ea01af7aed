//! Regions, links, shares, the link clock, and what the clocks of two hosts differ by.
//!
//! What belongs here: what a link is and what it does to bytes, as arithmetic on arguments.
//! What does not: sockets, clocks, files, threads (those are in `bace-socket`), models and jobs.

mod accounting;
mod clock;
mod congestion;
mod credit;
mod datagram;
mod flow;
mod impair;
mod link;
mod loss;
mod offset;
mod receipt;
mod region;
mod sending;
mod share;
mod stand_in;
mod tc;
mod time_scale;
mod topology;
mod units;

pub use accounting::{
    DATAGRAM_BYTES, ETHERNET_HEADER_BYTES, IP_UDP_HEADER_BYTES, SEGMENT_BYTES, datagrams,
};
pub use clock::{LinkClock, LinkState, Slot, duration_ns, reserve};
pub use congestion::{Congestion, Route};
pub use credit::CreditBucket;
pub use datagram::DatagramLine;
pub use flow::{Chunk, Flow, Message};
pub use impair::{Draws, FlowKey, MOST_DEVIATIONS};
pub use link::{
    Accounting, BurstCredit, Delay, Jitter, LinkSpec, Loss, LossModel, NotADelay, Sharing,
    chunk_bytes,
};
pub use offset::{ClockBounds, ClockEstimate, MAX_DRIFT_PPM};
pub use receipt::{
    Allowance, Departure, Finding, LATE_TOLERANCE_NS, LATE_TOLERANCE_S, Miss, Promise, Quantity,
    Shaping, Timing, jain_index, seconds_between,
};
pub use region::RegionId;
pub use sending::{Ahead, Sending};
pub use share::max_min_shares;
pub use stand_in::StandIn;
pub use tc::{
    MOST_TC_REGIONS, NamespaceName, NetworkName, Owner, Place, PlanError, Qdiscs, RateQdisc,
    TcCommand, TcPlan, bucket_seconds, shell_word,
};
pub use time_scale::{NotATimeScale, TimeScale};
pub use topology::LinkId;
pub use units::{BitRate, NotARate};
