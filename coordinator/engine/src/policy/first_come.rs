//! What the baselines share: order of arrival, and the first job that cannot be placed blocks the rest.

use bace_api::{PathOutcome, PathReason, PlacementReason, RegionGpus, Shortfall};
use bace_netem::RegionId;

use super::cost_min::{Prospect, in_path_order};
use super::{Choice, ClusterView, Decision, PassedOver, Waiting};

/// Places the first waiting job on the regions that `regions_for` names, or nobody.
pub(super) fn decide(
    view: &ClusterView<'_>,
    regions_for: impl Fn(&Waiting) -> Vec<RegionId>,
) -> Decision {
    let Some(first) = view.waiting.first() else {
        return Decision::default();
    };
    match place(view, first, &regions_for(first)) {
        Ok(choice) => Decision {
            placed: Some(choice),
            passed_over: Vec::new(),
        },
        Err(_) if !view.explain => Decision::default(),
        Err(cause) => Decision {
            placed: None,
            passed_over: blocked(view, first, cause),
        },
    }
}

fn place(
    view: &ClusterView<'_>,
    waiting: &Waiting,
    regions: &[RegionId],
) -> Result<Choice, Shortfall> {
    let free: u64 = regions
        .iter()
        .map(|&region| u64::from(view.cluster.free(region)))
        .sum();
    if free < u64::from(waiting.k_min) {
        return Err(Shortfall::Gpus {
            needs: waiting.k_min,
            free,
        });
    }
    let stages = free.min(u64::from(waiting.k_star)) as u32;
    let path = in_path_order(view, regions, stages);
    let mut bottleneck_bps = f64::INFINITY;
    for pair in path.windows(2) {
        let residual = view.cluster.residual(pair[0].region, pair[1].region);
        if residual == 0.0 {
            return Err(dry_link(view, waiting, &path, pair));
        }
        bottleneck_bps = bottleneck_bps.min(residual);
    }
    Ok(Choice {
        job: waiting.job,
        reason: PlacementReason {
            k_min: waiting.k_min,
            k_star: waiting.k_star,
            paths: if view.explain {
                vec![reason(view, waiting, &path, bottleneck_bps)]
            } else {
                Vec::new()
            },
            ..PlacementReason::default()
        },
        path,
    })
}

fn dry_link(
    view: &ClusterView<'_>,
    waiting: &Waiting,
    path: &[RegionGpus],
    pair: &[RegionGpus],
) -> Shortfall {
    let kind = view.estimates.kind(waiting.kind);
    let stage_s = view.estimates.placed_stage_s(view.scenario, kind, path);
    Shortfall::Bandwidth {
        from: view.region_name(pair[0].region),
        to: view.region_name(pair[1].region),
        needs_bps: kind.boundary_bits() / stage_s,
        has_bps: 0.0,
    }
}

fn reason(
    view: &ClusterView<'_>,
    waiting: &Waiting,
    path: &[RegionGpus],
    bottleneck_bps: f64,
) -> PathReason {
    let prospect = Prospect::of(view, waiting, path, bottleneck_bps);
    PathReason {
        regions: path
            .iter()
            .map(|part| (view.region_name(part.region), part.gpus))
            .collect(),
        bottleneck_bps: bottleneck_bps.is_finite().then_some(bottleneck_bps),
        iteration_s: Some(prospect.iteration_s),
        cost_usd: Some(prospect.cost_usd),
        outcome: PathOutcome::Chosen,
    }
}

fn blocked(view: &ClusterView<'_>, first: &Waiting, cause: Shortfall) -> Vec<PassedOver> {
    let name = &view.job(first).name;
    let behind = view.waiting[1..].iter().map(|waiting| PassedOver {
        job: waiting.job,
        cause: Shortfall::Behind { job: name.clone() },
    });
    let first = PassedOver {
        job: first.job,
        cause,
    };
    std::iter::once(first).chain(behind).collect()
}
