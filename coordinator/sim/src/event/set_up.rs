//! What comes before a job trains: its stages are loaded and rehearsed, side by side, by the processes that hold them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bace_api::{JobId, Program};
use bace_engine::{Scenario, Start};
use bace_netem::RegionId;

use crate::driver::Instant;

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

/// The processes of the regions' GPUs that have held stages; those that have not yet are behind them.
///
/// A job takes a region's first idle processes, as a real run's driver does: those that were idle before, and only where they are too few those
/// that become idle at this very instant, since a process takes a moment to drop what it held. Processes of GPUs that were lost and came
/// back count as the ones before.
#[derive(Debug)]
pub(super) struct Crews {
    scenario: Arc<Scenario>,
    processes: BTreeMap<RegionId, Vec<Process>>,
}

#[derive(Debug, Clone, Copy)]
enum Process {
    Holds(JobId),
    IdleSince(f64),
}

impl Crews {
    /// Those of `scenario`, before its first job.
    pub fn of(scenario: Arc<Scenario>) -> Self {
        Self {
            scenario,
            processes: BTreeMap::new(),
        }
    }

    /// Gives the stages of `start` to processes; seconds until the last of them is set up.
    pub fn take(&mut self, now: Instant, start: &Start) -> f64 {
        let regions = start.placement.stage_regions();
        let stages = regions.into_iter().zip(&start.stage_seconds);
        let set_ups = stages.map(|(region, takes)| {
            let is_fresh = self.hold(now, region, start.job);
            takes.set_up_s + if is_fresh { takes.fresh_s } else { 0.0 }
        });
        set_ups.fold(0.0, f64::max)
    }

    /// A job's processes are idle from `at_s` on.
    pub fn leave(&mut self, at_s: f64, job: JobId) {
        let processes = self.processes.values_mut().flatten();
        for process in processes {
            if matches!(process, Process::Holds(holder) if *holder == job) {
                *process = Process::IdleSince(at_s);
            }
        }
    }

    /// Gives a process of `region` to `job`; whether it has held no stage before.
    fn hold(&mut self, now: Instant, region: RegionId, job: JobId) -> bool {
        let processes = self.processes.entry(region).or_default();
        let all_were_used = processes.len() >= self.scenario.regions[region.index()].gpus as usize;
        let idle = |may_be_just_so: bool| {
            processes.iter().position(|process| match process {
                Process::Holds(_) => false,
                Process::IdleSince(since_s) => may_be_just_so || !now.is_at(*since_s),
            })
        };
        match idle(false).or_else(|| all_were_used.then(|| idle(true)).flatten()) {
            Some(place) => {
                processes[place] = Process::Holds(job);
                false
            }
            None => {
                processes.push(Process::Holds(job));
                true
            }
        }
    }
}
