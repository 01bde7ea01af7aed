//! Paths from every region, extended by the link with most left, as long as the job's tensors fit through.
//!
//! Which region comes next depends on the cluster alone, not on the job. So the way from a region is worked out once
//! and each job walks it until it has enough GPUs or meets a link too narrow.

use bace_api::Shortfall;
use bace_netem::RegionId;

use super::view::regions;
use crate::{Cluster, Estimates, JobKind, Scenario};

/// Relative slack of the bandwidth test.
const BANDWIDTH_SLACK: f64 = 1e-9;

/// A region on a way, with what the way has up to it.
#[derive(Debug, Clone, Copy)]
struct Hop {
    region: RegionId,
    /// Residual of the link that leads here, bit/s; infinite at the first.
    residual_bps: f64,
    /// Smallest of them so far.
    bottleneck_bps: f64,
    /// Free GPUs so far.
    gpus: u64,
    /// Slowest speed so far, operations a second.
    speed: f64,
}

/// The way from one region.
#[derive(Debug, Clone, Default)]
struct Way {
    hops: Vec<Hop>,
    /// Whether there is no further region.
    ended: bool,
}

/// All ways over a cluster at an instant.
#[derive(Debug)]
pub(super) struct Ways<'a> {
    scenario: &'a Scenario,
    cluster: &'a Cluster,
    estimates: &'a Estimates,
    ways: Vec<Way>,
}

/// What a job wants of a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish<'a> {
    /// Stage times and tensor sizes.
    pub kind: &'a JobKind,
    /// Stages it wants.
    pub full: u32,
    /// Stages it takes at least.
    pub least: u32,
    /// Whether it may leave the first region.
    pub extend: bool,
}

/// A path that has enough.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Path {
    /// Its regions.
    pub regions: Vec<RegionId>,
    /// Stages it gives the job.
    pub stages: u32,
    /// Smallest residual on it, bit/s; infinite within one region.
    pub bottleneck_bps: f64,
}

/// A path that has not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct DeadEnd {
    /// Regions it came through.
    pub regions: usize,
    /// GPUs on them.
    pub gpus: u64,
    /// Smallest residual on it, bit/s; infinite within one region.
    pub bottleneck_bps: f64,
    /// The link too narrow, what the job needs there and what is left; absent if there was nowhere to go.
    pub narrow: Option<(RegionId, RegionId, f64, f64)>,
}

impl<'a> Ways<'a> {
    pub fn over(scenario: &'a Scenario, cluster: &'a Cluster, estimates: &'a Estimates) -> Self {
        let ways = regions(scenario)
            .map(|region| {
                let gpus = cluster.free(region);
                let first = Hop {
                    region,
                    residual_bps: f64::INFINITY,
                    bottleneck_bps: f64::INFINITY,
                    gpus: u64::from(gpus),
                    speed: estimates.speed(region),
                };
                Way {
                    hops: if gpus > 0 { vec![first] } else { Vec::new() },
                    ended: gpus == 0,
                }
            })
            .collect();
        Self {
            scenario,
            cluster,
            estimates,
            ways,
        }
    }

    /// Starting points with free GPUs, in scenario order.
    pub fn starts(&self) -> impl Iterator<Item = RegionId> + use<> {
        let with_gpus: Vec<RegionId> = regions(self.scenario)
            .filter(|start| !self.ways[start.index()].hops.is_empty())
            .collect();
        with_gpus.into_iter()
    }

    /// Whether any start has a path for `wish`.
    pub fn any(&mut self, wish: &Wish<'_>) -> bool {
        (0..self.ways.len())
            .any(|start| !self.ways[start].hops.is_empty() && self.walk(start, wish).is_ok())
    }

    /// The path from `start`, which has free GPUs.
    pub fn find(&mut self, start: RegionId, wish: &Wish<'_>) -> Result<Path, DeadEnd> {
        let (regions, stages, bottleneck_bps) = self.walk(start.index(), wish)?;
        let hops = &self.ways[start.index()].hops[..regions];
        Ok(Path {
            regions: hops.iter().map(|hop| hop.region).collect(),
            stages,
            bottleneck_bps,
        })
    }

    /// Regions that the way from `start` came through so far.
    pub fn regions_from(&self, start: RegionId, count: usize) -> Vec<RegionId> {
        let hops = &self.ways[start.index()].hops[..count];
        hops.iter().map(|hop| hop.region).collect()
    }

    /// Why no start has a path for `wish`: of all dead ends, the one with most GPUs.
    pub fn shortfall(&mut self, wish: &Wish<'_>) -> Shortfall {
        let mut furthest: Option<DeadEnd> = None;
        for start in self.starts() {
            if let Err(end) = self.walk(start.index(), wish)
                && furthest.is_none_or(|known| end.gpus > known.gpus)
            {
                furthest = Some(end);
            }
        }
        match furthest {
            Some(end) => self.explain(wish, &end),
            None => Shortfall::Gpus {
                needs: wish.least,
                free: 0,
            },
        }
    }

