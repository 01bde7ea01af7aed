//! A ledger arranged by job, for whatever looks at more than sums.

use std::collections::BTreeMap;
use std::path::Path;

use bace_api::{
    ActionSpan, Attempt, ClockKind, EnergyUse, Header, InputRecord, Iteration, IterationRecord,
    PlacedRegion, Record, Schedule, StageIndex, StageSetUp,
};
use serde_json::Value;

use crate::{Fold, LedgerError, Omissions, Reader, Summary};

/// A whole ledger in memory, by job, attempt, stage and iteration.
#[derive(Debug, Clone, PartialEq)]
pub struct RunLog {
    /// The ledger's first record.
    pub header: Header,
    /// Every job that a record names, in the header's order.
    pub jobs: Vec<JobLog>,
    /// All records but iterations and their actions, in order.
    pub records: Vec<Record>,
    /// What the reader had to leave out.
    pub omissions: Omissions,
    /// What all records amount to.
    pub summary: Summary,
}

/// A job from its submission to its end. Times are emulated seconds from the start of the run.
#[derive(Debug, Clone, PartialEq)]
pub struct JobLog {
    /// Its name.
    pub name: String,
    /// When it was submitted; absent if it was not.
    pub submitted_s: Option<f64>,
    /// When it finished; absent if it did not.
    pub finished_s: Option<f64>,
    /// When it failed and why; absent if it did not.
    pub failed: Option<(f64, String)>,
    /// Its starts, in order.
    pub attempts: Vec<AttemptLog>,
}

/// One start of a job, from its placement until its GPUs are free.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptLog {
    /// Which start.
    pub attempt: Attempt,
    /// When it was placed.
    pub placed_s: f64,
    /// Stages that would be fastest on an unlimited cluster, K*.
    pub k_star: u32,
    /// Regions in pipeline order with their GPUs.
    pub path: Vec<PlacedRegion>,
    /// Seconds of an iteration by the analytic formula.
    pub iteration_s: f64,
    /// Why this job and this placement.
    pub reason: Value,
    /// Order of work within a stage; absent in analytic simulations.
    pub schedule: Option<Schedule>,
    /// Forwards of each stage before its first backward; empty in analytic simulations.
    pub depths: Vec<u32>,
    /// When all stages were set up and training began: in simulations, the begin of the first stage's first iteration. Absent where
    /// nothing tells it.
    pub training_s: Option<f64>,
    /// The worker of each stage; empty in simulations.
    pub workers: Vec<String>,
    /// When its GPUs were free again; absent while they are held.
    pub released_s: Option<f64>,
    /// Its stages, in order.
    pub stages: Vec<StageLog>,
}

/// One stage of one start of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct StageLog {
    /// Where its GPU stands.
    pub region: String,
    /// Its layers.
    pub layers: u32,
    /// What it took until it was ready to train; absent in simulations and in ledgers of older programs.
    pub set_up: Option<StageSetUp>,
    /// What it has ended.
    pub iterations: BTreeMap<Iteration, StageIteration>,
    /// Energy and money; absent while it holds its GPU.
    pub energy: Option<EnergyUse>,
}

/// One iteration of one stage.
#[derive(Debug, Clone, PartialEq)]
pub struct StageIteration {
    /// Its sums.
    pub record: IterationRecord,
    /// Its actions, in the order of the stage's program; empty where the ledger does not hold them.
    pub spans: Vec<ActionSpan>,
}

impl RunLog {
    /// Reads a ledger, a file or a run folder.
    ///
    /// # Errors
    /// As [`Reader::open`] and [`Reader::next_record`].
    pub fn read(path: &Path) -> Result<Self, LedgerError> {
        let mut reader = Reader::open(path)?;
        let mut log = Arranging::new(reader.header().clone());
        while let Some(record) = reader.next_record()? {
            log.add(record);
        }
        let mut log = log.finish();
        log.omissions = reader.omissions().clone();
        log.summary.ledger = Some(reader.path().to_owned());
        log.summary.omit(reader.omissions());
        Ok(log)
    }

