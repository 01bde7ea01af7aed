//! The figures for people and for programs.

use bace_api::ResidentMemory;
use bace_socket::bench::{Bound, Figure, median};
use serde_json::{Value, json};

use super::command::{ModelRounds, Round};
use super::measured::{Held, Iteration, PipelineRun, Worker};
use crate::bench::figures::{goals_table, table};
use crate::output::say;

/// Overhead over the ideal: what it has to be, and what is aimed at.
const OVERHEAD: [Bound; 2] = [Bound::AtMost(0.03), Bound::AtMost(0.01)];
/// Tokens a second, ours over the peer's.
const RATIO: [Bound; 2] = [Bound::AtLeast(1.0), Bound::AtLeast(1.05)];
const UNKNOWN: &str = "-";

/// The figures that have goals, a sample for each round.
pub fn figures(measured: &ModelRounds) -> Vec<Figure> {
    let ModelRounds { size, rounds } = measured;
    let overheads = rounds.iter().filter_map(|round| round.ours.overhead());
    let ratios = rounds.iter().filter_map(Round::ratio);
    let named = |what: &str| format!("{}: {what}", size.name);
    let overhead = Figure::new(
        named("period without step over (M + K - 1) t, less 1"),
        "",
        overheads.collect(),
        OVERHEAD,
    );
    let ratio = Figure::new(
        named("tokens/s, ours over the peer's"),
        "",
        ratios.collect(),
        RATIO,
    );
    overhead.into_iter().chain(ratio).collect()
}

impl Round {
    /// Tokens a second, ours over the peer's.
    fn ratio(&self) -> Option<f64> {
        let (_, theirs) = self.beside.as_ref()?;
        Some(self.ours.tokens_per_s / theirs)
    }
}

/// How a worker alone starts.
pub fn start_words(alone: &PipelineRun) -> String {
    let took = alone
        .workers
        .first()
        .and_then(|worker| worker.ready_after_s);
    match took {
        Some(seconds) => {
            format!("one worker alone: ready {seconds:.2} s after its process was started")
        }
        None => "one worker alone: when it was ready is not known".to_owned(),
    }
}

/// All tables of a model.
pub fn print(measured: &ModelRounds, figures: &[Figure]) {
    let ModelRounds { size, rounds } = measured;
    let Some(first) = rounds.first() else { return };
    say!(
        "{}: {:.1} M parameters, {} layers of width {}, stages of {:?} layers; {} micro-batches of {} x {} tokens",
        size.name,
        first.ours.parameters as f64 / 1e6,
        size.model.layers,
        size.model.hidden,
        first.ours.layers,
        size.micro_batches,
        size.shape.sequences,
        size.shape.sequence
    );
    say!("{}", rounds_table(rounds));
    say!("{}", workers_table(&first.ours.workers));
    say!("{}\n", goals_table(figures));
}

/// As programs read it.
pub fn json(measured: &ModelRounds) -> Value {
    let ModelRounds { size, rounds } = measured;
    let rounds = rounds.iter().map(|round| {
        let beside = round.beside.as_ref();
        json!({
            "ours": round.ours,
            "beside": beside.map(|(run, _)| run),
            "beside_tokens_per_s": beside.map(|(_, tokens_per_s)| tokens_per_s),
            "ratio": round.ratio(),
        })
    });
    json!({
        "name": size.name,
        "model": size.model,
        "sequences": size.shape.sequences,
        "tokens": size.shape.sequence,
        "micro_batches": size.micro_batches,
        "rounds": rounds.collect::<Vec<_>>(),
    })
}

fn rounds_table(rounds: &[Round]) -> comfy_table::Table {
    let header = [
        "round",
        "tokens/s",
        "peer's",
        "ratio",
        "iteration ms",
        "slowest stage's t ms",
        "step ms",
        "overhead %",
        "loss",
        "peer's",
    ];
    let mut table = table(&header, 0);
    let number = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| UNKNOWN.to_owned(), |value| format!("{value:.digits$}"))
    };
    let last = |losses: &[f64]| losses.last().copied();
    for (count, round) in (1..).zip(rounds) {
        let (ours, beside) = (&round.ours, round.beside.as_ref());
        let ms = |of: fn(&Iteration) -> f64| number(ours.median(of).map(|s| s * 1e3), 1);
        table.add_row([
            format!("{count}"),
            number(Some(ours.tokens_per_s), 1),
            number(beside.map(|(_, tokens_per_s)| *tokens_per_s), 1),
            number(round.ratio(), 3),
            ms(|one| one.period_s),
            ms(|one| one.stage_s.iter().copied().fold(0.0, f64::max)),
            ms(|one| one.step_s),
            number(ours.overhead().map(|share| share * 1e2), 2),
            number(last(&ours.losses), 3),
            number(beside.and_then(|(run, _)| last(&run.losses)), 3),
        ]);
    }
    let of = |of: &dyn Fn(&Round) -> Option<f64>| {
        let samples: Vec<f64> = rounds.iter().filter_map(of).collect();
        median(&samples)
    };
    table.add_row([
        "median".to_owned(),
        number(of(&|round| Some(round.ours.tokens_per_s)), 1),
        number(of(&|round| Some(round.beside.as_ref()?.1)), 1),
        number(of(&Round::ratio), 3),
    ]);
    table
}

fn workers_table(workers: &[Worker]) -> comfy_table::Table {
    let header = [
        "worker",
        "ready after s",
        "MB when ready",
        "private",
        "by share",
        "MB after training",
        "private",
        "by share",
        "peak",
    ];
    let mut table = table(&header, 1);
    for worker in workers {
        let mut row = vec![worker.name.clone()];
        let ready = worker.ready_after_s;
        row.push(ready.map_or_else(|| UNKNOWN.to_owned(), |seconds| format!("{seconds:.2}")));
        let own: [fn(&ResidentMemory) -> u64; 3] = [
            |held| held.resident_bytes,
            |held| held.private_bytes,
            |held| held.proportional_bytes,
        ];
        row.extend(own.map(|of| megabytes(&worker.when_ready, of)));
        row.extend(own.map(|of| megabytes(&worker.when_ended, of)));
        row.push(megabytes(&worker.when_ended, |held| held.peak_bytes));
        table.add_row(row);
    }
    table
}

fn megabytes(held: &Held, of: fn(&ResidentMemory) -> u64) -> String {
    match held {
        Held::Bytes(held) => format!("{:.0}", of(held) as f64 / 1e6),
        Held::Unknown(_) => UNKNOWN.to_owned(),
    }
}
