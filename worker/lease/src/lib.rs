//! Who computes on a device of this host, and for how long: a lease in shared memory.
//!
//! What belongs here: the order in which the workers of a host take turns on a device, and the account of each one's time. What
//! does not: what is computed, what a device is, who may be a worker.
//!
//! A device has a number of slots, and a worker a seat. Who wants to compute draws a ticket and says when its work is to be done;
//! the earliest go first, so that a short action does not wait for the slack of long ones. Nobody is asked: every worker sees all seats of its host. Whoever is killed while it holds the lease or waits for it is found
//! out by its process id and the time at which it started, and loses its place; whoever is stopped while it waits is passed over
//! and gets its place back when it goes on. One that is stopped while it holds the lease still holds it: its kernels may run.
//!
//! Exclusion stands on one word of the device, its latest claim. To claim is to replace it by one's own ticket, which fails
//! if anyone else has claimed since one looked at the seats; and before anyone looks, the latest claimant's seat is made to
//! show that it holds. So between look and claim holders can only have become fewer. Order and patience decide who tries,
//! never whether two may hold.

mod error;
mod order;
mod process;
mod seat;
mod table;
#[cfg(test)]
mod tests;

pub use error::LeaseError;
pub use seat::{Lease, Seat};
pub use table::{LeaseTable, MAX_NAME_BYTES, SeatDevice};
