//! The order of the story.

use bace_ledger::{Attributed, JobLog, JobSummary, RunLog};

use super::words::{paragraph, rung};
use super::{advice, attempt, outcome, time, waiting};

/// What a story is told from.
pub struct Told<'a> {
    /// The run.
    pub log: &'a RunLog,
    /// The job in numbers.
    pub summary: &'a JobSummary,
    /// The job record by record; absent where no record names it.
    pub of: Option<&'a JobLog>,
    /// Where the time of the run's stages went.
    pub attributed: &'a Attributed,
    /// The run's simulation; absent for a simulation, and where it could not be simulated.
    pub predicted: Option<&'a RunLog>,
}

/// The job's story, paragraphs of at most 100 columns that end with a line break.
pub fn story(told: &Told<'_>) -> String {
    let header = &told.log.header;
    let mut paragraphs = vec![vec![format!(
        "Job {} of {} under policy {}: {}. Times are emulated seconds from the start of the run.",
        told.summary.name,
        header.scenario,
        header.policy,
        rung(header)
    )]];
    paragraphs.push(waiting::arrival(told));
    let starts = told.of.map_or(&[][..], |of| of.attempts.as_slice());
    for (place, start) in starts.iter().enumerate() {
        paragraphs.push(attempt::placement(start, place));
        paragraphs.push(attempt::pipeline(told, start));
        paragraphs.push(attempt::training(told, start));
        paragraphs.push(waiting::after(told, start, starts.get(place + 1)));
    }
    paragraphs.push(time::sentences(told));
    paragraphs.push(outcome::cost(told));
    paragraphs.push(outcome::wrong(told));
    paragraphs.push(advice::sentences(told));
    let told = paragraphs.iter().filter(|sentences| !sentences.is_empty());
    let texts = told.map(|sentences| paragraph(sentences) + "\n");
    texts.collect::<Vec<_>>().join("\n")
}
