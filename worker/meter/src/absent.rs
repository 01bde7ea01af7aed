//! Sources that are not there.

use crate::ReadError;

/// A source of energy readings that is not there, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// What was looked for: `NVML`, `NVML board GPU-…`, `RAPL`, `RAPL psys`.
    pub source: String,
    /// Why it is not there; words that follow a colon.
    pub reason: String,
    /// What would make it so; absent where nothing has to be done.
    pub advice: Option<String>,
}

impl Absent {
    /// One that something can be done about.
    pub fn new(
        source: impl Into<String>,
        reason: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            advice: Some(advice.into()),
            ..Self::by_design(source, reason)
        }
    }

    /// A meter that was there and could not be read when it was opened.
    pub(crate) fn unreadable(meter: &str, error: &ReadError) -> Self {
        let reason = format!("it cannot be read: {error}");
        Self::new(
            meter,
            reason,
            "see whether nvidia-smi, or cat on its file, can read it",
        )
    }

    /// One that is left out on purpose: nothing has to be done.
    pub fn by_design(source: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            reason: reason.into(),
            advice: None,
        }
    }
}
