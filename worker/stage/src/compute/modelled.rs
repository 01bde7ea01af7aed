//! No compute at all: a stage whose tensors are zeros of the true size.

use bace_api::{ComputeRung, Iteration, MicroBatch, Prepare, WorkerDevice};
use bytes::Bytes;

use super::{ComputeError, Computer, Forwarded, StageCompute};
use crate::session::Begin;

/// Computes nothing: what a worker needs for the rung `modelled`, without libtorch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Modelled;

impl Computer for Modelled {
    fn set_up(&mut self) -> WorkerDevice {
        WorkerDevice {
            name: "nothing".to_owned(),
            words: "nothing".to_owned(),
            slots: 1,
        }
    }

    fn begin(&mut self, begin: &Begin) -> Result<Option<String>, ComputeError> {
        match begin.compute {
            ComputeRung::Modelled => Ok(None),
            rung => Err(ComputeError::ComputesNothing(rung)),
        }
    }

    fn load<'a>(&'a self, prepare: &Prepare) -> Result<Box<dyn StageCompute + 'a>, ComputeError> {
        Ok(Box::new(ModelledStage::new(prepare)))
    }
}

/// A stage that sends what a real one would send and computes nothing.
#[derive(Debug)]
struct ModelledStage {
    tensor: Bytes,
    is_first: bool,
    is_last: bool,
}

impl ModelledStage {
    fn new(prepare: &Prepare) -> Self {
        let bytes = usize::try_from(prepare.job.boundary_bytes()).expect("addresses have 64 bits");
        Self {
            tensor: Bytes::from(vec![0; bytes]),
            is_first: prepare.previous.is_none(),
            is_last: prepare.next.is_none(),
        }
    }
}

impl StageCompute for ModelledStage {
    fn rehearse(&mut self) -> Result<(), ComputeError> {
        Ok(())
    }

    fn forward(
        &mut self,
        _: Iteration,
        _: MicroBatch,
        _: Option<Bytes>,
    ) -> Result<Forwarded, ComputeError> {
        Ok(if self.is_last {
            Forwarded::Loss(None)
        } else {
            Forwarded::Activation(self.tensor.clone())
        })
    }

    fn backward(&mut self, _: MicroBatch, _: Option<Bytes>) -> Result<Option<Bytes>, ComputeError> {
        Ok((!self.is_first).then(|| self.tensor.clone()))
    }

    fn step(&mut self) -> Result<(), ComputeError> {
        Ok(())
    }

    fn parameters(&self) -> u64 {
        0
    }

    fn weights(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}
