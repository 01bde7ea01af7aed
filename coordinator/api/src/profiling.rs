//! What the coordinator asks a worker's program about its device, and what that answers: JSON, one object each.
//!
//! Neither is part of a run: the program is started, answers and ends.

use std::path::PathBuf;

use bace_models::{
    Fit, LayerShape, MicroBatchShape, ProfiledDevice, SetUpRound, SetUpStage, StagePlace,
};
use serde::{Deserialize, Serialize};

/// What `bace-worker check` found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceCheck {
    /// The device in words.
    pub device: String,
    /// What it is; a profile of exactly this holds for it.
    pub identity: ProfiledDevice,
    /// Whether the program's libtorch can use GPUs.
    pub has_cuda: bool,
    /// Hash of the training text, hexadecimal.
    pub text_hash: String,
    /// Bytes of the training text.
    pub text_bytes: u64,
    /// How fast it trains; absent unless asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<DeviceSpeed>,
}

/// What one worker is worth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DeviceSpeed {
    /// At which it trains a small model, operations a second as the scheduler counts them.
    pub operations_per_s: f64,
    /// Memory that its process has held at most, libraries included, before any job is loaded.
    pub memory_bytes: u64,
}

/// What `bace-worker profile` reads on its standard input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProfileRequest {
    /// What to compute on, as `bace-worker --device` takes it.
    pub device: String,
    /// In which numbers, as `bace-worker --precision` takes it; absent for what is usual on the device.
    pub precision: Option<String>,
    /// Text to cut batches from; absent for the worker's default.
    pub text: Option<PathBuf>,
    /// The model.
    pub model: LayerShape,
    /// Its micro-batches.
    pub shape: MicroBatchShape,
    /// What is measured.
    pub task: ProfileTask,
}

/// What is measured; each in a process of its own, since what one leaves behind in memory is in the way of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProfileTask {
    /// Times.
    Times {
        /// Rounds that count.
        rounds: u32,
    },
    /// The peak of memory while a stage trains.
    Memory(MemoryTask),
    /// How long stages need before they can train.
    SetUp {
        /// The one that the process sets up first.
        begins_with: SetUpStage,
    },
}

/// A stage whose peak of memory is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryTask {
    /// Its layers.
    pub layers: u32,
    /// Whether it is the whole model, or stands between two other stages.
    pub is_whole: bool,
    /// Micro-batches that go forward before the first goes backward.
    pub in_flight: u32,
}

/// What `bace-worker profile` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ProfileReply {
    /// To [`ProfileTask::Times`].
    Times(Box<TimesReply>),
    /// To [`ProfileTask::Memory`].
    Memory(MemoryReply),
    /// To [`ProfileTask::SetUp`].
    SetUp(SetUpRound),
}

/// Times as measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimesReply {
    /// Where.
    pub device: ProfiledDevice,
    /// What.
    pub fit: Fit,
    /// Rounds before those that count.
    pub warm_up_rounds: u32,
    /// By how much a layer's time still changed between the last two windows of the warm-up, as a share.
    pub warm_up_drift_share: f64,
    /// The device's state at the end.
    pub board: BoardState,
}

/// Temperature and clock of a device; absent with its reason where they cannot be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum BoardState {
    /// As read.
    Read {
        /// Temperature, degrees Celsius.
        temperature_c: f64,
        /// Clock of the multiprocessors, MHz.
        clock_mhz: f64,
    },
    /// Not read, and why; words that follow a colon.
    Absent(String),
}

/// A peak of memory as measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum MemoryReply {
    /// Bytes above what the process held before the stage was loaded.
    Peak(u64),
    /// Not measured, and why; words that follow a colon.
    Absent(String),
}

impl MemoryTask {
    /// Where the stage stands.
    pub fn place(&self) -> StagePlace {
        if self.is_whole {
            StagePlace::Only
        } else {
            StagePlace::Middle
        }
    }
}
