//! What a ledger holds: one record a line, simulated and real runs alike.
//!
//! Records name jobs and regions by their names, so that a ledger is read without its scenario. Times are
//! emulated seconds from the start of the run.

use bace_netem::Finding;
use serde::{Deserialize, Serialize};

use crate::{
    ActionsRecord, Attempt, DatagramSummary, Header, Iteration, MeterAbsentRecord, MeterRecord,
    MeterTotalRecord, MeteringRecord, PhysicalEnergyRecord, Schedule, StageIndex, StageSetUp,
    StageTimes, TransferSummary,
};

/// A region of a chosen path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedRegion {
    /// The region's name.
    pub region: String,
    /// GPUs taken there.
    pub gpus: u32,
}

/// What the engine was told; a replay feeds these back in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum InputRecord {
    /// A job arrived.
    Submitted {
        /// The job.
        job: String,
    },
    /// A stage's GPU computed for `busy_s` of the time between `from_s` and `to_s`.
    Usage {
        /// The job.
        job: String,
        /// The stage.
        stage: StageIndex,
        /// Begin of the span.
        from_s: f64,
        /// End of the span.
        to_s: f64,
        /// Seconds of it in which the GPU computed.
        busy_s: f64,
    },
    /// Every stage of a job has ended its last step.
    Finished {
        /// The job.
        job: String,
    },
    /// A job cannot go on.
    Failed {
        /// The job.
        job: String,
        /// Why, as a sentence.
        reason: String,
    },
    /// A job's last iteration that every stage has finished.
    Progress {
        /// The job.
        job: String,
        /// Iterations done since the job's first start, as a real number where the model is fluid.
        iterations: f64,
    },
    /// A link's capacity, delay or both changed.
    LinkChanged {
        /// Where the bytes leave.
        from: String,
        /// Where they arrive.
        to: String,
        /// Capacity from now on, bit/s.
        bandwidth_bps: f64,
        /// One-way delay from now on, seconds; absent in ledgers of older programs, whose links kept theirs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        one_way_delay_s: Option<f64>,
    },
    /// A region's number of GPUs changed.
    GpusChanged {
        /// The region.
        region: String,
        /// GPUs from now on.
        gpus: u32,
    },
    /// All inputs of this instant are in: the engine places what it can.
    Settle,
}

/// One iteration of one stage, as it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IterationRecord {
    /// The job.
    pub job: String,
    /// Which start of the job.
    pub attempt: Attempt,
    /// The stage.
    pub stage: StageIndex,
    /// The iteration.
    pub iteration: Iteration,
    /// Begin.
    pub from_s: f64,
    /// End.
    pub to_s: f64,
    /// Where the time between went.
    pub times: StageTimes,
    /// Mean loss in nats a token; last stage only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Tokens of the iteration; last stage only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Under the lease of its device, or by the clock of a device that has its own, emulated seconds: the machine's × the
    /// run's `time_scale`; absent where nothing is computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_s: Option<f64>,
    /// Waiting for that lease, emulated seconds; absent where nothing is computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_wait_s: Option<f64>,
    /// Forwards and backwards that were given the emulated GPU's time; absent where they take as long as they take, and in
    /// ledgers of older programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<u32>,
    /// Those of them that took longer than the emulated GPU would have, the wait for the device included.
    #[serde(default)]
    pub overruns: u32,
    /// Longest such excess, seconds.
    #[serde(default)]
    pub worst_overrun_s: f64,
    /// All such excesses together, seconds; absent where no action was paced, and in ledgers of older programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrun_s: Option<f64>,
    /// The largest time scale, as a multiple of the run's, at which none of them would have taken longer; absent where any
    /// would do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_without_overrun: Option<f64>,
}

/// Energy and money of one stage of a job, from placement to release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnergyUse {
    /// The job.
    pub job: String,
    /// Which start of the job.
    pub attempt: Attempt,
    /// The stage.
    pub stage: StageIndex,
    /// Where its GPU stands.
    pub region: String,
    /// Time the GPU was held, seconds.
    pub held_s: f64,
    /// Time the GPU computed, seconds.
    pub busy_s: f64,
    /// Joules at the GPU, without the region's PUE.
    pub energy_j: f64,
    /// Dollars, PUE and price series included.
    pub cost_usd: f64,
    /// Grams of CO2, PUE included; absent where the region has no carbon series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carbon_g: Option<f64>,
}

/// When a worker's memory was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryPhase {
    /// Before the first job: all workers are ready.
    Ready,
    /// After the last job, which its worker has dropped.
    Ended,
}

