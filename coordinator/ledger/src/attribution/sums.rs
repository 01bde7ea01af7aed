//! Seconds by cause, and by link where one is to blame.

use std::collections::BTreeMap;

use super::Cause;

/// A directed link between two regions, or the fabric of one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkName {
    /// Where bytes leave.
    pub from: String,
    /// Where they arrive; the same for a region's fabric.
    pub to: String,
}

impl std::fmt::Display for LinkName {
    /// `a → b`, or `fabric of a`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.from == self.to {
            write!(f, "fabric of {}", self.from)
        } else {
            write!(f, "{} → {}", self.from, self.to)
        }
    }
}

/// Stage-seconds by cause.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sums {
    seconds: [f64; Cause::COUNT],
    links: BTreeMap<LinkName, [f64; Cause::COUNT]>,
}

impl Sums {
    /// Stage-seconds that went to `cause`.
    pub fn seconds(&self, cause: Cause) -> f64 {
        self.seconds[cause.index()]
    }

    /// All stage-seconds.
    pub fn total_s(&self) -> f64 {
        self.seconds.iter().sum()
    }

    /// The share of all stage-seconds that went to `cause`; absent where there are none.
    pub fn share(&self, cause: Cause) -> Option<f64> {
        let total_s = self.total_s();
        (total_s > 0.0).then(|| self.seconds(cause) / total_s)
    }

    /// Links that time went to, by name.
    pub fn links(&self) -> impl Iterator<Item = &LinkName> {
        self.links.keys()
    }

    /// Stage-seconds that went to `cause` at `link`.
    pub fn link_seconds(&self, link: &LinkName, cause: Cause) -> f64 {
        self.links
            .get(link)
            .map_or(0.0, |seconds| seconds[cause.index()])
    }

    /// Adds `seconds` that went to `cause`, at `link` where one is to blame.
    pub(super) fn add(&mut self, cause: Cause, link: Option<&LinkName>, seconds: f64) {
        if seconds == 0.0 {
            return;
        }
        self.seconds[cause.index()] += seconds;
        if let Some(link) = link {
            let at_link = match self.links.get_mut(link) {
                Some(at_link) => at_link,
                None => self.links.entry(link.clone()).or_default(),
            };
            at_link[cause.index()] += seconds;
        }
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        for cause in Cause::ALL {
            self.seconds[cause.index()] += other.seconds(cause);
        }
        for (link, seconds) in &other.links {
            let at_link = self.links.entry(link.clone()).or_default();
            for (sum, more) in at_link.iter_mut().zip(seconds) {
                *sum += more;
            }
        }
    }
}
