//! Where work is done that draws energy.

/// A board, as CUDA or a person names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum BoardId {
    /// By its UUID, `GPU-…`: the one name that CUDA and NVML share.
    Uuid(String),
    /// By its place in NVML's order, which is that of the PCI bus and not always CUDA's.
    Index(u32),
}

impl std::fmt::Display for BoardId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uuid(uuid) => out.write_str(uuid),
            Self::Index(index) => write!(out, "{index}"),
        }
    }
}

/// Where a worker computes, and whose energy a meter counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// On this host's processors, all packages together: a thread may run on any.
    Processor,
    /// On a board of this host.
    Board(BoardId),
    /// Where no meter of this host counts.
    Elsewhere,
}
