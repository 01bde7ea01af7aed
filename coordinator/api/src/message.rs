//! What coordinator and worker, and two neighbouring workers, say to each other.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

use bace_netem::{BitRate, ClockEstimate, Congestion, Delay, LinkId, LinkSpec, TimeScale, Timing};
use serde::{Deserialize, Serialize};

use crate::{
    ActionReport, Attempt, ComputeRung, Iteration, Job, JobId, MeasurementId, NetworkRung,
    SetUpReport, StageIndex, StageProgram, TensorId, WorkerId,
};

/// Version of these messages; both sides refuse another one.
pub const PROTOCOL_VERSION: u32 = 5;

/// The name in the coordinator's certificate.
pub const COORDINATOR_NAME: &str = "coordinator.run.local";

impl WorkerId {
    /// The name in the worker's certificate.
    pub fn certificate_name(self) -> String {
        format!("w{self}.run.local")
    }
}

/// Coordinator to worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// The worker is part of the run.
    Welcome {
        /// Its id in this run.
        worker: WorkerId,
        /// Where the memory is that all workers of its host share.
        memory: HostMemory,
        /// The device on which it computes in turns with the others of its host; absent where nothing is computed.
        lease: Option<DeviceLease>,
        /// Whether the coordinator is on another host: it opens a stream on this connection and probes the worker's clock,
        /// as long as the connection lasts.
        is_clock_probed: bool,
        /// Who takes the time of compute in this run.
        compute: ComputeRung,
        /// Who takes the time of transfers in this run.
        network: NetworkRung,
        /// How connections find their sending rate where links take their datagrams.
        congestion: Congestion,
        /// Whether receivers hold what arrives for the link's delay, since the kernel gives links their rates and cannot delay.
        receivers_hold: bool,
        /// File or folder of training text; absent for the worker's default.
        text: Option<PathBuf>,
    },
    /// The worker is not part of the run, and why; it ends.
    Refused(String),
    /// Load a stage and connect to the neighbours.
    Prepare(Box<Prepare>),
    /// Train: every stage has answered `Prepared`.
    Start(JobId, Attempt),
    /// Drop all that belongs to the job at once and answer `Released`. Ends a job whose stages have all finished,
    /// and one that cannot go on.
    Release(JobId, Attempt),
    /// Directed links have other rates and delays from now on, in this order: to one worker of a host that has memory of
    /// its own.
    SetLinks(Vec<LinkChange>),
    /// Meet another worker to measure the link between the two.
    Measure(Box<Measure>),
    /// Send: both workers have answered `ReadyToMeasure`. Only for the one that sends.
    StartMeasuring(MeasurementId),
    /// Drop all that belongs to the measurement at once; ends every one.
    EndMeasuring(MeasurementId),
    /// End the process.
    Shutdown,
}

/// What a directed link has from now on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LinkChange {
    /// The link's clock in shared memory.
    pub clock: u32,
    /// What this host has of its rate.
    pub rate: BitRate,
    /// Its one-way delay.
    pub delay: Delay,
}

/// Where a worker finds the memory that all workers of its host share: the clocks of links between regions, and whose turn it
/// is on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostMemory {
    /// It can be opened at this path.
    At(PathBuf),
    /// It makes it for its host and answers [`FromWorker::HostMemoryMade`].
    Make {
        /// Directed links between regions, all of them down.
        links: u32,
        /// Workers of the run, on whichever host; each takes the seat of its id.
        seats: u32,
    },
}

/// A device of a host and how many workers may compute on it at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceLease {
    /// Its index among the host's devices.
    pub device: u32,
    /// What the workers of the host call it.
    pub name: String,
    /// How many may compute on it at a time, at least 1.
    pub slots: u32,
}

/// What a worker computes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerDevice {
    /// What tells it apart from others of the host: `cpu`, or a GPU's UUID.
    pub name: String,
    /// For people.
    pub words: String,
    /// How many workers may compute on it at a time unless the scenario says otherwise: 1 on a GPU, the cores of a processor.
    pub slots: u32,
}

