//! A pipeline as data: what a stage does, in order.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::MicroBatch;

/// One thing a stage does within an iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Action {
    /// Computes the stage's layers on a micro-batch.
    Forward(MicroBatch),
    /// Computes the stage's gradients of a micro-batch.
    Backward(MicroBatch),
    /// Hands a forward's output to the next stage.
    SendActivation(MicroBatch),
    /// Waits for the previous stage's output.
    ReceiveActivation(MicroBatch),
    /// Hands a backward's input gradient to the previous stage.
    SendGradient(MicroBatch),
    /// Waits for the next stage's gradient.
    ReceiveGradient(MicroBatch),
    /// Applies the optimizer; the last action of an iteration.
    Step,
}

/// What one stage does in every iteration, in order.
pub type StageProgram = Vec<Action>;

/// What every stage of a pipeline does in every iteration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// One list a stage, in stage order.
    pub stages: Vec<StageProgram>,
}

impl fmt::Display for Action {
    /// `F0`, `B0`, `SA0`, `RA0`, `SG0`, `RG0`, `S`; golden files put the stage's index in front.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward(m) => write!(f, "F{m}"),
            Self::Backward(m) => write!(f, "B{m}"),
            Self::SendActivation(m) => write!(f, "SA{m}"),
            Self::ReceiveActivation(m) => write!(f, "RA{m}"),
            Self::SendGradient(m) => write!(f, "SG{m}"),
            Self::ReceiveGradient(m) => write!(f, "RG{m}"),
            Self::Step => write!(f, "S"),
        }
    }
}
