//! What the engine is told, and how a ledger writes it.

use std::collections::BTreeMap;

use bace_api::{InputRecord, JobId, StageIndex};
use bace_netem::{BitRate, Delay, LinkId, RegionId};

use crate::{EngineError, Scenario};

/// Something that happened. All times are emulated seconds from the start of the run.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A job arrived.
    Submitted(JobId),
    /// A stage's GPU computed for part of a span of time, evenly spread over it.
    Usage {
        /// The job.
        job: JobId,
        /// The stage.
        stage: StageIndex,
        /// Begin of the span.
        from_s: f64,
        /// End of the span.
        to_s: f64,
        /// Seconds of it in which the GPU computed.
        busy_s: f64,
    },
    /// What every stage of a job has finished.
    Progress {
        /// The job.
        job: JobId,
        /// Iterations since the job's first start; a restart begins behind the last whole one.
        iterations: f64,
    },
    /// Every stage of a job has ended its last step.
    Finished(JobId),
    /// A job cannot go on.
    Failed {
        /// The job.
        job: JobId,
        /// Why, as a sentence.
        reason: String,
    },
    /// A directed link's capacity, delay or both changed.
    LinkChanged {
        /// The link.
        link: LinkId,
        /// Capacity from now on.
        rate: BitRate,
        /// One-way delay from now on.
        delay: Delay,
    },
    /// A region's number of GPUs changed.
    GpusChanged {
        /// The region.
        region: RegionId,
        /// GPUs from now on.
        gpus: u32,
    },
}

/// A line of a ledger that a replay feeds back.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// To [`Engine::handle`](crate::Engine::handle).
    Input(Input),
    /// To [`Engine::settle`](crate::Engine::settle).
    Settle,
}

impl Input {
    /// The input with names instead of indices.
    pub fn to_record(&self, scenario: &Scenario) -> InputRecord {
        let job_name = |job: &JobId| scenario.jobs[job.index()].name.clone();
        let region_name = |region: RegionId| scenario.regions[region.index()].name.clone();
        match self {
            Self::Submitted(job) => InputRecord::Submitted { job: job_name(job) },
            Self::Usage {
                job,
                stage,
                from_s,
                to_s,
                busy_s,
            } => InputRecord::Usage {
                job: job_name(job),
                stage: *stage,
                from_s: *from_s,
                to_s: *to_s,
                busy_s: *busy_s,
            },
            Self::Progress { job, iterations } => InputRecord::Progress {
                job: job_name(job),
                iterations: *iterations,
            },
            Self::Finished(job) => InputRecord::Finished { job: job_name(job) },
            Self::Failed { job, reason } => InputRecord::Failed {
                job: job_name(job),
                reason: reason.clone(),
            },
            Self::LinkChanged { link, rate, delay } => InputRecord::LinkChanged {
                from: region_name(link.from),
                to: region_name(link.to),
                bandwidth_bps: rate.bps(),
                one_way_delay_s: Some(delay.seconds()),
            },
            Self::GpusChanged { region, gpus } => InputRecord::GpusChanged {
                region: region_name(*region),
                gpus: *gpus,
            },
        }
    }
}

/// A scenario's names, to read a ledger's inputs.
#[derive(Debug, Clone)]
pub struct Names {
    jobs: BTreeMap<String, JobId>,
    regions: BTreeMap<String, RegionId>,
    /// Delays of the scenario's links.
    delays: BTreeMap<LinkId, Delay>,
}

impl Names {
    /// The names of `scenario`.
    pub fn of(scenario: &Scenario) -> Self {
        let jobs = scenario.jobs.iter().zip(0..);
        let regions = scenario.regions.iter().zip(0..);
        Self {
            jobs: jobs
                .map(|(job, id)| (job.name.clone(), JobId(id)))
                .collect(),
            regions: regions
                .map(|(region, index)| (region.name.clone(), RegionId::new(index)))
                .collect(),
            delays: scenario
                .links
                .iter()
                .map(|(&link, spec)| (link, spec.delay))
                .collect(),
        }
    }

    /// What `record` told the engine; fails where it names what the scenario does not have.
    pub fn told(&self, record: &InputRecord) -> Result<Told, EngineError> {
        Ok(Told::Input(match record {
            InputRecord::Submitted { job } => Input::Submitted(self.job(job)?),
            InputRecord::Usage {
                job,
                stage,
                from_s,
                to_s,
                busy_s,
            } => Input::Usage {
                job: self.job(job)?,
                stage: *stage,
                from_s: *from_s,
                to_s: *to_s,
                busy_s: *busy_s,
            },
            InputRecord::Progress { job, iterations } => Input::Progress {
                job: self.job(job)?,
                iterations: *iterations,
            },
            InputRecord::Finished { job } => Input::Finished(self.job(job)?),
            InputRecord::Failed { job, reason } => Input::Failed {
                job: self.job(job)?,
                reason: reason.clone(),
            },
            InputRecord::LinkChanged {
                from,
                to,
                bandwidth_bps,
                one_way_delay_s,
            } => {
                let link = LinkId::new(self.region(from)?, self.region(to)?);
                Input::LinkChanged {
                    link,
                    rate: BitRate::from_bps(*bandwidth_bps)
                        .ok_or(EngineError::NotARate(*bandwidth_bps))?,
                    delay: self.delay(link, *one_way_delay_s)?,
                }
            }
            InputRecord::GpusChanged { region, gpus } => Input::GpusChanged {
                region: self.region(region)?,
                gpus: *gpus,
            },
            InputRecord::Settle => return Ok(Told::Settle),
        }))
    }

    /// The delay of a change. A ledger without it is from a program whose links kept theirs.
    fn delay(&self, link: LinkId, told_s: Option<f64>) -> Result<Delay, EngineError> {
        match told_s {
            Some(seconds) => Delay::from_seconds(seconds).ok_or(EngineError::NotADelay(seconds)),
            None => {
                let known = self.delays.get(&link).copied();
                known.ok_or(EngineError::UnknownLink(link))
            }
        }
    }

    fn job(&self, name: &str) -> Result<JobId, EngineError> {
        let id = self.jobs.get(name).copied();
        id.ok_or_else(|| EngineError::UnknownJob(name.to_owned()))
    }

    fn region(&self, name: &str) -> Result<RegionId, EngineError> {
        let id = self.regions.get(name).copied();
        id.ok_or_else(|| EngineError::UnknownRegion(name.to_owned()))
    }
}
