//! Lowest cost first within one region.

use super::{ClusterView, Decision, Policy, first_come};

/// One region: the cheapest at this instant with at least K_min free GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lcf;

impl Policy for Lcf {
    fn decide(&self, view: &ClusterView<'_>) -> Decision {
        first_come::decide(view, |waiting| {
            let fits = |region: &_| view.cluster.free(*region) >= waiting.k_min;
            let cheapest = view
                .regions()
                .filter(fits)
                .min_by(|&a, &b| view.price(a).total_cmp(&view.price(b)));
            cheapest.into_iter().collect()
        })
    }
}
