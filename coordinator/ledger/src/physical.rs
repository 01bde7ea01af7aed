//! What the machine of a run drew, beside what the scenario's GPUs would have drawn; the two are never added.

use std::collections::{BTreeMap, BTreeSet};

use bace_api::{
    ClockKind, EnergyColumn, Header, MeterAbsentRecord, MeterRecord, MeterTotalRecord,
    MeteringRecord, PhysicalEnergyRecord, Record,
};

use crate::Figure;

const UJ_PER_J: f64 = 1e6;

/// What the machine of a run drew.
#[derive(Debug, Clone, PartialEq)]
pub struct PhysicalSummary {
    /// All meters together, from their first to their last reading, joules.
    pub energy_j: Figure,
    /// Of it what belongs to workers.
    pub attributed_j: Figure,
    /// Of it what belongs to nobody.
    pub unattributed_j: Figure,
    /// Every source of energy figures, emulated ones too.
    pub meters: Vec<MeterSummary>,
    /// Sources that were not there.
    pub absent: Vec<MeterAbsentRecord>,
    /// Workers by name, and what each drew on all meters, joules.
    pub workers: Vec<(String, Figure)>,
    /// What reading the meters took; absent where none was read, or the ledger ends before.
    pub metering: Option<MeteringRecord>,
}

/// One source in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct MeterSummary {
    /// What it is.
    pub meter: MeterRecord,
    /// What it counted, joules; of an emulated one what its region's GPUs would have drawn.
    pub energy_j: Figure,
    /// Of it what belongs to workers.
    pub attributed_j: Figure,
    /// Of it what belongs to nobody.
    pub unattributed_j: Figure,
    /// How it was read; absent for a model, and where the ledger ends before.
    pub total: Option<MeterTotalRecord>,
}

/// What the records so far say of physical energy.
#[derive(Debug, Clone, Default)]
pub(crate) struct PhysicalFold {
    meters: Vec<MeterRecord>,
    absent: Vec<MeterAbsentRecord>,
    totals: BTreeMap<String, MeterTotalRecord>,
    jobs: BTreeMap<String, u64>,
    workers: BTreeMap<String, u64>,
    /// Workers whose energy is not counted, or not all of it, and why.
    unmetered: BTreeMap<String, String>,
    /// Jobs with a stage on one of them, and why their energy is not known.
    jobs_unmetered: BTreeMap<String, String>,
    metering: Option<MeteringRecord>,
}

impl PhysicalFold {
    /// Takes in what a record tells of physical energy, if it does.
    pub fn add(&mut self, record: &Record) {
        match record {
            Record::Meter(meter) => self.meters.push(meter.clone()),
            Record::MeterAbsent(absent) => {
                for worker in &absent.workers {
                    let reason = format!(
                        "worker {worker} drew energy that was not metered: {}: {}",
                        absent.meter, absent.reason
                    );
                    self.unmetered.entry(worker.clone()).or_insert(reason);
                }
                self.absent.push(absent.clone());
            }
            Record::PhysicalEnergy(share) => self.add_share(share),
            Record::MeterTotal(total) => {
                self.totals.insert(total.meter.clone(), total.clone());
            }
            Record::Metering(metering) => self.metering = Some(*metering),
            Record::WorkerJoined { worker, host, .. } if host.is_some_and(|host| host > 0) => {
                let reason =
                    format!("worker {worker} was on another host, where nothing was metered");
                self.unmetered.insert(worker.clone(), reason);
            }
            Record::Training { job, workers, .. } => {
                let reason = workers.iter().find_map(|worker| self.unmetered.get(worker));
                if let Some(reason) = reason {
                    self.jobs_unmetered.insert(job.clone(), reason.clone());
                }
            }
            _ => {}
        }
    }

    fn add_share(&mut self, share: &PhysicalEnergyRecord) {
        let add = |sums: &mut BTreeMap<String, u64>, name: &str| {
            let sum = sums.entry(name.to_owned()).or_default();
            *sum = sum.saturating_add(share.energy_uj);
        };
        add(&mut self.workers, &share.worker);
        if let Some(job) = &share.job {
            add(&mut self.jobs, job);
        }
    }

    /// What a job drew, joules; `ended_s` is when it ended, if it did.
    pub fn job(
        &self,
        header: &Header,
        name: &str,
        held_gpus: bool,
        ended_s: Option<f64>,
    ) -> Figure {
        if let Some(reason) = self.nothing_metered(header) {
            return Figure::Unknown(reason.into());
        }
        if !held_gpus {
            return Figure::Known(0.0);
        }
        let unmetered = self.jobs_unmetered.get(name).cloned();
        if let Some(reason) = unmetered.or_else(|| self.incomplete(ended_s)) {
            return Figure::Unknown(reason.into());
        }
        let energy_uj = self.jobs.get(name).copied();
        let missing = "no device time of the job was metered";
        Figure::new(energy_uj.map(joules), missing)
    }