    /// Arranges the records behind a header.
    pub fn from_records(header: Header, records: impl IntoIterator<Item = Record>) -> Self {
        let mut log = Arranging::new(header);
        for record in records {
            log.add(record);
        }
        log.finish()
    }

    /// The last instant that it knows of, emulated seconds from the start of the run.
    pub fn end_s(&self) -> f64 {
        let told = self.records.iter().filter_map(|record| match record {
            Record::Input { at_s, .. } | Record::RunEnded { at_s, .. } => Some(*at_s),
            _ => None,
        });
        let attempts = self.jobs.iter().flat_map(|job| &job.attempts);
        let stages = attempts.flat_map(|attempt| &attempt.stages);
        let last = stages.filter_map(|stage| stage.iterations.last_key_value());
        let ended = last.map(|(_, iteration)| iteration.record.to_s);
        told.chain(ended).fold(0.0, f64::max)
    }

    /// A job by its name.
    pub fn job(&self, name: &str) -> Option<&JobLog> {
        self.jobs.iter().find(|job| job.name == name)
    }
}

/// A ledger that is being arranged.
struct Arranging {
    header: Header,
    /// In the order in which records name them.
    jobs: Vec<JobLog>,
    /// Places in `jobs` by name.
    places: BTreeMap<String, usize>,
    records: Vec<Record>,
    fold: Fold,
    /// When the engine was last told something, which is when GPUs that it gives back are free.
    input_s: f64,
}

impl Arranging {
    fn new(header: Header) -> Self {
        Self {
            fold: Fold::new(&header),
            header,
            jobs: Vec::new(),
            places: BTreeMap::new(),
            records: Vec::new(),
            input_s: 0.0,
        }
    }

    fn finish(mut self) -> RunLog {
        if self.header.clock == ClockKind::Virtual {
            let attempts = self.jobs.iter_mut().flat_map(|job| &mut job.attempts);
            for attempt in attempts {
                attempt.training_s = attempt.training_s.or_else(|| attempt.iterates_s());
            }
        }
        let listed = self.header.jobs.iter().enumerate();
        let ranks: BTreeMap<&str, usize> =
            listed.map(|(rank, name)| (name.as_str(), rank)).collect();
        self.jobs
            .sort_by_key(|job| ranks.get(job.name.as_str()).copied());
        RunLog {
            header: self.header,
            jobs: self.jobs,
            records: self.records,
            omissions: Omissions::default(),
            summary: self.fold.finish(),
        }
    }

    fn add(&mut self, record: Record) {
        self.fold.add(&record);
        match record {
            Record::Iteration(record) => {
                if let Some(stage) = self.stage(&record.job, record.attempt, record.stage) {
                    let spans = Vec::new();
                    let iteration = record.iteration;
                    let ended = StageIteration { record, spans };
                    stage.iterations.insert(iteration, ended);
                }
                return;
            }
            Record::Actions(actions) => {
                let stage = self.stage(&actions.job, actions.attempt, actions.stage);
                let ended = stage.and_then(|stage| stage.iterations.get_mut(&actions.iteration));
                if let Some(ended) = ended {
                    ended.spans = actions.spans;
                }
                return;
            }
            _ => {}
        }
        match &record {
            Record::Input { at_s, input } => {
                self.input_s = *at_s;
                if let InputRecord::Submitted { job } = input {
                    self.job_mut(job).submitted_s = Some(*at_s);
                }
            }
            Record::Placed { job, .. } => {
                let placed = AttemptLog::placed(&record);
                self.job_mut(job).attempts.extend(placed);
            }
            Record::Pipeline {
                job,
                attempt,
                schedule,
                depths,
                ..
            } => {
                if let Some(of) = self.attempt(job, *attempt) {
                    of.schedule = Some(*schedule);
                    of.depths.clone_from(depths);
                }
            }
            Record::Training {
                at_s,
                job,
                attempt,
                workers,
                set_up,
                ..
            } => {
                if let Some(of) = self.attempt(job, *attempt) {
                    of.training_s = Some(*at_s);
                    of.workers.clone_from(workers);
                    for (stage, set_up) in of.stages.iter_mut().zip(set_up) {
                        stage.set_up = Some(*set_up);
                    }
                }
            }
            Record::Energy(energy) => {
                let released_s = self.input_s;
                if let Some(of) = self.attempt(&energy.job, energy.attempt) {
                    of.released_s = Some(released_s);
                }
                if let Some(stage) = self.stage(&energy.job, energy.attempt, energy.stage) {
                    stage.energy = Some(energy.clone());
                }
            }
            Record::JobFinished { at_s, job } => self.job_mut(job).finished_s = Some(*at_s),
            Record::JobFailed { at_s, job, reason } => {
                self.job_mut(job).failed = Some((*at_s, reason.clone()));
            }
            _ => {}
        }
        self.records.push(record);
    }

