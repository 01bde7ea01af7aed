//! Real runs of one scenario, one after another: what `bace compare --real` sets beside its simulations.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use anyhow::Context;
use bace_api::told;
use bace_engine::Scenario;
use bace_ledger::{Case, Outcome};

use crate::cli::{CompareArgs, ReceiptsChoice, RunArgs, ScenarioArgs};
use crate::run::{self, Interrupts};
use crate::wrong_input::WrongInput;

/// What a worker takes to start and load libtorch where the cores are shared, s: a rough figure, for the estimate alone.
const WORKER_START_S: f64 = 0.5;
/// What one measurement of a directed link takes, s; likewise.
const RECEIPT_S: f64 = 1.0;

/// What to run.
pub struct RealRuns<'a> {
    /// As the user called.
    pub args: &'a CompareArgs,
    /// The scenario.
    pub scenario: &'a Scenario,
    /// The policies, in order.
    pub policies: &'a [&'static str],
    /// The seeds of each.
    pub seeds: RangeInclusive<u64>,
    /// The simulated runs, which say how long the real ones will take.
    pub simulated: &'a [Case],
}

/// Trains the scenario under each policy and seed. A run that fails keeps its place and its reason, and the others go on; after a
/// signal no other begins.
///
/// # Errors
/// When the first run is refused for what it was asked, which would be wrong for all.
pub fn run_all(runs: &RealRuns<'_>) -> anyhow::Result<Vec<Case>> {
    let seeds = || runs.seeds.clone();
    let all: Vec<(&'static str, u64)> = runs
        .policies
        .iter()
        .flat_map(|&policy| seeds().map(move |seed| (policy, seed)))
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime to listen for signals")?;
    let mut interrupts = runtime.block_on(async { Interrupts::listen() })?;
    let expected_s: Vec<f64> = all.iter().map(|&run| runs.expected_s(run)).collect();
    eprintln!(
        "{} real runs of {}, one after another: about {}",
        all.len(),
        runs.scenario.name,
        words(expected_s.iter().sum())
    );
    let mut stopped: Option<&'static str> = None;
    let mut pace = Pace::default();
    let mut cases = Vec::new();
    for (place, &(policy, seed)) in all.iter().enumerate() {
        let outcome = match stopped {
            Some(signal) => runs.failed(&format!("did not begin: the comparison was {signal}")),
            None => {
                let left_s: f64 = expected_s[place..].iter().sum();
                let left = words(left_s * pace.factor());
                let number = place + 1;
                eprintln!(
                    "run {number} of {}: {policy}, seed {seed}; about {left} left",
                    all.len()
                );
                let began = Instant::now();
                let outcome = runs.run(policy, seed, place == 0)?;
                if outcome.makespan_s().is_some() {
                    pace.add(expected_s[place], began.elapsed());
                }
                stopped = runtime.block_on(interrupts.heard());
                outcome
            }
        };
        cases.push(Case {
            point: String::new(),
            policy: policy.to_owned(),
            seed,
            measured: true,
            outcome,
        });
    }
    Ok(cases)
}

impl RealRuns<'_> {
    fn run(&self, policy: &str, seed: u64, is_first: bool) -> anyhow::Result<Outcome> {
        let args = self.args;
        let scenario = ScenarioArgs {
            scenario: args.scenario.clone(),
            policy: policy.to_owned(),
            seed: Some(seed),
        };
        let dir = args.out.as_ref();
        let ended = run::summary(RunArgs {
            receipts: args.receipts,
            out: dir.map(|dir| dir.join(format!("{policy}-{seed}"))),
            ..RunArgs::here(scenario, args.emulation.clone())
        });
        match ended {
            Ok(summary) => Ok(Outcome::of(&summary)),
            Err(error) if is_first && error.is::<WrongInput>() => Err(error),
            Err(error) => {
                let why = format!("failed to {}", told(error.as_ref()));
                eprintln!("bace: {policy}, seed {seed}: {why}");
                Ok(self.failed(&why))
            }
        }
    }

    fn failed(&self, why: &str) -> Outcome {
        Outcome::failed(self.scenario.jobs.len(), why)
    }

    /// What a run may take, s: its simulation's makespan, the start of its workers, and two measurements of each link.
    fn expected_s(&self, (policy, seed): (&str, u64)) -> f64 {
        let of_policy = || self.simulated.iter().filter(|case| case.policy == policy);
        // What no seed changes is simulated once.
        let case = of_policy().find(|case| case.seed == seed);
        let case = case.or_else(|| of_policy().next());
        let makespan_s = case.and_then(|case| case.outcome.makespan_s());
        let gpus = self.scenario.regions.iter().map(|region| region.gpus);
        let measurements = match self.args.receipts {
            ReceiptsChoice::Full => 2 * self.scenario.links.len(),
            ReceiptsChoice::Off => 0,
        };
        let scale = self
            .args
            .emulation
            .time_scale
            .unwrap_or(self.scenario.compute.time_scale);
        scale.wall_seconds(makespan_s.unwrap_or_default())
            + WORKER_START_S * gpus.map(f64::from).sum::<f64>()
            + RECEIPT_S * measurements as f64
    }
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
fn words(seconds: f64) -> String {
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
