//! Both ends together, over real sockets on loopback and between network namespaces.

mod kernel;
mod links;
mod members;
mod model;
mod packet;
mod peer_clocks;
mod receipts;
mod stand_in;
pub(crate) mod support;
