//! The one rule by which a stage walks its program, in a simulation and in a worker alike.
//!
//! A stage does its actions in order, one at a time, iteration after iteration. Only a receive waits, and only for
//! its tensor; a send hands its tensor over and goes on.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Action, Iteration, MicroBatch, StageProgram, TensorKind};

/// A tensor that crosses a stage boundary, as both ends name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorId {
    /// The iteration it belongs to.
    pub iteration: Iteration,
    /// What it is.
    pub kind: TensorKind,
    /// The micro-batch it belongs to.
    pub micro_batch: MicroBatch,
}

impl fmt::Display for TensorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            TensorKind::Activation => "activation",
            TensorKind::Gradient => "gradient",
        };
        write!(
            f,
            "{kind} of micro-batch {} of iteration {}",
            self.micro_batch, self.iteration
        )
    }
}

impl Action {
    /// What this action waits for, if it is a receive.
    pub fn receives(self) -> Option<(TensorKind, MicroBatch)> {
        match self {
            Self::ReceiveActivation(m) => Some((TensorKind::Activation, m)),
            Self::ReceiveGradient(m) => Some((TensorKind::Gradient, m)),
            _ => None,
        }
    }

    /// What this action hands over, if it is a send.
    pub fn sends(self) -> Option<(TensorKind, MicroBatch)> {
        match self {
            Self::SendActivation(m) => Some((TensorKind::Activation, m)),
            Self::SendGradient(m) => Some((TensorKind::Gradient, m)),
            _ => None,
        }
    }
}

/// A stage's place in its program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageWalk {
    program: StageProgram,
    next: usize,
    iteration: u32,
    iterations: u32,
}

impl StageWalk {
    /// The walk through `iterations` repetitions of `program`, at its begin.
    pub fn new(program: StageProgram, iterations: u32) -> Self {
        let iterations = if program.is_empty() { 0 } else { iterations };
        Self {
            program,
            next: 0,
            iteration: 0,
            iterations,
        }
    }

    /// The action to do now; `None` when all iterations are done.
    pub fn action(&self) -> Option<Action> {
        (self.iteration < self.iterations).then(|| self.program[self.next])
    }

    /// The iteration that [`StageWalk::action`] belongs to.
    pub fn iteration(&self) -> Iteration {
        Iteration(self.iteration)
    }

    /// How many actions of the iteration are done.
    pub fn position(&self) -> usize {
        self.next
    }

    /// The tensor without which the action to do now cannot end.
    pub fn awaited(&self) -> Option<TensorId> {
        self.action()
            .and_then(Action::receives)
            .map(|it| self.name(it))
    }

    /// The tensor that the action to do now hands over.
    pub fn handed_over(&self) -> Option<TensorId> {
        self.action()
            .and_then(Action::sends)
            .map(|it| self.name(it))
    }

    /// Goes on to the next action: the one to do now has ended.
    pub fn advance(&mut self) {
        self.next += 1;
        if self.next >= self.program.len() {
            self.next = 0;
            self.iteration = (self.iteration + 1).min(self.iterations);
        }
    }

    /// Passes over `iterations` whole iterations and stands at the same action of a later one.
    pub fn skip(&mut self, iterations: u32) {
        self.iteration = self
            .iteration
            .saturating_add(iterations)
            .min(self.iterations);
    }

    fn name(&self, (kind, micro_batch): (TensorKind, MicroBatch)) -> TensorId {
        TensorId {
            iteration: self.iteration(),
            kind,
            micro_batch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_repeats_its_program_and_ends() {
        let m = MicroBatch(0);
        let program = vec![
            Action::ReceiveActivation(m),
            Action::Forward(m),
            Action::SendActivation(m),
        ];
        let mut walk = StageWalk::new(program.clone(), 2);
        let mut seen = Vec::new();
        while let Some(action) = walk.action() {
            seen.push((walk.iteration().0, action));
            assert_eq!(walk.awaited().is_some(), action == program[0]);
            assert_eq!(walk.handed_over().is_some(), action == program[2]);
            walk.advance();
        }
        let twice = (0..2).flat_map(|i| program.iter().map(move |&action| (i, action)));
        assert_eq!(seen, twice.collect::<Vec<_>>());
        assert_eq!(walk.awaited(), None);
    }

    #[test]
    fn skipping_keeps_the_position() {
        let mut walk = StageWalk::new(vec![Action::Forward(MicroBatch(0)), Action::Step], 10);
        walk.advance();
        walk.skip(4);
        assert_eq!((walk.iteration().0, walk.position()), (4, 1));
        assert_eq!(walk.action(), Some(Action::Step));
        walk.skip(99);
        assert_eq!(walk.action(), None);
        assert_eq!(StageWalk::new(Vec::new(), 3).action(), None);
    }
}
