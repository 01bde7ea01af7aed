//! No compute at all: a stage whose tensors are zeros of the true size.

use bace_api::{Iteration, MicroBatch, Prepare};
use bytes::Bytes;

use super::{ComputeError, Forwarded, StageCompute};

/// A stage that sends what a real one would send and computes nothing.
#[derive(Debug)]
pub struct Modelled {
    tensor: Bytes,
    is_first: bool,
    is_last: bool,
}

impl Modelled {
    /// The stand-in for `prepare`'s stage.
    pub fn new(prepare: &Prepare) -> Self {
        let bytes = usize::try_from(prepare.job.boundary_bytes()).expect("addresses have 64 bits");
        Self {
            tensor: Bytes::from(vec![0; bytes]),
            is_first: prepare.previous.is_none(),
            is_last: prepare.next.is_none(),
        }
    }
}

impl StageCompute for Modelled {
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
