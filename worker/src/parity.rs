//! Whether a device computes what the CPU computes, and a pipeline on it what one process computes.

use std::collections::BTreeMap;

use bace_models::ModelSpec;
use bace_torch::{
    BatchShape, Device, Element, Error, OptimizerSettings, Precision, Stage, StageInput,
    StageOutput, Trained, Training, Transfer, exhaust, train_alone,
};
use serde_json::{Value, json};

use crate::cli::ParityArgs;
use crate::text::Text;
use crate::torch;

/// Layers of each stage of the pipeline that is compared.
const SPLIT: [u32; 3] = [1, 2, 1];

/// Compares `args`' device; what was the same and what not.
pub fn parity(args: &ParityArgs) -> anyhow::Result<Value> {
    torch::set_up(args.device, Precision::Fp32);
    let mut found = compare(args.device, &Text::load(args.data.as_deref())?)?;
    found["device"] = args.device.describe()?.into();
    Ok(found)
}

/// Trains the same small model on the CPU, on `device`, and there as a pipeline whose tensors go through the host; what was
/// the same and what not.
fn compare(device: Device, text: &Text) -> Result<Value, Error> {
    let exact = training(Precision::Fp32);
    let on_cpu = train_alone(&exact, &text.0, Device::Cpu)?;
    let alone = train_alone(&exact, &text.0, device)?;
    let mut pipelines = BTreeMap::new();
    for precision in [Precision::Fp32, Precision::Bf16] {
        let training = training(precision);
        let alone = train_alone(&training, &text.0, device)?;
        let piped = train_piped(&training, text, device)?;
        pipelines.insert(
            precision.to_string(),
            json!({
                "bit_identical": alone == piped,
                "worst_relative": worst_relative(&alone.losses, &piped.losses),
            }),
        );
    }
    let said = exhaust(device)?;
    Ok(json!({
        "parity": {
            "losses_cpu": on_cpu.losses,
            "losses_device": alone.losses,
            "worst_relative": worst_relative(&on_cpu.losses, &alone.losses),
        },
        "pipeline": pipelines,
        "transfer": round_trips(device)?,
        "out_of_memory": {
            "said": said,
            "understood": bace_stage::lack_of_memory(&said),
        },
    }))
}

fn training(precision: Precision) -> Training {
    Training {
        model: ModelSpec {
            layers: SPLIT.iter().sum(),
            hidden: 64,
            heads: 4,
            kv_heads: 2,
            head_size: 16,
            feed_forward: 128,
            gated: true,
            vocabulary: 256,
        },
        batch: BatchShape {
            sequences: 2,
            tokens: 32,
        },
        micro_batches: 4,
        iterations: 8,
        seed: 5,
        job: 0,
        optimizer: OptimizerSettings::default(),
        precision,
    }
}

/// The largest difference of an iteration's losses, relative to the first training's; absent where one has losses that the
/// other lacks, or where a loss is no number, since that is no difference of any size.
fn worst_relative(one: &[f64], other: &[f64]) -> Option<f64> {
    if one.len() != other.len() || one.is_empty() {
        return None;
    }
    one.iter()
        .zip(other)
        .try_fold(0.0, |worst: f64, (one, other)| {
            let difference = (one - other).abs() / one.abs();
            difference.is_finite().then(|| worst.max(difference))
        })
}

/// A stage and the ways of its tensors: what arrives and what departs.
struct Piece {
    stage: Stage,
    arrivals: Transfer,
    departures: Transfer,
}

/// All micro-batches forward through all stages, then backward: the same numbers as any other schedule's.
fn train_piped(training: &Training, text: &Text, device: Device) -> Result<Trained, Error> {
    let element = match training.precision {
        Precision::Fp32 => Element::Fp32,
        Precision::Bf16 => Element::Bf16,
    };
    let mut first = 0;
    let mut pieces = Vec::new();
    for layers in SPLIT {
        let stage = Stage::new(training.stage_plan(first..first + layers), device)?;
        let way = || Transfer::new(device, stage.boundary_shape(), element);
        pieces.push(Piece {
            arrivals: way()?,
            departures: way()?,
            stage,
        });
        first += layers;
    }
    let mut losses = Vec::new();
    for iteration in 0..training.iterations {
        let mut sum = 0.0;
        for micro_batch in 0..training.micro_batches {
            sum += forward(training, text, &mut pieces, (iteration, micro_batch))?;
        }
        for micro_batch in 0..training.micro_batches {
            backward(&mut pieces, micro_batch)?;
        }
        for piece in &mut pieces {
            piece.stage.step()?;
        }
        losses.push(sum / f64::from(training.micro_batches));
    }
    let digests = pieces.iter().flat_map(|piece| piece.stage.part_digests());
    Ok(Trained {
        losses,
        digests: digests.collect(),
    })
}

