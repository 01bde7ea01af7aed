//! Records to a summary, one at a time.

mod job;

use std::collections::BTreeMap;
use std::path::Path;

use bace_api::{Header, InputRecord, Record};

use crate::emulation::{EmulationFold, Loopback};
use crate::notes::sentence;
use crate::overruns;
use crate::physical::PhysicalFold;
use crate::totals::{self, Steps};
use crate::{
    Figure, JobSummary, Ledger, LedgerError, Omissions, PlacementSummary, Reader, RunEnd, Summary,
};

pub(crate) use job::JobFold;

/// Why a loss is missing that should be there.
pub(crate) const LOSS_NOT_A_NUMBER: &str = "the loss was not a number";

/// Folds a ledger, a file or a run folder, holding one record at a time.
///
/// # Errors
/// As [`Reader::open`] and [`Reader::next_record`].
pub fn summarise(path: &Path) -> Result<Summary, LedgerError> {
    let mut reader = Reader::open(path)?;
    let mut fold = Fold::new(reader.header());
    while let Some(record) = reader.next_record()? {
        fold.add(&record);
    }
    let mut summary = fold.finish();
    summary.ledger = Some(reader.path().to_owned());
    summary.omit(reader.omissions());
    Ok(summary)
}

impl Summary {
    /// Folds a ledger that is in memory.
    pub fn fold(ledger: &Ledger) -> Self {
        let mut summary = Self::from_records(&ledger.header, &ledger.records);
        summary.ledger = Some(ledger.path.clone());
        summary.omit(&ledger.omissions);
        summary
    }

    /// Takes in what the reader left out. What is in records of unknown kinds may well speak against the links.
    pub(crate) fn omit(&mut self, omissions: &Omissions) {
        self.omissions = omissions.clone();
        if let (Figure::Known(true), Some(clause)) =
            (&self.emulation.valid, self.omissions.unknown())
        {
            self.emulation.valid = Figure::Unknown(clause.into());
        }
    }

    /// Folds the records behind a header.
    pub fn from_records<'a>(
        header: &Header,
        records: impl IntoIterator<Item = &'a Record>,
    ) -> Self {
        let mut fold = Fold::new(header);
        for record in records {
            fold.add(record);
        }
        fold.finish()
    }
}

/// A summary under construction: what the records so far amount to.
#[derive(Debug, Clone)]
pub struct Fold {
    pub(crate) header: Header,
    pub(crate) jobs: Vec<JobFold>,
    by_name: BTreeMap<String, usize>,
    /// GPUs of each region over time.
    pub(crate) gpus: BTreeMap<String, Steps>,
    /// Capacity of each directed link over time, bit/s.
    pub(crate) capacities: BTreeMap<(String, String), Steps>,
    pub(crate) emulation: EmulationFold,
    physical: PhysicalFold,
    workers_lost: Vec<String>,
    clock_uncertainty_s: Option<f64>,
    /// When the last job to end finished or failed.
    pub(crate) ended_s: Option<f64>,
    end: Option<RunEnd>,
    /// When the engine was last told something.
    input_s: f64,
    last_s: f64,
}

impl Fold {
    /// No records yet.
    pub fn new(header: &Header) -> Self {
        let gpus = header.regions.iter().zip(&header.gpus);
        let mut fold = Self {
            gpus: gpus
                .map(|(region, gpus)| (region.clone(), Steps::new(f64::from(*gpus))))
                .collect(),
            capacities: header
                .links
                .iter()
                .map(|link| {
                    let ends = (link.from.clone(), link.to.clone());
                    (ends, Steps::new(link.bandwidth_bps))
                })
                .collect(),
            header: header.clone(),
            jobs: Vec::new(),
            by_name: BTreeMap::new(),
            emulation: EmulationFold::default(),
            physical: PhysicalFold::default(),
            workers_lost: Vec::new(),
            clock_uncertainty_s: None,
            ended_s: None,
            end: None,
            input_s: 0.0,
            last_s: 0.0,
        };
        for link in &header.links {
            if let Some(delay_s) = link.one_way_delay_s {
                let ends = (link.from.clone(), link.to.clone());
                fold.emulation.set_delay(ends, delay_s);
            }
        }
        for name in &header.jobs {
            fold.job(name);
        }
        fold
    }

