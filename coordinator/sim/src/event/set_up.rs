//! What comes before a job trains: its stages are loaded and rehearsed, side by side, by the processes that hold them.

use std::collections::BTreeMap;

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

/// The processes of the regions' GPUs: who holds a stage, and which never have.
///
/// A job takes a region's first idle processes, as a real run's driver does: those that were idle before, and only where they are too few those
/// that become idle at this very instant, since a process takes a moment to drop what it held. Processes of GPUs that were lost and came
/// back count as the ones before.
#[derive(Debug)]
pub(super) struct Crews {
    processes: BTreeMap<RegionId, Vec<Process>>,
}

#[derive(Debug, Clone, Copy)]
enum Process {
    /// It has held no stage.
    Fresh,
    Holds(JobId),
    IdleSince(f64),
}

impl Crews {
    /// Those of `scenario`, before its first job.
    pub fn of(scenario: &Scenario) -> Self {
        let regions = scenario.regions.iter().zip(0..);
        let processes = regions.map(|(region, index)| {
            let gpus = vec![Process::Fresh; region.gpus as usize];
            (RegionId::new(index), gpus)
        });
        Self {
            processes: processes.collect(),
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
        let was_idle = |process: &Process| match process {
            Process::Fresh => true,
            Process::Holds(_) => false,
            Process::IdleSince(since_s) => !now.is_at(*since_s),
        };
        let found = processes.iter().position(was_idle);
        let found = found.or_else(|| {
            let is_idle = |process: &Process| !matches!(process, Process::Holds(_));
            processes.iter().position(is_idle)
        });
        // GPUs may have been added.
        let place = found.unwrap_or_else(|| {
            processes.push(Process::Fresh);
            processes.len() - 1
        });
        let before = std::mem::replace(&mut processes[place], Process::Holds(job));
        matches!(before, Process::Fresh)
    }
}
