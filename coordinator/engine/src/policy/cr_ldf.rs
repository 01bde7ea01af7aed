//! Lowest delay first over several regions.

use std::cmp::Reverse;

use super::pathfinder::widest;
use super::{ClusterView, Decision, Policy, first_come};

/// From the region with most free GPUs along the links with most left, until there are K*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrLdf;

impl Policy for CrLdf {
    fn decide(&self, view: &ClusterView<'_>) -> Decision {
        first_come::decide(view, |waiting| {
            let cluster = view.cluster;
            let emptiest = view
                .regions()
                .min_by_key(|&region| Reverse(cluster.free(region)));
            let mut path: Vec<_> = emptiest.into_iter().collect();
            let mut gpus: u64 = path
                .iter()
                .map(|&region| u64::from(cluster.free(region)))
                .sum();
            while gpus < u64::from(waiting.k_star)
                && let Some(&tail) = path.last()
                && let Some((next, _)) = widest(cluster, tail, |region| path.contains(&region))
            {
                gpus += u64::from(cluster.free(next));
                path.push(next);
            }
            path
        })
    }
}
