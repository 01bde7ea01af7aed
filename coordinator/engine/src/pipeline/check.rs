//! What a program promises, checked once before anybody walks it.

use std::collections::{BTreeSet, VecDeque};

use bace_api::{Action, MicroBatch, Program, StageIndex, StageWalk, TensorKind};

/// Why a program must not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// No stage, or a stage that does nothing.
    #[error("check a program: stage {0} has no actions")]
    Empty(StageIndex),
    /// A stage does not end with its only optimizer step.
    #[error("check a program: stage {0} does not end with exactly one step")]
    Step(StageIndex),
    /// A stage does an action twice.
    #[error("check a program: stage {0} does {1} twice")]
    Twice(StageIndex, Action),
    /// A stage's action lacks what has to come before it.
    #[error("check a program: stage {stage} does {action} without {missing} before it")]
    Missing {
        /// The stage.
        stage: StageIndex,
        /// What it does.
        action: Action,
        /// What it ought to have done.
        missing: Action,
    },
    /// A stage talks to a neighbour that it does not have.
    #[error("check a program: stage {0} does {1}, but no stage is there")]
    NoNeighbour(StageIndex, Action),
    /// A stage does not run every micro-batch forward and backward once.
    #[error("check a program: stage {stage} runs {found} of {expected} micro-batches backward")]
    Incomplete {
        /// The stage.
        stage: StageIndex,
        /// Micro-batches of stage 0.
        expected: u32,
        /// Micro-batches of this stage.
        found: u32,
    },
    /// Gradients would be summed in another order than one process sums them.
    #[error(
        "check a program: stage {0} does {1} out of order; backwards run from micro-batch 0 up"
    )]
    BackwardOrder(StageIndex, Action),
    /// Two neighbours disagree about what crosses their boundary.
    #[error(
        "check a program: stage {from} sends to stage {to} other tensors than it receives, or in another order"
    )]
    Unmatched {
        /// The sender.
        from: StageIndex,
        /// The receiver.
        to: StageIndex,
    },
    /// The stages wait for each other for ever.
    #[error("check a program: the stages wait for each other; stage {0} never gets past {1}")]
    Deadlock(StageIndex, Action),
}

/// What is known of a program that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramFacts {
    /// Micro-batches of an iteration.
    pub micro_batches: u32,
    /// Most micro-batches of each stage between their forward and their backward.
    pub in_flight: Vec<u32>,
    /// What may wait at each boundary, whatever the timing; K − 1 entries.
    pub backlog: Vec<Backlog>,
}

/// Most tensors that have been sent and not received, however slow the receiver is.
///
/// Queues that hold as many never make a send wait, so the deadlock check, which lets every send through, holds for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Towards the later stage.
    pub activations: u32,
    /// Towards the earlier stage.
    pub gradients: u32,
}

/// Checks `program` and tells what follows from it.
pub fn check(program: &Program) -> Result<ProgramFacts, ProgramError> {
    let stages = &program.stages;
    if stages.is_empty() {
        return Err(ProgramError::Empty(StageIndex(0)));
    }
    let last = stages.len() - 1;
    let mut micro_batches = None;
    let mut in_flight = Vec::with_capacity(stages.len());
    for (index, actions) in stages.iter().enumerate() {
        let stage = Stage {
            index: StageIndex(index as u32),
            before: index > 0,
            behind: index < last,
        };
        let found = stage.check(actions)?;
        let expected = *micro_batches.get_or_insert(found.micro_batches);
        if found.micro_batches != expected {
            return Err(ProgramError::Incomplete {
                stage: stage.index,
                expected,
                found: found.micro_batches,
            });
        }
        in_flight.push(found.in_flight);
    }
    for index in 0..last {
        matched(program, index, index + 1, TensorKind::Activation)?;
        matched(program, index + 1, index, TensorKind::Gradient)?;
    }
    walk(program)?;
    let backlog = (0..last).map(|index| Backlog {
        activations: backlog(&stages[index], &stages[index + 1], TensorKind::Activation),
        gradients: backlog(&stages[index + 1], &stages[index], TensorKind::Gradient),
    });
    Ok(ProgramFacts {
        micro_batches: micro_batches.unwrap_or(0),
        in_flight,
        backlog: backlog.collect(),
    })
}

/// A stage and its neighbours.
struct Stage {
    index: StageIndex,
    before: bool,
    behind: bool,
}

struct StageFacts {
    micro_batches: u32,
    in_flight: u32,
}

impl Stage {
    /// Checks what a stage's list can break by itself.
    fn check(&self, actions: &[Action]) -> Result<StageFacts, ProgramError> {
        if actions.is_empty() {
            return Err(ProgramError::Empty(self.index));
        }
        let steps = actions.iter().filter(|&&action| action == Action::Step);
        if steps.count() != 1 || actions.last() != Some(&Action::Step) {
            return Err(ProgramError::Step(self.index));
        }
        let mut done = BTreeSet::new();
        let (mut forwards, mut backwards, mut in_flight) = (0_u32, 0_u32, 0);
        for &action in actions {
            self.needs(action, &done)?;
            if !done.insert(action) {
                return Err(ProgramError::Twice(self.index, action));
            }
            match action {
                Action::Forward(_) => forwards += 1,
                Action::Backward(m) if m.0 != backwards => {
                    return Err(ProgramError::BackwardOrder(self.index, action));
                }
                Action::Backward(_) => backwards += 1,
                _ => {}
            }
            in_flight = in_flight.max(forwards - backwards);
        }
        if forwards != backwards {
            return Err(ProgramError::Incomplete {
                stage: self.index,
                expected: forwards,
                found: backwards,
            });
        }
        Ok(StageFacts {
            micro_batches: backwards,
            in_flight,
        })
    }

