//! The cluster at an instant: free GPUs, and the flows on every directed link with their shares.

use std::sync::OnceLock;

use bace_api::{JobId, RegionGpus};
use bace_netem::{BitRate, Delay, LinkId, LinkSpec, RegionId, max_min_shares};

use crate::Scenario;

/// A residual below this share of the capacity is rounding, and counts as 0.
const RESIDUAL_SLACK: f64 = 1e-9;

/// Where a pair of regions has no link.
const NO_LINK: u32 = u32::MAX;

/// GPUs and links with what runs on them.
#[derive(Debug, Clone)]
pub struct Cluster {
    gpus: Vec<u32>,
    used_gpus: Vec<u32>,
    links: Vec<LinkState>,
    /// Position in `links` by from · regions + to.
    link_index: Vec<u32>,
    /// Smaller residual of both directions, by region · regions + region.
    pair_residual: Vec<f64>,
    /// α, if asked for since a share or a capacity changed: many decisions fall between two changes, and there are
    /// as many links as pairs of regions.
    utilisation: OnceLock<f64>,
}

/// A directed link with its flows.
#[derive(Debug, Clone)]
struct LinkState {
    id: LinkId,
    rate: BitRate,
    delay: Delay,
    /// In the order in which the jobs started.
    jobs: Vec<JobId>,
    demands: Vec<f64>,
    shares: Vec<f64>,
    used_bps: f64,
}

impl Cluster {
    /// The idle cluster of `scenario`.
    pub fn idle(scenario: &Scenario) -> Self {
        let regions = scenario.regions.len();
        let mut link_index = vec![NO_LINK; regions * regions];
        let links: Vec<LinkState> = scenario
            .links
            .iter()
            .zip(0..)
            .map(|((&id, spec), position)| {
                link_index[id.from.index() * regions + id.to.index()] = position;
                LinkState {
                    id,
                    rate: spec.rate,
                    delay: spec.delay,
                    jobs: Vec::new(),
                    demands: Vec::new(),
                    shares: Vec::new(),
                    used_bps: 0.0,
                }
            })
            .collect();
        let mut cluster = Self {
            gpus: scenario.regions.iter().map(|region| region.gpus).collect(),
            used_gpus: vec![0; regions],
            links,
            link_index,
            pair_residual: vec![0.0; regions * regions],
            utilisation: OnceLock::new(),
        };
        for position in 0..cluster.links.len() {
            cluster.update_pair(cluster.links[position].id);
        }
        cluster
    }

    /// Number of regions.
    pub fn regions(&self) -> usize {
        self.gpus.len()
    }

    /// GPUs of `region` that no job holds.
    pub fn free(&self, region: RegionId) -> u32 {
        self.gpus[region.index()].saturating_sub(self.used_gpus[region.index()])
    }

    /// GPUs of `region` beyond those that are there; above 0 only between a loss and its cancellations.
    pub fn overcommitted(&self, region: RegionId) -> u32 {
        self.used_gpus[region.index()].saturating_sub(self.gpus[region.index()])
    }

    /// What is left, bit/s, of the fuller direction between two regions; 0 where a direction is missing.
    pub fn residual(&self, a: RegionId, b: RegionId) -> f64 {
        self.pair_residual[a.index() * self.regions() + b.index()]
    }

    /// Present one-way delay of a directed link, seconds; infinite where there is none.
    pub fn delay_s(&self, link: LinkId) -> f64 {
        self.position(link).map_or(f64::INFINITY, |position| {
            self.links[position].delay.seconds()
        })
    }

    /// [`Cluster::residual`] of `region` and every region, by their index.
    pub(crate) fn residuals(&self, region: RegionId) -> &[f64] {
        &self.pair_residual[region.index() * self.regions()..][..self.regions()]
    }

    /// Present capacity of a directed link, bit/s; 0 where there is none.
    pub fn capacity_bps(&self, link: LinkId) -> f64 {
        self.position(link)
            .map_or(0.0, |position| self.links[position].rate.bps())
    }

    /// `spec`, what the scenario says of a directed link, with its present capacity and delay.
    pub fn present(&self, link: LinkId, mut spec: LinkSpec) -> LinkSpec {
        if let Some(position) = self.position(link) {
            spec.rate = self.links[position].rate;
            spec.delay = self.links[position].delay;
        }
        spec
    }

    /// Sum of the shares on a directed link, bit/s; 0 where there is none.
    pub fn used_bps(&self, link: LinkId) -> f64 {
        self.position(link)
            .map_or(0.0, |position| self.links[position].used_bps)
    }

    /// α: sum of shares over sum of capacities of all links; 0 without capacity.
    pub fn link_utilisation(&self) -> f64 {
        *self.utilisation.get_or_init(|| {
            let used: f64 = self.links.iter().map(|link| link.used_bps).sum();
            let capacity: f64 = self.links.iter().map(|link| link.rate.bps()).sum();
            if capacity > 0.0 { used / capacity } else { 0.0 }
        })
    }

