//! Records to files and back; folds over records, and the tables and JSON made of them.
//!
//! What belongs here: everything that needs nothing but a ledger, since every number of a report is a fold
//! over records, simulated and real runs alike. What does not: how records come about, and any decision.
//!
//! A run's driver makes a [`RunFolder`], hands each record to [`LedgerWriter::append`] and [`Fold::add`], and
//! at the end has the same [`Summary`] that [`summarise`] makes of the file. docs/ledger.md describes the format.

mod attribution;
mod chart;
mod compare;
mod compare_table;
mod emulation;
mod error;
mod figure;
mod fold;
mod json;
mod ladder;
mod limits;
mod meter_table;
mod notes;
mod overruns;
mod page;
mod path;
mod percent;
mod physical;
mod promptness;
mod reader;
mod receipt_table;
mod run_log;
mod seats;
mod side;
mod starts;
mod summary;
mod svg;
mod table;
mod totals;
mod trace;
pub mod validation;
mod writer;

pub use attribution::{
    AttemptAttribution, AttemptTimes, Attributed, Attribution, Cause, JobAttribution, LinkName,
    StageAttribution, Sums, attribute, render_attribution,
};
pub use compare::{Case, Comparison, Outcome, Sample};
pub use emulation::{EmulationSummary, Loopback};
pub use error::LedgerError;
pub use figure::Figure;
pub use fold::{Fold, summarise};
pub use ladder::{Climbed, Ladder, LadderRun, LadderRung};
pub use limits::{LEDGER_FILE, MAX_LINE_BYTES, PROFILE_FILE, SCENARIO_FILE, SUMMARY_FILE};
pub use overruns::{JobOverruns, OverrunSummary};
pub use page::{IterationChoice, Page, RepeatedRuns, Spending};
pub use path::path_text;
pub use percent::percent;
pub use physical::{MeterSummary, PhysicalSummary};
pub use reader::{Ledger, Omissions, Reader, read};
pub use run_log::{AttemptLog, JobLog, RunLog, StageIteration, StageLog};
pub use side::{Measured, Predicted};
pub use summary::{
    JobStatus, JobSummary, LinkSummary, PlacementSummary, RegionSummary, RunEnd, Summary, Totals,
};
pub use table::render;
pub use trace::{Moved, RegionFacts, Trace, TraceCut};
pub use validation::{Check, PolicyRuns, PolicyValidation, Tolerances, Validation, Validator};
pub use writer::{LedgerWriter, RunFolder};
