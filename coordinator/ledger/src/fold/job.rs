//! What records amount to for one job.

use std::collections::BTreeMap;

use bace_api::{
    Attempt, ClockKind, ComputeRung, EnergyUse, Header, IterationRecord, TransferSummary,
};

use super::LOSS_NOT_A_NUMBER;
use crate::emulation::lateness_unknown;
use crate::overruns::OverrunFold;
use crate::physical::PhysicalFold;
use crate::{Figure, JobStatus, JobSummary, PlacementSummary};

/// What the records so far say about a job.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobFold {
    pub(super) name: String,
    pub(super) submitted_s: Option<f64>,
    pub(super) refused: Option<String>,
    pub(super) started_s: Option<f64>,
    /// When it gave its GPUs back, until it is placed again.
    pub(super) released_s: Option<f64>,
    /// From each loss of its GPUs to the placement after.
    pub(super) waited_again_s: f64,
    pub(super) training_s: Option<f64>,
    /// Its latest start.
    pub(super) attempt: Option<Attempt>,
    /// Begin of the first stage's first iteration of that start.
    pub(super) iterates_s: Option<f64>,
    /// Its latest placement, until it trains.
    pub(super) loads_since_s: Option<f64>,
    /// From each placement to the begin of training, all together.
    pub(super) set_up_s: f64,
    pub(super) placed: Option<PlacementSummary>,
    pub(super) finished_s: Option<f64>,
    pub(super) failed: Option<String>,
    pub(super) failed_s: Option<f64>,
    pub(super) waiting: bool,
    /// Why it was last passed over since it last ran.
    pub(super) passed_over: Option<String>,
    pub(super) progress: Option<f64>,
    pub(super) iterations: u32,
    /// Outer: whether the last stage has ended an iteration; inner: whether its loss is a number.
    pub(super) loss_first: Option<Option<f64>>,
    pub(super) loss_last: Option<Option<f64>>,
    pub(super) tokens: u64,
    /// Attempt, begin and end of the last stage's iterations.
    pub(super) spans: Vec<(Attempt, f64, f64)>,
    pub(crate) energy: EnergyFold,
    pub(crate) transfers: TransferFold,
    pub(super) overruns: OverrunFold,
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
    pub(super) fn add(&mut self, energy: &EnergyUse) {
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
    pub(super) fn add(&mut self, (from, to): (&str, &str), summary: &TransferSummary, bytes: u64) {
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
    pub(super) fn place(
        &mut self,
        (at_s, attempt): (f64, Attempt),
        mut placement: PlacementSummary,
    ) {
        let before = self.placed.as_ref().map_or(0, |placed| placed.starts);
        placement.starts = placement.starts.saturating_add(before);
        self.started_s.get_or_insert(at_s);
        if let Some(released_s) = self.released_s.take() {
            self.waited_again_s += at_s - released_s;
        }
        self.loads_since_s = Some(at_s);
        self.attempt = Some(attempt);
        self.iterates_s = None;
        self.passed_over = None;
        self.energy.stages = 0;
        self.transfers.crossings = 0;
        self.placed = Some(placement);
    }

    /// All its stages are loaded, and begin.
    pub(super) fn began(&mut self, at_s: f64) {
        self.training_s = Some(at_s);
        if let Some(since_s) = self.loads_since_s.take() {
            self.set_up_s += at_s - since_s;
        }
    }

    pub(super) fn add_iteration(&mut self, clock: ClockKind, record: &IterationRecord) {
        if record.stage.0 == 0 && self.attempt == Some(record.attempt) && self.iterates_s.is_none()
        {
            self.iterates_s = Some(record.from_s);
            // Simulations have no record of the begin of training.
            if clock == ClockKind::Virtual && self.loads_since_s.is_some() {
                self.began(record.from_s);
            }
        }
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

    pub(super) fn summary(&self, header: &Header, physical: &PhysicalFold) -> JobSummary {
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
                (Figure::Known(_), Some(_))
                    if header.clock == ClockKind::Virtual && !header.predicts_set_up() =>
                {
                    Figure::Unknown("the prediction knows no set-up".into())
                }
                (Figure::Known(_), at_s) => time(
                    at_s.map(|_| self.set_up_s),
                    "no begin of training is recorded",
                ),
                (unknown, _) => unknown.clone(),
            },
            iterates_s: match &started_s {
                Figure::Known(_) => time(
                    self.iterates_s,
                    "no iteration of its first stage is recorded",
                ),
                unknown => unknown.clone(),
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