/// What a worker process held at one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerMemory {
    /// When.
    pub at_s: f64,
    /// Its name in the run.
    pub worker: String,
    /// Before the first job or after the last.
    pub phase: MemoryPhase,
    /// How much; absent where the system did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ResidentMemory>,
    /// Why `memory` is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Physical memory of a process, as Linux counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidentMemory {
    /// All its pages (`Rss`).
    pub resident_bytes: u64,
    /// Its pages, those that others have too by their share (`Pss`); over all processes these add up.
    pub proportional_bytes: u64,
    /// Pages that nobody else has. The rest of `resident_bytes` is shared: programs' and libraries' text, mostly.
    pub private_bytes: u64,
    /// The most that `resident_bytes` ever was (`VmHWM`).
    pub peak_bytes: u64,
}

/// When a link was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptPhase {
    /// Before the first job.
    Before,
    /// After the last job.
    After,
}

/// What came of measuring a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All that can be promised of it holds.
    True,
    /// Something does not hold, or it could not be measured where it has to be.
    Untrue,
    /// Nothing is promised of it.
    NotJudged,
}

/// A directed link between regions as it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReceiptRecord {
    /// When.
    pub at_s: f64,
    /// Before the first job or after the last.
    pub phase: ReceiptPhase,
    /// The sender's region.
    pub from: String,
    /// The receiver's region.
    pub to: String,
    /// How often it was measured until it was true or given up; 0 if it could not be.
    pub attempts: u32,
    /// What the last attempt found; empty if it found nothing.
    pub figures: Vec<Finding>,
    /// Messages of that attempt.
    pub messages: u64,
    /// Those that came more than 1 ms late.
    pub late_arrivals: u64,
    /// Worst lateness, seconds.
    pub worst_late_s: f64,
    /// What came of it.
    pub verdict: Verdict,
    /// Why it is untrue, or what was not judged and why; words that follow a colon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Who gives a link of a run one of its qualities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShapedBy {
    /// The kernel's queueing disciplines.
    Kernel,
    /// The receiving worker, which holds messages after their arrival.
    Receiver,
    /// Nobody: links lack what the scenario gives them.
    Nobody,
    /// Nobody has to: no link of the scenario has it.
    #[default]
    NotAsked,
}

/// What shapes the links of a run on the rung `kernel`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KernelShaping {
    /// The discipline that gives rates: `tbf` or `htb`.
    pub qdisc: String,
    /// Whether the kernel has the discipline `netem`.
    pub netem: bool,
    /// Who delays.
    #[serde(default)]
    pub delay: ShapedBy,
    /// Who spreads delays.
    #[serde(default)]
    pub jitter: ShapedBy,
    /// Who loses datagrams.
    #[serde(default)]
    pub loss: ShapedBy,
    /// Whether all namespaces were in a user namespace of the run's own, for lack of root.
    #[serde(default)]
    pub user_namespace: bool,
}

