//! `bace explain`: the story of one job of a run in sentences.
//!
//! `story` orders the paragraphs; each of the others tells one part of it from what the ledger says and from nothing else.

mod advice;
mod attempt;
mod command;
mod outcome;
mod story;
mod time;
mod waiting;
mod words;

pub use command::explain;