/// A stage to load, with all it needs to train without asking again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prepare {
    /// The job's index in the scenario.
    pub id: JobId,
    /// Which start of the job this is.
    pub attempt: Attempt,
    /// The job.
    pub job: Job,
    /// Bytes for which links carry each of its boundary tensors, where those stand for larger ones.
    pub boundary_stands_for_bytes: Option<u64>,
    /// Seed of the run; weights and batches follow from it.
    pub seed: u64,
    /// This stage.
    pub stage: StageIndex,
    /// Stages of the pipeline, K.
    pub stages: u32,
    /// The model's layers that this stage holds.
    pub layers: Range<u32>,
    /// What to do in every iteration, in order.
    pub program: StageProgram,
    /// The stage before this one; absent at stage 0.
    pub previous: Option<Neighbour>,
    /// The stage behind this one; absent at the last stage.
    pub next: Option<Neighbour>,
    /// How long compute takes, or is made to take.
    pub compute: ComputePlan,
    /// Whether the worker tells of every action, which costs the coordinator a line of its ledger an iteration.
    pub tells_actions: bool,
}

/// A neighbouring stage and the directed link towards it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    /// The worker that runs it.
    pub worker: WorkerId,
    /// Where it listens for its neighbours.
    pub address: SocketAddr,
    /// Which link leads from here to there; from a region to itself where that is its fabric.
    pub link_id: LinkId,
    /// The link from here to there: what this host has of it, where its rate is split among hosts.
    pub link: LinkSpec,
    /// The link from there to here.
    pub back: LinkSpec,
    /// The link's clock in shared memory; absent for a region's fabric, whose clock is the boundary's own.
    pub clock: Option<u32>,
    /// The clock of the link from there to here, likewise.
    pub clock_back: Option<u32>,
    /// Whether it is on another host: then its monotonic clock is another, and the stage before probes that of the stage
    /// behind after their hellos.
    pub is_elsewhere: bool,
}

/// One of two workers' part in measuring a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Which measurement.
    pub id: MeasurementId,
    /// What is sent.
    pub probe: Probe,
    /// Whether this worker sends or receives.
    pub role: MeasureRole,
    /// The other worker.
    pub peer: Neighbour,
    /// Seed of the run, which random impairments follow from.
    pub seed: u64,
}

/// What is sent to measure a link; both workers make the same messages of it and of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Probe {
    /// The only messages on the link.
    Alone,
    /// Messages while another pair of workers sends over the same link.
    Together,
}

/// A worker's part in a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MeasureRole {
    /// It connects and sends.
    Send,
    /// It is found, receives, and says when what came.
    Receive,
}

/// How a stage's compute is timed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ComputePlan {
    /// Who takes the time.
    pub rung: ComputeRung,
    /// Modelled seconds of one micro-batch's forward on the emulated GPU.
    pub forward_s: f64,
    /// Modelled seconds of one micro-batch's backward on the emulated GPU.
    pub backward_s: f64,
}

impl ComputePlan {
    /// A plan in emulated seconds as a worker is given it, in wall seconds.
    pub fn wall(self, scale: TimeScale) -> Self {
        Self {
            rung: self.rung,
            forward_s: scale.wall_seconds(self.forward_s),
            backward_s: scale.wall_seconds(self.backward_s),
        }
    }
}

