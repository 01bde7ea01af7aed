//! Training in one process, without a pipeline: what every pipeline is compared with.

use bace_models::ModelSpec;

use crate::device::Device;
use crate::digest::PartDigest;
use crate::error::Error;
use crate::optimizer::OptimizerSettings;
use crate::precision::Precision;
use crate::stage::{Stage, StageInput, StageOutput, StagePlan};
use crate::text::{BatchKey, BatchShape, Corpus};

/// What to train.
#[derive(Debug, Clone)]
pub struct Training {
    /// The model.
    pub model: ModelSpec,
    /// Shape of every micro-batch.
    pub batch: BatchShape,
    /// Micro-batches of an iteration, at least 1.
    pub micro_batches: u32,
    /// Optimizer steps.
    pub iterations: u64,
    /// Seed of the first weights and, with the job's id, of the batches.
    pub seed: u64,
    /// The job's id.
    pub job: u64,
    /// Knobs of AdamW.
    pub optimizer: OptimizerSettings,
    /// In which numbers stages compute.
    pub precision: Precision,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// Each iteration's mean loss over its micro-batches, in nats.
    pub losses: Vec<f64>,
    /// Hashes of the final weights.
    pub digests: Vec<PartDigest>,
}

impl Training {
    /// The plan of the stage with these layers.
    pub fn stage_plan(&self, layers: std::ops::Range<u32>) -> StagePlan {
        StagePlan {
            model: self.model.clone(),
            layers,
            batch: self.batch,
            micro_batches: self.micro_batches,
            seed: self.seed,
            optimizer: self.optimizer,
            precision: self.precision,
        }
    }

    /// The key of a micro-batch.
    pub fn batch_key(&self, iteration: u64, micro_batch: u32) -> BatchKey {
        BatchKey {
            seed: self.seed,
            job: self.job,
            iteration,
            micro_batch,
        }
    }
}

/// Trains the whole model as one stage, each micro-batch forward and at once backward.
///
/// # Errors
/// Those of [`Stage::new`] and [`Corpus::batch`].
pub fn train_alone(training: &Training, corpus: &Corpus, device: Device) -> Result<Trained, Error> {
    let mut stage = Stage::new(training.stage_plan(0..training.model.layers), device)?;
    let mut losses = Vec::new();
    for iteration in 0..training.iterations {
        let mut sum = 0.0;
        for micro_batch in 0..training.micro_batches {
            let key = training.batch_key(iteration, micro_batch);
            let batch = corpus.batch(key, training.batch)?;
            let input = StageInput::Tokens(batch.tokens);
            match stage.forward(micro_batch, input, Some(&batch.targets))? {
                StageOutput::Loss(loss) => sum += loss,
                StageOutput::Activation(_) => unreachable!("the whole model ends in a loss"),
            }
            stage.backward(micro_batch, None)?;
        }
        stage.step()?;
        losses.push(sum / f64::from(training.micro_batches));
    }
    Ok(Trained {
        losses,
        digests: stage.part_digests(),
    })
}
