//! Which GPU each stage had.
//!
//! A stage's worker is its GPU, where the ledger names it. It names none in simulations, and none of a real start that
//! ended before its stages were connected: such a stage stands on the first GPU of its region that nobody else had
//! meanwhile. Pictures need a row for each; that it is this one is not a fact of the run.

use bace_api::{ClockKind, Record};

use crate::RunLog;
use crate::starts::Start;

/// How much earlier than its end a GPU may be taken again by the rounding of times, relative.
const SAME_INSTANT: f64 = 1e-12;

/// The GPUs of a run, by region.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    /// Those of the header in its order, then any others.
    pub regions: Vec<RegionSeats>,
    /// Of each start, the GPU of each stage.
    pub of_starts: Vec<Vec<Seat>>,
    is_real: bool,
}

#[derive(Debug)]
pub(crate) struct RegionSeats {
    pub region: String,
    /// Workers, shorter names first, so that w2 stands before w10; then GPUs that no worker is known of.
    pub gpus: Vec<Gpu>,
}

#[derive(Debug)]
pub(crate) struct Gpu {
    /// Its worker's, else its number in its region, from 1.
    pub name: String,
    /// From when to when stages held it that name it, s.
    named: Vec<(f64, f64)>,
    /// When the last stage has left that does not name it, s.
    free_s: f64,
}

/// A stage's GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    /// Index into [`Seats::regions`].
    pub region: usize,
    /// Index into [`RegionSeats::gpus`].
    pub gpu: usize,
    /// Whether the stage may have had another one: the run was real, and its ledger does not say.
    pub is_guess: bool,
}

impl Seats {
    /// The GPUs of `log`, and those of each of `starts`, which come by when they were placed.
    pub fn assign(log: &RunLog, starts: &[Start<'_>], log_end_s: f64) -> Self {
        let mut seats = Self {
            is_real: log.header.clock == ClockKind::Wall,
            ..Self::default()
        };
        for region in &log.header.regions {
            seats.region(region);
        }
        for record in &log.records {
            if let Record::WorkerJoined { worker, region, .. } = record {
                seats.joins(region, worker);
            }
        }
        for start in starts {
            for (stage, worker) in start.attempt.stages.iter().zip(&start.attempt.workers) {
                seats.joins(&stage.region, worker);
            }
        }
        for of in &mut seats.regions {
            let key = |gpu: &Gpu| (gpu.name.len(), gpu.name.clone());
            of.gpus.sort_by_cached_key(key);
        }
        // Whoever names its GPU had it, whenever it came.
        for start in starts {
            let held_s = (start.attempt.placed_s, start.until_s(log_end_s));
            for (stage, worker) in start.attempt.stages.iter().zip(&start.attempt.workers) {
                if let Some(seat) = seats.named(&stage.region, worker) {
                    seats.regions[seat.region].gpus[seat.gpu].named.push(held_s);
                }
            }
        }
        seats.of_starts = starts
            .iter()
            .map(|start| seats.of(start, log_end_s))
            .collect();
        seats
    }

    fn of(&mut self, start: &Start<'_>, log_end_s: f64) -> Vec<Seat> {
        let held_s = (start.attempt.placed_s, start.until_s(log_end_s));
        let stages = start.attempt.stages.iter().enumerate();
        let seats = stages.map(|(stage, at)| {
            let worker = start.attempt.workers.get(stage);
            let named = worker.and_then(|worker| self.named(&at.region, worker));
            named.unwrap_or_else(|| self.free(&at.region, held_s))
        });
        seats.collect()
    }

    fn region(&mut self, name: &str) -> usize {
        let known = self.regions.iter().position(|of| of.region == name);
        known.unwrap_or_else(|| {
            self.regions.push(RegionSeats {
                region: name.to_owned(),
                gpus: Vec::new(),
            });
            self.regions.len() - 1
        })
    }

    fn joins(&mut self, region: &str, worker: &str) {
        let region = self.region(region);
        let gpus = &mut self.regions[region].gpus;
        if !gpus.iter().any(|gpu| gpu.name == worker) {
            gpus.push(Gpu::new(worker.to_owned()));
        }
    }

    fn named(&mut self, region: &str, worker: &str) -> Option<Seat> {
        let region = self.region(region);
        let gpus = &self.regions[region].gpus;
        let gpu = gpus.iter().position(|gpu| gpu.name == worker)?;
        Some(Seat {
            region,
            gpu,
            is_guess: false,
        })
    }

    /// The first GPU that is free, taken for a time.
    fn free(&mut self, region: &str, held_s: (f64, f64)) -> Seat {
        let region = self.region(region);
        let gpus = &mut self.regions[region].gpus;
        let free = gpus.iter().position(|gpu| gpu.is_free(held_s));
        let gpu = free.unwrap_or_else(|| {
            gpus.push(Gpu::new(format!("GPU {}", gpus.len() + 1)));
            gpus.len() - 1
        });
        gpus[gpu].free_s = held_s.1;
        Seat {
            region,
            gpu,
            is_guess: self.is_real,
        }
    }
}

impl Gpu {
    fn new(name: String) -> Self {
        Self {
            name,
            named: Vec::new(),
            free_s: 0.0,
        }
    }