/// Worker to coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// The first message.
    Hello {
        /// [`PROTOCOL_VERSION`] of the worker.
        protocol: u32,
        /// The region it stands for.
        region: String,
        /// Where it listens for neighbours.
        address: SocketAddr,
        /// Identifies kernel and view of time: two processes with the same one share clocks and memory.
        host_id: String,
        /// Process id, for messages.
        pid: u32,
        /// What it computes on.
        device: WorkerDevice,
    },
    /// The worker has made its host's shared memory.
    HostMemoryMade {
        /// Where the other workers of the host open them.
        path: PathBuf,
    },
    /// The worker has loaded what all stages share and can be given one.
    Ready {
        /// Hash of the training text; absent where nothing is computed.
        text_hash: Option<String>,
    },
    /// The worker cannot take part, and why; it waits to be shut down.
    Unfit {
        /// A fragment that fits after "failed to".
        reason: String,
    },
    /// The stage is loaded and both neighbours have answered.
    Prepared {
        /// The job.
        job: JobId,
        /// Which start of it.
        attempt: Attempt,
        /// Parameters of the stage.
        parameters: u64,
        /// What it took since the order.
        set_up: SetUpReport,
        /// The clock of the stage behind; absent on the same host, and where links are not timed.
        next_clock: Option<ClockEstimate>,
    },
    /// A stage has ended an iteration.
    Iteration(IterationReport),
    /// A stage has ended its last step.
    Finished(Box<StageFinished>),
    /// The worker holds nothing of the job any more and can be given another stage.
    Released {
        /// The job.
        job: JobId,
        /// Which start of it.
        attempt: Attempt,
        /// Hashes of the stage's final weights, one for each part of the model (embedding, a layer, head); empty
        /// if the job did not finish or nothing was computed.
        weights: Vec<(String, String)>,
    },
    /// Connected to the other worker of a measurement.
    ReadyToMeasure {
        /// Which measurement.
        id: MeasurementId,
    },
    /// All messages of a measurement have been received.
    Measured {
        /// Which measurement.
        id: MeasurementId,
        /// Their times, in the order of their sending.
        timings: Vec<Timing>,
    },
    /// The measurement cannot go on, and why.
    MeasuringFailed {
        /// Which measurement.
        id: MeasurementId,
        /// A fragment that fits after "failed to".
        reason: String,
    },
    /// The stage cannot go on, and why.
    Failed {
        /// The job.
        job: JobId,
        /// Which start of it.
        attempt: Attempt,
        /// A sentence that names stage and cause.
        reason: String,
    },
}

/// Where a stage's time went, in seconds of the worker's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct StageTimes {
    /// Forwards, pacing included.
    pub forward_s: f64,
    /// Backwards, pacing included.
    pub backward_s: f64,
    /// Optimizer.
    pub step_s: f64,
    /// Waiting in receives.
    pub stall_s: f64,
    /// Waiting for room in the queue of a send.
    pub send_wait_s: f64,
}

impl StageTimes {
    /// Time in which the emulated GPU computes; what the power model calls busy.
    pub fn busy_s(&self) -> f64 {
        self.forward_s + self.backward_s + self.step_s
    }

    /// What a worker told, in wall seconds, in emulated ones.
    pub fn emulated(self, scale: TimeScale) -> Self {
        Self {
            forward_s: scale.emulated_seconds(self.forward_s),
            backward_s: scale.emulated_seconds(self.backward_s),
            step_s: scale.emulated_seconds(self.step_s),
            stall_s: scale.emulated_seconds(self.stall_s),
            send_wait_s: scale.emulated_seconds(self.send_wait_s),
        }
    }
}

/// One iteration of one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IterationReport {
    /// The job.
    pub job: JobId,
    /// Which start of it.
    pub attempt: Attempt,
    /// The stage.
    pub stage: StageIndex,
    /// Whether it is the pipeline's last stage.
    pub is_last_stage: bool,
    /// The iteration.
    pub iteration: Iteration,
    /// Begin on the host's monotonic clock, nanoseconds.
    pub begin_ns: u64,
    /// End on the host's monotonic clock, nanoseconds.
    pub end_ns: u64,
    /// Where the time between went.
    pub times: StageTimes,
    /// All that the stage did, in the order of its program; empty where nobody wants to know.
    pub spans: Vec<ActionReport>,
    /// Mean loss over the iteration's micro-batches, in nats a token; the last stage alone knows it.
    pub loss: Option<f64>,
    /// Under the lease of its device, or by the clock of a device that has its own, seconds; absent where nothing is computed.
    pub device_s: Option<f64>,
    /// Waiting for that lease, seconds; absent where nothing is computed.
    pub lease_wait_s: Option<f64>,
    /// Forwards and backwards that were given the emulated GPU's time; absent where they take as long as they take.
    pub actions: Option<u32>,
    /// Those of them that took longer than the emulated GPU would have, the wait for the device included.
    pub overruns: u32,
    /// Longest such excess, seconds.
    pub worst_overrun_s: f64,
    /// All such excesses together, seconds.
    pub overrun_s: f64,
    /// The largest time scale, as a multiple of the run's, at which none of them would have taken longer; absent where any
    /// would do.
    pub scale_without_overrun: Option<f64>,
}

