//! What a pipeline's ledger says of its speed, its start and its memory.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use bace_api::{IterationRecord, MemoryPhase, Record, ResidentMemory, StageIndex, WorkerMemory};
use serde::Serialize;

use super::size::WARM_UP;

/// One run of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PipelineRun {
    /// Layers of each stage.
    pub layers: Vec<u32>,
    /// Parameters over all stages.
    pub parameters: u64,
    /// Mean loss of each iteration, those of the warm-up too, nats a token.
    pub losses: Vec<f64>,
    /// The measured iterations.
    pub iterations: Vec<Iteration>,
    /// Tokens of these over the time from the begin of the first to the end of the last, at the first stage.
    pub tokens_per_s: f64,
    /// The workers, in the order of their names.
    pub workers: Vec<Worker>,
}

/// One iteration of all stages.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Iteration {
    /// From its begin to its end at the first stage, where the last backward ends; the optimizer step included.
    pub period_s: f64,
    /// The first stage's optimizer step. Those of other stages end while the first stage still goes backward.
    pub step_s: f64,
    /// Forward and backward of one micro-batch at each stage, on average, boundary copies included and waits for the lease of
    /// the device left out; the few of the step's too, so that it is never too large.
    pub stage_s: Vec<f64>,
    /// What the first stage's period exceeds the ideal by, as a share of it; see [`overhead`].
    pub overhead: f64,
}

/// One worker process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Worker {
    /// Its name in the run.
    pub name: String,
    /// From the start of its process until it was ready, seconds.
    pub ready_after_s: Option<f64>,
    /// What it held when it was ready.
    pub when_ready: Held,
    /// What it held after training, its job dropped.
    pub when_ended: Held,
}

/// Memory, or why it is not known.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// So much.
    Bytes(ResidentMemory),
    /// It is not known, for this reason.
    Unknown(String),
}

impl PipelineRun {
    /// What `records` say of the one job in them, which has `micro_batches` an iteration.
    pub fn of(records: &[Record], micro_batches: u32) -> anyhow::Result<Self> {
        let (layers, parameters) = placement(records)?;
        let stages = layers.len();
        let all = by_iteration(records, stages)?;
        let losses = all
            .iter()
            .filter_map(|stages| stages[stages.len() - 1].loss);
        let losses = losses.collect();
        let measured = all.get(WARM_UP as usize..).unwrap_or_default();
        let (Some(first), Some(last)) = (measured.first(), measured.last()) else {
            bail!(
                "measure a pipeline: it ended {} iterations, of which {WARM_UP} warm it up",
                all.len()
            );
        };
        let tokens: u64 = measured
            .iter()
            .filter_map(|stages| stages[stages.len() - 1].tokens)
            .sum();
        Ok(Self {
            tokens_per_s: tokens as f64 / (last[0].to_s - first[0].from_s),
            iterations: measured
                .iter()
                .map(|stages| iteration(stages, micro_batches))
                .collect::<anyhow::Result<_>>()?,
            layers,
            parameters,
            losses,
            workers: workers(records),
        })
    }

    /// The middle one of the measured iterations' overheads.
    pub fn overhead(&self) -> Option<f64> {
        self.median(|iteration| iteration.overhead)
    }

    /// The median of `of` over the measured iterations.
    pub fn median(&self, of: impl Fn(&Iteration) -> f64) -> Option<f64> {
        let samples: Vec<f64> = self.iterations.iter().map(of).collect();
        bace_socket::bench::median(&samples)
    }
}

/// By what share `period_s` without `step_s` exceeds the ideal of a pipeline, (M + K − 1)·t, t being the largest of
/// `stage_s`. It holds all that is not computing: transfers, waiting for a neighbour that is late or for the lease of a shared
/// device, hand-over between threads, reports. Below 0 where the stages are so unequal that the ideal, which takes all for the slowest, is none.
pub fn overhead(period_s: f64, step_s: f64, stage_s: &[f64], micro_batches: u32) -> f64 {
    let slowest_s = stage_s.iter().copied().fold(0.0, f64::max);
    let slots = f64::from(micro_batches) + stage_s.len() as f64 - 1.0;
    (period_s - step_s) / (slots * slowest_s) - 1.0
}

