//! Which of a path's GPUs to take, and which of several paths.

use bace_api::RegionGpus;
use bace_models::JOULES_PER_KWH;
use bace_netem::RegionId;

use super::{ClusterView, Waiting};
use crate::estimate::PipelineTimes;

/// One GPU in every region of the path, the other stages in ascending price (ties: path order).
pub(super) fn cheapest_first(
    view: &ClusterView<'_>,
    regions: &[RegionId],
    stages: u32,
) -> Vec<RegionGpus> {
    let mut by_price: Vec<usize> = (0..regions.len()).collect();
    by_price.sort_by(|&a, &b| view.price(regions[a]).total_cmp(&view.price(regions[b])));
    let mut path: Vec<RegionGpus> = regions
        .iter()
        .map(|&region| RegionGpus { region, gpus: 1 })
        .collect();
    let mut left = stages - regions.len() as u32;
    for position in by_price {
        let more = left.min(view.cluster.free(regions[position]) - 1);
        path[position].gpus += more;
        left -= more;
    }
    path
}

/// GPUs in path order, each region as many as it has; a region that gets none leaves the path.
pub(super) fn in_path_order(
    view: &ClusterView<'_>,
    regions: &[RegionId],
    stages: u32,
) -> Vec<RegionGpus> {
    let mut left = stages;
    let mut path = Vec::with_capacity(regions.len());
    for &region in regions {
        let gpus = left.min(view.cluster.free(region));
        left -= gpus;
        if gpus > 0 {
            path.push(RegionGpus { region, gpus });
        }
    }
    path
}

/// T and dollars of a job on a path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Prospect {
    /// T with the smaller of its demand and the bottleneck's residual, seconds.
    pub iteration_s: f64,
    /// Σ n_r·busy_w·pue·price·N·T at this instant's prices.
    pub cost_usd: f64,
}

impl Prospect {
    /// What `waiting` may expect on `path` with `bottleneck_bps` left on its narrowest link.
    pub fn of(
        view: &ClusterView<'_>,
        waiting: &Waiting,
        path: &[RegionGpus],
        bottleneck_bps: f64,
    ) -> Self {
        let kind = view.estimates.kind(waiting.kind);
        let job = view.job(waiting);
        let stage_s = view.estimates.placed_stage_s(view.scenario, kind, path);
        let bits = kind.boundary_bits();
        let times = PipelineTimes::of(view.scenario, view.cluster, job, bits, path, stage_s);
        let share_bps = if path.len() > 1 {
            times.demand_bps().min(bottleneck_bps)
        } else {
            f64::INFINITY
        };
        let iteration_s = times.iteration_s(share_bps);
        let dollars_a_second: f64 = path
            .iter()
            .map(|part| {
                let region = &view.scenario.regions[part.region.index()];
                f64::from(part.gpus) * region.gpu.busy_w * region.pue * view.price(part.region)
            })
            .sum();
        let seconds = f64::from(job.iterations) * iteration_s;
        Self {
            iteration_s,
            cost_usd: dollars_a_second * seconds / JOULES_PER_KWH,
        }
    }
}