    /// A dead end in words.
    pub fn explain(&self, wish: &Wish<'_>, end: &DeadEnd) -> Shortfall {
        match end.narrow {
            Some((from, to, needs_bps, has_bps)) => Shortfall::Bandwidth {
                from: self.scenario.regions[from.index()].name.clone(),
                to: self.scenario.regions[to.index()].name.clone(),
                needs_bps,
                has_bps,
            },
            None => Shortfall::Gpus {
                needs: wish.least,
                free: end.gpus,
            },
        }
    }

    /// Regions, stages and bottleneck of the path from `start`.
    fn walk(&mut self, start: usize, wish: &Wish<'_>) -> Result<(usize, u32, f64), DeadEnd> {
        let full = u64::from(wish.full);
        let bits = wish.kind.boundary_bits();
        let too_narrow = |residual_bps: f64, stage_s: f64| {
            bits / residual_bps > stage_s * (1.0 + BANDWIDTH_SLACK)
        };
        let mut at = self.ways[start].hops[0];
        let mut taken = 1;
        let mut narrow = None;
        while at.gpus < full && wish.extend {
            let Some(next) = self.hop(start, taken) else {
                break;
            };
            let stages = full.min(next.gpus) as u32;
            let stage_s = wish.kind.largest_stage_s(stages, next.speed);
            if too_narrow(next.residual_bps, stage_s) {
                narrow = Some((at.region, next.region, bits / stage_s, next.residual_bps));
                break;
            }
            at = next;
            taken += 1;
        }
        let mut end = DeadEnd {
            regions: taken,
            gpus: at.gpus,
            bottleneck_bps: at.bottleneck_bps,
            narrow,
        };
        if at.gpus < u64::from(wish.least) {
            return Err(end);
        }
        let stages = full.min(at.gpus) as u32;
        let stage_s = wish.kind.largest_stage_s(stages, at.speed);
        if taken > 1 && too_narrow(at.bottleneck_bps, stage_s) {
            let hops = &self.ways[start].hops[..taken];
            let slowest = hops
                .windows(2)
                .find(|pair| pair[1].residual_bps == at.bottleneck_bps);
            end.narrow = slowest.map(|pair| {
                let (from, to) = (pair[0].region, pair[1].region);
                (from, to, bits / stage_s, at.bottleneck_bps)
            });
            return Err(end);
        }
        Ok((taken, stages, at.bottleneck_bps))
    }

    /// The hop at `position` of the way from `start`.
    fn hop(&mut self, start: usize, position: usize) -> Option<Hop> {
        let way = &self.ways[start];
        if position < way.hops.len() {
            return Some(way.hops[position]);
        }
        if way.ended {
            return None;
        }
        let next = self.next_hop(&way.hops);
        let way = &mut self.ways[start];
        match next {
            Some(hop) => way.hops.push(hop),
            None => way.ended = true,
        }
        next
    }

    fn next_hop(&self, hops: &[Hop]) -> Option<Hop> {
        let tail = hops.last()?;
        let taken = |region: RegionId| hops.iter().any(|hop| hop.region == region);
        let (region, residual_bps) = widest(self.cluster, tail.region, taken)?;
        Some(Hop {
            region,
            residual_bps,
            bottleneck_bps: tail.bottleneck_bps.min(residual_bps),
            gpus: tail.gpus + u64::from(self.cluster.free(region)),
            speed: tail.speed.min(self.estimates.speed(region)),
        })
    }
}

/// The region with free GPUs, not `taken`, to which most is left from `tail`, and how much; ties go to more free
/// GPUs, then to scenario order. A missing link has nothing left.
pub(super) fn widest(
    cluster: &Cluster,
    tail: RegionId,
    taken: impl Fn(RegionId) -> bool,
) -> Option<(RegionId, f64)> {
    let mut best: Option<(RegionId, f64, u32)> = None;
    for (index, &residual) in cluster.residuals(tail).iter().enumerate() {
        // Most regions end here: this loop takes the most time of a decision over many regions.
        if best.is_some_and(|(_, best_residual, _)| residual < best_residual) {
            continue;
        }
        let Some(region) = RegionId::from_index(index) else {
            break;
        };
        let free = cluster.free(region);
        if free == 0 || region == tail {
            continue;
        }
        let better = best.is_none_or(|(_, best_residual, best_free)| {
            residual > best_residual || free > best_free
        });
        if better && !taken(region) {
            best = Some((region, residual, free));
        }
    }
    best.map(|(region, residual, _)| (region, residual))
}
