//! Why a ledger could not be written or read.

use std::io;
use std::path::{Path, PathBuf};

/// Why a ledger could not be written or read. Messages name the file, and the line where there is one.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The system refused.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `create`, `write`, `read`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The run folder holds something that a run would overwrite.
    #[error("create a run in {}: it already holds {file}; choose another folder, runs are never overwritten", dir.display())]
    Occupied {
        /// The run folder.
        dir: PathBuf,
        /// What is there.
        file: &'static str,
    },
    /// A record could not be turned into a line.
    #[error("write {}: a record cannot be a line of a ledger: {problem}", path.display())]
    Unwritable {
        /// The ledger.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// An earlier write failed; what would follow it could not be read back.
    #[error("write {}: an earlier record could not be written", path.display())]
    Broken {
        /// The ledger.
        path: PathBuf,
    },
    /// The folder is no run folder.
    #[error("read {}: the folder holds no {}", dir.display(), crate::LEDGER_FILE)]
    NoLedger {
        /// The folder.
        dir: PathBuf,
    },
    /// The file does not begin with a ledger's header.
    #[error("read {}: not a ledger: {problem}", path.display())]
    NotALedger {
        /// The file.
        path: PathBuf,
        /// What stands where the header should.
        problem: String,
    },
    /// The ledger's format is of another version.
    #[error("read {}: the ledger has format version {found}, this program reads versions 1 to {known}; use the program that wrote it or a later one", path.display())]
    Version {
        /// The ledger.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The latest version this program reads.
        known: u32,
    },
    /// A picture could not be laid out.
    #[error("draw the picture: {0}")]
    Undrawable(String),
    /// An iteration was asked for that is not there.
    #[error("find the iteration: {0}")]
    NoIteration(String),
    /// A line in the middle is damaged.
    #[error("read {}: line {line}: {problem}", path.display())]
    Damaged {
        /// The ledger.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
}

impl LedgerError {
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}
