//! Words and looks that several sections share.

use bace_api::{ClockKind, Header};

use crate::table::rung;

/// Looks that jobs take in turn.
pub(super) const JOB_CLASSES: usize = 8;

/// Where figures come from: measured or predicted, and on which rung.
#[derive(Debug, Clone)]
pub(super) struct Side {
    is_measured: bool,
    rung: String,
}

impl Side {
    /// That of a ledger.
    pub fn of(header: &Header) -> Self {
        Self {
            is_measured: header.clock == ClockKind::Wall,
            rung: rung(header),
        }
    }

    pub fn is_measured(&self) -> bool {
        self.is_measured
    }

    pub fn word(&self) -> &'static str {
        if self.is_measured {
            "measured"
        } else {
            "predicted"
        }
    }

    /// Both, such as `measured: clock wall × compute paced × network shaped`.
    pub fn label(&self) -> String {
        format!("{}: {}", self.word(), self.rung)
    }

    /// Those of both sides of a comparison.
    pub fn beside(&self, other: Option<&Self>) -> String {
        match other {
            Some(other) => format!("{}; {}", self.label(), other.label()),
            None => self.label(),
        }
    }
}

/// The look of a job, by its place in the run.
pub(super) fn job_class(job: usize) -> String {
    format!("c{}", job % JOB_CLASSES)
}

/// A name of at most so many letters; what is cut is told by an ellipsis.
pub(super) fn shortened(name: &str, most: usize) -> String {
    match name.char_indices().nth(most) {
        None => name.to_owned(),
        Some(_) => {
            let kept: String = name.chars().take(most.saturating_sub(1)).collect();
            format!("{kept}…")
        }
    }
}

/// A time in words.
pub(super) fn length(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 600.0 => format!("{s:.1} s"),
        s if s < 4.0 * 3600.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// A share in percent, with its sign.
pub(super) fn signed_percent(share: f64) -> String {
    format!("{:+.2}", share * 100.0)
}
