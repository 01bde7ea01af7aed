//! How far a prediction is from what was measured: structure, errors, noise floor, ranking, verdict.
//!
//! `decisions` and `actions` compare what was done, `state` tells what led to a decision; `join` pairs what is alike, `errors` are
//! the statistics of the pairs with their noise floor, `parts` looks into iterations, `worst` keeps the farthest off; `ranking`
//! compares policies; `verdict` judges. docs/validation.md defines every figure.

mod runs;
mod tolerances;
mod validator;
mod verdict;

pub use runs::PolicyRuns;
pub use tolerances::Tolerances;
pub use validator::{PolicyValidation, Validation, Validator};
pub use verdict::Check;
