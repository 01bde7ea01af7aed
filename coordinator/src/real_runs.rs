//! Real runs of one scenario, one after another: what comparisons and validations set beside their simulations.

use std::time::{Duration, Instant};

use anyhow::Context;
use bace_api::told;
use bace_engine::Scenario;
use bace_ledger::{RunEnd, Summary};
use bace_netem::TimeScale;

use crate::cli::{ReceiptsChoice, RunArgs};
use crate::machine;
use crate::run::{self, Interrupts};
use crate::wrong_input::WrongInput;

/// What a worker takes to start and load libtorch where the cores are shared, s: a rough figure, for the estimate alone.
const WORKER_START_S: f64 = 0.5;
/// What one measurement of a directed link takes, s; likewise.
const RECEIPT_S: f64 = 1.0;

/// Runs to make.
#[derive(Debug)]
pub struct RealRuns {
    /// What they belong to, such as `comparison`.
    pub what: &'static str,
    /// The scenario's name.
    pub scenario: String,
    /// In the order in which they are made.
    pub runs: Vec<RealRun>,
}

/// One of them.
#[derive(Debug)]
pub struct RealRun {
    /// How it is told from the others, such as `lcf, seed 5`.
    pub label: String,
    /// What it is.
    pub args: RunArgs,
    /// What it may take, seconds of this machine, from [`expected_s`].
    pub expected_s: f64,
}

/// What came of the runs.
#[derive(Debug)]
pub struct Ran {
    /// Run by run.
    pub ended: Vec<Ended>,
    /// Why the later ones did not begin, such as `interrupted by Ctrl-C`; absent where all did.
    pub stopped: Option<&'static str>,
}

/// What came of one run.
#[derive(Debug)]
pub enum Ended {
    /// It came to an end of its own, whatever became of its jobs.
    Summary(Box<Summary>),
    /// It did not, and why: a phrase that fits after `the run`.
    Failed(String),
}

/// Why native compute is slower here than a profile can know: that there are fewer cores than workers; absent where there are enough.
pub fn crowding(scenario: &Scenario) -> Option<String> {
    let cores = machine::cores() as u64;
    let workers = run::workers(scenario);
    (workers > cores).then(|| {
        format!("{workers} workers would share {cores} cores, and no profile knows of that; native wants a core for each")
    })
}

/// What a run may take, seconds of this machine: the `makespan_s` of its simulation at `scale`, the start of its workers, and two
/// measurements of each link.
pub fn expected_s(
    scenario: &Scenario,
    scale: TimeScale,
    (makespan_s, receipts): (f64, ReceiptsChoice),
) -> f64 {
    let gpus = scenario.regions.iter().map(|region| region.gpus);
    let measurements = match receipts {
        ReceiptsChoice::Full => 2 * scenario.links.len(),
        ReceiptsChoice::Off => 0,
    };
    scale.wall_seconds(makespan_s)
        + WORKER_START_S * gpus.map(f64::from).sum::<f64>()
        + RECEIPT_S * measurements as f64
}

impl RealRuns {
    /// Makes them and tells on standard error how far it is. A run that fails keeps its place and its reason, and the others go on;
    /// after a signal no other begins. `ended` hears at once of each that came to its end or failed, and not of one that a signal cut short.
    ///
    /// # Errors
    /// When the first run is refused for what it was asked, which would be wrong for all, and those of `ended`.
    pub fn run(
        self,
        mut ended: impl FnMut(usize, &Ended) -> anyhow::Result<()>,
    ) -> anyhow::Result<Ran> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start a runtime to listen for signals")?;
        let mut interrupts = runtime.block_on(async { Interrupts::listen() })?;
        let count = self.runs.len();
        let mut left_s: f64 = self.runs.iter().map(|run| run.expected_s).sum();
        let (runs, scenario) = (counted(count, "real run"), &self.scenario);
        eprintln!(
            "{runs} of {scenario}, one after another: about {}",
            words(left_s)
        );
        let mut pace = Pace::default();
        let mut ran = Ran {
            ended: Vec::new(),
            stopped: None,
        };
        for (place, run) in self.runs.into_iter().enumerate() {
            if let Some(signal) = ran.stopped {
                let why = format!("did not begin: the {} was {signal}", self.what);
                ran.ended.push(Ended::Failed(why));
                continue;
            }
            let (expected_s, left) = (run.expected_s, words(left_s * pace.factor()));
            eprintln!(
                "run {} of {count}: {}; about {left} left",
                place + 1,
                run.label
            );
            let began = Instant::now();
            let of_run = run.run(place == 0)?;
            ran.stopped = runtime.block_on(interrupts.heard());
            if ran.stopped.is_none() || of_run.is_complete() {
                ended(place, &of_run)?;
            }
            if matches!(&of_run, Ended::Summary(summary) if summary.totals.makespan_s.known().is_some())
            {
                pace.add(expected_s, began.elapsed());
            }
            left_s -= expected_s;
            ran.ended.push(of_run);
        }
        Ok(ran)
    }
}

impl Ended {
    /// Whether it ran until nothing was left to do.
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Summary(summary) if matches!(summary.end, RunEnd::Complete))
    }
}

impl RealRun {
    fn run(self, is_first: bool) -> anyhow::Result<Ended> {
        match run::summary(self.args) {
            Ok(summary) => Ok(Ended::Summary(Box::new(summary))),
            Err(error) if is_first && error.is::<WrongInput>() => Err(error),
            Err(error) => {
                let why = format!("failed to {}", told(error.as_ref()));
                eprintln!("bace: {}: {why}", self.label);
                Ok(Ended::Failed(why))
            }
        }
    }
}

/// So many of something.
fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// How much longer runs take than was expected.
#[derive(Debug, Default)]
struct Pace {
    expected_s: f64,
    taken_s: f64,
}

impl Pace {
    fn add(&mut self, expected_s: f64, taken: Duration) {
        self.expected_s += expected_s;
        self.taken_s += taken.as_secs_f64();
    }

    fn factor(&self) -> f64 {
        if self.expected_s > 0.0 {
            self.taken_s / self.expected_s
        } else {
            1.0
        }
    }
}

/// A time as people say it.
pub fn words(seconds: f64) -> String {
    if seconds < 90.0 {
        format!("{seconds:.0} s")
    } else if seconds < 5_400.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.1} h", seconds / 3_600.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_follow_what_runs_have_taken() {
        let mut pace = Pace::default();
        assert_eq!(pace.factor(), 1.0);
        pace.add(10.0, Duration::from_secs(12));
        pace.add(30.0, Duration::from_secs(38));
        assert_eq!(pace.factor(), 1.25);
        assert_eq!(
            [0.4, 89.0, 90.0, 5_400.0].map(words),
            ["0 s", "89 s", "2 min", "1.5 h"]
        );
    }
}
