//! Sources that are not there.

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

    /// One that is left out for a reason.
    pub fn by_design(source: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            reason: reason.into(),
            advice: None,
        }
    }
}
