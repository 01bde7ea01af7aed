//! What a ledger holds of energy: which sources there were, and what those that count real joules have counted.
//!
//! Two columns never mix. Physical energy is what the machine drew. Emulated energy is what the scenario's GPUs would have
//! drawn; it stands in [`EnergyUse`](crate::EnergyUse), and dollars and carbon come from it alone. Physical energies are whole
//! microjoules, so that shares and what nobody is charged with add up to a counter's delta exactly.

use serde::{Deserialize, Serialize};

use crate::{Attempt, StageIndex};

/// Which energy a source tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnergyColumn {
    /// What this machine drew.
    Physical,
    /// What the scenario's GPUs would have drawn.
    Emulated,
}

/// A source of energy figures, before the first job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeterRecord {
    /// When.
    pub at_s: f64,
    /// Its name, unique in the run.
    pub meter: String,
    /// What kind of source: `nvml_energy`, `nvml_power`, `rapl`, `model`.
    pub source: String,
    /// Which energy it tells of.
    pub column: EnergyColumn,
    /// What its figures are counted in: `mJ`, `mW`, `uJ`, `J`.
    pub unit: String,
    /// Smallest step of its figures, in `unit`.
    pub resolution: f64,
    /// How often its figures change, seconds; absent for a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_s: Option<f64>,
    /// Where its figures come from, and what is known of their error.
    pub provenance: String,
    /// Whose time decides whose joules: `lease` (device time under the lease) or `holding` (time in which a worker held a
    /// stage); absent for a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributed_by: Option<String>,
}

/// A source that is not there, before the first job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeterAbsentRecord {
    /// When.
    pub at_s: f64,
    /// What was looked for.
    pub meter: String,
    /// Why it is not there; words that follow a colon.
    pub reason: String,
    /// What would make it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Workers whose energy it would have counted, by their names in the run: what they draw is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<String>,
}

/// What a worker drew on one meter while it held a stage, once its last joules had been counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhysicalEnergyRecord {
    /// When it was booked.
    pub at_s: f64,
    /// The meter.
    pub meter: String,
    /// The worker's name in the run.
    pub worker: String,
    /// The job it worked for; absent, with `attempt` and `stage`, while it worked for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Which start of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// The stage it held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageIndex>,
    /// Device time, machine seconds, as the joules are the machine's; that of an iteration is in emulated ones.
    pub device_s: f64,
    /// Microjoules.
    pub energy_uj: u64,
}

/// What a meter counted, after the last job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeterTotalRecord {
    /// When it was booked.
    pub at_s: f64,
    /// The meter.
    pub meter: String,
    /// First reading, machine seconds after the run's begin: negative, since meters are read from before it.
    pub from_s: f64,
    /// Last reading that succeeded, machine seconds after the run's begin.
    pub to_s: f64,
    /// The counter's delta between them, microjoules.
    pub energy_uj: u64,
    /// Of it what belongs to no worker, microjoules.
    pub unattributed_uj: u64,
    /// Readings that succeeded.
    pub readings: u64,
    /// Readings that failed.
    #[serde(default)]
    pub failures: u64,
    /// Times that the counter began anew at its range's end.
    #[serde(default)]
    pub wraps: u64,
    /// Times that it was reset: what it had counted since the reading before is lost.
    #[serde(default)]
    pub resets: u64,
    /// Longest time that it stood still, machine seconds.
    #[serde(default)]
    pub longest_still_s: f64,
    /// Time that an integral left out, machine seconds.
    #[serde(default)]
    pub unread_s: f64,
    /// Since when it could not be read any more, emulated seconds as the ends of jobs are; absent where it was read to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_at_s: Option<f64>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_reason: Option<String>,
}

/// What reading the meters took, after the last job.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeteringRecord {
    /// When.
    pub at_s: f64,
    /// Samples; each reads all meters.
    pub samples: u64,
    /// Processor time, machine seconds.
    pub cpu_s: f64,
    /// From the first sample to the last, machine seconds.
    pub wall_s: f64,
    /// The longest sample, machine seconds.
    pub worst_s: f64,
}
