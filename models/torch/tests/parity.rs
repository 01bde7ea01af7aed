//! A pipeline trains the same model as one process: to the last bit with fp32 boundaries, and
//! within a tolerance with bf16.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::ops::Range;

use bace_models::ModelSpec;
use bace_torch::{
    BatchShape, Corpus, Device, Element, OptimizerSettings, Precision, Stage, StageInput,
    StageOutput, Trained, Training, from_bytes, to_bytes, train_alone, use_threads,
};

#[derive(Debug, Clone, Copy)]
enum Action {
    Forward(u32),
    Backward(u32),
}

/// How many forwards a stage starts with, before it alternates one backward and one forward.
#[derive(Debug, Clone, Copy)]
enum Schedule {
    GPipe,
    OneForwardOneBackward,
    Eager,
}

const SCHEDULES: [Schedule; 3] = [
    Schedule::GPipe,
    Schedule::OneForwardOneBackward,
    Schedule::Eager,
];

#[test]
fn every_split_and_schedule_trains_the_same_model_to_the_last_bit() {
    use_threads(1);
    for (model, micro_batches) in [(plain(), 5), (gated(), 4)] {
        let training = training(model, micro_batches);
        let alone = train_alone(&training, &corpus(), Device::Cpu).unwrap();
        for split in [
            vec![4],
            vec![2, 2],
            vec![3, 1],
            vec![1, 3],
            vec![2, 1, 1],
            vec![1, 1, 2],
            vec![1, 1, 1, 1],
        ] {
            for schedule in SCHEDULES {
                let piped = train_piped(&training, &split, schedule, Element::Fp32);
                assert_eq!(alone, piped, "{split:?} {schedule:?}");
            }
        }
    }
}

/// The tolerance is 2 % of each iteration's loss: bf16 keeps 8 bits of a number, an error of up to
/// 0.4 % at each of three boundaries.
#[test]
fn bf16_boundaries_keep_the_loss_within_two_percent() {
    use_threads(1);
    let training = training(gated(), 4);
    let alone = train_alone(&training, &corpus(), Device::Cpu).unwrap();
    let split = [1, 1, 1, 1];
    let piped = train_piped(&training, &split, Schedule::Eager, Element::Bf16);
    assert_ne!(alone.losses, piped.losses);
    for (alone, piped) in alone.losses.iter().zip(&piped.losses) {
        assert!((alone - piped).abs() <= 0.02 * alone, "{alone} {piped}");
    }
}

#[test]
fn the_bits_do_not_depend_on_the_schedule_with_bf16_either() {
    use_threads(1);
    let training = training(plain(), 4);
    let [first, others @ ..] =
        SCHEDULES.map(|schedule| train_piped(&training, &[2, 2], schedule, Element::Bf16));
    for other in others {
        assert_eq!(first, other);
    }
}

/// bf16 activations cross a boundary without loss in either element, so that bits have to agree.
#[test]
fn stages_that_compute_in_bf16_train_the_same_model_to_the_last_bit() {
    use_threads(1);
    for model in [plain(), gated()] {
        let training = Training {
            precision: Precision::Bf16,
            ..training(model, 4)
        };
        let alone = train_alone(&training, &corpus(), Device::Cpu).unwrap();
        for (split, schedule, element) in [
            (vec![4], Schedule::GPipe, Element::Bf16),
            (vec![2, 2], Schedule::OneForwardOneBackward, Element::Bf16),
            (vec![1, 1, 2], Schedule::Eager, Element::Bf16),
            (vec![1, 3], Schedule::Eager, Element::Fp32),
        ] {
            let piped = train_piped(&training, &split, schedule, element);
            assert_eq!(alone, piped, "{split:?} {schedule:?} {element:?}");
        }
    }
}

/// Weights are kept in fp32, so that bf16 loses nothing from step to step: 2 % of the loss, as above.
#[test]
fn computing_in_bf16_keeps_the_loss_within_two_percent() {
    use_threads(1);
    let exact = training(gated(), 4);
    let rounded = Training {
        precision: Precision::Bf16,
        ..exact.clone()
    };
    let [exact, rounded] =
        [exact, rounded].map(|training| train_alone(&training, &corpus(), Device::Cpu).unwrap());
    assert_ne!(exact.losses, rounded.losses);
    assert!(rounded.losses.last() < rounded.losses.first());
    for (exact, rounded) in exact.losses.iter().zip(&rounded.losses) {
        assert!((exact - rounded).abs() <= 0.02 * exact, "{exact} {rounded}");
    }
}

fn plain() -> ModelSpec {
    ModelSpec {
        layers: 4,
        hidden: 32,
        heads: 4,
        kv_heads: 4,
        head_size: 8,
        feed_forward: 64,
        gated: false,
        vocabulary: 256,
    }
}

