//! What a meter is.

use crate::counter::Health;
use crate::place::Place;

/// What kind of source energy comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// A board's total energy counter, read through NVML.
    NvmlEnergy,
    /// A board's power, read through NVML and integrated here.
    NvmlPower,
    /// A processor's energy counter, read through powercap.
    Rapl,
    /// The power model of an emulated GPU: nothing is read.
    Model,
}

impl SourceKind {
    /// As ledgers and reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NvmlEnergy => "nvml_energy",
            Self::NvmlPower => "nvml_power",
            Self::Rapl => "rapl",
            Self::Model => "model",
        }
    }

    /// Whether the time between two readings has its energy even if no energy was added: true of an integral, not of a
    /// counter, whose energy appears some time after it was drawn.
    pub(crate) fn is_integral(self) -> bool {
        self == Self::NvmlPower
    }
}

/// A source of energy figures, the same four facts for each, so that all stand in one table.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Its name, unique within a run.
    pub name: String,
    /// What kind it is.
    pub kind: SourceKind,
    /// What one step of `resolution` is counted in: `mJ`, `mW`, `uJ`, `J`.
    pub unit: &'static str,
    /// Smallest step that its figures can show, in `unit`.
    pub resolution: f64,
    /// How often its figures change, ns; absent for a model, which changes with what it is told.
    pub refresh_ns: Option<u64>,
    /// Where its figures come from and what is known of their error; a sentence without its end.
    pub provenance: String,
}

/// Something whose energy is counted. `read` is called about every [`INTERVAL`](crate::INTERVAL).
pub trait Meter {
    /// What it is.
    fn source(&self) -> &Source;

    /// Whose energy it counts.
    fn place(&self) -> &Place;

    /// Energy since its first reading, uJ: 0 at the first, and never less than before.
    ///
    /// # Errors
    /// When it cannot be read now; the next reading includes what a counter has counted meanwhile.
    fn read(&mut self, now_ns: u64) -> Result<u64, ReadError>;

    /// What happened to its counter since the first reading.
    fn health(&self) -> Health;
}

/// Why a meter could not be read; words that follow a colon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(pub String);