    fn needs(&self, action: Action, done: &BTreeSet<Action>) -> Result<(), ProgramError> {
        let neighbour = match action {
            Action::ReceiveActivation(_) | Action::SendGradient(_) => self.before,
            Action::SendActivation(_) | Action::ReceiveGradient(_) => self.behind,
            _ => true,
        };
        if !neighbour {
            return Err(ProgramError::NoNeighbour(self.index, action));
        }
        let needed = match action {
            Action::Forward(m) if self.before => vec![Action::ReceiveActivation(m)],
            Action::Backward(m) if self.behind => {
                vec![Action::Forward(m), Action::ReceiveGradient(m)]
            }
            Action::Backward(m) | Action::SendActivation(m) => vec![Action::Forward(m)],
            Action::SendGradient(m) => vec![Action::Backward(m)],
            _ => Vec::new(),
        };
        match needed.into_iter().find(|needed| !done.contains(needed)) {
            None => Ok(()),
            Some(missing) => Err(ProgramError::Missing {
                stage: self.index,
                action,
                missing,
            }),
        }
    }
}

/// Every micro-batch crosses, once, and both ends have the same order.
fn matched(
    program: &Program,
    from: usize,
    to: usize,
    kind: TensorKind,
) -> Result<(), ProgramError> {
    let of_kind = |found: Option<(TensorKind, MicroBatch)>| {
        found.filter(|(found, _)| *found == kind).map(|(_, m)| m)
    };
    let sent = program.stages[from]
        .iter()
        .filter_map(|action| of_kind(action.sends()));
    let received = program.stages[to]
        .iter()
        .filter_map(|action| of_kind(action.receives()));
    if sent.eq(received) {
        Ok(())
    } else {
        Err(ProgramError::Unmatched {
            from: StageIndex(from as u32),
            to: StageIndex(to as u32),
        })
    }
}

/// Lets every stage go as far as it can. Since a receive names its one sender and lists are fixed, whether all end does
/// not depend on who goes first.
fn walk(program: &Program) -> Result<(), ProgramError> {
    let mut walks: Vec<StageWalk> = program
        .stages
        .iter()
        .map(|stage| StageWalk::new(stage.clone(), 1))
        .collect();
    // Tensors under way to each stage, activations and gradients.
    let mut inbox = vec![[0_u32; 2]; walks.len()];
    let mut runnable: VecDeque<usize> = (0..walks.len()).collect();
    while let Some(stage) = runnable.pop_front() {
        while walks[stage].action().is_some() {
            if let Some(awaited) = walks[stage].awaited() {
                let waiting = &mut inbox[stage][slot(awaited.kind)];
                if *waiting == 0 {
                    break;
                }
                *waiting -= 1;
            }
            if let Some(sent) = walks[stage].handed_over() {
                let to = match sent.kind {
                    TensorKind::Activation => stage + 1,
                    TensorKind::Gradient => stage - 1,
                };
                inbox[to][slot(sent.kind)] += 1;
                runnable.push_back(to);
            }
            walks[stage].advance();
        }
    }
    let stuck = walks
        .iter()
        .zip(0..)
        .find_map(|(walk, stage)| walk.action().map(|action| (StageIndex(stage), action)));
    stuck.map_or(Ok(()), |(stage, action)| {
        Err(ProgramError::Deadlock(stage, action))
    })
}

fn slot(kind: TensorKind) -> usize {
    match kind {
        TensorKind::Activation => 0,
        TensorKind::Gradient => 1,
    }
}

/// Most tensors of kind `towards` from `sender` that `receiver` has not taken, if it takes them only when it must.
///
/// What the sender has received back tells how far the receiver has come at least.
fn backlog(sender: &[Action], receiver: &[Action], towards: TensorKind) -> u32 {
    let back = match towards {
        TensorKind::Activation => TensorKind::Gradient,
        TensorKind::Gradient => TensorKind::Activation,
    };
    let mut taken_at_reply = Vec::new();
    let mut taken = 0_u32;
    for action in receiver {
        taken += u32::from(action.receives().is_some_and(|(kind, _)| kind == towards));
        if action.sends().is_some_and(|(kind, _)| kind == back) {
            taken_at_reply.push(taken);
        }
    }
    let (mut sent, mut replies, mut most) = (0_u32, 0_usize, 0);
    for action in sender {
        replies += usize::from(action.receives().is_some_and(|(kind, _)| kind == back));
        if action.sends().is_some_and(|(kind, _)| kind == towards) {
            sent += 1;
            let taken = replies
                .checked_sub(1)
                .and_then(|reply| taken_at_reply.get(reply));
            most = most.max(sent.saturating_sub(taken.copied().unwrap_or(0)));
        }
    }
    most
}
