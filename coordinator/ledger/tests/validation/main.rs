//! Validations of made-up runs with known answers.

mod comparable;
mod errors;
mod made_up;
mod noise;
mod ranking;
mod shown;
mod structure;
mod verdict;
