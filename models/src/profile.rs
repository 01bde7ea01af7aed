//! What was measured on a device, and what follows from it for a stage.
//!
//! A stage's time is the sum of its parts: its layers, the embedding or the head where it holds them, the copies of tensors
//! between the device and bytes at each of its boundaries, and what every stage takes whatever it holds. The parts
//! of a model do not depend on how many layers it has, so that one entry serves models of any depth.

use serde::{Deserialize, Serialize};

use crate::{MicroBatchShape, ModelSpec, SetUp, StagePlace, StageSeconds};

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The processor.
    Cpu,
    /// A CUDA GPU.
    Cuda,
}

/// A device with the software on it; times hold for one of these alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfiledDevice {
    /// What computes.
    pub kind: DeviceKind,
    /// The processor's or the GPU's name.
    pub name: String,
    /// Threads inside an operation; absent on GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// Version of the driver; absent on CPUs and where it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Version of libtorch.
    pub libtorch: String,
    /// What numbers are computed in, such as `fp32`.
    pub precision: String,
}

/// A model but for its number of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LayerShape {
    /// As in [`ModelSpec`].
    pub hidden: u32,
    /// As in [`ModelSpec`].
    pub heads: u32,
    /// As in [`ModelSpec`].
    pub kv_heads: u32,
    /// As in [`ModelSpec`].
    pub head_size: u32,
    /// As in [`ModelSpec`].
    pub feed_forward: u32,
    /// As in [`ModelSpec`].
    pub gated: bool,
    /// As in [`ModelSpec`].
    pub vocabulary: u32,
}

/// What was measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProfileKey {
    /// The model.
    pub model: LayerShape,
    /// Its micro-batches.
    pub shape: MicroBatchShape,
}

/// What a part of a stage takes in each of a stage's actions, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Part<T> {
    /// Of a micro-batch's forward.
    pub forward_s: T,
    /// Of a micro-batch's backward.
    pub backward_s: T,
    /// Of an iteration's optimizer step.
    pub step_s: T,
}

/// The parts of a stage's time, seconds. Each but the layer is what is left of a stage when others are taken off, and may
/// come out a little below 0 where it is smaller than the noise.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Parts<T> {
    /// One layer.
    pub layer: Part<T>,
    /// The embedding, with making the batch.
    pub embedding: Part<T>,
    /// The head and the loss, with making the batch.
    pub head: Part<T>,
    /// Every stage, whatever it holds.
    pub stage: Part<T>,
    /// One boundary tensor from bytes onto the device.
    pub copy_in_s: T,
    /// One boundary tensor from the device to bytes.
    pub copy_out_s: T,
}

/// All that stages of a model take on a device.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DeviceTimes {
    /// Their actions.
    pub parts: Parts<f64>,
    /// What comes before these; absent where nobody measured it.
    pub set_up: Option<SetUp<f64>>,
}

/// One entry of a profile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProfileEntry {
    /// What it holds for.
    pub key: ProfileKey,
    /// The medians of what was measured.
    pub times: DeviceTimes,
}

/// What was measured on a device.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceProfile {
    /// Where.
    pub device: ProfiledDevice,
    /// What, each key once.
    pub entries: Vec<ProfileEntry>,
}

/// Why numbers are no times of a stage.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum PartsError {
    /// A layer takes time.
    #[error("a layer's forward and backward take {seconds} s; both have to be above 0")]
    Layer {
        /// The smaller of the two.
        seconds: f64,
    },
    /// So does its set-up, or none.
    #[error("a layer's set-up takes {seconds} s; it has to be 0 or more")]
    SetUpOfLayer {
        /// What it would take.
        seconds: f64,
    },
    /// So does every stage.
    #[error(
        "a stage of one layer ({place:?}) takes {seconds} s for its {action}; it has to be {least}"
    )]
    Stage {
        /// Where the stage stands.
        place: StagePlace,
        /// What it does.
        action: &'static str,
        /// What it would take.
        seconds: f64,
        /// What it may take.
        least: &'static str,
    },
}

impl LayerShape {
    /// A model of this shape with `layers` layers.
    pub fn with_layers(&self, layers: u32) -> ModelSpec {
        ModelSpec {
            layers,
            hidden: self.hidden,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_size: self.head_size,
            feed_forward: self.feed_forward,
            gated: self.gated,
            vocabulary: self.vocabulary,
        }
    }
}