    /// Whether nobody else has it in a time that begins no earlier than those asked before.
    fn is_free(&self, (from_s, to_s): (f64, f64)) -> bool {
        let ends_by = |end_s: f64, begin_s: f64| end_s <= begin_s * (1.0 + SAME_INSTANT);
        let mut named = self.named.iter();
        ends_by(self.free_s, from_s)
            && named.all(|&(begin_s, end_s)| ends_by(end_s, from_s) || ends_by(to_s, begin_s))
    }
}

#[cfg(test)]
mod tests {
    use bace_api::Header;
    use serde_json::{Value, json};

    use super::*;
    use crate::starts::starts;

    /// A run of jobs of one stage each: name, placed, released, worker.
    fn log(clock: &str, jobs: &[(&str, f64, f64, Option<&str>)]) -> RunLog {
        let names: Vec<&str> = jobs.iter().map(|job| job.0).collect();
        let header: Header = serde_json::from_value(json!({
            "format": 1, "scenario": "s", "scenario_hash": "00", "policy": "bace-pipe", "seed": 1, "version": "0.1.0",
            "machine": "m", "clock": clock, "compute": "modelled", "network": "modelled", "regions": ["north"], "gpus": [2],
            "links": [], "jobs": names,
        }))
        .unwrap();
        let mut events: Vec<(f64, Value)> = Vec::new();
        for &(job, placed_s, released_s, worker) in jobs {
            events.push((placed_s, json!({"kind": "placed", "at_s": placed_s, "job": job, "attempt": 0, "k": 1, "k_star": 1,
                "path": [{"region": "north", "gpus": 1}], "layers": [1], "iteration_s": 1.0, "reason": {}})));
            if let Some(worker) = worker {
                events.push((
                    placed_s,
                    json!({"kind": "training", "at_s": placed_s, "job": job, "attempt": 0,
                    "workers": [worker], "parameters": 1}),
                ));
            }
            events.push((
                released_s,
                json!({"kind": "input", "input": "finished", "at_s": released_s, "job": job}),
            ));
            events.push((
                released_s,
                json!({"kind": "energy", "job": job, "attempt": 0, "stage": 0, "region": "north",
                "held_s": 1.0, "busy_s": 1.0, "energy_j": 1.0, "cost_usd": 1.0}),
            ));
        }
        events.sort_by(|one, two| one.0.total_cmp(&two.0));
        let records = events
            .into_iter()
            .map(|(_, record)| serde_json::from_value(record).unwrap());
        RunLog::from_records(header, records.collect::<Vec<Record>>())
    }

    fn names(log: &RunLog) -> Vec<(String, bool)> {
        let starts = starts(log);
        let seats = Seats::assign(log, &starts, log.end_s());
        let of = seats.of_starts.iter().flatten();
        let names = of.map(|seat| {
            let gpu = &seats.regions[seat.region].gpus[seat.gpu];
            (gpu.name.clone(), seat.is_guess)
        });
        names.collect()
    }

    fn told(names: &[(&str, bool)]) -> Vec<(String, bool)> {
        let owned = names
            .iter()
            .map(|&(name, is_guess)| (name.to_owned(), is_guess));
        owned.collect()
    }

    #[test]
    fn simulated_stages_take_the_first_gpu_that_is_free() {
        let log = log(
            "virtual",
            &[
                ("a", 0.0, 2.0, None),
                ("b", 1.0, 3.0, None),
                ("c", 2.0, 4.0, None),
            ],
        );
        assert_eq!(
            names(&log),
            told(&[("GPU 1", false), ("GPU 2", false), ("GPU 1", false)])
        );
    }

    #[test]
    fn who_names_its_worker_has_it_and_others_take_what_is_left() {
        let log = log(
            "wall",
            &[
                ("a", 0.0, 9.0, None),
                ("b", 1.0, 3.0, Some("w10")),
                ("c", 4.0, 6.0, Some("w2")),
                ("d", 7.0, 8.0, None),
            ],
        );
        // w2 is somebody's in a's time, w10 too; d comes when both are free.
        assert_eq!(
            names(&log),
            told(&[("GPU 3", true), ("w10", false), ("w2", false), ("w2", true)])
        );
    }
}
