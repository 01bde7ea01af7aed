//! What came of a check.

use serde_json::{Value, json};

/// Whether something is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Passed,
    /// It is not.
    Failed,
    /// It could not be looked at here.
    LeftOut,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// What came of it.
    pub verdict: Verdict,
    /// What was found, or why it was not looked at.
    pub found: String,
}

impl Check {
    /// It is so, or not.
    pub fn is(name: impl Into<String>, so: bool, found: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            verdict: if so { Verdict::Passed } else { Verdict::Failed },
            found: found.into(),
        }
    }

    /// It could not be looked at.
    pub fn left_out(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::LeftOut,
            ..Self::is(name, false, reason)
        }
    }

    /// As the report's JSON has it.
    pub fn json(&self) -> Value {
        json!({"name": self.name, "verdict": self.verdict.word(), "found": self.found})
    }
}

impl Verdict {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::LeftOut => "left out",
        }
    }
}