    /// What the records amount to; `regions` is what each region's GPUs would have drawn.
    pub fn summary(self, header: &Header, regions: &BTreeMap<&str, &Figure>) -> PhysicalSummary {
        let reason = self
            .nothing_metered(header)
            .or_else(|| self.incomplete(None));
        let meters: Vec<MeterSummary> = self
            .meters
            .iter()
            .map(|meter| self.meter(meter, regions))
            .collect();
        let sum = |pick: fn(&MeterTotalRecord) -> u64| {
            if let Some(reason) = &reason {
                return Figure::Unknown(reason.clone().into());
            }
            let totals = self
                .physical()
                .filter_map(|meter| self.totals.get(&meter.meter));
            Figure::Known(joules(totals.map(pick).fold(0, u64::saturating_add)))
        };
        PhysicalSummary {
            energy_j: sum(|total| total.energy_uj),
            attributed_j: sum(attributed_uj),
            unattributed_j: sum(|total| total.unattributed_uj),
            workers: self.workers(reason.as_deref()),
            meters,
            absent: self.absent,
            metering: self.metering,
        }
    }

    /// Workers that drew anything, and those that nobody metered; `reason` is why nothing is known of any.
    fn workers(&self, reason: Option<&str>) -> Vec<(String, Figure)> {
        let names: BTreeSet<&String> = self.workers.keys().chain(self.unmetered.keys()).collect();
        let figure = |worker: &String| {
            let unmetered = self.unmetered.get(worker).map(String::as_str);
            match unmetered.or(reason) {
                Some(reason) => Figure::Unknown(reason.to_owned().into()),
                None => Figure::Known(joules(
                    self.workers.get(worker).copied().unwrap_or_default(),
                )),
            }
        };
        let workers = names.into_iter();
        workers
            .map(|worker| (worker.clone(), figure(worker)))
            .collect()
    }

    /// Why sums up to `until_s` lack energy that a meter did not count; up to the end where that is absent.
    fn incomplete(&self, until_s: Option<f64>) -> Option<String> {
        self.physical().find_map(|meter| {
            let Some(total) = self.totals.get(&meter.meter) else {
                return Some(NO_TOTAL.to_owned());
            };
            let lost =
                lost(total).filter(|(at_s, _)| until_s.is_none_or(|until_s| until_s > *at_s));
            let lost = lost.map(|(at_s, reason)| told_lost(&meter.meter, at_s, reason));
            lost.or_else(|| uncounted(total))
        })
    }

    fn meter(&self, meter: &MeterRecord, regions: &BTreeMap<&str, &Figure>) -> MeterSummary {
        if meter.column == EnergyColumn::Emulated {
            let region = meter.meter.strip_prefix(MODEL_PREFIX);
            let energy_j = region.and_then(|region| regions.get(region)).copied();
            let modelled = Figure::Unknown("a model; the jobs hold their own energy".into());
            return MeterSummary {
                meter: meter.clone(),
                energy_j: energy_j.cloned().unwrap_or_else(|| modelled.clone()),
                attributed_j: modelled.clone(),
                unattributed_j: modelled,
                total: None,
            };
        }
        let total = self.totals.get(&meter.meter);
        let figure = |pick: fn(&MeterTotalRecord) -> u64| match total
            .map(|total| (total, uncounted(total)))
        {
            None => Figure::Unknown(NO_TOTAL.into()),
            Some((_, Some(reason))) => Figure::Unknown(reason.into()),
            Some((total, None)) => Figure::Known(joules(pick(total))),
        };
        MeterSummary {
            meter: meter.clone(),
            energy_j: figure(|total| total.energy_uj),
            attributed_j: figure(attributed_uj),
            unattributed_j: figure(|total| total.unattributed_uj),
            total: total.cloned(),
        }
    }

    fn physical(&self) -> impl Iterator<Item = &MeterRecord> {
        let meters = self.meters.iter();
        meters.filter(|meter| meter.column == EnergyColumn::Physical)
    }

    /// Why nothing is known of physical energy; absent where a meter was there.
    fn nothing_metered(&self, header: &Header) -> Option<String> {
        if header.clock == ClockKind::Virtual {
            return Some("a simulation draws nothing that would be metered".to_owned());
        }
        if self.physical().next().is_some() {
            return None;
        }
        if self.absent.is_empty() {
            return Some("the ledger does not say whether anything was metered".to_owned());
        }
        let reasons = self
            .absent
            .iter()
            .map(|absent| format!("{}: {}", absent.meter, absent.reason));
        Some(format!(
            "no meter is there ({})",
            reasons.collect::<Vec<_>>().join("; ")
        ))
    }
}

/// What the names of emulated sources begin with; the region follows.
const MODEL_PREFIX: &str = "model ";

const NO_TOTAL: &str = "the ledger ends before its meters' totals";

fn joules(uj: u64) -> f64 {
    uj as f64 / UJ_PER_J
}

fn attributed_uj(total: &MeterTotalRecord) -> u64 {
    total.energy_uj.saturating_sub(total.unattributed_uj)
}

fn lost(total: &MeterTotalRecord) -> Option<(f64, &str)> {
    let reason = total.lost_reason.as_deref();
    Some((total.lost_at_s?, reason.unwrap_or("no reason is recorded")))
}

/// Why what a meter counted is not what was drawn; absent where it is.
fn uncounted(total: &MeterTotalRecord) -> Option<String> {
    let meter = &total.meter;
    if total.unread_s > 0.0 {
        let unread_s = total.unread_s;
        return Some(format!(
            "{meter} was not read for {unread_s:.1} s, whose energy nobody knows"
        ));
    }
    // Whatever is switched on draws something.
    (total.energy_uj == 0).then(|| format!("{meter} stood still over the whole run"))
}

fn told_lost(meter: &str, at_s: f64, reason: &str) -> String {
    format!("{meter} could not be read any more from {at_s:.1} s on: {reason}")
}
