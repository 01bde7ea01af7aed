//! `bace run`: a scenario trained for real.

mod ask;
mod checked;
mod command;
mod devices;
mod driver;
mod fleet;
mod gather;
mod hosts;
mod in_flight;
mod interrupts;
mod jobs;
mod join;
mod kernel;
mod measuring;
mod memory;
mod metering;
mod preflight;
mod process;
mod program;
mod progress;
mod receipts;
mod recorder;
mod wire;

pub use ask::{
    ask_worker_for_speed, parity as ask_worker_for_parity, profile as ask_worker_for_profile,
};
pub use checked::{CheckedRun, default_rung};
pub use command::{fresh_folder, run, summary};
pub use devices::{CheckedDevice, identify, identity_of};
pub use interrupts::Interrupts;
pub use preflight::{MOST_WORKERS, can_be_carried, workers};
pub use program::WorkerProgram;
