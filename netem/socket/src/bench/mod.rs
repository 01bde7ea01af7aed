//! Measures this host: what its loopback carries, how late its timers are, how true its links are.

mod ceiling;
mod link;

pub use ceiling::{LINKS_SHARE, LoopbackCeiling, loopback_ceiling, tcp_ceiling};
pub use link::{LinkMeasurement, measure_link};
