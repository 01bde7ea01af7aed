//! Records to the ledger and, as they come, to the summary.

use bace_api::{Header, Record, told};
use bace_ledger::{Fold, LedgerError, LedgerWriter, Summary};

/// Writes a run's ledger and folds it.
#[derive(Debug)]
pub struct Recorder {
    ledger: LedgerWriter,
    fold: Fold,
    has_ended: bool,
}

impl Recorder {
    /// Records behind `header`.
    pub fn new(ledger: LedgerWriter, header: &Header) -> Self {
        Self {
            ledger,
            fold: Fold::new(header),
            has_ended: false,
        }
    }

    /// Writes one record.
    pub fn add(&mut self, record: Record) -> Result<(), LedgerError> {
        self.has_ended |= matches!(record, Record::RunEnded { .. });
        self.fold.add(&record);
        self.ledger.append(&record)
    }

    /// Writes that the run stopped before it began, unless its end stands in the ledger already.
    pub fn stopped(&mut self, error: &anyhow::Error) -> Result<(), LedgerError> {
        if self.has_ended {
            return Ok(());
        }
        self.add(Record::RunEnded {
            at_s: 0.0,
            waiting: Vec::new(),
            stopped: Some(format!("failed to {}", told(error.as_ref()))),
        })
    }

    /// What the records amount to.
    pub fn finish(self) -> Summary {
        let mut summary = self.fold.finish();
        summary.ledger = Some(self.ledger.path().to_owned());
        summary
    }
}
