//! What a pipeline stage is, as far as its costs go: where it stands, and how long it takes.

use crate::FORWARD_AND_BACKWARD;

/// Where a stage stands in its pipeline, which decides what it does besides its layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StagePlace {
    /// The whole model: embedding and head, and no boundary.
    Only,
    /// The embedding, and a boundary behind.
    First,
    /// A boundary on either side.
    Middle,
    /// A boundary before, and the head.
    Last,
}

/// How long a stage computes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StageSeconds {
    /// Forward and backward of one micro-batch together, seconds.
    pub micro_batch_s: f64,
    /// The forward's part of it, seconds.
    pub forward_s: f64,
    /// The optimizer's step at the end of an iteration, seconds; 0 where it is taken to need no time.
    pub step_s: f64,
    /// Loading and rehearsing it before it trains, seconds; 0 where they are taken to need no time.
    pub set_up_s: f64,
    /// What these take beyond in a process that has held no stage before, seconds.
    pub fresh_s: f64,
}

impl StagePlace {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Only, Self::First, Self::Middle, Self::Last];

    /// The place of `stage`, from 0, among `stages`.
    pub fn of(stage: usize, stages: usize) -> Self {
        match (stage == 0, stage + 1 == stages) {
            (true, true) => Self::Only,
            (true, false) => Self::First,
            (false, true) => Self::Last,
            (false, false) => Self::Middle,
        }
    }

    /// Whether the stage turns tokens into activations.
    pub fn holds_embedding(self) -> bool {
        matches!(self, Self::Only | Self::First)
    }

    /// Whether the stage turns activations into the loss.
    pub fn holds_head(self) -> bool {
        matches!(self, Self::Only | Self::Last)
    }
}

impl StageSeconds {
    /// Those of a stage that takes `micro_batch_s` for a forward and a backward by the formula: a third of it is the
    /// forward, and neither the step nor a set-up needs time.
    pub fn by_formula(micro_batch_s: f64) -> Self {
        Self {
            micro_batch_s,
            forward_s: micro_batch_s / FORWARD_AND_BACKWARD,
            step_s: 0.0,
            set_up_s: 0.0,
            fresh_s: 0.0,
        }
    }

    /// The backward of one micro-batch, seconds.
    pub fn backward_s(&self) -> f64 {
        self.micro_batch_s - self.forward_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_from_the_ends() {
        let places: Vec<StagePlace> = (0..3).map(|stage| StagePlace::of(stage, 3)).collect();
        assert_eq!(
            places,
            [StagePlace::First, StagePlace::Middle, StagePlace::Last]
        );
        assert_eq!(StagePlace::of(0, 1), StagePlace::Only);
    }

    #[test]
    fn by_formula_a_third_is_the_forward() {
        let seconds = StageSeconds::by_formula(6.0);
        assert_eq!((seconds.forward_s, seconds.backward_s()), (2.0, 4.0));
        assert_eq!(seconds.step_s, 0.0);
    }
}
