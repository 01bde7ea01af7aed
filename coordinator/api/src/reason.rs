//! Why it was decided so, as data: what goes into a ledger beside every decision.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a job can never run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Refusal {
    /// Weights, gradients and Adam state need more GPUs than there are.
    Gpus {
        /// K_min.
        needs: u64,
        /// GPUs of the scenario.
        has: u64,
    },
    /// Weights, gradients and Adam state need more stages than the model has layers.
    Memory {
        /// K_min.
        needs: u64,
        /// Layers of the model.
        layers: u32,
        /// Smallest GPU memory of the scenario, bytes.
        memory_bytes: u64,
    },
    /// It needs several stages, and the slowest fabric carries nothing.
    Fabric {
        /// Fewest stages.
        stages: u32,
    },
    /// No region alone has enough GPUs, and the policy keeps a job in one.
    Region {
        /// K_min.
        needs: u32,
        /// GPUs of the largest region.
        has: u32,
    },
    /// No path over the idle cluster joins enough GPUs by links fast enough.
    Bandwidth {
        /// K_min.
        needs: u32,
        /// What stopped the path that came furthest; absent where no link was tried.
        #[serde(skip_serializing_if = "Option::is_none")]
        stopped: Option<Shortfall>,
    },
}

/// What stopped a path, or a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Shortfall {
    /// Too few free GPUs within reach.
    Gpus {
        /// GPUs it needs.
        needs: u32,
        /// GPUs it could get.
        free: u64,
    },
    /// Too little bandwidth between two regions.
    Bandwidth {
        /// The path's last region.
        from: String,
        /// The region it was to be extended by.
        to: String,
        /// Demand, bit/s; infinite demands do not occur.
        needs_bps: f64,
        /// What is left of the fuller direction, bit/s.
        has_bps: f64,
    },
    /// An earlier job cannot be placed, and this policy lets nobody overtake.
    Behind {
        /// The earlier job.
        job: String,
    },
}

/// Why a job was placed now, and there.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PlacementReason {
    /// K_min.
    pub k_min: u32,
    /// K*.
    pub k_star: u32,
    /// K°; absent where the policy knows none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k_full: Option<u32>,
    /// Terms of the job's priority; absent where the order is that of arrival.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<PriorityTerms>,
    /// Every path looked at, in the order of their first regions.
    pub paths: Vec<PathReason>,
}

/// Terms of a job's priority at the moment of the decision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PriorityTerms {
    /// (1 − α)(1 − I) + α(1 − S) + aging.
    pub priority: f64,
    /// α: share of all inter-region capacity in use.
    pub alpha: f64,
    /// I: the job's compute over the largest waiting one's.
    pub intensity: f64,
    /// S: the job's demand over the largest waiting one's.
    pub sensitivity: f64,
    /// Gained by waiting.
    pub aging: f64,
}

/// A path that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathReason {
    /// Regions in pipeline order with the GPUs that the job would take; 0 where the path did not become a candidate.
    pub regions: Vec<(String, u32)>,
    /// Smallest residual on it, bit/s; absent within one region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bottleneck_bps: Option<f64>,
    /// T, seconds; absent where the path did not become a candidate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iteration_s: Option<f64>,
    /// Dollars for the whole job at this instant's prices; absent where the path did not become a candidate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// What became of it.
    pub outcome: PathOutcome,
}

/// What became of a path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum PathOutcome {
    /// The job runs here.
    Chosen,
    /// Its iteration takes longer than the fastest candidate's and the allowed slack.
    TooSlow {
        /// Longest T allowed, seconds.
        limit_s: f64,
    },
    /// Another candidate that is fast enough costs less.
    Dearer,
    /// As good as the chosen one, which was found first: as cheap, or as fast where the policy minds no costs.
    Tied,
    /// It did not become a candidate.
    Stopped {
        /// What it lacked.
        #[serde(flatten)]
        shortfall: Shortfall,
    },
}

impl Shortfall {
    /// Whether a waiting job's ledger has to hear of `other` after `self`: figures change at every
    /// instant, a cause or a place does not.
    pub fn same_cause(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Gpus { .. }, Self::Gpus { .. }) => true,
            (
                Self::Bandwidth { from, to, .. },
                Self::Bandwidth {
                    from: other_from,
                    to: other_to,
                    ..
                },
            ) => from == other_from && to == other_to,
            (Self::Behind { job }, Self::Behind { job: other }) => job == other,
            _ => false,
        }
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gpus { needs, free } => {
                write!(
                    f,
                    "it needs {needs} GPUs and {free} are free within its reach"
                )
            }
            Self::Bandwidth {
                from,
                to,
                needs_bps,
                has_bps,
            } => write!(
                f,
                "between {from} and {to} it needs {} and {} are left",
                Rate(*needs_bps),
                Rate(*has_bps)
            ),
            Self::Behind { job } => write!(f, "{job} came earlier and cannot be placed"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gpus { needs, has } => write!(
                f,
                "its weights, gradients and optimizer state need {needs} GPUs and the scenario has {has}"
            ),
            Self::Memory {
                needs,
                layers,
                memory_bytes,
            } => write!(
                f,
                "its weights, gradients and optimizer state need {needs} GPUs of {} GB, and its {layers} layers \
                 cannot be cut into that many stages",
                *memory_bytes as f64 / 1e9
            ),
            Self::Fabric { stages } => write!(
                f,
                "it needs at least {stages} stages, and a region's fabric carries nothing between them"
            ),
            Self::Region { needs, has } => write!(
                f,
                "it needs {needs} GPUs in one region and the largest has {has}"
            ),
            Self::Bandwidth { needs, stopped } => {
                write!(
                    f,
                    "no path over the idle cluster gives it the {needs} GPUs it needs"
                )?;
                match stopped {
                    Some(shortfall) => write!(f, ": {shortfall}"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// A rate for people.
struct Rate(f64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scale, unit) = match self.0 {
            bps if bps >= 1e9 => (1e9, "Gbit/s"),
            bps if bps >= 1e6 => (1e6, "Mbit/s"),
            bps if bps >= 1e3 => (1e3, "kbit/s"),
            _ => (1.0, "bit/s"),
        };
        write!(f, "{:.1} {unit}", self.0 / scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_alone_are_no_news() {
        let link = |to: &str, has_bps| Shortfall::Bandwidth {
            from: "a".into(),
            to: to.into(),
            needs_bps: 2e6,
            has_bps,
        };
        assert!(link("b", 1e6).same_cause(&link("b", 0.5e6)));
        assert!(!link("b", 1e6).same_cause(&link("c", 1e6)));
        assert_eq!(
            link("b", 0.5e6).to_string(),
            "between a and b it needs 2.0 Mbit/s and 500.0 kbit/s are left"
        );
    }
}
