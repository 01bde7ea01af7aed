//! What a run amounts to.

use std::path::PathBuf;

use bace_api::{DatagramSummary, Header, KernelShaping, PlacedRegion};

use crate::{EmulationSummary, Figure, Omissions, PhysicalSummary};

/// A run in numbers. Times are emulated seconds from the start of the run.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// What run it was.
    pub header: Header,
    /// Where its ledger is, if it was read from one.
    pub ledger: Option<PathBuf>,
    /// Every job, in scenario order.
    pub jobs: Vec<JobSummary>,
    /// Every region, in scenario order.
    pub regions: Vec<RegionSummary>,
    /// Every directed link between regions, in scenario order.
    pub links: Vec<LinkSummary>,
    /// The run as a whole.
    pub totals: Totals,
    /// How true the links were.
    pub emulation: EmulationSummary,
    /// What the machine drew.
    pub physical: PhysicalSummary,
    /// Who shaped the links, where the kernel had a part in it.
    pub shaping: Option<KernelShaping>,
    /// Workers that went away during the run, a sentence each.
    pub workers_lost: Vec<String>,
    /// How well the offset of two hosts' clocks was known, seconds, the worst of the run; absent where all were on one host.
    pub clock_uncertainty_s: Option<f64>,
    /// How the run ended.
    pub end: RunEnd,
    /// What the ledger's reader had to leave out.
    pub omissions: Omissions,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEnd {
    /// Nothing was left to do.
    Complete,
    /// It was stopped early, and why.
    Stopped(String),
    /// The ledger ends without an end of the run: it still goes on, or was killed.
    CutOff {
        /// Time of the last record.
        last_s: f64,
    },
}

/// What became of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobStatus {
    /// Trained to its last iteration.
    Finished,
    /// Ended without finishing, and why.
    Failed(String),
    /// Can never run, and why.
    Refused(String),
    /// Submitted, and without a place when the ledger ends; why, where the ledger tells.
    Waiting(Option<String>),
    /// Placed, and neither finished nor failed when the ledger ends.
    Unfinished,
    /// Not submitted when the ledger ends.
    NotSubmitted,
}

impl JobStatus {
    /// One word for people and programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed(_) => "failed",
            Self::Refused(_) => "refused",
            Self::Waiting(_) => "waiting",
            Self::Unfinished => "unfinished",
            Self::NotSubmitted => "not submitted",
        }
    }

    /// Why, where there is a reason to give.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Failed(reason) | Self::Refused(reason) | Self::Waiting(Some(reason)) => {
                Some(reason)
            }
            _ => None,
        }
    }
}

/// One job in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSummary {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub status: JobStatus,
    /// Arrival, seconds.
    pub submitted_s: Figure,
    /// First placement, seconds.
    pub started_s: Figure,
    /// When all stages of its latest start were set up and training began; in a simulation, `iterates_s`. Seconds.
    pub training_s: Figure,
    /// From each placement to the begin of its training: stages connect, load, get their turn on the device and rehearse, which the
    /// machine takes its own time for. Part of the JCT and, since GPUs are held, of energy and cost. Seconds.
    pub set_up_s: Figure,
    /// Begin of the first stage's first iteration of its latest start, seconds; a simulation by formula tells of none.
    pub iterates_s: Figure,
    /// End of the last step on the last stage, seconds.
    pub finished_s: Figure,
    /// From arrival to first placement and from each loss of its GPUs to the placement after, seconds.
    pub queueing_s: Figure,
    /// Job completion time: from arrival to finish, seconds.
    pub jct_s: Figure,
    /// Its latest placement; absent if it never had one.
    pub placed: Option<PlacementSummary>,
    /// Iterations that the last stage has ended.
    pub iterations: Figure<u32>,
    /// Loss of the first iteration, nats a token.
    pub loss_first: Figure,
    /// Loss of the latest iteration, nats a token.
    pub loss_last: Figure,
    /// Tokens trained a second, from the begin of the last stage's first iteration to the end of its last.
    pub tokens_per_s: Figure,
    /// Time its GPUs were held, summed over them, seconds.
    pub gpu_held_s: Figure,
    /// Time its GPUs computed, summed over them, seconds.
    pub gpu_busy_s: Figure,
    /// Joules at the emulated GPUs, without PUE.
    pub energy_j: Figure,
    /// Joules that its workers drew of the machine; not part of `energy_j`, nor of the cost.
    pub physical_energy_j: Figure,
    /// Dollars, PUE included.
    pub cost_usd: Figure,
    /// Grams of CO2, PUE included.
    pub carbon_g: Figure,
    /// Payload bytes over links between regions, both directions.
    pub link_bytes: Figure<u64>,
    /// Messages that arrived later than the emulated link would have delivered them.
    pub late_arrivals: Figure<u64>,
    /// Worst lateness, seconds.
    pub worst_late_s: Figure,
    /// Paced actions that took longer than the emulated GPU would have.
    pub overruns: u64,
    /// Worst such excess, seconds; 0 without overruns.
    pub worst_overrun_s: f64,
}

