//! Jobs as users state them.

use bace_models::{MicroBatchShape, ModelSpec};
use serde::{Deserialize, Serialize};

/// The order in which a stage runs its micro-batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Schedule {
    /// 1F1B that starts deep enough to hide the round trip of long links.
    #[default]
    #[serde(rename = "eager-1f1b")]
    Eager1F1B,
    /// One forward, one backward.
    #[serde(rename = "1f1b")]
    OneFOneB,
    /// All forwards, then all backwards.
    #[serde(rename = "gpipe")]
    GPipe,
}

impl Schedule {
    /// Its name in scenarios and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eager1F1B => "eager-1f1b",
            Self::OneFOneB => "1f1b",
            Self::GPipe => "gpipe",
        }
    }
}

/// A training job, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Unique name within the scenario.
    pub name: String,
    /// The model's name in the scenario or the catalogue.
    pub model_name: String,
    /// The model's shape.
    pub model: ModelSpec,
    /// Arrival, in emulated seconds from the start of the run.
    pub arrival_s: f64,
    /// Optimizer steps to train for, N.
    pub iterations: u32,
    /// Micro-batches of an iteration, M.
    pub micro_batches: u32,
    /// Shape of one micro-batch.
    pub shape: MicroBatchShape,
    /// Order of work within a stage.
    pub schedule: Schedule,
    /// AdamW's step size.
    pub learning_rate: f64,
    /// What a real run trains in the model's place; absent where it trains the model itself.
    pub scale_model: Option<ScaleModel>,
}

/// A small model that a real run trains in place of a job's own, while times, links, energy and prices stay those of the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleModel {
    /// Its shape; as many layers as the job's model has.
    pub model: ModelSpec,
    /// Tokens of a micro-batch, one sequence.
    pub tokens: u32,
}

impl Job {
    /// Bytes over one stage boundary, one direction, one micro-batch.
    pub fn boundary_bytes(&self) -> u64 {
        self.shape.boundary_bytes(&self.model)
    }

    /// The job as a real run trains it: of its scale model, if it has one.
    pub fn trained(&self) -> Self {
        let mut job = self.clone();
        if let Some(scale) = job.scale_model.take() {
            job.model = scale.model;
            job.shape.sequences = 1;
            job.shape.sequence = scale.tokens;
        }
        job
    }

    /// Tensors that one stage can have sent to a neighbour and that this has not taken yet, at most: a neighbour is at
    /// most one iteration ahead.
    pub fn tensors_ahead(&self) -> u32 {
        self.micro_batches.saturating_mul(2).saturating_add(1)
    }

    /// Tokens of one iteration over all micro-batches.
    pub fn iteration_tokens(&self) -> u64 {
        self.shape.tokens() * u64::from(self.micro_batches)
    }
}