/// What a stage has sent to one neighbour over a whole job.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct TransferSummary {
    /// Messages sent.
    pub messages: u64,
    /// Payload bytes sent.
    pub bytes: u64,
    /// Messages received from that neighbour more than 1 ms after they should have been delivered.
    pub late_arrivals: u64,
    /// Worst lateness, seconds; also where it is within that millisecond.
    pub worst_late_s: f64,
}

impl TransferSummary {
    /// What a worker told, in wall seconds, in emulated ones.
    pub fn emulated(self, scale: TimeScale) -> Self {
        Self {
            worst_late_s: scale.emulated_seconds(self.worst_late_s),
            ..self
        }
    }
}

/// What became of the datagrams that a stage sent to one neighbour over a whole job, acknowledgements of what it received
/// among them.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct DatagramSummary {
    /// Delivered.
    pub sent: u64,
    /// Bytes that the link counted for those.
    pub bytes: u64,
    /// Lost on the link.
    pub lost: u64,
    /// Dropped at the end of the link's queue.
    pub dropped: u64,
    /// Refused by the sender's system when they were due.
    #[serde(default)]
    pub refused: u64,
    /// Delivered more than 1 ms after they should have been.
    pub late: u64,
    /// Worst lateness, seconds; also where it is within that millisecond.
    pub worst_late_s: f64,
}

impl DatagramSummary {
    /// What a worker told, in wall seconds, in emulated ones.
    pub fn emulated(self, scale: TimeScale) -> Self {
        Self {
            worst_late_s: scale.emulated_seconds(self.worst_late_s),
            ..self
        }
    }
}

/// The end of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageFinished {
    /// The job.
    pub job: JobId,
    /// Which start of it.
    pub attempt: Attempt,
    /// The stage.
    pub stage: StageIndex,
    /// To and from the stage before; absent at stage 0.
    pub previous: Option<TransferSummary>,
    /// To and from the stage behind; absent at the last stage.
    pub next: Option<TransferSummary>,
    /// To the stage before; absent unless the link there takes datagrams.
    pub previous_datagrams: Option<DatagramSummary>,
    /// To the stage behind; absent unless the link there takes datagrams.
    pub next_datagrams: Option<DatagramSummary>,
    /// The clock of the stage behind, as known at the end; absent on the same host, and where links are not timed.
    pub next_clock: Option<ClockEstimate>,
}

/// First message on a connection between two workers, answered by the same from the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHello {
    /// [`PROTOCOL_VERSION`] of the sender.
    pub protocol: u32,
    /// What it is there for.
    pub purpose: Purpose,
}

/// What two workers are connected for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// To train neighbouring stages.
    Stage {
        /// The job both are to train.
        job: JobId,
        /// Which start of it.
        attempt: Attempt,
        /// The sender's stage.
        stage: StageIndex,
    },
    /// To measure the link between them.
    Measurement(MeasurementId),
}

/// What a tensor between neighbours is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TensorKind {
    /// A forward's output.
    Activation,
    /// A backward's input gradient.
    Gradient,
}

/// Element type of a tensor on the wire, little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Element {
    /// 2 bytes.
    Bf16,
    /// 4 bytes.
    F32,
}

/// Header of a tensor message; the payload follows raw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorHeader {
    /// Which tensor it is.
    pub tensor: TensorId,
    /// Batch, tokens, hidden.
    pub shape: [u32; 3],
    /// Element type.
    pub element: Element,
}
