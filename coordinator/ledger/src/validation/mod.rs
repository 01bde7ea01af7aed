//! How far a prediction is from what was measured: structure, errors, noise floor, ranking, verdict.
//!
//! `subject` says whether runs can be compared at all. `decisions` and `actions` compare what was done, `state` tells what led to a
//! `difference`; `join` pairs what is alike, `errors` are the statistics of the pairs with their noise floor, `compared` a figure on
//! both sides, `parts` looks into iterations, `overheads` tells what the prediction has no term for, `worst` keeps what is farthest off; `ranking` compares policies; `verdict` judges;
//! `validator` brings all of it together, `table`, with `part_tables` and `cells`, and `json` show it. docs/validation.md defines every figure.

mod actions;
mod cells;
mod compared;
mod decisions;
mod difference;
mod errors;
mod join;
mod json;
mod overheads;
mod part_tables;
mod parts;
mod ranking;
mod runs;
mod state;
mod subject;
mod table;
mod tolerances;
mod validator;
mod verdict;
mod whereabouts;
mod worst;

pub use compared::Compared;
pub use difference::{Difference, Moment};
pub use errors::{Accuracy, ErrorStatistics, WithinNoise};
pub use overheads::Overheads;
pub use parts::{ActionKind, KindAccuracy, Late, LinkAccuracy, StageAccuracy};
pub use ranking::Ranking;
pub use runs::PolicyRuns;
pub use state::{RunningJob, State, WaitingJob};
pub use subject::Subject;
pub use tolerances::Tolerances;
pub use validator::{
    JobCompared, LeftOut, PolicyValidation, TotalsCompared, Validation, Validator,
};
pub use verdict::Check;
pub use whereabouts::Whereabouts;
pub use worst::{Part, PartDifference, Worst};
