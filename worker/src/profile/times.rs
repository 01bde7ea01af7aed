//! Rounds of timed stages.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bace_api::{BoardState, TimesReply};
use bace_cuda::Driver;
use bace_models::{
    FEW_LAYERS, Fit, LayerShape, MANY_LAYERS, MicroBatchShape, Round, StageMemory, StagePlace,
    WHOLE_LAYERS,
};
use bace_torch::Device;

use super::subject::{Copies, Subject, Workshop};
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

const BYTES_PER_GB: f64 = 1e9;

/// The stages of a round, all loaded.
struct Stages<'a> {
    few: Subject<'a>,
    many: Subject<'a>,
    first: Subject<'a>,
    last: Subject<'a>,
    whole: Subject<'a>,
    copies: Copies,
}

/// Times `rounds` rounds once the device is warm.
pub fn measure(workshop: &Workshop<'_>, rounds: u32) -> anyhow::Result<TimesReply> {
    refuse_what_does_not_fit(workshop)?;
    let mut stages = Stages::load(workshop)?;
    let warm_up = WarmUp::run(&mut stages, workshop)?;
    let mut found = Vec::with_capacity(rounds as usize);
    for _ in 0..rounds {
        found.push(stages.round()?);
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
    fn load(workshop: &Workshop<'a>) -> anyhow::Result<Self> {
        let load = |layers, place| workshop.load(layers, place, MICRO_BATCHES);
        Ok(Self {
            few: load(FEW_LAYERS, StagePlace::Middle)?,
            many: load(MANY_LAYERS, StagePlace::Middle)?,
            first: load(FEW_LAYERS, StagePlace::First)?,
            last: load(FEW_LAYERS, StagePlace::Last)?,
            whole: load(WHOLE_LAYERS, StagePlace::Only)?,
            copies: workshop.copies()?,
        })
    }

    fn round(&mut self) -> anyhow::Result<Round> {
        // The first copy brings its memory back, as the first micro-batch of a stage does.
        self.copies.visit()?;
        let [copy_in_s, copy_out_s] = self.copies.visit()?;
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

/// Refuses a model whose stages, which a round needs side by side, are more than the device has room for.
fn refuse_what_does_not_fit(workshop: &Workshop<'_>) -> anyhow::Result<()> {
    let request = workshop.request;
    let needed_bytes = bytes_of_a_round(&request.model, &request.shape);
    let free_bytes = free_bytes(workshop.device)?;
    if needed_bytes <= free_bytes {
        return Ok(());
    }
    bail!(
        "time the model: a round needs stages of {FEW_LAYERS}, {MANY_LAYERS} and {WHOLE_LAYERS} layers, a first and a last one at once, at least \
         {:.1} GB, and {} has {:.1} GB free; measure smaller micro-batches, a smaller model, or on a device with more memory",
        needed_bytes as f64 / BYTES_PER_GB,
        workshop.device,
        free_bytes as f64 / BYTES_PER_GB
    )
}

/// What the formula says that a round's stages need together: all of their states, and one micro-batch of the largest.
fn bytes_of_a_round(model: &LayerShape, shape: &MicroBatchShape) -> u64 {
    let stages: [(&[u32], usize); 5] = [
        (&[1, FEW_LAYERS, 1], 1),
        (&[1, MANY_LAYERS, 1], 1),
        (&[FEW_LAYERS, 1], 0),
        (&[1, FEW_LAYERS], 1),
        (&[WHOLE_LAYERS], 0),
    ];
    let stages = stages.map(|(layers, stage)| {
        let model = model.with_layers(layers.iter().sum());
        StageMemory::of(&model, shape, layers, stage)
    });
    let states = stages.iter().map(|stage| stage.state_bytes);
    let beyond = stages
        .iter()
        .map(|stage| stage.peak_bytes(1).saturating_sub(stage.state_bytes));
    states
        .fold(0, u64::saturating_add)
        .saturating_add(beyond.max().unwrap_or(0))
}

/// Memory that a device has left.
fn free_bytes(device: Device) -> anyhow::Result<u64> {
    match device {
        Device::Cuda(index) => Ok(Driver::load()?.context(index)?.memory()?.free_bytes),
        Device::Cpu => {
            let told = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
            let available = told.lines().find_map(|line| {
                let kib = line.strip_prefix("MemAvailable:")?.trim();
                kib.strip_suffix(" kB")?.parse::<u64>().ok()
            });
            let kib = available.context("find MemAvailable in /proc/meminfo")?;
            Ok(kib << 10)
        }
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
            let rounds: anyhow::Result<Vec<Round>> = (0..WINDOW).map(|_| stages.round()).collect();
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

#[cfg(test)]
mod tests {
    use bace_models::{LayerShape, MicroBatchShape};

    use super::*;

    #[test]
    fn a_round_needs_all_its_stages() {
        let model = LayerShape {
            hidden: 64,
            heads: 4,
            kv_heads: 4,
            head_size: 16,
            feed_forward: 256,
            gated: false,
            vocabulary: 1000,
        };
        let shape = MicroBatchShape {
            sequences: 1,
            sequence: 1,
            bytes_per_element: 4,
        };
        let whole = model.with_layers(1);
        let parameters = 10 * whole.layer_parameters() + 4 * whole.embedding_parameters();
        let needed = bytes_of_a_round(&model, &shape);
        // 16 bytes a parameter, and next to nothing for a micro-batch of one token.
        let states = 16 * parameters;
        assert!(
            (states..states + states / 20).contains(&needed),
            "{needed} {states}"
        );
        assert!(free_bytes(Device::Cpu).unwrap() > 0);
    }
}
