//! Layers cut into pipeline stages.
//!
//! All layers cost the same, so a cut is a count of layers for each stage. The embedding (free of charge by the formula) stays
//! on stage 0 and the head on the last stage. The cut makes the largest stage time smallest; among
//! all such cuts it is the lexicographically largest vector, so that earlier stages take more.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::{
    DeviceTimes, FORWARD_AND_BACKWARD, GpuType, MicroBatchShape, ModelSpec, StagePlace,
    StageSeconds,
};

/// Stage times this close (relative) count as equal.
const SLACK: f64 = 1e-12;

/// What a split needs to know of a model: its layers, and what they and the ends of the model cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Workload {
    /// Layers of the model, L.
    pub layers: u32,
    /// What they cost.
    pub work: Work,
}

/// What stages cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Work {
    /// Operations, which take a time that follows from the GPU's type.
    Operations {
        /// Forward operations of one layer on one micro-batch.
        layer: f64,
        /// Forward operations of the head on one micro-batch.
        head: f64,
    },
    /// Seconds, as measured on the one device that all stages run on, whatever GPU types they stand for.
    Measured(DeviceTimes),
}

/// A cut of a model into stages.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Layers of each stage, each at least 1.
    pub layers: Vec<u32>,
    /// What each stage takes.
    pub stage_seconds: Vec<StageSeconds>,
    /// The largest forward and backward of one micro-batch: t, seconds.
    pub largest_s: f64,
}

impl Workload {
    /// The workload of one micro-batch of `shape` on `model`, by the formula.
    pub fn of(model: &ModelSpec, shape: &MicroBatchShape) -> Self {
        Self {
            layers: model.layers,
            work: Work::Operations {
                layer: shape.layer_operations(model),
                head: shape.head_operations(model),
            },
        }
    }

    /// Work that a GPU of type `gpu` does in a second: operations, or seconds where these were measured.
    pub fn speed(&self, gpu: &GpuType) -> f64 {
        match self.work {
            Work::Operations { .. } => gpu.flops * gpu.mfu,
            Work::Measured(_) => 1.0,
        }
    }

    /// Forward and backward work of a stage on one micro-batch.
    pub fn stage_work(&self, layers: u32, place: StagePlace) -> f64 {
        match self.work {
            Work::Operations { layer, head } => {
                let head = if place.holds_head() { head } else { 0.0 };
                FORWARD_AND_BACKWARD * (f64::from(layers) * layer + head)
            }
            Work::Measured(times) => times.parts.stage(layers, place).micro_batch_s(),
        }
    }

    /// What a stage takes on a GPU of type `gpu`.
    pub fn stage_seconds(&self, gpu: &GpuType, layers: u32, place: StagePlace) -> StageSeconds {
        match self.work {
            Work::Operations { .. } => {
                StageSeconds::by_formula(self.stage_work(layers, place) / self.speed(gpu))
            }
            Work::Measured(times) => times.stage_seconds(layers, place),
        }
    }

