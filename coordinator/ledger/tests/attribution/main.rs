//! Attributions of made-up ledgers whose answers are known, and laws that hold for any.

mod causes;
mod damaged;
mod laws;
mod made_up;
mod tables;
