//! The valid scenario; `parse` makes it from a file's text.

use std::collections::BTreeMap;

use bace_api::{ComputeRung, Job, NetworkRung};
use bace_models::GpuType;
use bace_netem::{BitRate, Congestion, Delay, LinkId, LinkSpec, RegionId, TimeScale};

use super::draw::Draw;
use crate::Series;

/// A whole scenario; every name in it resolves and every number is in range.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// The scenario's name.
    pub name: String,
    /// Seed of weights, batches and draws.
    pub seed: u64,
    /// What the seed decides about jobs; `jobs` are as it has decided.
    pub draw: Draw,
    /// Regions in file order; [`RegionId`] indexes them.
    pub regions: Vec<Region>,
    /// Directed inter-region links.
    pub links: BTreeMap<LinkId, LinkSpec>,
    /// Jobs in file order; `JobId` indexes them.
    pub jobs: Vec<Job>,
    /// Knobs of the policies.
    pub policy: PolicySettings,
    /// How links are emulated in real runs, and how true they have to be.
    pub network: NetworkSettings,
    /// How compute is emulated in real runs, and how much of it may be too slow.
    pub compute: ComputeSettings,
    /// Changes of links, by time: those of `[[link_change]]` and the steps of traces.
    pub link_changes: Vec<LinkChange>,
    /// GPU losses and returns, by time.
    pub gpu_changes: Vec<GpuChange>,
}

impl Scenario {
    /// Every directed link as it is at the start, then as each change leaves it.
    pub fn link_states(&self) -> impl Iterator<Item = (LinkId, LinkSpec)> + '_ {
        let changed = self.link_changes.iter().filter_map(|change| {
            let mut spec = *self.links.get(&change.link)?;
            (spec.rate, spec.delay) = (change.rate, change.delay);
            Some((change.link, spec))
        });
        let given = self.links.iter().map(|(&link, &spec)| (link, spec));
        given.chain(changed)
    }
}

/// A region.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// Unique name.
    pub name: String,
    /// GPUs there.
    pub gpus: u32,
    /// Name of their type.
    pub gpu_name: String,
    /// Their type.
    pub gpu: GpuType,
    /// Electricity price, $/kWh.
    pub price: Series,
    /// Power usage effectiveness: joules drawn for one joule at the GPU; at least 1.
    pub pue: f64,
    /// Carbon intensity, gCO2/kWh.
    pub carbon: Option<Series>,
    /// Inside the region, per stage boundary and direction.
    pub fabric: LinkSpec,
    /// How the rates of the links that leave it are split where its workers run on several hosts: a share for each, which
    /// sum to 1. Empty where all have to run on one.
    pub host_shares: Vec<f64>,
}

/// Knobs of the policies, docs/scheduling.md section 3.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolicySettings {
    /// Share of K° from which a job may start, in (0, 1].
    pub min_share: f64,
    /// How much slower than the fastest candidate a cheaper one may be.
    pub time_slack: f64,
    /// Priority gained per hour waited.
    pub aging_per_hour: f64,
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self {
            min_share: 1.0,
            time_slack: 0.05,
            aging_per_hour: 0.0,
        }
    }
}

/// How links are emulated in real runs; simulations do not look at it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NetworkSettings {
    /// Who gives links their rates and delays, unless the command line says otherwise.
    pub backend: NetworkRung,
    /// How connections find their sending rate where links take their datagrams: the `packet` back end.
    pub congestion: Congestion,
    /// How far a measured link may be off, as a share of what is expected of it.
    pub receipt_error: f64,
    /// How far a measured link may be off in seconds, where that is more.
    pub receipt_error_s: f64,
    /// Share of a link's messages that may arrive more than a millisecond late before the run counts as not valid.
    pub late_share: f64,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self {
            backend: NetworkRung::Shaped,
            congestion: Congestion::default(),
            receipt_error: 0.02,
            receipt_error_s: 0.001,
            late_share: 0.05,
        }
    }
}

/// How compute is emulated in real runs; simulations do not look at it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ComputeSettings {
    /// Who takes the time of compute, unless the command line says otherwise; absent where the devices decide.
    pub rung: Option<ComputeRung>,
    /// How fast emulated time passes, unless the command line says otherwise.
    pub time_scale: TimeScale,
    /// Share of a job's paced actions that may take longer than on the emulated GPU before the run counts as not valid.
    pub overrun_share: f64,
    /// Workers that may compute on one device at a time; absent for the device's own number, which is 1 for a GPU and the
    /// cores for the processor.
    pub lease: Option<u32>,
}

impl Default for ComputeSettings {
    fn default() -> Self {
        Self {
            rung: None,
            time_scale: TimeScale::ONE,
            overrun_share: 0.01,
            lease: None,
        }
    }
}

/// What a link gives from an instant on. Whatever else its [`LinkSpec`] says stays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkChange {
    /// When, seconds.
    pub at_s: f64,
    /// Which directed link.
    pub link: LinkId,
    /// Capacity from then on.
    pub rate: BitRate,
    /// One-way delay from then on.
    pub delay: Delay,
}

/// A region's GPUs from an instant on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GpuChange {
    /// When, seconds.
    pub at_s: f64,
    /// Which region.
    pub region: RegionId,
    /// GPUs from then on, at most as many as the region was declared with.
    pub gpus: u32,
}
