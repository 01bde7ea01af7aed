//! A line per job while a run goes on; nothing where nobody looks.

use std::collections::BTreeMap;
use std::time::Duration;

use bace_api::{InputRecord, Record};
use bace_engine::Scenario;
use bace_ledger::path_text;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often the clock of a line is drawn.
const TICK: Duration = Duration::from_millis(200);

/// Lines on a terminal's standard error; hidden anywhere else.
#[derive(Debug)]
pub struct Progress {
    lines: BTreeMap<String, ProgressBar>,
    _all: MultiProgress,
}

impl Progress {
    /// A line for each job of `scenario`.
    pub fn new(scenario: &Scenario) -> Self {
        let all = MultiProgress::new();
        let width = scenario
            .jobs
            .iter()
            .map(|job| job.name.chars().count())
            .max()
            .unwrap_or_default();
        let template =
            format!("{{prefix:{width}}} {{bar:24}} {{pos:>5}}/{{len}} {{elapsed:>4}} {{msg}}");
        let style = ProgressStyle::with_template(&template)
            .expect("the template is fixed but for a number");
        let lines = scenario.jobs.iter().map(|job| {
            let line = all.add(ProgressBar::new(u64::from(job.iterations)));
            line.set_style(style.clone().progress_chars("=> "));
            line.set_prefix(job.name.clone());
            line.set_message(format!("arrives at {} s", job.arrival_s));
            (job.name.clone(), line)
        });
        Self {
            lines: lines.collect(),
            _all: all,
        }
    }

    /// Shows what a record says of its job.
    pub fn show(&self, record: &Record) {
        match record {
            Record::Input {
                input: InputRecord::Submitted { job },
                ..
            } => self.say(job, "waiting".to_owned()),
            Record::Refused { job, reason, .. } => self.stop(job, format!("refused: {reason}")),
            Record::Placed { job, path, .. } => {
                let path = path_text(path.iter().map(|part| (part.region.as_str(), part.gpus)));
                if let Some(line) = self.lines.get(job) {
                    line.reset_elapsed();
                    line.enable_steady_tick(TICK);
                }
                self.say(job, format!("loading on {}", path));
            }
            Record::Training { job, .. } => self.say(job, "training".to_owned()),
            Record::Iteration(iteration) => {
                let Some(line) = self.lines.get(&iteration.job) else {
                    return;
                };
                // The last stage alone knows the tokens and the loss.
                if let Some(tokens) = iteration.tokens {
                    line.set_position(u64::from(iteration.iteration.0) + 1);
                    let speed = tokens as f64 / (iteration.to_s - iteration.from_s);
                    let loss = iteration
                        .loss
                        .map_or_else(String::new, |loss| format!("loss {loss:.3}  "));
                    line.set_message(format!("{loss}{speed:.0} tokens/s"));
                }
            }
            Record::JobFinished { job, .. } => self.stop(job, "finished".to_owned()),
            Record::JobFailed { job, reason, .. } => self.stop(job, format!("failed: {reason}")),
            _ => {}
        }
    }

    /// Leaves the lines as they are; those of ended jobs have stopped their clocks already.
    pub fn end(&self) {
        for line in self.lines.values().filter(|line| !line.is_finished()) {
            line.abandon();
        }
    }

    fn say(&self, job: &str, message: String) {
        if let Some(line) = self.lines.get(job) {
            line.set_message(message);
        }
    }

    fn stop(&self, job: &str, message: String) {
        if let Some(line) = self.lines.get(job) {
            line.abandon_with_message(message);
        }
    }
}

/// A line for the measuring of links on a terminal's standard error; hidden anywhere else.
#[derive(Debug)]
pub struct ReceiptProgress(ProgressBar);

impl ReceiptProgress {
    /// A line for so many measurements.
    pub fn new(measurements: usize) -> Self {
        let style =
            ProgressStyle::with_template("measuring links {bar:24} {pos:>5}/{len} {elapsed:>4}")
                .expect("the template is fixed");
        let line = ProgressBar::new(measurements as u64).with_style(style.progress_chars("=> "));
        line.enable_steady_tick(TICK);
        Self(line)
    }

    /// So many more are made.
    pub fn add(&self, measurements: usize) {
        self.0.inc(measurements as u64);
    }
}

impl Drop for ReceiptProgress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
