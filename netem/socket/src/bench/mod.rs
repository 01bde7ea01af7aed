//! Measures this host: what its loopback carries, how late its timers are, how true its links are.

mod carrier;
mod ceiling;
mod checked;
mod figure;
mod lateness;
mod link;
mod link_figures;
mod messages;
mod peer;
mod processes;
mod receipt;
mod shared;
mod stats;
mod streams;
mod tcp;
mod transport;

pub use carrier::{Carrier, Plan};
pub use ceiling::{LINKS_SHARE, LoopbackCeiling, loopback_ceiling, message_cost_s, tcp_ceiling};
pub use figure::{Bound, Figure, Verdict};
pub use lateness::{Lateness, TimerKind, timer_lateness};
pub use link::{LinkMeasurement, measure_link};
pub use link_figures::{LinkPart, LinkPlan, measure_part};
pub use peer::{PeerReport, PeerTask, serve_peer};
pub use processes::PeerProgram;
pub use shared::SharePlan;
pub use stats::median;
pub use transport::{
    CheckedMessage, Layout, TransportPlan, TransportRow, TransportRun, VARIANTS, Variant,
    check_messages, measure_transport, transport_figures,
};

/// The certificate name of the end that receives.
const RECEIVER_NAME: &str = "receiver.bench.local";
/// The certificate name of the end that sends.
const SENDER_NAME: &str = "sender.bench.local";
