//! What coordinator, workers and ledgers say to each other: ids, jobs, placements, actions, messages, records, codec.
//!
//! What belongs here: nouns that cross a process or a file boundary, and the rules that both sides have to
//! read alike. What does not: how anything is decided, computed, sent or stored.

mod action;
mod codec;
mod header;
mod ids;
mod job;
mod message;
mod meter;
mod placement;
mod profiling;
mod reason;
mod record;
mod set_up;
mod span;
mod told;
mod walk;

pub use action::{Action, NoAction, Program, StageProgram};
pub use codec::{CONTROL_LIMIT, CodecError, HEADER_LIMIT, decode, encode};
pub use header::{
    ClockKind, ComputeRung, FORMAT_VERSION, Header, HeaderLink, NetworkRung, ProfileUse, Receipts,
};
pub use ids::{Attempt, Iteration, JobId, MeasurementId, MicroBatch, StageIndex, WorkerId};
pub use job::{Job, ScaleModel, Schedule};
pub use message::{
    COORDINATOR_NAME, ComputePlan, DatagramSummary, DeviceLease, Element, FromWorker, HostMemory,
    IterationReport, LinkChange, Measure, MeasureRole, Neighbour, PROTOCOL_VERSION, PeerHello,
    Prepare, Probe, Purpose, StageFinished, StageTimes, TensorHeader, TensorKind, ToWorker,
    TransferSummary, WorkerDevice,
};
pub use meter::{
    EnergyColumn, MeterAbsentRecord, MeterRecord, MeterTotalRecord, MeteringRecord,
    PhysicalEnergyRecord,
};
pub use placement::{Boundary, Placement, RegionGpus};
pub use profiling::{
    BoardState, DeviceCheck, DeviceSpeed, MemoryReply, MemoryTask, ProfileReply, ProfileRequest,
    ProfileTask, TimesReply,
};
pub use reason::{PathOutcome, PathReason, PlacementReason, PriorityTerms, Refusal, Shortfall};
pub use record::{
    EnergyUse, InputRecord, IterationRecord, KernelShaping, MemoryPhase, PlacedRegion,
    ReceiptPhase, ReceiptRecord, Record, ResidentMemory, ShapedBy, Verdict, WorkerMemory,
};
pub use set_up::{SetUpReport, StageSetUp};
pub use span::{ActionReport, ActionSpan, ActionsRecord, MOST_SPANS, MessageTimes};
pub use told::told;
pub use walk::{StageWalk, TensorId};