/// One line of a ledger. Readers skip kinds they do not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// What run this is.
    Header(Header),
    /// The engine was told something.
    Input {
        /// When.
        at_s: f64,
        /// What.
        #[serde(flatten)]
        input: InputRecord,
    },
    /// A job can never run and was refused at submission.
    Refused {
        /// When.
        at_s: f64,
        /// The job.
        job: String,
        /// Why, as a sentence.
        reason: String,
    },
    /// A job was placed.
    Placed {
        /// When.
        at_s: f64,
        /// The job.
        job: String,
        /// Which start of the job.
        attempt: Attempt,
        /// Stages, K.
        k: u32,
        /// Stages that would be fastest on an unlimited cluster, K*.
        k_star: u32,
        /// Regions in pipeline order with their GPUs.
        path: Vec<PlacedRegion>,
        /// Layers of each stage.
        layers: Vec<u32>,
        /// Predicted seconds of an iteration by the analytic formula at this instant's shares.
        iteration_s: f64,
        /// Why this job and this placement.
        reason: serde_json::Value,
    },
    /// What a placed job's stages will do in every iteration.
    Pipeline {
        /// When.
        at_s: f64,
        /// The job.
        job: String,
        /// Which start of the job.
        attempt: Attempt,
        /// Order of work within a stage.
        schedule: Schedule,
        /// Forwards of each stage before its first backward.
        depths: Vec<u32>,
        /// A sentence for each stage whose depth memory has cut.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        cuts: Vec<String>,
    },
    /// A waiting job was looked at and not placed.
    PassedOver {
        /// When.
        at_s: f64,
        /// The job.
        job: String,
        /// Why, for people: words that fit behind a colon; empty in ledgers of older programs.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        why: String,
        /// Why, as data.
        reason: serde_json::Value,
    },
    /// Who shapes the links, on a rung where that depends on the machine: before the first worker joins.
    Network {
        /// When.
        at_s: f64,
        /// Who does what.
        #[serde(flatten)]
        shaping: KernelShaping,
    },
    /// A worker process stands for a GPU from now on.
    WorkerJoined {
        /// When.
        at_s: f64,
        /// Its name in the run.
        worker: String,
        /// Its region.
        region: String,
        /// What it computes on, in words.
        device: String,
        /// Its host, 0 the coordinator's; absent where all workers are there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<u32>,
        /// Seconds of the machine from the start of its process until it was ready for a job; absent where people started it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ready_after_s: Option<f64>,
    },
    /// What the process of a worker on the coordinator's host holds in memory.
    WorkerMemory(WorkerMemory),
    /// How the monotonic clocks of two processes on different hosts compare.
    ClockOffset {
        /// When.
        at_s: f64,
        /// Whose clock: a worker's name in the run.
        worker: String,
        /// What it is compared with: another worker, or `coordinator`.
        against: String,
        /// By how much the worker's clock is ahead, seconds; negative where it is behind.
        offset_s: f64,
        /// How far `offset_s` may be from the truth, seconds.
        uncertainty_s: f64,
        /// What a message takes from one to the other, seconds: half of the shortest round trip.
        latency_s: f64,
    },
    /// What this machine carries between two processes where nothing shapes it, measured before the links.
    Loopback {
        /// When.
        at_s: f64,
        /// Payload, bit/s.
        rate_bps: f64,
        /// All measured links together, bit/s.
        links_bps: f64,
    },
    /// A link was measured.
    Receipt(ReceiptRecord),
    /// A worker process is gone.
    WorkerLost {
        /// When.
        at_s: f64,
        /// Its name in the run.
        worker: String,
        /// How it ended.
        reason: String,
    },
    /// All stages are set up, and training begins.
    Training {
        /// When.
        at_s: f64,
        /// The job.
        job: String,
        /// Which start of the job.
        attempt: Attempt,
        /// The worker of each stage.
        workers: Vec<String>,
        /// Parameters over all stages.
        parameters: u64,
        /// Hash of the training text; absent where nothing is computed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text_hash: Option<String>,
        /// What each stage took until it was ready, in stage order; empty in ledgers of older programs.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        set_up: Vec<StageSetUp>,
    },
    /// A stage ended an iteration.
    Iteration(IterationRecord),
    /// The actions of that iteration; behind its record.
    Actions(ActionsRecord),
    /// What crossed one direction of a stage boundary over a whole job.
    Transfer {
        /// When the job ended.
        at_s: f64,
        /// The job.
        job: String,
        /// Which start of the job.
        attempt: Attempt,
        /// The sending stage.
        from_stage: StageIndex,
        /// The receiving stage.
        to_stage: StageIndex,
        /// The sender's region.
        from: String,
        /// The receiver's region.
        to: String,
        /// Sent, and how much of it came late.
        #[serde(flatten)]
        summary: TransferSummary,
        /// Payload bytes for which the link carried those sent; absent where the job trained its own model, whose bytes they are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        carried_bytes: Option<u64>,
        /// The sender's datagrams; absent unless the link took them one by one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        datagrams: Option<DatagramSummary>,
    },
    /// Hashes of a job's final weights.
    Weights {
        /// The job.
        job: String,
        /// Which start of the job.
        attempt: Attempt,
        /// Part of the model (embedding, a layer, head) and its hash, in model order.
        parts: Vec<(String, String)>,
    },
    /// Energy and money of a stage, as the emulated GPU would have used them.
    Energy(EnergyUse),
    /// A source of energy figures.
    Meter(MeterRecord),
    /// A source of energy figures that is not there.
    MeterAbsent(MeterAbsentRecord),
    /// What a worker drew of this machine.
    PhysicalEnergy(PhysicalEnergyRecord),
    /// What a meter counted.
    MeterTotal(MeterTotalRecord),
    /// What reading the meters took.
    Metering(MeteringRecord),
    /// A job has ended its last step on every stage.
    JobFinished {
        /// When.
        at_s: f64,
        /// The job.
        job: String,
    },
    /// A job ended without finishing.
    JobFailed {
        /// When.
        at_s: f64,
        /// The job.
        job: String,
        /// Why, as a sentence.
        reason: String,
    },
    /// Last record of a run that came to its end.
    RunEnded {
        /// When.
        at_s: f64,
        /// Jobs that still wait and can never be placed.
        waiting: Vec<String>,
        /// Why the run ended early; absent if it did not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stopped: Option<String>,
    },
}
