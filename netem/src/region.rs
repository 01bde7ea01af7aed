//! Regions as indices.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A region of one scenario: its position in the scenario's list of regions.
///
/// Names belong to the scenario; everything else speaks of regions by index, so that ties are
/// broken in scenario order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RegionId(u16);

impl RegionId {
    /// The region at `index` of the scenario's list.
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// The region at `index` of a list; `None` beyond the 65 536 regions a scenario can name.
    pub fn from_index(index: usize) -> Option<Self> {
        u16::try_from(index).ok().map(Self)
    }

    /// The position in the scenario's list, to index arrays that hold one element a region.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}
