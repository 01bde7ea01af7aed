//! Both ends together, over real sockets on loopback.

mod links;
mod members;
mod packet;
pub(crate) mod support;
