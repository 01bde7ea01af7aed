//! The command line, a file for each family of commands; `choice` holds values that several take.

mod bench;
mod check;
mod choice;
mod command;
mod emulation;
mod ladder;
mod netem;
mod predict;
mod run;
mod scenario;
mod validate;

pub use bench::{
    BenchCommand, BenchLinkArgs, BenchMeterArgs, BenchModel, BenchPipelineArgs, BenchTransportArgs,
    LinkPartChoice,
};
pub use check::{DoctorArgs, GpuCheckArgs};
pub use choice::{
    ActionsChoice, AttributionChoice, ComputeChoice, DeviceChoice, IterationModelChoice,
    MetersChoice, NetworkChoice, PrecisionChoice, ReceiptsChoice,
};
pub use command::{Cli, Command};
pub use emulation::EmulationArgs;
pub use ladder::LadderArgs;
pub use netem::{NetemCommand, NetemPlanArgs, RateQdiscChoice};
pub use predict::{PredictArgs, ProfileArgs};
pub use run::{
    CompareArgs, ExplainArgs, PlanArgs, ReplayArgs, ReportArgs, RunArgs, ScenarioArgs,
    SimulateArgs, TraceArgs,
};
pub use scenario::{GenerateArgs, ScenarioCommand};
pub use validate::{SetReceiptsChoice, ValidateArgs};