impl From<&ModelSpec> for LayerShape {
    fn from(model: &ModelSpec) -> Self {
        Self {
            hidden: model.hidden,
            heads: model.heads,
            kv_heads: model.kv_heads,
            head_size: model.head_size,
            feed_forward: model.feed_forward,
            gated: model.gated,
            vocabulary: model.vocabulary,
        }
    }
}

impl ProfileKey {
    /// The key of `model` with micro-batches of `shape`.
    pub fn of(model: &ModelSpec, shape: &MicroBatchShape) -> Self {
        Self {
            model: model.into(),
            shape: *shape,
        }
    }
}

impl DeviceProfile {
    /// What was measured of `model` with micro-batches of `shape`.
    pub fn times(&self, model: &ModelSpec, shape: &MicroBatchShape) -> Option<&DeviceTimes> {
        let key = ProfileKey::of(model, shape);
        let mut found = self.entries.iter().filter(|entry| entry.key == key);
        found.next().map(|entry| &entry.times)
    }
}

impl<T: Copy> Part<T> {
    /// The same of each number.
    pub fn map<U>(&self, of: impl Fn(T) -> U) -> Part<U> {
        Part {
            forward_s: of(self.forward_s),
            backward_s: of(self.backward_s),
            step_s: of(self.step_s),
        }
    }
}

impl Part<f64> {
    /// Forward and backward of one micro-batch together.
    pub fn micro_batch_s(&self) -> f64 {
        self.forward_s + self.backward_s
    }
}

impl<T: Copy> Parts<T> {
    /// The same of each number.
    pub fn map<U>(&self, of: impl Fn(T) -> U) -> Parts<U> {
        Parts {
            layer: self.layer.map(&of),
            embedding: self.embedding.map(&of),
            head: self.head.map(&of),
            stage: self.stage.map(&of),
            copy_in_s: of(self.copy_in_s),
            copy_out_s: of(self.copy_out_s),
        }
    }
}

impl Parts<f64> {
    /// What a stage of `layers` layers takes once it trains.
    ///
    /// A forward takes its activation in and hands one out, a backward does the same with gradients; the ends of a
    /// pipeline do only one of each.
    pub fn stage(&self, layers: u32, place: StagePlace) -> Part<f64> {
        let mut sum = Part {
            forward_s: f64::from(layers) * self.layer.forward_s + self.stage.forward_s,
            backward_s: f64::from(layers) * self.layer.backward_s + self.stage.backward_s,
            step_s: f64::from(layers) * self.layer.step_s + self.stage.step_s,
        };
        let (before, behind) = (!place.holds_embedding(), !place.holds_head());
        for (is_there, forward_s, backward_s) in [
            (before, self.copy_in_s, self.copy_out_s),
            (behind, self.copy_out_s, self.copy_in_s),
        ] {
            if is_there {
                sum.forward_s += forward_s;
                sum.backward_s += backward_s;
            }
        }
        for (is_there, part) in [
            (place.holds_embedding(), &self.embedding),
            (place.holds_head(), &self.head),
        ] {
            if is_there {
                sum.forward_s += part.forward_s;
                sum.backward_s += part.backward_s;
                sum.step_s += part.step_s;
            }
        }
        sum
    }

    /// Whether every stage takes time, and more with each layer.
    ///
    /// # Errors
    /// The first number that no measurement of a real stage can give.
    pub fn check(&self) -> Result<(), PartsError> {
        let layer_s = self.layer.forward_s.min(self.layer.backward_s);
        if !(layer_s > 0.0 && layer_s.is_finite()) {
            return Err(PartsError::Layer { seconds: layer_s });
        }
        for place in StagePlace::ALL {
            let stage = self.stage(1, place);
            let wrong = |action, seconds, least| PartsError::Stage {
                place,
                action,
                seconds,
                least,
            };
            for (action, seconds) in [("forward", stage.forward_s), ("backward", stage.backward_s)]
            {
                if !(seconds > 0.0 && seconds.is_finite()) {
                    return Err(wrong(action, seconds, "above 0"));
                }
            }
            if !(stage.step_s >= 0.0 && stage.step_s.is_finite()) {
                return Err(wrong("step", stage.step_s, "0 or more"));
            }
        }
        Ok(())
    }
}

impl DeviceTimes {
    /// What a stage of `layers` layers takes; its set-up takes no time where nobody measured it.
    pub fn stage_seconds(&self, layers: u32, place: StagePlace) -> StageSeconds {
        let stage = self.parts.stage(layers, place);
        let set_up = self.set_up.unwrap_or_default();
        StageSeconds {
            micro_batch_s: stage.micro_batch_s(),
            forward_s: stage.forward_s,
            step_s: stage.step_s,
            set_up_s: set_up.stage_seconds(layers, place),
            fresh_s: set_up.fresh_s,
        }
    }

