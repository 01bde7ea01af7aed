//! A pipeline as data: what a stage does, in order.

use std::fmt;
use std::str::FromStr;

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

/// That a text names no action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "read the action `{0}`: there are F, B, SA, RA, SG and RG with a micro-batch behind, and S"
)]
pub struct NoAction(String);

impl FromStr for Action {
    type Err = NoAction;

    /// The text that [`Display`](fmt::Display) makes.
    fn from_str(text: &str) -> Result<Self, NoAction> {
        let no_action = || NoAction(text.to_owned());
        let digits = text.find(|c: char| c.is_ascii_digit());
        let (word, number) = text.split_at(digits.unwrap_or(text.len()));
        if (word, number) == ("S", "") {
            return Ok(Self::Step);
        }
        let m = MicroBatch(number.parse().map_err(|_| no_action())?);
        match word {
            "F" => Ok(Self::Forward(m)),
            "B" => Ok(Self::Backward(m)),
            "SA" => Ok(Self::SendActivation(m)),
            "RA" => Ok(Self::ReceiveActivation(m)),
            "SG" => Ok(Self::SendGradient(m)),
            "RG" => Ok(Self::ReceiveGradient(m)),
            _ => Err(no_action()),
        }
    }
}

/// An action as its text, for formats that people read.
pub(crate) mod text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Action;

    pub fn serialize<S: Serializer>(action: &Action, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(action)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Action, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_reads_its_own_text() {
        let m = MicroBatch(12);
        for action in [
            Action::Forward(m),
            Action::Backward(m),
            Action::SendActivation(m),
            Action::ReceiveActivation(m),
            Action::SendGradient(m),
            Action::ReceiveGradient(m),
            Action::Step,
        ] {
            assert_eq!(action.to_string().parse(), Ok(action));
        }
        for wrong in ["", "F", "S3", "X1", "F-1", "F1x", "f1"] {
            assert!(wrong.parse::<Action>().is_err(), "{wrong}");
        }
    }
}