    /// Takes the next record in.
    pub fn add(&mut self, record: &Record) {
        self.last_s = self.last_s.max(time_of(record));
        self.physical.add(record);
        match record {
            Record::Input { at_s, input } => self.add_input(*at_s, input),
            Record::Refused { job, reason, .. } => self.job(job).refused = Some(reason.clone()),
            Record::Placed {
                at_s,
                job,
                attempt,
                k,
                k_star,
                path,
                layers,
                ..
            } => {
                self.job(job).place(
                    (*at_s, *attempt),
                    PlacementSummary {
                        k: *k,
                        k_star: *k_star,
                        path: path.clone(),
                        layers: layers.clone(),
                        starts: 1,
                    },
                );
            }
            Record::Network { .. }
            | Record::Loopback { .. }
            | Record::Receipt(_)
            | Record::ClockOffset { .. } => self.add_emulation(record),
            Record::WorkerLost {
                at_s,
                worker,
                reason,
            } => self.worker_lost(*at_s, worker, reason),
            Record::Training { at_s, job, .. } => self.job(job).began(*at_s),
            Record::Iteration(iteration) => {
                let time_scale = self.header.time_scale.unwrap_or(1.0);
                let clock = self.header.clock;
                let job = self.job(&iteration.job);
                job.overruns.add(iteration, time_scale);
                job.add_iteration(clock, iteration);
            }
            Record::Transfer {
                job,
                from,
                to,
                summary,
                carried_bytes,
                datagrams,
                ..
            } => {
                let datagrams = datagrams.as_ref();
                self.emulation.add_transfer(from, to, summary, datagrams);
                let bytes = carried_bytes.unwrap_or(summary.bytes);
                self.job(job).transfers.add((from, to), summary, bytes);
            }
            Record::Energy(energy) => {
                let released_s = self.input_s;
                let job = self.job(&energy.job);
                job.energy.add(energy);
                job.released_s = Some(released_s);
            }
            Record::JobFinished { at_s, job } => {
                self.job(job).finished_s = Some(*at_s);
                self.job_ended(*at_s);
            }
            Record::JobFailed { at_s, job, reason } => {
                let failed = self.job(job);
                failed.failed = Some(reason.clone());
                failed.failed_s = Some(*at_s);
                self.job_ended(*at_s);
            }
            Record::RunEnded {
                waiting, stopped, ..
            } => self.run_ended(waiting, stopped.as_ref()),
            Record::PassedOver { job, why, .. } => {
                self.job(job).passed_over = (!why.is_empty()).then(|| why.clone());
            }
            Record::Header(_)
            | Record::Pipeline { .. }
            | Record::WorkerJoined { .. }
            | Record::WorkerMemory(_)
            | Record::Actions(_)
            | Record::Weights { .. }
            | Record::Meter(_)
            | Record::MeterAbsent(_)
            | Record::PhysicalEnergy(_)
            | Record::MeterTotal(_)
            | Record::Metering(_) => {}
        }
    }

    /// Takes in what is told of how true links and clocks are.
    fn add_emulation(&mut self, record: &Record) {
        match record {
            Record::Network { shaping, .. } => self.emulation.shaping = Some(shaping.clone()),
            Record::Loopback {
                rate_bps,
                links_bps,
                ..
            } => {
                self.emulation.loopback = Some(Loopback {
                    rate_bps: *rate_bps,
                    links_bps: *links_bps,
                });
            }
            Record::Receipt(receipt) => self.emulation.receipts.push(receipt.clone()),
            Record::ClockOffset { uncertainty_s, .. } => {
                let worst_s = self.clock_uncertainty_s.unwrap_or(0.0);
                self.clock_uncertainty_s = Some(uncertainty_s.max(worst_s));
            }
            _ => {}
        }
    }

    fn worker_lost(&mut self, at_s: f64, worker: &str, reason: &str) {
        let reason = sentence(reason);
        let lost = format!("Worker {worker} was lost at {at_s:.1} s: {reason}");
        self.workers_lost.push(lost);
    }

    fn job_ended(&mut self, at_s: f64) {
        self.ended_s = Some(at_s.max(self.ended_s.unwrap_or(0.0)));
    }

    fn run_ended(&mut self, waiting: &[String], stopped: Option<&String>) {
        for name in waiting {
            self.job(name).waiting = true;
        }
        self.end = Some(match stopped {
            Some(reason) => RunEnd::Stopped(reason.clone()),
            None => RunEnd::Complete,
        });
    }