    fn job_mut(&mut self, name: &str) -> &mut JobLog {
        let place = match self.places.get(name) {
            Some(&place) => place,
            None => {
                self.places.insert(name.to_owned(), self.jobs.len());
                self.jobs.push(JobLog::named(name));
                self.jobs.len() - 1
            }
        };
        &mut self.jobs[place]
    }

    fn attempt(&mut self, job: &str, attempt: Attempt) -> Option<&mut AttemptLog> {
        let attempts = self.job_mut(job).attempts.iter_mut();
        attempts.rev().find(|of| of.attempt == attempt)
    }

    fn stage(&mut self, job: &str, attempt: Attempt, stage: StageIndex) -> Option<&mut StageLog> {
        self.attempt(job, attempt)?.stages.get_mut(stage.index())
    }
}

impl JobLog {
    /// Seconds from submission to the last step's end; absent if it was not submitted or did not finish.
    pub fn jct_s(&self) -> Option<f64> {
        Some(self.finished_s? - self.submitted_s?)
    }

    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            submitted_s: None,
            finished_s: None,
            failed: None,
            attempts: Vec::new(),
        }
    }
}

impl AttemptLog {
    /// Stages, K.
    pub fn k(&self) -> u32 {
        self.stages.len() as u32
    }

    /// Begin of the first stage's first iteration; absent where it ended none.
    pub fn iterates_s(&self) -> Option<f64> {
        let first = self.stages.first()?.iterations.values().next()?;
        Some(first.record.from_s)
    }