/// A micro-batch through all stages; its loss.
fn forward(
    training: &Training,
    text: &Text,
    pieces: &mut [Piece],
    (iteration, micro_batch): (u64, u32),
) -> Result<f64, Error> {
    let key = training.batch_key(iteration, micro_batch);
    let batch = text.0.batch(key, training.batch)?;
    let mut input = StageInput::Tokens(batch.tokens);
    for index in 0..pieces.len() {
        let Piece {
            stage, departures, ..
        } = &mut pieces[index];
        let targets = stage.is_last().then_some(&batch.targets);
        match stage.forward(micro_batch, input, targets)? {
            StageOutput::Loss(loss) => return Ok(loss),
            StageOutput::Activation(tensor) => {
                let bytes = departures.depart(&tensor)?.wait()?;
                input = StageInput::Activation(pieces[index + 1].arrivals.arrive(&bytes)?);
            }
        }
    }
    unreachable!("the last stage ends in a loss")
}

fn backward(pieces: &mut [Piece], micro_batch: u32) -> Result<(), Error> {
    let mut gradient: Option<Vec<u8>> = None;
    for piece in pieces.iter_mut().rev() {
        let arrived = match gradient.take() {
            Some(bytes) => Some(piece.arrivals.arrive(&bytes)?),
            None => None,
        };
        if let Some(tensor) = piece.stage.backward(micro_batch, arrived)? {
            gradient = Some(piece.departures.depart(&tensor)?.wait()?);
        }
    }
    Ok(())
}

/// Bytes of every value to the device and back.
fn round_trips(device: Device) -> Result<Value, Error> {
    const TENSORS: u32 = 16;
    let shape = bace_torch::BoundaryShape {
        sequences: 4,
        tokens: 128,
        hidden: 256,
    };
    let mut is_exact = true;
    for element in [Element::Fp32, Element::Bf16] {
        let mut transfer = Transfer::new(device, shape, element)?;
        for seed in 0..TENSORS {
            let bytes = finite_bytes(shape.bytes(element), element, seed);
            let tensor = transfer.arrive(&bytes)?;
            is_exact &= transfer.depart(&tensor)?.wait()? == bytes;
        }
    }
    Ok(json!({"tensors": 2 * TENSORS, "bit_exact": is_exact}))
}

/// Bytes that repeat nothing for long, none of them a number that is not one, whose bits need not survive.
fn finite_bytes(count: usize, element: Element, seed: u32) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut bytes: Vec<u8> = (0..count)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    // Without the exponent's highest bit a number is finite.
    let highest = element.size() - 1;
    for number in bytes.chunks_exact_mut(element.size()) {
        number[highest] &= 0b1011_1111;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_losses_that_are_numbers_differ_by_one() {
        let worst = |other: &[f64]| worst_relative(&[2.0, 4.0], other);
        assert_eq!(worst(&[2.0, 4.0]), Some(0.0));
        assert_eq!(worst(&[2.0, 3.0]), Some(0.25));
        for broken in [f64::NAN, -f64::NAN, f64::INFINITY] {
            assert_eq!(worst(&[broken, 4.0]), None);
            assert_eq!(worst(&[2.0, broken]), None);
            assert_eq!(worst_relative(&[2.0, broken], &[2.0, 4.0]), None);
        }
        assert_eq!(worst_relative(&[f64::NAN], &[f64::NAN]), None);
        assert_eq!(worst(&[2.0]), None);
        assert_eq!(worst(&[2.0, 4.0, 8.0]), None);
        assert_eq!(worst_relative(&[], &[]), None);
    }
}