/// Grouped queries, and a width of the heads together that is not the stream's.
fn gated() -> ModelSpec {
    ModelSpec {
        kv_heads: 2,
        head_size: 16,
        feed_forward: 48,
        gated: true,
        vocabulary: 300,
        ..plain()
    }
}

fn training(model: ModelSpec, micro_batches: u32) -> Training {
    Training {
        model,
        batch: BatchShape {
            sequences: 3,
            tokens: 16,
        },
        micro_batches,
        iterations: 4,
        seed: 11,
        job: 2,
        optimizer: OptimizerSettings {
            learning_rate: 3e-3,
            ..OptimizerSettings::default()
        },
        precision: Precision::Fp32,
    }
}

fn corpus() -> Corpus {
    Corpus::from_bytes(include_bytes!("parity.rs").to_vec())
}

/// Trains stages of these layer counts, every boundary crossed in bytes.
fn train_piped(
    training: &Training,
    split: &[u32],
    schedule: Schedule,
    element: Element,
) -> Trained {
    let corpus = corpus();
    let mut first = 0;
    let mut stages: Vec<Stage> = split
        .iter()
        .map(|layers| {
            let range = Range {
                start: first,
                end: first + layers,
            };
            first = range.end;
            Stage::new(training.stage_plan(range), Device::Cpu).unwrap()
        })
        .collect();
    let losses = (0..training.iterations)
        .map(|iteration| {
            iterate(
                training,
                &corpus,
                &mut stages,
                (schedule, element),
                iteration,
            )
        })
        .collect();
    let digests = stages.iter().flat_map(Stage::part_digests).collect();
    Trained { losses, digests }
}

/// One iteration: goes round the stages, each doing its next action when its tensor is there.
fn iterate(
    training: &Training,
    corpus: &Corpus,
    stages: &mut [Stage],
    (schedule, element): (Schedule, Element),
    iteration: u64,
) -> f64 {
    let count = stages.len();
    let programs = programs(schedule, count, training.micro_batches);
    let mut places = vec![0; count];
    let mut activations = BTreeMap::new();
    let mut gradients = BTreeMap::new();
    let mut losses = BTreeMap::new();
    while places
        .iter()
        .zip(&programs)
        .any(|(&place, program)| place < program.len())
    {
        let before = places.clone();
        for (index, stage) in stages.iter_mut().enumerate() {
            let shape = stage.boundary_shape();
            let read = |bytes: Vec<u8>| from_bytes(&bytes, shape, element, Device::Cpu).unwrap();
            match programs[index].get(places[index]) {
                Some(&Action::Forward(m)) => {
                    let batch = corpus
                        .batch(training.batch_key(iteration, m), training.batch)
                        .unwrap();
                    let input = if index == 0 {
                        StageInput::Tokens(batch.tokens)
                    } else if let Some(bytes) = activations.remove(&(index, m)) {
                        StageInput::Activation(read(bytes))
                    } else {
                        continue;
                    };
                    let targets = stage.is_last().then_some(&batch.targets);
                    match stage.forward(m, input, targets).unwrap() {
                        StageOutput::Activation(tensor) => {
                            activations.insert((index + 1, m), to_bytes(&tensor, element));
                        }
                        StageOutput::Loss(loss) => {
                            losses.insert(m, loss);
                        }
                    }
                }
                Some(&Action::Backward(m)) => {
                    let gradient = if stage.is_last() {
                        None
                    } else if let Some(bytes) = gradients.remove(&(index, m)) {
                        Some(read(bytes))
                    } else {
                        continue;
                    };
                    if let Some(tensor) = stage.backward(m, gradient).unwrap() {
                        gradients.insert((index - 1, m), to_bytes(&tensor, element));
                    }
                }
                None => continue,
            }
            places[index] += 1;
        }
        assert_ne!(places, before, "deadlock");
    }
    for stage in stages {
        assert_eq!(stage.in_flight(), 0);
        stage.step().unwrap();
    }
    let sum: f64 = losses.values().sum();
    sum / f64::from(training.micro_batches)
}

fn programs(schedule: Schedule, stages: usize, micro_batches: u32) -> Vec<Vec<Action>> {
    (0..stages)
        .map(|stage| {
            let behind = (stages - 1 - stage) as u32;
            let warm_up = match schedule {
                Schedule::GPipe => micro_batches,
                Schedule::OneForwardOneBackward => behind + 1,
                Schedule::Eager => 2 * behind + 1,
            }
            .min(micro_batches);
            let mut actions: Vec<_> = (0..warm_up).map(Action::Forward).collect();
            for m in 0..micro_batches {
                actions.push(Action::Backward(m));
                if warm_up + m < micro_batches {
                    actions.push(Action::Forward(warm_up + m));
                }
            }
            actions
        })
        .collect()
}