    /// The same of each number.
    pub fn map(&self, of: impl Fn(f64) -> f64) -> Self {
        Self {
            parts: self.parts.map(&of),
            set_up: self.set_up.map(|set_up| set_up.map(&of)),
        }
    }

    /// Whether every stage's actions take time, and its set-up some or none, where it was measured.
    ///
    /// # Errors
    /// The first number that no measurement of a real stage can give.
    pub fn check(&self) -> Result<(), PartsError> {
        self.parts.check()?;
        self.set_up.map_or(Ok(()), |set_up| set_up.check())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(forward_s: f64, backward_s: f64, step_s: f64) -> Part<f64> {
        Part {
            forward_s,
            backward_s,
            step_s,
        }
    }

    fn parts() -> Parts<f64> {
        Parts {
            layer: part(2.0, 5.0, 3.0),
            embedding: part(0.5, 0.75, 10.0),
            head: part(4.0, 6.0, 11.0),
            stage: part(0.5, 0.125, 1.0),
            copy_in_s: 0.01,
            copy_out_s: 0.02,
        }
    }

    fn times() -> DeviceTimes {
        DeviceTimes {
            parts: parts(),
            set_up: Some(SetUp {
                layer_s: 0.5,
                ..SetUp::default()
            }),
        }
    }

    #[test]
    fn a_stage_is_the_sum_of_what_it_holds() {
        let stage = |layers, place| {
            let stage = parts().stage(layers, place);
            [stage.forward_s, stage.micro_batch_s(), stage.step_s]
        };
        let close = |found: [f64; 3], expected: [f64; 3]| {
            let pairs = found.iter().zip(&expected);
            assert!(
                pairs.clone().all(|(a, b)| (a - b).abs() < 1e-12),
                "{found:?} {expected:?}"
            );
        };
        close(stage(3, StagePlace::Middle), [6.53, 6.53 + 15.155, 10.0]);
        close(stage(3, StagePlace::First), [7.02, 7.02 + 15.885, 20.0]);
        close(stage(3, StagePlace::Last), [10.51, 10.51 + 21.145, 21.0]);
        close(stage(3, StagePlace::Only), [11.0, 11.0 + 21.875, 31.0]);
    }

    #[test]
    fn a_set_up_that_nobody_measured_takes_no_time() {
        let measured = times();
        let unknown = DeviceTimes {
            set_up: None,
            ..measured
        };
        assert_eq!(unknown.check(), Ok(()));
        let [with, without] =
            [measured, unknown].map(|times| times.stage_seconds(3, StagePlace::Last));
        assert_eq!((with.set_up_s, without.set_up_s), (1.5, 0.0));
        let expected = StageSeconds {
            set_up_s: 0.0,
            ..with
        };
        assert_eq!(without, expected);
    }

    #[test]
    fn numbers_that_are_no_times_are_refused() {
        assert_eq!(parts().check(), Ok(()));
        let mut slow = parts();
        slow.layer.backward_s = 0.0;
        assert_eq!(slow.check(), Err(PartsError::Layer { seconds: 0.0 }));
        let mut noisy = parts();
        noisy.head.backward_s = -5.5;
        let told = noisy.check().unwrap_err().to_string();
        assert!(told.contains("(Last) takes -"), "{told}");
        assert!(
            told.contains("for its backward; it has to be above 0"),
            "{told}"
        );
        let mut step = parts();
        step.layer.step_s = f64::NAN;
        assert!(step.check().is_err());
    }

    #[test]
    fn an_entry_serves_models_of_any_depth_and_no_other_shape() {
        let model = crate::catalogue::model("gpt2").unwrap();
        let shape = MicroBatchShape {
            sequences: 2,
            sequence: 64,
            bytes_per_element: 4,
        };
        let profile = DeviceProfile {
            device: ProfiledDevice {
                kind: DeviceKind::Cpu,
                name: "some".to_owned(),
                threads: Some(1),
                driver: None,
                libtorch: "2.13.0".to_owned(),
                precision: "fp32".to_owned(),
            },
            entries: vec![ProfileEntry {
                key: ProfileKey::of(&model, &shape),
                times: times(),
            }],
        };
        let deeper = LayerShape::from(&model).with_layers(96);
        assert_eq!(profile.times(&deeper, &shape), Some(&times()));
        let longer = MicroBatchShape {
            sequence: 128,
            ..shape
        };
        assert_eq!(profile.times(&model, &longer), None);
    }
}
