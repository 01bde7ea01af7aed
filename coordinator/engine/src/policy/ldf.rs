//! Lowest delay first within one region.

use std::cmp::Reverse;

use super::{ClusterView, Decision, Policy, first_come};

/// One region: the one with most free GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ldf;

impl Policy for Ldf {
    fn decide(&self, view: &ClusterView<'_>) -> Decision {
        first_come::decide(view, |_| {
            let emptiest = view
                .regions()
                .min_by_key(|&region| Reverse(view.cluster.free(region)));
            emptiest.into_iter().collect()
        })
    }
}
