//! Links that the kernel shapes: probed, put up and taken down with iproute2.

mod command;
mod error;
mod inside;
mod network;
mod privilege;
mod probe;

pub use error::KernelError;
pub use inside::Inside;
pub use network::{KernelNetwork, is_running, mark_of, namespaces, remove};
pub use privilege::{Privilege, obtain_privilege, refuse_without_root};
pub use probe::{KernelSupport, probe};