    /// Forward and backward work of the largest stage when `stages` equal GPUs share the model.
    ///
    /// `None` if there are more stages than layers, or none.
    pub fn largest_stage_work(&self, stages: u32) -> Option<f64> {
        if stages == 0 || stages > self.layers {
            return None;
        }
        if stages == 1 {
            return Some(self.stage_work(self.layers, StagePlace::Only));
        }
        if let Work::Measured(_) = self.work {
            return Some(self.grown_bottleneck(&vec![1.0; stages as usize]));
        }
        // The last stage's time grows with its layers and the others' shrinks: the best is at the crossing.
        let others = |last: u32| {
            let layers = (self.layers - last).div_ceil(stages - 1);
            self.stage_work(layers, StagePlace::Middle)
        };
        let at_end = |last: u32| self.stage_work(last, StagePlace::Last);
        let (mut low, mut high) = (1, self.layers - (stages - 1));
        while low < high {
            let middle = low + (high - low) / 2;
            if at_end(middle) >= others(middle) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        let with = |last: u32| at_end(last).max(others(last));
        let best = with(low);
        Some(if low > 1 {
            best.min(with(low - 1))
        } else {
            best
        })
    }

    /// Cuts the model into one stage for each of `gpus`, in their order.
    ///
    /// `None` if there are more stages than layers, or none.
    pub fn split(&self, gpus: &[&GpuType]) -> Option<Split> {
        let stages = u32::try_from(gpus.len()).ok()?;
        if stages == 0 || stages > self.layers {
            return None;
        }
        let speeds: Vec<f64> = gpus.iter().map(|gpu| self.speed(gpu)).collect();
        let largest_s = self.smallest_bottleneck(&speeds);
        let limit_s = largest_s * (1.0 + SLACK);
        let mut left = self.layers;
        let layers: Vec<u32> = (0..gpus.len())
            .map(|stage| {
                let behind = stages - 1 - stage as u32;
                let room = left - behind;
                let taken = self.most_layers(&speeds, stage, limit_s, room);
                left -= taken;
                taken
            })
            .collect();
        debug_assert_eq!(
            left, 0,
            "a bottleneck that some cut reaches holds all layers"
        );
        let stage_seconds: Vec<StageSeconds> = layers
            .iter()
            .enumerate()
            .map(|(stage, &layers)| {
                let place = StagePlace::of(stage, gpus.len());
                self.stage_seconds(gpus[stage], layers, place)
            })
            .collect();
        let times = stage_seconds.iter().map(|stage| stage.micro_batch_s);
        let largest_s = times.fold(0.0, f64::max);
        Some(Split {
            layers,
            stage_seconds,
            largest_s,
        })
    }

    fn seconds_at(&self, speeds: &[f64], stage: usize, layers: u32) -> f64 {
        self.stage_work(layers, StagePlace::of(stage, speeds.len())) / speeds[stage]
    }

    fn smallest_bottleneck(&self, speeds: &[f64]) -> f64 {
        if speeds.iter().all(|&speed| speed == speeds[0]) {
            let work = self.largest_stage_work(speeds.len() as u32);
            return work.expect("between 1 stage and one a layer") / speeds[0];
        }
        self.grown_bottleneck(speeds)
    }

    /// The smallest largest stage time: from one layer each, the stage that is fastest with one layer more takes it.
    fn grown_bottleneck(&self, speeds: &[f64]) -> f64 {
        let mut largest = 0.0_f64;
        let mut queue: BinaryHeap<Reverse<Growth>> = BinaryHeap::with_capacity(speeds.len());
        for stage in 0..speeds.len() {
            largest = largest.max(self.seconds_at(speeds, stage, 1));
            queue.push(Reverse(Growth {
                seconds: self.seconds_at(speeds, stage, 2),
                stage,
                layers: 2,
            }));
        }
        for _ in speeds.len() as u32..self.layers {
            let Some(mut top) = queue.peek_mut() else {
                break;
            };
            let Growth {
                seconds,
                stage,
                layers,
            } = top.0;
            largest = largest.max(seconds);
            top.0 = Growth {
                seconds: self.seconds_at(speeds, stage, layers + 1),
                stage,
                layers: layers + 1,
            };
        }
        largest
    }

    /// The most layers, from 1 to `room`, that `stage` computes within `limit_s`.
    fn most_layers(&self, speeds: &[f64], stage: usize, limit_s: f64, room: u32) -> u32 {
        let (mut low, mut high) = (1, room);
        while low < high {
            let middle = high - (high - low) / 2;
            if self.seconds_at(speeds, stage, middle) <= limit_s {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }
}

/// A stage's time if it took one layer more than it has.
#[derive(Debug, Clone, Copy)]
struct Growth {
    seconds: f64,
    stage: usize,
    layers: u32,
}

impl PartialEq for Growth {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Growth {}

impl PartialOrd for Growth {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Growth {
    fn cmp(&self, other: &Self) -> Ordering {
        self.seconds
            .total_cmp(&other.seconds)
            .then(self.stage.cmp(&other.stage))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Part, Parts, SetUp};

    fn gpu(flops: f64) -> GpuType {
        GpuType {
            flops,
            mfu: 0.5,
            memory_bytes: 1,
            busy_w: 1.0,
            idle_w: 0.0,
        }
    }

    fn operations(layers: u32, layer: f64, head: f64) -> Workload {
        Workload {
            layers,
            work: Work::Operations { layer, head },
        }
    }

    fn cut(workload: Workload, speeds: &[f64]) -> Split {
        let gpus: Vec<GpuType> = speeds.iter().map(|&speed| gpu(speed)).collect();
        workload.split(&gpus.iter().collect::<Vec<_>>()).unwrap()
    }

    /// All cuts of `layers` into `stages`, in lexicographically descending order.
    fn all_cuts(layers: u32, stages: u32) -> Vec<Vec<u32>> {
        if stages == 1 {
            return vec![vec![layers]];
        }
        (1..=layers - (stages - 1))
            .rev()
            .flat_map(|first| {
                all_cuts(layers - first, stages - 1)
                    .into_iter()
                    .map(move |rest| [vec![first], rest].concat())
            })
            .collect()
    }

    fn brute_force(workload: Workload, speeds: &[f64]) -> (Vec<u32>, f64) {
        let largest = |cut: &[u32]| {
            cut.iter()
                .enumerate()
                .map(|(stage, &layers)| {
                    let place = StagePlace::of(stage, cut.len());
                    let seconds = workload.stage_seconds(&gpu(speeds[stage]), layers, place);
                    seconds.micro_batch_s
                })
                .fold(0.0, f64::max)
        };
        let cuts = all_cuts(workload.layers, speeds.len() as u32);
        let best = cuts
            .iter()
            .map(|cut| largest(cut))
            .fold(f64::INFINITY, f64::min);
        let first = cuts
            .into_iter()
            .find(|cut| largest(cut) <= best * (1.0 + SLACK));
        (first.unwrap(), best)
    }

    #[test]
    fn earlier_stages_take_more_and_a_heavy_head_pushes_layers_forward() {
        let workload = |head| operations(10, 1.0, head);
        assert_eq!(cut(workload(0.0), &[2.0; 4]).layers, [3, 3, 3, 1]);
        assert_eq!(cut(workload(2.0), &[2.0; 4]).layers, [3, 3, 3, 1]);
        assert_eq!(cut(workload(9.0), &[2.0; 4]).layers, [7, 1, 1, 1]);
        assert_eq!(cut(workload(0.0), &[2.0, 4.0, 2.0]).layers, [3, 6, 1]);
    }

    #[test]
    fn one_stage_and_one_stage_a_layer() {
        let workload = operations(3, 2.0, 1.0);
        assert_eq!(cut(workload, &[1.0]).layers, [3]);
        assert_eq!(cut(workload, &[1.0]).largest_s, 3.0 * 7.0 / 0.5);
        assert_eq!(cut(workload, &[1.0; 3]).layers, [1, 1, 1]);
        assert_eq!(workload.largest_stage_work(4), None);
        assert_eq!(workload.split(&[]), None);
    }

    proptest! {
        #[test]
        fn splits_are_the_brute_force_ones(
            layers in 1_u32..12,
            head in prop_oneof![Just(0.0), 0.1_f64..8.0, (1_u32..6).prop_map(f64::from)],
            speeds in prop::collection::vec(
                prop_oneof![(1_u32..5).prop_map(f64::from), 0.5_f64..4.0], 1..6),
        ) {
            let stages = speeds.len().min(layers as usize);
            let workload = operations(layers, 1.0, head);
            let (expected, bottleneck) = brute_force(workload, &speeds[..stages]);
            let split = cut(workload, &speeds[..stages]);
            prop_assert_eq!(&split.layers, &expected);
            prop_assert!(split.largest_s <= bottleneck * (1.0 + SLACK));
        }

        #[test]
        fn equal_gpus_need_no_search(
            layers in 1_u32..14,
            stages in 1_u32..7,
            head in prop_oneof![Just(0.0), 0.1_f64..9.0],
        ) {
            let stages = stages.min(layers);
            let workload = operations(layers, 1.0, head);
            let (_, bottleneck) = brute_force(workload, &vec![1.0; stages as usize]);
            let work = workload.largest_stage_work(stages).unwrap();
            prop_assert_eq!(gpu(1.0).seconds_for(work), bottleneck);
        }

        #[test]
        fn measured_splits_are_the_brute_force_ones(
            layers in 1_u32..12,
            stages in 1_usize..6,
            ends in prop::array::uniform4(0.0_f64..8.0),
            copy_s in 0.0_f64..3.0,
        ) {
            let stages = stages.min(layers as usize);
            let part = |seconds: f64| Part { forward_s: seconds / 4.0, backward_s: seconds * 0.75, step_s: 9.0 };
            let workload = Workload {
                layers,
                work: Work::Measured(DeviceTimes {
                    parts: Parts {
                        layer: part(1.0),
                        embedding: part(ends[0]),
                        head: part(ends[1]),
                        stage: part(ends[2] / 8.0),
                        copy_in_s: copy_s,
                        copy_out_s: copy_s / 2.0,
                    },
                    set_up: Some(SetUp { layer_s: 2.0, stage_s: 1.0, fresh_s: 5.0, ..SetUp::default() }),
                }),
            };
            // Whatever types the GPUs are of.
            let speeds: Vec<f64> = (0..stages).map(|stage| 1.0 + ends[3] * stage as f64).collect();
            let (expected, bottleneck) = brute_force(workload, &speeds);
            let split = cut(workload, &speeds);
            prop_assert_eq!(&split.layers, &expected);
            prop_assert!(split.largest_s <= bottleneck * (1.0 + SLACK));
            let largest = workload.largest_stage_work(stages as u32).unwrap();
            prop_assert!((largest - bottleneck).abs() <= SLACK * bottleneck);
            let steps = split.layers.iter().zip(&split.stage_seconds).enumerate();
            for (stage, (&layers, takes)) in steps {
                let ends = u32::from(stage == 0) + u32::from(stage + 1 == stages);
                prop_assert_eq!(takes.step_s, 9.0 * f64::from(layers + 1 + ends));
                prop_assert_eq!([takes.set_up_s, takes.fresh_s], [f64::from(2 * layers + 1), 5.0]);
            }
        }
    }
}
