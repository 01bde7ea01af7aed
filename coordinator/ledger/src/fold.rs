//! Records to a summary, one at a time.

use std::collections::BTreeMap;
use std::path::Path;

use bace_api::{
    Attempt, ComputeRung, EnergyUse, Header, InputRecord, IterationRecord, Record, TransferSummary,
};

use crate::emulation::{EmulationFold, Loopback, lateness_unknown};
use crate::notes::sentence;
use crate::overruns::{self, OverrunFold};
use crate::physical::PhysicalFold;
use crate::totals::{self, Steps};
use crate::{
    Figure, JobStatus, JobSummary, Ledger, LedgerError, Omissions, PlacementSummary, Reader,
    RunEnd, Summary,
};

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
                k,
                k_star,
                path,
                layers,
                ..
            } => {
                self.job(job).place(
                    *at_s,
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
                let job = self.job(&iteration.job);
                job.overruns.add(iteration, time_scale);
                job.add_iteration(iteration);
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

/// What the records so far say about a job.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobFold {
    name: String,
    submitted_s: Option<f64>,
    refused: Option<String>,
    started_s: Option<f64>,
    /// When it gave its GPUs back, until it is placed again.
    released_s: Option<f64>,
    /// From each loss of its GPUs to the placement after.
    waited_again_s: f64,
    training_s: Option<f64>,
    /// Its latest placement, until it trains.
    loads_since_s: Option<f64>,
    /// From each placement to the begin of training, all together.
    set_up_s: f64,
    placed: Option<PlacementSummary>,
    finished_s: Option<f64>,
    failed: Option<String>,
    failed_s: Option<f64>,
    waiting: bool,
    /// Why it was last passed over since it last ran.
    passed_over: Option<String>,
    progress: Option<f64>,
    iterations: u32,
    /// Outer: whether the last stage has ended an iteration; inner: whether its loss is a number.
    loss_first: Option<Option<f64>>,
    loss_last: Option<Option<f64>>,
    tokens: u64,
    /// Attempt, begin and end of the last stage's iterations.
    spans: Vec<(Attempt, f64, f64)>,
    pub(crate) energy: EnergyFold,
    pub(crate) transfers: TransferFold,
    overruns: OverrunFold,
}

/// Energy and money of a job.
#[derive(Debug, Clone, Default)]
pub(crate) struct EnergyFold {
    /// Stages accounted for since the latest placement.
    stages: u32,
    held_s: f64,
    busy_s: f64,
    energy_j: f64,
    cost_usd: f64,
    carbon_g: f64,
    /// A region whose carbon is not known.
    no_carbon: Option<String>,
    pub(crate) by_region: BTreeMap<String, RegionEnergy>,
}

/// Energy and money in one region.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RegionEnergy {
    pub(crate) energy_j: f64,
    pub(crate) cost_usd: f64,
    pub(crate) busy_s: f64,
}

/// What a job sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct TransferFold {
    /// Directions over links between regions recorded since the latest placement.
    crossings: u64,
    recorded: bool,
    late_arrivals: u64,
    worst_late_s: f64,
    pub(crate) by_link: BTreeMap<(String, String), u64>,
}

impl EnergyFold {
    fn add(&mut self, energy: &EnergyUse) {
        self.stages = self.stages.saturating_add(1);
        self.held_s += energy.held_s;
        self.busy_s += energy.busy_s;
        self.energy_j += energy.energy_j;
        self.cost_usd += energy.cost_usd;
        match energy.carbon_g {
            Some(carbon_g) => self.carbon_g += carbon_g,
            None => {
                self.no_carbon.get_or_insert_with(|| energy.region.clone());
            }
        }
        let region = self.by_region.entry(energy.region.clone()).or_default();
        region.energy_j += energy.energy_j;
        region.cost_usd += energy.cost_usd;
        region.busy_s += energy.busy_s;
    }
}

impl TransferFold {
    /// A transfer that took its link as `bytes` do.
    fn add(&mut self, (from, to): (&str, &str), summary: &TransferSummary, bytes: u64) {
        self.recorded = true;
        self.late_arrivals = self.late_arrivals.saturating_add(summary.late_arrivals);
        self.worst_late_s = self.worst_late_s.max(summary.worst_late_s);
        if from != to {
            self.crossings += 1;
            let ends = (from.to_owned(), to.to_owned());
            let sum = self.by_link.entry(ends).or_default();
            *sum = sum.saturating_add(bytes);
        }
    }
}

