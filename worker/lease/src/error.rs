//! What can go wrong with a lease.

use bace_socket::SocketError;

/// Why a device cannot be leased; each message fits after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The shared memory does not serve.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A seat or a device beyond the table.
    #[error("take seat {seat} on device {device}: the table has {seats} of each")]
    NoSuchSeat {
        /// The seat asked for.
        seat: usize,
        /// The device asked for.
        device: usize,
        /// How many there are.
        seats: usize,
    },
    /// A seat in which another process sits.
    #[error("take seat {seat}: process {pid} sits there")]
    Taken {
        /// The seat asked for.
        seat: usize,
        /// Who has it.
        pid: u32,
    },
    /// A seat that was cleared although its process lives.
    #[error(
        "lease a device from seat {seat}: another process has cleared it, taking this one for ended; processes that share devices have to see each other in /proc"
    )]
    Lost {
        /// The seat.
        seat: usize,
    },
    /// A device whose name does not fit.
    #[error("lease the device `{0}`: its name has more than {max} bytes", max = crate::MAX_NAME_BYTES)]
    LongName(String),
    /// The system does not tell of this process.
    #[error("find the time at which this process has started: {0}")]
    Process(std::io::Error),
}
