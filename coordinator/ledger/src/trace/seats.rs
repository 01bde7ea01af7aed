//! Which GPU each stage had.

use bace_api::{ClockKind, Record};

use super::runs::Run;
use crate::RunLog;

/// How much earlier than its end a GPU may be taken again by the rounding of times, relative.
const SAME_INSTANT: f64 = 1e-12;

/// The GPUs of a run, by region.
#[derive(Debug, Default)]
pub(super) struct Seats {
    pub regions: Vec<RegionSeats>,
}

#[derive(Debug)]
pub(super) struct RegionSeats {
    pub region: String,
    /// Names of its GPUs: workers, then those that no worker is known of.
    pub names: Vec<String>,
    workers: usize,
    /// Of each behind the workers, when it is free.
    free_s: Vec<f64>,
}

/// A GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seat {
    /// Index into [`Seats::regions`].
    pub region: usize,
    /// Index into [`RegionSeats::names`].
    pub gpu: usize,
}

impl Seats {
    /// The GPUs of `log`, and those of each of `runs`, stage by stage.
    ///
    /// A stage's worker is its GPU. Where there is none, as in simulations, it takes the first GPU of its region that is free.
    pub fn assign(log: &RunLog, runs: &[Run<'_>], log_end_s: f64) -> (Self, Vec<Vec<Seat>>) {
        let mut seats = Self::default();
        for region in &log.header.regions {
            seats.region(region);
        }
        for record in &log.records {
            if let Record::WorkerJoined { worker, region, .. } = record {
                seats.worker(region, worker);
            }
        }
        for run in runs {
            for (stage, worker) in run.attempt.stages.iter().zip(&run.attempt.workers) {
                seats.worker(&stage.region, worker);
            }
        }
        let suffix = match log.header.clock {
            ClockKind::Virtual => "",
            ClockKind::Wall => " (its worker is not known)",
        };
        let of_run = |run: &Run<'_>| {
            let held_s = (run.attempt.placed_s, run.until_s(log_end_s));
            let stages = run.attempt.stages.iter().enumerate();
            let seats = stages.map(|(stage, at)| match run.attempt.workers.get(stage) {
                Some(worker) => seats.worker(&at.region, worker),
                None => seats.free(&at.region, held_s, suffix),
            });
            seats.collect()
        };
        let of_runs = runs.iter().map(of_run).collect();
        (seats, of_runs)
    }

    fn region(&mut self, name: &str) -> usize {
        let known = self.regions.iter().position(|of| of.region == name);
        known.unwrap_or_else(|| {
            self.regions.push(RegionSeats {
                region: name.to_owned(),
                names: Vec::new(),
                workers: 0,
                free_s: Vec::new(),
            });
            self.regions.len() - 1
        })
    }

    /// The GPU that `worker` is; all workers are told before the first GPU without one.
    fn worker(&mut self, region: &str, worker: &str) -> Seat {
        let region = self.region(region);
        let of = &mut self.regions[region];
        let known = of.names.iter().position(|name| name == worker);
        let gpu = known.unwrap_or_else(|| {
            of.names.push(worker.to_owned());
            of.workers += 1;
            of.names.len() - 1
        });
        Seat { region, gpu }
    }

    /// The first GPU that is free, taken for a time.
    fn free(&mut self, region: &str, (from_s, to_s): (f64, f64), suffix: &str) -> Seat {
        let region = self.region(region);
        let of = &mut self.regions[region];
        let is_free = |free_s: &f64| *free_s <= from_s * (1.0 + SAME_INSTANT);
        let place = of.free_s.iter().position(is_free).unwrap_or_else(|| {
            let number = of.free_s.len() + 1;
            of.names.push(format!("GPU {number}{suffix}"));
            of.free_s.push(0.0);
            number - 1
        });
        of.free_s[place] = to_s;
        let gpu = of.workers + place;
        Seat { region, gpu }
    }
}