    fn add_input(&mut self, at_s: f64, input: &InputRecord) {
        self.input_s = at_s;
        match input {
            InputRecord::Submitted { job } => {
                self.job(job).submitted_s.get_or_insert(at_s);
            }
            InputRecord::Progress { job, iterations } => {
                let job = self.job(job);
                job.progress = Some(iterations.max(job.progress.unwrap_or(0.0)));
            }
            InputRecord::LinkChanged {
                from,
                to,
                bandwidth_bps,
                one_way_delay_s,
            } => {
                let ends = (from.clone(), to.clone());
                if let Some(capacity) = self.capacities.get_mut(&ends) {
                    capacity.set(at_s, *bandwidth_bps);
                }
                if let Some(delay_s) = one_way_delay_s {
                    self.emulation.set_delay(ends, *delay_s);
                }
            }
            InputRecord::GpusChanged { region, gpus } => {
                if let Some(level) = self.gpus.get_mut(region) {
                    level.set(at_s, f64::from(*gpus));
                }
            }
            InputRecord::Usage { .. }
            | InputRecord::Finished { .. }
            | InputRecord::Failed { .. }
            | InputRecord::Settle => {}
        }
    }

    /// What the records amount to.
    pub fn finish(self) -> Summary {
        let jobs: Vec<JobSummary> = self
            .jobs
            .iter()
            .map(|job| job.summary(&self.header, &self.physical))
            .collect();
        let (regions, links) = (totals::regions(&self, &jobs), totals::links(&self, &jobs));
        let totals = totals::totals(&self, &jobs);
        let emulated = regions.iter();
        let emulated = emulated.map(|region| (region.name.as_str(), &region.energy_j));
        let physical = self.physical.summary(&self.header, &emulated.collect());
        let paced = self.jobs.iter();
        let paced = paced.map(|job| (job.name.as_str(), &job.overruns));
        let overruns = overruns::summary(&self.header, paced);
        let end = self.end.unwrap_or(RunEnd::CutOff {
            last_s: self.last_s,
        });
        Summary {
            regions,
            links,
            totals,
            physical,
            shaping: self.emulation.shaping.clone(),
            emulation: self.emulation.summary(&self.header, &end, overruns),
            end,
            header: self.header,
            ledger: None,
            jobs,
            workers_lost: self.workers_lost,
            clock_uncertainty_s: self.clock_uncertainty_s,
            omissions: Omissions::default(),
        }
    }

    fn job(&mut self, name: &str) -> &mut JobFold {
        let index = match self.by_name.get(name) {
            Some(index) => *index,
            None => {
                self.by_name.insert(name.to_owned(), self.jobs.len());
                self.jobs.push(JobFold {
                    name: name.to_owned(),
                    ..JobFold::default()
                });
                self.jobs.len() - 1
            }
        };
        &mut self.jobs[index]
    }
}

fn time_of(record: &Record) -> f64 {
    match record {
        Record::Input { at_s, .. }
        | Record::Refused { at_s, .. }
        | Record::Placed { at_s, .. }
        | Record::Pipeline { at_s, .. }
        | Record::PassedOver { at_s, .. }
        | Record::Network { at_s, .. }
        | Record::WorkerJoined { at_s, .. }
        | Record::ClockOffset { at_s, .. }
        | Record::WorkerLost { at_s, .. }
        | Record::Loopback { at_s, .. }
        | Record::Training { at_s, .. }
        | Record::Transfer { at_s, .. }
        | Record::JobFinished { at_s, .. }
        | Record::JobFailed { at_s, .. }
        | Record::RunEnded { at_s, .. } => *at_s,
        Record::Receipt(receipt) => receipt.at_s,
        Record::WorkerMemory(memory) => memory.at_s,
        Record::Iteration(iteration) => iteration.to_s,
        Record::Meter(meter) => meter.at_s,
        Record::MeterAbsent(absent) => absent.at_s,
        Record::PhysicalEnergy(share) => share.at_s,
        Record::MeterTotal(total) => total.at_s,
        Record::Metering(metering) => metering.at_s,
        Record::Header(_) | Record::Actions(_) | Record::Weights { .. } | Record::Energy(_) => 0.0,
    }
}