impl JobFold {
    /// Takes the first placement in, or a later one; the starts before it are counted here.
    fn place(&mut self, at_s: f64, mut placement: PlacementSummary) {
        let before = self.placed.as_ref().map_or(0, |placed| placed.starts);
        placement.starts = placement.starts.saturating_add(before);
        self.started_s.get_or_insert(at_s);
        if let Some(released_s) = self.released_s.take() {
            self.waited_again_s += at_s - released_s;
        }
        self.loads_since_s = Some(at_s);
        self.passed_over = None;
        self.energy.stages = 0;
        self.transfers.crossings = 0;
        self.placed = Some(placement);
    }

    /// All its stages are loaded, and begin.
    fn began(&mut self, at_s: f64) {
        self.training_s = Some(at_s);
        if let Some(since_s) = self.loads_since_s.take() {
            self.set_up_s += at_s - since_s;
        }
    }

    fn add_iteration(&mut self, record: &IterationRecord) {
        let stages = self.placed.as_ref().map_or(0, |placed| placed.k);
        if record.stage.0.checked_add(1) != Some(stages) {
            return;
        }
        self.iterations = self.iterations.max(record.iteration.0.saturating_add(1));
        self.loss_first.get_or_insert(record.loss);
        self.loss_last = Some(record.loss);
        self.tokens = self.tokens.saturating_add(record.tokens.unwrap_or(0));
        match self.spans.last_mut() {
            Some((attempt, _, end)) if *attempt == record.attempt => *end = end.max(record.to_s),
            _ => self
                .spans
                .push((record.attempt, record.from_s, record.to_s)),
        }
    }

    fn status(&self) -> JobStatus {
        if let Some(reason) = &self.refused {
            JobStatus::Refused(reason.clone())
        } else if self.finished_s.is_some() {
            JobStatus::Finished
        } else if let Some(reason) = &self.failed {
            JobStatus::Failed(reason.clone())
        } else if self.waiting || (self.placed.is_none() && self.submitted_s.is_some()) {
            JobStatus::Waiting(self.passed_over.clone())
        } else if self.placed.is_some() {
            JobStatus::Unfinished
        } else {
            JobStatus::NotSubmitted
        }
    }

    fn summary(&self, header: &Header, physical: &PhysicalFold) -> JobSummary {
        let status = self.status();
        let submitted_s = time(self.submitted_s, "the job was not submitted");
        let started_s = time(self.started_s, not_started(&status));
        let finished_s = time(self.finished_s, not_finished(&status));
        let (energy_j, cost_usd) = (
            self.accounted(self.energy.energy_j),
            self.accounted(self.energy.cost_usd),
        );
        JobSummary {
            queueing_s: started_s.with(&submitted_s, |start, arrival| {
                start - arrival + self.waited_again_s
            }),
            jct_s: finished_s.with(&submitted_s, |finish, arrival| finish - arrival),
            training_s: match (&started_s, self.training_s) {
                (Figure::Known(_), at_s) => time(at_s, "no begin of training is recorded"),
                (unknown, _) => unknown.clone(),
            },
            set_up_s: match (&started_s, self.training_s) {
                (Figure::Known(_), at_s) => time(
                    at_s.map(|_| self.set_up_s),
                    "no begin of training is recorded",
                ),
                (unknown, _) => unknown.clone(),
            },
            submitted_s,
            started_s,
            finished_s,
            placed: self.placed.clone(),
            iterations: self.iterations(),
            loss_first: self.loss(self.loss_first, header),
            loss_last: self.loss(self.loss_last, header),
            tokens_per_s: self.tokens_per_s(),
            gpu_held_s: self.accounted(self.energy.held_s),
            gpu_busy_s: self.accounted(self.energy.busy_s),
            energy_j,
            physical_energy_j: physical.job(
                header,
                &self.name,
                self.placed.is_some(),
                self.ended_s(),
            ),
            cost_usd,
            carbon_g: match &self.energy.no_carbon {
                Some(region) => {
                    Figure::Unknown(format!("region {region} has no carbon series").into())
                }
                None => self.accounted(self.energy.carbon_g),
            },
            link_bytes: self.link_bytes(),
            late_arrivals: self.lateness(header, self.transfers.late_arrivals),
            worst_late_s: self.lateness(header, self.transfers.worst_late_s),
            overruns: self.overruns.overruns,
            worst_overrun_s: self.overruns.worst_s,
            name: self.name.clone(),
            status,
        }
    }