    /// The smallest share of `job` on the links of `path`, both directions, bit/s; infinite within one region.
    pub fn share(&self, job: JobId, path: &[RegionGpus]) -> f64 {
        links_of(path)
            .map(|link| self.share_on(job, link))
            .fold(f64::INFINITY, f64::min)
    }

    /// The share of `job` on a directed link, bit/s; 0 where it has no flow.
    pub fn share_on(&self, job: JobId, link: LinkId) -> f64 {
        let Some(position) = self.position(link) else {
            return 0.0;
        };
        let link = &self.links[position];
        let flow = link.jobs.iter().position(|&other| other == job);
        flow.map_or(0.0, |flow| link.shares[flow])
    }

    /// Takes GPUs and adds a flow of `demand_bps` to both directions along `path`; appends to
    /// `touched` the jobs whose links changed.
    pub(crate) fn place(
        &mut self,
        job: JobId,
        path: &[RegionGpus],
        demand_bps: f64,
        touched: &mut Vec<JobId>,
    ) {
        for part in path {
            self.used_gpus[part.region.index()] += part.gpus;
        }
        for link in links_of(path) {
            if let Some(position) = self.position(link) {
                self.links[position].jobs.push(job);
                self.links[position].demands.push(demand_bps);
                self.share_out(position, touched);
            }
        }
    }

    /// Gives back what [`Cluster::place`] took.
    pub(crate) fn release(&mut self, job: JobId, path: &[RegionGpus], touched: &mut Vec<JobId>) {
        for part in path {
            self.used_gpus[part.region.index()] -= part.gpus;
        }
        for link in links_of(path) {
            let Some(position) = self.position(link) else {
                continue;
            };
            let state = &mut self.links[position];
            if let Some(flow) = state.jobs.iter().position(|&other| other == job) {
                state.jobs.remove(flow);
                state.demands.remove(flow);
                self.share_out(position, touched);
            }
        }
    }

    /// Changes what a link gives; does nothing where there is no link.
    pub(crate) fn set_link(
        &mut self,
        link: LinkId,
        rate: BitRate,
        delay: Delay,
        touched: &mut Vec<JobId>,
    ) {
        if let Some(position) = self.position(link) {
            self.links[position].rate = rate;
            self.links[position].delay = delay;
            self.share_out(position, touched);
        }
    }

    /// Changes a region's GPUs.
    pub(crate) fn set_gpus(&mut self, region: RegionId, gpus: u32) {
        self.gpus[region.index()] = gpus;
    }

    fn position(&self, link: LinkId) -> Option<usize> {
        let position = self.link_index[link.from.index() * self.regions() + link.to.index()];
        (position != NO_LINK).then_some(position as usize)
    }

    fn share_out(&mut self, position: usize, touched: &mut Vec<JobId>) {
        self.utilisation = OnceLock::new();
        let link = &mut self.links[position];
        max_min_shares(link.rate.bps(), &link.demands, &mut link.shares);
        // The sum of no flows is a negative zero, which would print as one.
        link.used_bps = link.shares.iter().sum::<f64>() + 0.0;
        touched.extend_from_slice(&link.jobs);
        let id = link.id;
        self.update_pair(id);
    }

    fn update_pair(&mut self, link: LinkId) {
        let one_way = |link| {
            self.position(link).map_or(0.0, |position| {
                let LinkState { rate, used_bps, .. } = self.links[position];
                let capacity_bps = rate.bps();
                let residual = capacity_bps - used_bps;
                if residual > capacity_bps * RESIDUAL_SLACK {
                    residual
                } else {
                    0.0
                }
            })
        };
        let residual = one_way(link).min(one_way(link.reversed()));
        let (a, b, regions) = (link.from.index(), link.to.index(), self.regions());
        self.pair_residual[a * regions + b] = residual;
        self.pair_residual[b * regions + a] = residual;
    }
}

/// Both directions of every link between successive regions of `path`.
fn links_of(path: &[RegionGpus]) -> impl Iterator<Item = LinkId> + '_ {
    path.windows(2).flat_map(|pair| {
        let link = LinkId::new(pair[0].region, pair[1].region);
        [link, link.reversed()]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[test]
    fn links_without_flows_are_used_by_a_positive_zero() {
        let world = World::new()
            .region("a", 1, "unit", 0.1)
            .region("b", 1, "unit", 0.1)
            .link("a", "b", 1e6)
            .job("j", 0.0, 1);
        let mut cluster = Cluster::idle(&world.scenario());
        let there = LinkId::new(RegionId::new(0), RegionId::new(1));
        for link in [there, there.reversed()] {
            let rate = BitRate::from_bps(2e6).unwrap();
            cluster.set_link(link, rate, Delay::ZERO, &mut Vec::new());
        }
        assert!(cluster.used_bps(there).is_sign_positive());
        assert!(cluster.link_utilisation().is_sign_positive());
    }
}
