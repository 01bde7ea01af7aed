//! Directed links between regions.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::RegionId;

/// A directed link: the ordered pair of the regions it joins.
///
/// `(u, v)` and `(v, u)` are two links. Ordered by `from`, then `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkId {
    /// Where the bytes leave.
    pub from: RegionId,
    /// Where the bytes arrive.
    pub to: RegionId,
}

impl LinkId {
    /// The link that carries bytes from `from` to `to`.
    pub const fn new(from: RegionId, to: RegionId) -> Self {
        Self { from, to }
    }

    /// The link of the opposite direction.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            from: self.to,
            to: self.from,
        }
    }

    /// Whether both ends are the same region: its fabric, which is per stage boundary and never
    /// shared.
    pub fn is_fabric(self) -> bool {
        self.from == self.to
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{}", self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_and_its_reverse_are_two_links() {
        let link = LinkId::new(RegionId::new(0), RegionId::new(2));
        assert_ne!(link, link.reversed());
        assert_eq!(link, link.reversed().reversed());
        assert_eq!(link.to_string(), "r0->r2");
        assert!(!link.is_fabric());
        assert!(LinkId::new(link.to, link.to).is_fabric());
    }
}
