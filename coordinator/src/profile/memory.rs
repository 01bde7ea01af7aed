//! Peaks of memory beside what the scheduler's formula says.

use bace_api::{MemoryReply, MemoryTask, ProfileReply, ProfileRequest, ProfileTask};
use bace_models::{ProfileKey, StageMemory, StagePlace};

use super::file::MemoryPeak;
use crate::run::ask_worker_for_profile;

/// Layers of the stages that are measured.
const LAYERS: u32 = 2;
/// Micro-batches in flight of the two stages whose difference is what a micro-batch in flight takes.
const FEW: u32 = 1;
const MANY: u32 = 4;

const BYTES_PER_MB: f64 = 1e6;
/// A ratio this close to 1 is no deviation: allocators round, and so does the formula.
const CLOSE: f64 = 0.1;

/// Measures peaks, each in a process of its own; why not, as words that follow a colon.
pub fn measure(request: &ProfileRequest) -> anyhow::Result<Result<Vec<MemoryPeak>, String>> {
    let key = ProfileKey {
        model: request.model,
        shape: request.shape,
    };
    let mut peaks = Vec::new();
    for (is_whole, in_flight) in [(false, FEW), (false, MANY), (true, FEW)] {
        let task = MemoryTask {
            layers: LAYERS,
            is_whole,
            in_flight,
        };
        let request = ProfileRequest {
            task: ProfileTask::Memory(task),
            ..request.clone()
        };
        match ask_worker_for_profile(&request)? {
            ProfileReply::Memory(MemoryReply::Peak(measured_bytes)) => peaks.push(MemoryPeak {
                layers: LAYERS,
                is_whole,
                in_flight,
                measured_bytes,
                formula_bytes: formula(&key, task).peak_bytes(in_flight),
            }),
            ProfileReply::Memory(MemoryReply::Absent(reason)) => return Ok(Err(reason)),
            ProfileReply::Times(_) | ProfileReply::SetUp(_) => {
                anyhow::bail!("ask bace-worker for memory: it told something else")
            }
        }
    }
    Ok(Ok(peaks))
}

/// What the scheduler takes the stage of `task` to need.
fn formula(key: &ProfileKey, task: MemoryTask) -> StageMemory {
    let (layers, stage): (&[u32], usize) = match task.place() {
        StagePlace::Only => (&[task.layers], 0),
        _ => (&[1, task.layers, 1], 1),
    };
    let model = key.model.with_layers(layers.iter().sum());
    StageMemory::of(&model, &key.shape, layers, stage)
}

/// Lines that hold measurement against formula, and say what it comes to.
pub fn lines(key: &ProfileKey, peaks: &[MemoryPeak]) -> Vec<String> {
    let mut lines: Vec<String> = peaks
        .iter()
        .map(|peak| {
            format!(
                "{} of {} layers, {} in flight: {} measured, {} by the formula, {:.2} times it",
                if peak.is_whole {
                    "whole model"
                } else {
                    "inner stage"
                },
                peak.layers,
                peak.in_flight,
                megabytes(peak.measured_bytes as f64),
                megabytes(peak.formula_bytes as f64),
                peak.measured_bytes as f64 / peak.formula_bytes as f64
            )
        })
        .collect();
    lines.extend(verdict(key, peaks));
    lines
}

/// What a micro-batch in flight takes, and all that does not depend on how many there are, each beside the formula's.
fn verdict(key: &ProfileKey, peaks: &[MemoryPeak]) -> Option<String> {
    let inner = |in_flight: u32| {
        let mut found = peaks
            .iter()
            .filter(|peak| !peak.is_whole && peak.in_flight == in_flight);
        found.next()
    };
    let (few, many) = (inner(FEW)?, inner(MANY)?);
    let task = MemoryTask {
        layers: few.layers,
        is_whole: false,
        in_flight: FEW,
    };
    let by_formula = formula(key, task);
    let each_bytes =
        (many.measured_bytes as f64 - few.measured_bytes as f64) / f64::from(MANY - FEW);
    let rest_bytes = few.measured_bytes as f64 - f64::from(FEW) * each_bytes;
    let each = each_bytes / by_formula.activation_bytes as f64;
    let rest = rest_bytes / (by_formula.state_bytes + by_formula.working_bytes) as f64;
    let compared = |what: &str, measured: f64, ratio: f64| {
        let than = if (ratio - 1.0).abs() <= CLOSE {
            "as the formula says".to_owned()
        } else if ratio > 1.0 {
            format!("{ratio:.2} times the formula's; it falls short")
        } else {
            format!("{ratio:.2} times the formula's; it is on the safe side")
        };
        format!("{what} takes {}, {than}", megabytes(measured))
    };
    Some(format!(
        "{}; {}",
        compared("a micro-batch in flight", each_bytes, each),
        compared("what is there without any", rest_bytes, rest)
    ))
}

fn megabytes(bytes: f64) -> String {
    format!("{:.2} MB", bytes / BYTES_PER_MB)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::file::tests::key;

    #[test]
    fn a_micro_batch_and_the_rest_are_told_apart() {
        let key = key(2);
        let peak = |in_flight: u32, measured_bytes: u64| {
            let task = MemoryTask {
                layers: LAYERS,
                is_whole: false,
                in_flight,
            };
            MemoryPeak {
                layers: LAYERS,
                is_whole: false,
                in_flight,
                measured_bytes,
                formula_bytes: formula(&key, task).peak_bytes(in_flight),
            }
        };
        // 110 592 weights a layer; 2 bytes x 128 tokens x 1536 elements a layer.
        let (state, activations) = (2 * 110_592 * 16, 2 * 2 * 128 * 1536);
        assert_eq!(peak(3, 0).formula_bytes, state + 3 * activations);
        let peaks = [
            peak(1, state + 2 * activations),
            peak(4, state + 8 * activations),
        ];
        let lines = lines(&key, &peaks);
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[2],
            "a micro-batch in flight takes 1.57 MB, 2.00 times the formula's; it falls short; what is there without any takes \
             3.54 MB, as the formula says"
        );
    }
}
