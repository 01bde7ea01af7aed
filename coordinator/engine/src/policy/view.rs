//! What a policy sees and says.

use bace_api::{Job, JobId, PlacementReason, Refusal, RegionGpus, Shortfall};
use bace_netem::RegionId;

use crate::{Cluster, Estimates, JobKindId, Scenario};

/// Decides who is placed next, and where: same view, same answer.
pub trait Policy {
    /// The next placement, or none.
    fn decide(&self, view: &ClusterView<'_>) -> Decision;

    /// K°: the stages for which a job waits, at most `k_star` and at least `k_min`; none if the policy has no such figure.
    ///
    /// Asked once for all jobs alike in model, micro-batch and micro-batches, on the cluster as configured and idle. An
    /// error refuses them on arrival.
    fn full_share(
        &self,
        _idle: &IdleView<'_>,
        _kind: JobKindId,
        _k_min: u32,
        _k_star: u32,
    ) -> Result<Option<u32>, Refusal> {
        Ok(None)
    }
}

/// The cluster as configured, without any job.
#[derive(Debug, Clone, Copy)]
pub struct IdleView<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// All GPUs free, all links empty.
    pub cluster: &'a Cluster,
    /// Stage times and demands.
    pub estimates: &'a Estimates,
}

/// The cluster at an instant, and who waits.
#[derive(Debug, Clone, Copy)]
pub struct ClusterView<'a> {
    /// The instant, seconds from the start of the run.
    pub at_s: f64,
    /// The scenario.
    pub scenario: &'a Scenario,
    /// Free GPUs and links.
    pub cluster: &'a Cluster,
    /// Stage times and demands.
    pub estimates: &'a Estimates,
    /// Electricity prices at this instant, $/kWh, by region.
    pub prices: &'a [f64],
    /// Waiting jobs in order of arrival, then id.
    pub waiting: &'a [Waiting],
    /// Whether the reasons will be read; without, they may be left empty.
    pub explain: bool,
}

/// A waiting job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Waiting {
    /// The job.
    pub job: JobId,
    /// Its arrival, seconds.
    pub arrival_s: f64,
    /// Where its stage times are.
    pub kind: JobKindId,
    /// K_min.
    pub k_min: u32,
    /// K*.
    pub k_star: u32,
    /// K°, where the policy has such a figure.
    pub k_full: Option<u32>,
    /// C: N·(M + K° − 1)·t(K°) seconds, with K* where there is no K°.
    pub compute_s: f64,
    /// D at the same K, bit/s.
    pub demand_bps: f64,
}

/// A policy's answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// The placement, if any job can be placed.
    pub placed: Option<Choice>,
    /// Jobs that would have come first and could not be placed, in order of arrival; may be empty where the
    /// view asks for no explanation.
    pub passed_over: Vec<PassedOver>,
}

/// A placement.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The job.
    pub job: JobId,
    /// Regions in pipeline order with the GPUs taken.
    pub path: Vec<RegionGpus>,
    /// Why this job, and why there.
    pub reason: PlacementReason,
}

/// A job that could not be placed.
#[derive(Debug, Clone, PartialEq)]
pub struct PassedOver {
    /// The job.
    pub job: JobId,
    /// Why.
    pub cause: Shortfall,
}

impl<'a> ClusterView<'a> {
    /// A waiting job as the scenario states it.
    pub fn job(&self, waiting: &Waiting) -> &'a Job {
        &self.scenario.jobs[waiting.job.index()]
    }

    /// The price at this instant, $/kWh.
    pub fn price(&self, region: RegionId) -> f64 {
        self.prices[region.index()]
    }

    /// All regions in scenario order.
    pub fn regions(&self) -> impl Iterator<Item = RegionId> + use<> {
        regions(self.scenario)
    }

    /// A region's name.
    pub fn region_name(&self, region: RegionId) -> String {
        self.scenario.regions[region.index()].name.clone()
    }
}

/// All regions of `scenario`, in order.
pub(super) fn regions(scenario: &Scenario) -> impl Iterator<Item = RegionId> + use<> {
    (0..scenario.regions.len())
        .map(|index| RegionId::from_index(index).expect("a scenario has at most 65 536 regions"))
}