/// Where a job ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementSummary {
    /// Stages, K.
    pub k: u32,
    /// Stages that would be fastest on an unlimited cluster, K*.
    pub k_star: u32,
    /// Regions in pipeline order with their GPUs.
    pub path: Vec<PlacedRegion>,
    /// Layers of each stage.
    pub layers: Vec<u32>,
    /// Starts of the job, this one included.
    pub starts: u32,
}

/// One region in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct RegionSummary {
    /// Its name.
    pub name: String,
    /// Joules at its GPUs while jobs held them, without PUE.
    pub energy_j: Figure,
    /// Dollars, PUE included.
    pub cost_usd: Figure,
    /// Share of all GPU time in which its GPUs computed, from the start of the run to the end of its last job.
    pub gpu_utilisation: Figure,
}

/// One directed link between regions in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkSummary {
    /// Where the bytes leave.
    pub from: String,
    /// Where they arrive.
    pub to: String,
    /// Payload bytes.
    pub bytes: Figure<u64>,
    /// Share of its capacity that carried payload, from the start of the run to the end of its last job.
    pub utilisation: Figure,
    /// Messages that jobs which ended have sent over it.
    pub messages: Figure<u64>,
    /// Those that arrived over 1 ms later than the link would have delivered them.
    pub late_arrivals: Figure<u64>,
    /// Worst lateness of one, seconds.
    pub worst_late_s: Figure,
    /// What became of its datagrams; absent unless it took them one by one.
    pub datagrams: Option<DatagramSummary>,
}

/// A run as a whole. Statistics of the JCT are over finished jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct Totals {
    /// Finished jobs.
    pub finished: usize,
    /// Mean JCT, seconds.
    pub mean_jct_s: Figure,
    /// Median JCT, seconds.
    pub median_jct_s: Figure,
    /// 95th percentile of the JCT, linear between ranks, seconds.
    pub p95_jct_s: Figure,
    /// Longest JCT, seconds.
    pub max_jct_s: Figure,
    /// Mean time from arrival to first placement, over started jobs, seconds.
    pub mean_queueing_s: Figure,
    /// Finish of the last job to finish, seconds from the start of the run.
    pub makespan_s: Figure,
    /// Joules of all jobs, failed ones included.
    pub energy_j: Figure,
    /// Dollars of all jobs, failed ones included.
    pub cost_usd: Figure,
    /// Grams of CO2 of all jobs, failed ones included.
    pub carbon_g: Figure,
    /// Share of the time they were held in which GPUs computed.
    pub gpu_busy_share: Figure,
    /// Share of all GPU time in which GPUs computed, held or not, from the start of the run to the end of its last job.
    pub gpu_utilisation: Figure,
    /// Share of the capacity of all links between regions that carried payload, from the start of the run to
    /// the end of its last job.
    pub link_utilisation: Figure,
    /// Messages that arrived later than the emulated link would have delivered them.
    pub late_arrivals: Figure<u64>,
    /// Paced actions that took longer than the emulated GPU would have.
    pub overruns: u64,
}

impl Summary {
    /// Whether every job finished, the run came to its end and nothing says that its links were not those of the
    /// scenario: exit status 0.
    pub fn succeeded(&self) -> bool {
        self.end == RunEnd::Complete
            && self.emulation.valid != Figure::Known(false)
            && self
                .jobs
                .iter()
                .all(|job| job.status == JobStatus::Finished)
    }

    /// Names of the jobs with this status word.
    pub(crate) fn names(&self, word: &str) -> Vec<&str> {
        let with = self.jobs.iter().filter(|job| job.status.word() == word);
        with.map(|job| job.name.as_str()).collect()
    }
}
