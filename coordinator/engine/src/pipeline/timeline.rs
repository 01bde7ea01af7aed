//! An iteration as predicted, and its picture.

use std::collections::BTreeMap;

use bace_api::{Action, MicroBatch, Program, StageWalk, TensorKind};
use bace_models::StageSeconds;

use super::plan::BoundaryTime;

/// A span in which a stage computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// [`Action::Forward`] or [`Action::Backward`].
    pub action: Action,
    /// Begin, seconds from the iteration's begin.
    pub from_s: f64,
    /// End, seconds.
    pub to_s: f64,
}

/// One iteration of a pipeline on links of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// What each stage computes, in order.
    pub stages: Vec<Vec<Span>>,
    /// From the first forward's begin to the last backward's end, seconds.
    pub duration_s: f64,
}

/// Predicts one iteration of a checked `program` whose stages take `stage_seconds`, up to the optimizer's step.
///
/// Each direction of a boundary carries one tensor at a time. Nothing starts that waits for a dead link; the timeline ends there.
pub fn timeline(
    program: &Program,
    stage_seconds: &[StageSeconds],
    boundaries: &[BoundaryTime],
) -> Timeline {
    let mut prediction = Prediction {
        boundaries,
        arrivals: BTreeMap::new(),
        link_free_s: vec![[0.0; 2]; boundaries.len()],
    };
    let mut walks: Vec<(StageWalk, f64)> = program
        .stages
        .iter()
        .map(|stage| (StageWalk::new(stage.clone(), 1), 0.0))
        .collect();
    let mut stages = vec![Vec::new(); walks.len()];
    let mut moved = true;
    while moved {
        moved = false;
        for (stage, (walk, clock_s)) in walks.iter_mut().enumerate() {
            while let Some(action) = walk.action() {
                let Some(end_s) = prediction.end_of(action, stage, *clock_s, stage_seconds[stage])
                else {
                    break;
                };
                if matches!(action, Action::Forward(_) | Action::Backward(_)) {
                    stages[stage].push(Span {
                        action,
                        from_s: *clock_s,
                        to_s: end_s,
                    });
                }
                *clock_s = end_s;
                walk.advance();
                moved = true;
            }
        }
    }
    let ends = stages.iter().flatten().map(|span: &Span| span.to_s);
    Timeline {
        duration_s: ends.fold(0.0, f64::max),
        stages,
    }
}

struct Prediction<'a> {
    boundaries: &'a [BoundaryTime],
    /// By receiving stage.
    arrivals: BTreeMap<(usize, bool, MicroBatch), f64>,
    /// When each boundary can carry the next activation, and the next gradient.
    link_free_s: Vec<[f64; 2]>,
}

impl Prediction<'_> {
    /// When `stage` has done `action` that it begins at `now_s`; `None` if it waits for what nobody has sent yet.
    fn end_of(
        &mut self,
        action: Action,
        stage: usize,
        now_s: f64,
        takes: StageSeconds,
    ) -> Option<f64> {
        if let Some((kind, m)) = action.receives() {
            let arrival = self.arrivals.get(&(stage, is_activation(kind), m))?;
            return Some(now_s.max(*arrival)).filter(|arrival| arrival.is_finite());
        }
        if let Some((kind, m)) = action.sends() {
            let (boundary, to) = match kind {
                TensorKind::Activation => (stage, stage + 1),
                TensorKind::Gradient => (stage - 1, stage - 1),
            };
            let time = self.boundaries[boundary];
            let free_s = &mut self.link_free_s[boundary][usize::from(is_activation(kind))];
            *free_s = free_s.max(now_s) + time.transfer_s;
            let arrival_s = *free_s + time.delay_s;
            self.arrivals
                .insert((to, is_activation(kind), m), arrival_s);
            return Some(now_s);
        }
        Some(match action {
            Action::Forward(_) => now_s + takes.forward_s,
            Action::Backward(_) => now_s + takes.backward_s(),
            _ => now_s,
        })
    }
}

fn is_activation(kind: TensorKind) -> bool {
    kind == TensorKind::Activation
}

impl Timeline {
    /// Share of the GPUs' time within the iteration in which they wait, from 0 to 1.
    pub fn bubble(&self) -> f64 {
        let held_s = self.duration_s * self.stages.len() as f64;
        if held_s == 0.0 {
            return 0.0;
        }
        let busy = self
            .stages
            .iter()
            .flatten()
            .map(|span| span.to_s - span.from_s);
        (1.0 - busy.sum::<f64>() / held_s).max(0.0)
    }

    /// A picture of at most `columns` columns: time to the right, a row a stage. Forwards are the micro-batch's last digit,
    /// backwards a letter (a for 0, b for 1, …), dots are waiting.
    pub fn grid(&self, columns: usize) -> String {
        /// Fewest columns in which anything can be seen.
        const LEAST_COLUMNS: usize = 10;

        let label = format!("{}", self.stages.len().saturating_sub(1)).len();
        let columns = columns
            .saturating_sub("stage ".len() + label + 1)
            .max(LEAST_COLUMNS);
        let mut text = String::new();
        for (index, spans) in self.stages.iter().enumerate() {
            let mut row = vec!['.'; columns];
            for span in spans {
                let column = |at_s: f64| (at_s / self.duration_s * columns as f64).round() as usize;
                let (from, to) = (column(span.from_s), column(span.to_s));
                row[from.min(columns)..to.min(columns)].fill(mark(span.action));
            }
            let row: String = row.into_iter().collect();
            text.push_str(&format!("stage {index:>label$} {row}\n"));
        }
        text.push_str(&format!(
            "{:.6} s, of which the GPUs wait {:.1} % (digits: forward, letters: backward, dots: waiting)\n",
            self.duration_s,
            100.0 * self.bubble()
        ));
        text
    }
}

fn mark(action: Action) -> char {
    match action {
        Action::Backward(m) => char::from(b'a' + (m.0 % 26) as u8),
        Action::Forward(m) => char::from(b'0' + (m.0 % 10) as u8),
        _ => '.',
    }
}
