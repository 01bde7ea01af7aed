//! Sources that are not there.

use crate::{BoardId, Meter, Place, ReadError};

/// What a source that is not there would have counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// A board.
    Board(BoardId),
    /// All boards.
    Boards,
    /// Processors, or a part of them that no other meter counts.
    Processor,
    /// Processors, or a part of them, all of which other meters count.
    Nothing,
    /// Everything.
    All,
}

/// A source of energy readings that is not there, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// What was looked for: `NVML`, `NVML board GPU-…`, `RAPL`, `RAPL psys`.
    pub source: String,
    /// What it would have counted.
    pub missing: Missing,
    /// Why it is not there; words that follow a colon.
    pub reason: String,
    /// What would make it so; absent where nothing has to be done.
    pub advice: Option<String>,
}

impl Missing {
    /// Whether work at `place` draws energy that is not counted.
    pub fn concerns(&self, place: &Place) -> bool {
        match (self, place) {
            (Self::All, _) | (Self::Boards, Place::Board(_)) => true,
            (Self::Board(missing), Place::Board(board)) => missing == board,
            (Self::Processor, Place::Processor) => true,
            _ => false,
        }
    }
}

impl Absent {
    /// One that something can be done about.
    pub fn new(
        source: impl Into<String>,
        missing: Missing,
        reason: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            advice: Some(advice.into()),
            ..Self::by_design(source, missing, reason)
        }
    }

    /// A meter that was there and could not be read when it was opened.
    pub(crate) fn unreadable(meter: &dyn Meter, error: &ReadError) -> Self {
        let missing = match meter.place() {
            Place::Board(board) => Missing::Board(board.clone()),
            Place::Processor => Missing::Processor,
            Place::Elsewhere => Missing::Nothing,
        };
        let reason = format!("it cannot be read: {error}");
        Self::new(
            &meter.source().name,
            missing,
            reason,
            "see whether nvidia-smi, or cat on its file, can read it",
        )
    }

    /// One that is left out on purpose: nothing has to be done.
    pub fn by_design(
        source: impl Into<String>,
        missing: Missing,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            source: source.into(),
            missing,
            reason: reason.into(),
            advice: None,
        }
    }
}
