//! Lowest cost first over several regions.

use super::{ClusterView, Decision, Policy, first_come};

/// Regions with free GPUs in ascending price until there are K*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrLcf;

impl Policy for CrLcf {
    fn decide(&self, view: &ClusterView<'_>) -> Decision {
        first_come::decide(view, |waiting| {
            let mut by_price: Vec<_> = view
                .regions()
                .filter(|&region| view.cluster.free(region) > 0)
                .collect();
            by_price.sort_by(|&a, &b| view.price(a).total_cmp(&view.price(b)));
            let mut gpus = 0;
            by_price
                .into_iter()
                .take_while(|&region| {
                    let more = gpus < u64::from(waiting.k_star);
                    gpus += u64::from(view.cluster.free(region));
                    more
                })
                .collect()
        })
    }
}
