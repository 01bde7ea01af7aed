//! The choice among a job's candidate paths, with what is to be said of each.

use bace_api::{PathOutcome, PathReason, RegionGpus};
use bace_netem::RegionId;

use super::cost_min::{Prospect, cheapest_first, in_path_order};
use super::pathfinder::{Ways, Wish};
use super::{ClusterView, Waiting};
use crate::estimate::TIE;

/// A candidate with its GPUs, time and money.
#[derive(Debug, Clone)]
struct Candidate {
    path: Vec<RegionGpus>,
    prospect: Prospect,
    /// Its entry among the reasons.
    reason: usize,
}

/// The best path for a job and every path looked at; `None` without a candidate.
pub(super) fn choose(
    view: &ClusterView<'_>,
    ways: &mut Ways<'_>,
    waiting: &Waiting,
    wish: &Wish<'_>,
    cost_min: bool,
) -> Option<(Vec<RegionGpus>, Vec<PathReason>)> {
    let mut candidates = Vec::new();
    let mut reasons = Vec::new();
    for start in ways.starts() {
        match ways.find(start, wish) {
            Ok(found) => {
                let fill = if cost_min {
                    cheapest_first
                } else {
                    in_path_order
                };
                let path = fill(view, &found.regions, found.stages);
                let prospect = Prospect::of(view, waiting, &path, found.bottleneck_bps);
                if view.explain {
                    reasons.push(candidate_reason(
                        view,
                        &path,
                        &prospect,
                        found.bottleneck_bps,
                    ));
                }
                candidates.push(Candidate {
                    path,
                    prospect,
                    reason: reasons.len().saturating_sub(1),
                });
            }
            Err(end) if view.explain => {
                let regions = ways.regions_from(start, end.regions);
                reasons.push(PathReason {
                    regions: named(view, regions.into_iter().map(|region| (region, 0))),
                    bottleneck_bps: finite(end.bottleneck_bps),
                    iteration_s: None,
                    cost_usd: None,
                    outcome: PathOutcome::Stopped {
                        shortfall: ways.explain(wish, &end),
                    },
                });
            }
            Err(_) => {}
        }
    }
    let times = candidates
        .iter()
        .map(|candidate| candidate.prospect.iteration_s);
    let best_s = times.fold(f64::INFINITY, f64::min);
    let slack = if cost_min {
        view.scenario.policy.time_slack
    } else {
        0.0
    };
    let limit_s = best_s * (1.0 + slack);
    let chosen = cheapest(&candidates, limit_s, cost_min)?;
    if view.explain {
        let least_usd = candidates[chosen].prospect.cost_usd;
        for candidate in &candidates {
            let prospect = &candidate.prospect;
            reasons[candidate.reason].outcome = if prospect.iteration_s > limit_s * (1.0 + TIE) {
                PathOutcome::TooSlow { limit_s }
            } else if cost_min && least_usd < prospect.cost_usd * (1.0 - TIE) {
                PathOutcome::Dearer
            } else {
                PathOutcome::Tied
            };
        }
        reasons[candidates[chosen].reason].outcome = PathOutcome::Chosen;
    }
    Some((candidates.swap_remove(chosen).path, reasons))
}

/// The first of the candidates within `limit_s` that costs least, or simply the first without `cost_min`.
fn cheapest(candidates: &[Candidate], limit_s: f64, cost_min: bool) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (position, candidate) in candidates.iter().enumerate() {
        if candidate.prospect.iteration_s > limit_s * (1.0 + TIE) {
            continue;
        }
        let cost = if cost_min {
            candidate.prospect.cost_usd
        } else {
            0.0
        };
        if best.is_none_or(|(_, least)| cost < least * (1.0 - TIE)) {
            best = Some((position, cost));
        }
    }
    best.map(|(position, _)| position)
}

fn candidate_reason(
    view: &ClusterView<'_>,
    path: &[RegionGpus],
    prospect: &Prospect,
    bottleneck_bps: f64,
) -> PathReason {
    PathReason {
        regions: named(view, path.iter().map(|part| (part.region, part.gpus))),
        bottleneck_bps: finite(bottleneck_bps),
        iteration_s: Some(prospect.iteration_s),
        cost_usd: Some(prospect.cost_usd),
        // Until all candidates are known.
        outcome: PathOutcome::Tied,
    }
}

fn named(
    view: &ClusterView<'_>,
    regions: impl Iterator<Item = (RegionId, u32)>,
) -> Vec<(String, u32)> {
    regions
        .map(|(region, gpus)| (view.region_name(region), gpus))
        .collect()
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