    fn placed(record: &Record) -> Option<Self> {
        let Record::Placed {
            at_s,
            attempt,
            k_star,
            path,
            layers,
            iteration_s,
            reason,
            ..
        } = record
        else {
            return None;
        };
        let regions = path
            .iter()
            .flat_map(|part| (0..part.gpus).map(|_| &part.region));
        let stages = regions.zip(layers).map(|(region, &layers)| StageLog {
            region: region.clone(),
            layers,
            set_up: None,
            iterations: BTreeMap::new(),
            energy: None,
        });
        Some(Self {
            attempt: *attempt,
            placed_s: *at_s,
            k_star: *k_star,
            path: path.clone(),
            iteration_s: *iteration_s,
            reason: reason.clone(),
            schedule: None,
            depths: Vec::new(),
            training_s: None,
            workers: Vec::new(),
            released_s: None,
            stages: stages.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A ledger that an older program has written, without actions.
    fn golden() -> RunLog {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/ledger-v1");
        RunLog::read(&dir).unwrap()
    }

    #[test]
    fn a_frozen_ledger_is_arranged_by_job() {
        let log = golden();
        let summary = crate::summarise(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/ledger-v1"),
        )
        .unwrap();
        for of in &summary.jobs {
            let job = log.job(&of.name).unwrap();
            assert_eq!(job.jct_s(), of.jct_s.known().copied());
            let Some(placed) = &of.placed else { continue };
            let last = job.attempts.last().unwrap();
            assert_eq!(last.k(), placed.k);
            let iterations = last.stages.iter().map(|stage| stage.iterations.len());
            assert!(iterations.clone().all(|count| count > 0), "{}", of.name);
            let mut set_ups = last.stages.iter().map(|stage| stage.set_up);
            assert!(set_ups.all(|set_up| set_up.is_none()), "{}", of.name);
        }
        let names = log.jobs.iter().map(|job| &job.name);
        let listed = log.header.jobs.iter();
        assert!(names.eq(listed.filter(|name| log.job(name).is_some())));
    }

    #[test]
    fn a_simulated_start_trains_from_its_first_stages_first_iteration_on() {
        let iteration = |attempt: u32, stage: u32, from_s: f64| {
            json!({"kind": "iteration", "job": "a", "attempt": attempt, "stage": stage, "iteration": 0, "from_s": from_s,
                   "to_s": from_s + 1.0,
                   "times": {"forward_s": 1.0, "backward_s": 0.0, "step_s": 0.0, "stall_s": 0.0, "send_wait_s": 0.0}})
        };
        let placed = |attempt: u32, at_s: f64| {
            json!({"kind": "placed", "at_s": at_s, "job": "a", "attempt": attempt, "k": 2, "k_star": 2,
                   "path": [{"region": "north", "gpus": 2}], "layers": [1, 1], "iteration_s": 1.0, "reason": null})
        };
        let lines = [
            placed(0, 1.0),
            iteration(0, 0, 3.5),
            iteration(0, 1, 4.5),
            placed(1, 8.0),
        ];
        let begins = |clock: ClockKind| -> Vec<Option<f64>> {
            let records = lines.iter().cloned().map(serde_json::from_value);
            let records: Vec<Record> = records.collect::<Result<_, _>>().unwrap();
            let header = Header {
                clock,
                ..golden().header
            };
            let log = RunLog::from_records(header, records);
            let starts = log.job("a").unwrap().attempts.iter();
            starts.map(|start| start.training_s).collect()
        };
        assert_eq!(begins(ClockKind::Virtual), [Some(3.5), None]);
        // A real run tells of it itself.
        assert_eq!(begins(ClockKind::Wall), [None, None]);
    }

    #[test]
    fn each_start_keeps_what_its_stages_took_to_be_ready() {
        let placed = |attempt: u32, at_s: f64| {
            json!({"kind": "placed", "at_s": at_s, "job": "a", "attempt": attempt, "k": 2, "k_star": 2,
                   "path": [{"region": "north", "gpus": 2}], "layers": [1, 1], "iteration_s": 1.0, "reason": null})
        };
        let training = |attempt: u32, at_s: f64, set_up: Value| {
            json!({"kind": "training", "at_s": at_s, "job": "a", "attempt": attempt, "workers": ["w0", "w1"],
                   "parameters": 2, "set_up": set_up})
        };
        let first = json!([
            {"connect_s": 0.125, "load_s": 0.25, "lease_wait_s": 0.5, "rehearse_s": 1.0},
            {"connect_s": 0.5, "load_s": 0.25, "rehearse_s": 0.125},
        ]);
        // Damaged: it tells of one stage of two.
        let second = json!([{"connect_s": 0.0, "load_s": 2.0, "rehearse_s": 4.0}]);
        let records = [
            placed(0, 1.0),
            training(0, 3.0, first),
            placed(1, 5.0),
            training(1, 11.0, second),
        ];
        let records = records.map(|record| serde_json::from_value(record).unwrap());
        let log = RunLog::from_records(golden().header, records);
        let starts = &log.job("a").unwrap().attempts;
        let took = |start: &AttemptLog| -> Vec<Option<f64>> {
            let stages = start.stages.iter();
            let set_ups = stages.map(|stage| stage.set_up);
            set_ups.map(|set_up| Some(set_up?.seconds())).collect()
        };
        assert_eq!(took(&starts[0]), [Some(1.875), Some(0.875)]);
        assert_eq!(took(&starts[1]), [Some(6.0), None]);
        let waits = starts[0].stages.iter().map(|stage| stage.set_up);
        let waits: Vec<_> = waits.map(|set_up| set_up.unwrap().lease_wait_s).collect();
        assert_eq!(waits, [Some(0.5), None]);
    }
}
