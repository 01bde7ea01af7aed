//! Both ends together, over real sockets on loopback.

mod links;
mod members;
pub(crate) mod support;