    /// When it ended, finished or not.
    fn ended_s(&self) -> Option<f64> {
        self.finished_s.or(self.failed_s)
    }

    /// A sum over the job's energy records, if every stage that ever held a GPU has one.
    fn accounted(&self, sum: f64) -> Figure {
        match &self.placed {
            // A job that never held a GPU has used nothing, which is known.
            None => Figure::Known(0.0),
            Some(placed) if self.energy.stages < placed.k => Figure::Unknown(
                format!(
                    "{} of {} stages have their energy in the ledger",
                    self.energy.stages, placed.k
                )
                .into(),
            ),
            Some(_) => Figure::real(sum),
        }
    }

    fn iterations(&self) -> Figure<u32> {
        if self.loss_last.is_some() {
            return Figure::Known(self.iterations);
        }
        // A simulator may tell progress alone; whole iterations of it are done.
        Figure::new(
            self.progress.map(|done| done.floor() as u32),
            "no iterations are recorded",
        )
    }

    fn loss(&self, loss: Option<Option<f64>>, header: &Header) -> Figure {
        match loss {
            _ if header.compute == ComputeRung::Modelled => {
                Figure::Unknown("compute was modelled, nothing was trained".into())
            }
            Some(Some(loss)) => Figure::real(loss),
            Some(None) => Figure::Unknown(LOSS_NOT_A_NUMBER.into()),
            None => Figure::Unknown("no iteration ended".into()),
        }
    }

    fn tokens_per_s(&self) -> Figure {
        let span_s: f64 = self.spans.iter().map(|(_, from, to)| to - from).sum();
        if self.tokens > 0 && span_s > 0.0 {
            Figure::real(self.tokens as f64 / span_s)
        } else {
            Figure::Unknown("no iterations with tokens are recorded".into())
        }
    }

    fn link_bytes(&self) -> Figure<u64> {
        let expected = self.placed.as_ref().map_or(0, directions);
        if self.transfers.crossings < expected {
            return Figure::Unknown(
                format!(
                    "{} of {expected} directions of its path have their transfers in the ledger",
                    self.transfers.crossings
                )
                .into(),
            );
        }
        let bytes = self.transfers.by_link.values();
        Figure::Known(bytes.fold(0, |sum, bytes| sum.saturating_add(*bytes)))
    }

    /// What the job's transfers say of lateness, unless nobody knows it.
    fn lateness<T>(&self, header: &Header, told: T) -> Figure<T> {
        let several = self.placed.as_ref().is_some_and(|placed| placed.k > 1);
        let missing = (several && !self.transfers.recorded).then_some("no transfers are recorded");
        match lateness_unknown(header).or(missing) {
            None => Figure::Known(told),
            Some(why) => Figure::Unknown(why.into()),
        }
    }
}

/// Directed links that a placement uses: activations and gradients over each boundary between regions.
fn directions(placed: &PlacementSummary) -> u64 {
    2 * (placed.path.len() as u64).saturating_sub(1)
}

fn time(at_s: Option<f64>, missing: &'static str) -> Figure {
    at_s.map_or(Figure::Unknown(missing.into()), Figure::real)
}

fn not_started(status: &JobStatus) -> &'static str {
    match status {
        JobStatus::Refused(_) => "the job was refused",
        JobStatus::NotSubmitted => "the job was not submitted",
        _ => "the job was never placed",
    }
}

fn not_finished(status: &JobStatus) -> &'static str {
    match status {
        JobStatus::Failed(_) => "the job failed",
        JobStatus::Unfinished => "the ledger ends before the job did",
        status => not_started(status),
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
