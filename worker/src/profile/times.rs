//! Rounds of timed stages.

use std::time::{Duration, Instant};

use anyhow::Context;
use bace_api::{BoardState, TimesReply};
use bace_models::{FEW_LAYERS, Fit, MANY_LAYERS, Round, StagePlace, WHOLE_LAYERS};
use bace_stage::ComputeError;
use bace_torch::Device;

use super::subject::{Subject, Workshop};
use crate::board::board_state;
use crate::identity::identity;

/// Micro-batches of an iteration of a timed stage; the first of them does not count.
const MICRO_BATCHES: u32 = 6;
/// Rounds that the warm-up compares with as many before them.
const WINDOW: usize = 5;
/// A layer's time is steady when two windows differ by no more than this share.
const STEADY_SHARE: f64 = 0.01;
/// A board is steady when it has warmed by no more between two windows, degrees Celsius.
const STEADY_C: f64 = 1.0;
/// A processor without a fan curve worth the name is warm at once; what disturbs it does not end by waiting.
const LONGEST_CPU_WARM_UP: Duration = Duration::from_secs(5);
/// A board takes minutes until its temperature, and with it its clock, stays.
const LONGEST_CUDA_WARM_UP: Duration = Duration::from_secs(240);

/// The stages of a round, all loaded.
struct Stages<'a> {
    few: Subject<'a>,
    many: Subject<'a>,
    first: Subject<'a>,
    last: Subject<'a>,
    whole: Subject<'a>,
}

/// Times `rounds` rounds once the device is warm.
pub fn measure(workshop: &Workshop<'_>, rounds: u32) -> anyhow::Result<TimesReply> {
    let mut stages = Stages::load(workshop)?;
    let warm_up = WarmUp::run(&mut stages, workshop)?;
    let mut found = Vec::with_capacity(rounds as usize);
    for _ in 0..rounds {
        found.push(stages.round(workshop)?);
    }
    let fit = Fit::of(&found);
    Ok(TimesReply {
        device: identity(workshop.device, workshop.precision)?,
        fit: fit.with_context(|| format!("fit {rounds} rounds: they are too few"))?,
        warm_up_rounds: warm_up.rounds,
        warm_up_drift_share: warm_up.drift_share,
        board: board_state(workshop.device),
    })
}

impl<'a> Stages<'a> {
    fn load(workshop: &Workshop<'a>) -> Result<Self, ComputeError> {
        let load = |layers, place| workshop.load(layers, place, MICRO_BATCHES);
        Ok(Self {
            few: load(FEW_LAYERS, StagePlace::Middle)?,
            many: load(MANY_LAYERS, StagePlace::Middle)?,
            first: load(FEW_LAYERS, StagePlace::First)?,
            last: load(FEW_LAYERS, StagePlace::Last)?,
            whole: load(WHOLE_LAYERS, StagePlace::Only)?,
        })
    }

    fn round(&mut self, workshop: &Workshop<'_>) -> anyhow::Result<Round> {
        // The first copy brings its memory back, as the first micro-batch of a stage does.
        workshop.time_copies()?;
        let [copy_in_s, copy_out_s] = workshop.time_copies()?;
        Ok(Round {
            few: self.few.visit()?,
            many: self.many.visit()?,
            first: self.first.visit()?,
            last: self.last.visit()?,
            whole: self.whole.visit()?,
            copy_in_s,
            copy_out_s,
        })
    }
}

/// What went before the rounds that count.
struct WarmUp {
    rounds: u32,
    drift_share: f64,
}

impl WarmUp {
    /// Runs rounds until times, and a board's temperature, stop drifting, or for the longest time.
    fn run(stages: &mut Stages<'_>, workshop: &Workshop<'_>) -> anyhow::Result<Self> {
        let longest = match workshop.device {
            Device::Cpu => LONGEST_CPU_WARM_UP,
            Device::Cuda(_) => LONGEST_CUDA_WARM_UP,
        };
        let begin = Instant::now();
        let mut window = || -> anyhow::Result<(f64, Option<f64>)> {
            let rounds: anyhow::Result<Vec<Round>> =
                (0..WINDOW).map(|_| stages.round(workshop)).collect();
            let fit = Fit::of(&rounds?).context("fit a window: it has too few rounds")?;
            let layer = fit.parts.layer;
            let temperature_c = match board_state(workshop.device) {
                BoardState::Read { temperature_c, .. } => Some(temperature_c),
                BoardState::Absent(_) => None,
            };
            Ok((
                layer.forward_s.median + layer.backward_s.median,
                temperature_c,
            ))
        };
        let mut before = window()?;
        let mut rounds = WINDOW;
        loop {
            let now = window()?;
            rounds += WINDOW;
            let drift_share = (now.0 - before.0) / before.0.abs();
            let warming = now
                .1
                .zip(before.1)
                .map(|(now_c, before_c)| now_c - before_c);
            let steady = drift_share.abs() <= STEADY_SHARE
                && warming.is_none_or(|warming_c| warming_c.abs() <= STEADY_C);
            if steady || begin.elapsed() >= longest {
                return Ok(Self {
                    rounds: u32::try_from(rounds).unwrap_or(u32::MAX),
                    drift_share,
                });
            }
            before = now;
        }
    }
}
