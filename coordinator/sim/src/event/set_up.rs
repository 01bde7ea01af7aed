//! What comes before a job trains: its stages are loaded and rehearsed, side by side, by the processes that hold them.

use std::collections::BTreeMap;

use bace_api::{JobId, Program};
use bace_engine::Start;
use bace_netem::RegionId;

/// A job whose stages are being set up.
#[derive(Debug)]
pub(super) struct SettingUp {
    /// When the last of them can train.
    pub ready_s: f64,
    /// The engine's order.
    pub start: Start,
    /// What its stages will do.
    pub program: Program,
}

/// The processes of the GPUs that have held stages, and who holds one now.
///
/// A job takes a region's first idle processes, as in a real run, and one that has held a stage is fresh no more. Processes of GPUs that were
/// lost and came back count as the ones before.
#[derive(Debug, Default)]
pub(super) struct Crews {
    held_by: BTreeMap<RegionId, Vec<Option<JobId>>>,
}

impl Crews {
    /// Gives the stages of `start` to processes; seconds until the last of them is set up.
    pub fn take(&mut self, start: &Start) -> f64 {
        let regions = start.placement.stage_regions();
        let stages = regions.into_iter().zip(&start.stage_seconds);
        let set_ups = stages.map(|(region, takes)| {
            let is_fresh = self.hold(region, start.job);
            takes.set_up_s + if is_fresh { takes.fresh_s } else { 0.0 }
        });
        set_ups.fold(0.0, f64::max)
    }

    /// A job's processes are idle again.
    pub fn leave(&mut self, job: JobId) {
        let processes = self.held_by.values_mut().flatten();
        for holder in processes.filter(|holder| **holder == Some(job)) {
            *holder = None;
        }
    }

    /// Gives a process of `region` to `job`; whether it has held no stage before.
    fn hold(&mut self, region: RegionId, job: JobId) -> bool {
        let processes = self.held_by.entry(region).or_default();
        match processes.iter_mut().find(|holder| holder.is_none()) {
            Some(idle) => {
                *idle = Some(job);
                false
            }
            None => {
                processes.push(Some(job));
                true
            }
        }
    }
}
