//! What all processes of a run on one host share.

use std::path::{Path, PathBuf};

use bace_lease::{LeaseError, LeaseTable};
use bace_socket::{CellTable, SharedMemory};

/// The tables in a host's shared memory. The memory lives as long as any process has it open; others find it as long as its
/// maker does.
#[derive(Debug, Clone)]
pub struct HostTables {
    /// The clocks of links between regions.
    pub clocks: CellTable,
    /// Whose turn it is on each device.
    pub leases: LeaseTable,
}

impl HostTables {
    /// Memory for so many links, all down, and so many workers, and the path by which the other processes of this user open it.
    ///
    /// # Errors
    /// When the system gives no memory.
    pub fn create(links: usize, seats: usize) -> Result<(Self, PathBuf), LeaseError> {
        let sections = [CellTable::section(links), LeaseTable::section(seats)];
        let (memory, path) = SharedMemory::create(&sections)?;
        Ok((Self::of(&memory)?, path))
    }

    /// The tables that another process made.
    ///
    /// # Errors
    /// When there is nothing at `path`, or no memory of this version.
    pub fn open(path: &Path) -> Result<Self, LeaseError> {
        Self::of(&SharedMemory::open(path)?)
    }

    fn of(memory: &SharedMemory) -> Result<Self, LeaseError> {
        Ok(Self {
            clocks: CellTable::of(memory)?,
            leases: LeaseTable::of(memory)?,
        })
    }
}
