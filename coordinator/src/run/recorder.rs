//! Records to the ledger and, as they come, to the summary.

use bace_api::{Header, Record};
use bace_ledger::{Fold, LedgerError, LedgerWriter, Summary};

/// Writes a run's ledger and folds it.
#[derive(Debug)]
pub struct Recorder {
    ledger: LedgerWriter,
    fold: Fold,
}

impl Recorder {
    /// Records behind `header`.
    pub fn new(ledger: LedgerWriter, header: &Header) -> Self {
        Self {
            ledger,
            fold: Fold::new(header),
        }
    }

    /// Writes one record.
    pub fn add(&mut self, record: Record) -> Result<(), LedgerError> {
        self.fold.add(&record);
        self.ledger.append(&record)
    }

    /// What the records amount to.
    pub fn finish(self) -> Summary {
        let mut summary = self.fold.finish();
        summary.ledger = Some(self.ledger.path().to_owned());
        summary
    }
}