fn iteration(stages: &[&IterationRecord], micro_batches: u32) -> anyhow::Result<Iteration> {
    let first = stages[0];
    let (period_s, step_s) = (first.to_s - first.from_s, first.times.step_s);
    let stage_s = stages
        .iter()
        .map(|stage| Ok(computed_s(stage)? / f64::from(micro_batches)))
        .collect::<anyhow::Result<Vec<f64>>>()?;
    Ok(Iteration {
        period_s,
        step_s,
        overhead: overhead(period_s, step_s, &stage_s, micro_batches),
        stage_s,
    })
}

/// Seconds in which a stage went forward and backward: its actions' times, which hold the wait for the device's lease, less
/// that wait.
fn computed_s(stage: &IterationRecord) -> anyhow::Result<f64> {
    let waited_s = stage.lease_wait_s.with_context(|| {
        format!(
            "measure a pipeline: stage {} does not tell how long it waited for its device",
            stage.stage.0
        )
    })?;
    Ok(stage.times.forward_s + stage.times.backward_s - waited_s)
}

/// Layers of each stage, and parameters over all.
fn placement(records: &[Record]) -> anyhow::Result<(Vec<u32>, u64)> {
    let layers = records.iter().find_map(|record| match record {
        Record::Placed { layers, .. } => Some(layers.clone()),
        _ => None,
    });
    let parameters = records.iter().find_map(|record| match record {
        Record::Training { parameters, .. } => Some(*parameters),
        _ => None,
    });
    layers
        .zip(parameters)
        .context("measure a pipeline: its ledger tells of no training")
}

/// The records of all stages of each iteration that all have ended.
fn by_iteration(records: &[Record], stages: usize) -> anyhow::Result<Vec<Vec<&IterationRecord>>> {
    let mut all: BTreeMap<_, BTreeMap<StageIndex, &IterationRecord>> = BTreeMap::new();
    for record in records {
        if let Record::Iteration(one) = record {
            all.entry(one.iteration).or_default().insert(one.stage, one);
        }
    }
    let whole = all.into_iter().map(|(iteration, of)| {
        if of.len() != stages {
            bail!(
                "measure a pipeline: {} of {stages} stages ended iteration {}",
                of.len(),
                iteration.0
            );
        }
        Ok(of.into_values().collect())
    });
    whole.collect()
}

fn workers(records: &[Record]) -> Vec<Worker> {
    let held = |name: &str, phase: MemoryPhase| {
        let found = records.iter().find_map(|record| match record {
            Record::WorkerMemory(held) if held.worker == name && held.phase == phase => Some(held),
            _ => None,
        });
        match found {
            Some(WorkerMemory {
                memory: Some(memory),
                ..
            }) => Held::Bytes(*memory),
            Some(WorkerMemory { reason, .. }) => Held::Unknown(
                reason
                    .clone()
                    .unwrap_or_else(|| "no reason told".to_owned()),
            ),
            None => Held::Unknown("its ledger does not tell".to_owned()),
        }
    };
    let joined = records.iter().filter_map(|record| match record {
        Record::WorkerJoined {
            worker,
            ready_after_s,
            ..
        } => Some(Worker {
            name: worker.clone(),
            ready_after_s: *ready_after_s,
            when_ready: held(worker, MemoryPhase::Ready),
            when_ended: held(worker, MemoryPhase::Ended),
        }),
        _ => None,
    });
    joined.collect()
}

#[cfg(test)]
mod tests {
    use bace_api::{Attempt, StageTimes};

    use super::*;

    #[test]
    fn the_ideal_counts_the_slowest_stage_and_no_step() {
        // (4 + 2 - 1) x 3 s = 15 s.
        assert!((overhead(16.5, 0.75, &[2.0, 3.0], 4) - 0.05).abs() < 1e-12);
        assert_eq!(overhead(15.0, 0.0, &[3.0, 3.0], 4), 0.0);
        // One stage has nothing to wait for.
        assert!((overhead(8.0, 0.0, &[2.0], 4)).abs() < 1e-12);
        // Unequal stages can beat it: 4 x 3 s and one forward and backward of the other.
        assert!(overhead(13.0, 0.0, &[1.0, 3.0], 4) < 0.0);
    }

