//! Something that this machine has or lacks.

use serde_json::{Value, json};

/// Whether it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Present,
    /// There, and less than it should be.
    Limited,
    /// Not there, or not usable.
    Absent,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked for.
    pub name: &'static str,
    /// Whether it is there.
    pub state: State,
    /// Whether a run on the CPU needs it.
    pub needed: bool,
    /// What was found, or why it is not there.
    pub found: String,
    /// What to do; absent where nothing has to be done.
    pub advice: Option<String>,
}

impl Finding {
    /// It is there.
    pub fn present(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Present,
            needed: false,
            found: found.into(),
            advice: None,
        }
    }

    /// It is there, and less than it should be.
    pub fn limited(
        name: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            state: State::Limited,
            advice: Some(advice.into()),
            ..Self::present(name, found)
        }
    }

    /// It is not there.
    pub fn absent(
        name: &'static str,
        reason: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            state: State::Absent,
            ..Self::limited(name, reason, advice)
        }
    }

    /// A run on the CPU cannot do without.
    pub fn needed(self) -> Self {
        Self {
            needed: true,
            ..self
        }
    }

    /// Its state in a word.
    pub fn word(&self) -> &'static str {
        match self.state {
            State::Present => "present",
            State::Limited => "limited",
            State::Absent => "absent",
        }
    }

    /// As `bace doctor --json` prints it.
    pub fn json(&self) -> Value {
        json!({
            "name": self.name,
            "state": self.word(),
            "needed": self.needed,
            "found": self.found,
            "advice": self.advice,
        })
    }

    /// Whether a run on the CPU fails for it.
    pub fn stops_a_run(&self) -> bool {
        self.needed && self.state == State::Absent
    }
}
