//! Both ends together, over real sockets on loopback and between network namespaces.

mod kernel;
mod links;
mod members;
mod packet;
pub(crate) mod support;