    fn record(stage: u32, iteration: u32, (from_s, to_s): (f64, f64)) -> Record {
        let is_last = stage == 1;
        Record::Iteration(IterationRecord {
            job: "bench".to_owned(),
            attempt: Attempt(0),
            stage: StageIndex(stage),
            iteration: bace_api::Iteration(iteration),
            from_s,
            to_s,
            times: StageTimes {
                forward_s: 2.25,
                backward_s: if is_last { 6.0 } else { 4.0 },
                step_s: 0.5,
                ..StageTimes::default()
            },
            loss: is_last.then_some(5.0 - f64::from(iteration)),
            tokens: is_last.then_some(100),
            device_s: None,
            lease_wait_s: Some(0.25),
            actions: None,
            overruns: 0,
            worst_overrun_s: 0.0,
            overrun_s: None,
            scale_without_overrun: None,
        })
    }

    fn records() -> Vec<Record> {
        let mut records = vec![
            Record::WorkerJoined {
                at_s: 0.0,
                worker: "w0".to_owned(),
                region: "here".to_owned(),
                device: "cpu".to_owned(),
                host: None,
                ready_after_s: Some(1.25),
            },
            Record::WorkerMemory(WorkerMemory {
                at_s: 0.0,
                worker: "w0".to_owned(),
                phase: MemoryPhase::Ready,
                memory: None,
                reason: Some("refused".to_owned()),
            }),
            Record::Placed {
                at_s: 0.0,
                job: "bench".to_owned(),
                attempt: Attempt(0),
                k: 2,
                k_star: 2,
                path: Vec::new(),
                layers: vec![1, 1],
                iteration_s: 1.0,
                reason: serde_json::Value::Null,
            },
            Record::Training {
                at_s: 0.0,
                job: "bench".to_owned(),
                attempt: Attempt(0),
                workers: vec!["w0".to_owned(), "w1".to_owned()],
                parameters: 77,
                text_hash: None,
                set_up: Vec::new(),
            },
        ];
        for (iteration, from_s) in [(0, 0.0), (1, 20.0), (2, 31.0)] {
            records.push(record(1, iteration, (from_s + 1.0, from_s + 10.0)));
            records.push(record(0, iteration, (from_s, from_s + 11.0)));
        }
        records
    }

    #[test]
    fn a_ledger_becomes_figures_without_its_warm_up() {
        let run = PipelineRun::of(&records(), 4).unwrap();
        assert_eq!((run.layers.clone(), run.parameters), (vec![1, 1], 77));
        assert_eq!(run.losses, [5.0, 4.0, 3.0]);
        assert_eq!(run.iterations.len(), 2);
        let one = &run.iterations[0];
        assert_eq!((one.period_s, one.step_s), (11.0, 0.5));
        assert_eq!(one.stage_s, [1.5, 2.0]);
        // 10.5 s beside (4 + 2 - 1) x 2 s.
        assert!((run.overhead().unwrap() - 0.05).abs() < 1e-12);
        // Two iterations of 100 tokens from 20 s to 42 s.
        assert_eq!(run.tokens_per_s, 200.0 / 22.0);
        let worker = &run.workers[0];
        assert_eq!(worker.ready_after_s, Some(1.25));
        assert_eq!(worker.when_ready, Held::Unknown("refused".to_owned()));
        assert!(matches!(&worker.when_ended, Held::Unknown(_)));
    }

    #[test]
    fn what_cannot_be_measured_is_an_error() {
        let mut all = records();
        let without = |drop: fn(&Record) -> bool| {
            let kept: Vec<Record> = records().into_iter().filter(|one| !drop(one)).collect();
            PipelineRun::of(&kept, 4).unwrap_err().to_string()
        };
        assert_eq!(
            without(|one| matches!(one, Record::Training { .. })),
            "measure a pipeline: its ledger tells of no training"
        );
        assert_eq!(
            without(|one| matches!(one, Record::Iteration(one) if one.iteration.0 > 0)),
            "measure a pipeline: it ended 1 iterations, of which 1 warm it up"
        );
        assert_eq!(
            without(
                |one| matches!(one, Record::Iteration(one) if one.stage.0 == 0 && one.iteration.0 == 2)
            ),
            "measure a pipeline: 1 of 2 stages ended iteration 2"
        );
        for record in &mut all {
            if let Record::Iteration(one) = record {
                one.lease_wait_s = None;
            }
        }
        assert_eq!(
            PipelineRun::of(&all, 4).unwrap_err().to_string(),
            "measure a pipeline: stage 0 does not tell how long it waited for its device"
        );
    }
}
