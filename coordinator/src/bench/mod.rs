//! `bace bench`: measures this machine's emulation.

mod figures;
mod link;
mod link_goals;
mod meter;
mod peer;
mod pipeline;
pub mod progress;
mod transport;

pub use figures::table;
pub use link::link;
pub use meter::meter;
pub use peer::peer;
pub use pipeline::pipeline;
pub use transport::transport;
