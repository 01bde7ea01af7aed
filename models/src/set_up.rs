//! How long a stage needs before it can train: its weights are made, and a micro-batch is rehearsed.
//!
//! As with times of compute, it is the sum of a stage's parts. A process needs longer for the first stage it holds, since
//! libraries' code and memory are touched for the first time.

use serde::{Deserialize, Serialize};

use crate::{FEW_LAYERS, MANY_LAYERS, Parts, PartsError, StagePlace, StageSeconds, median};

/// What was timed in one process, seconds from the order to load a stage until it has been rehearsed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SetUpRound {
    /// A stage of [`FEW_LAYERS`] layers between two others, the first that the process held.
    pub fresh_s: f64,
    /// The same stage again.
    pub few_s: f64,
    /// A stage of [`MANY_LAYERS`] layers between two others.
    pub many_s: f64,
    /// The first stage, of [`FEW_LAYERS`] layers.
    pub first_s: f64,
    /// The last stage, of [`FEW_LAYERS`] layers.
    pub last_s: f64,
}

/// The parts of a stage's set-up, seconds. Each but the layer is a difference, and may come out a little below 0 where it is
/// smaller than the noise.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SetUp {
    /// One layer.
    pub layer_s: f64,
    /// The embedding.
    pub embedding_s: f64,
    /// The head.
    pub head_s: f64,
    /// Every stage, whatever it holds.
    pub stage_s: f64,
    /// What the first stage that a process holds takes beyond.
    pub fresh_s: f64,
}

/// All that stages of a model take on a device.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DeviceTimes {
    /// Their actions.
    pub parts: Parts<f64>,
    /// Before these.
    pub set_up: SetUp,
}

impl SetUp {
    /// What the medians over `rounds` say; `None` without rounds.
    pub fn of(rounds: &[SetUpRound]) -> Option<Self> {
        if rounds.is_empty() {
            return None;
        }
        let over = |of: fn(&SetUpRound) -> f64| median(&rounds.iter().map(of).collect::<Vec<_>>());
        let few_s = over(|round| round.few_s);
        let layer_s = (over(|round| round.many_s) - few_s) / f64::from(MANY_LAYERS - FEW_LAYERS);
        Some(Self {
            layer_s,
            embedding_s: over(|round| round.first_s) - few_s,
            head_s: over(|round| round.last_s) - few_s,
            stage_s: few_s - f64::from(FEW_LAYERS) * layer_s,
            fresh_s: over(|round| round.fresh_s) - few_s,
        })
    }

    /// What a stage of `layers` layers needs in a process that has held others.
    pub fn seconds(&self, layers: u32, place: StagePlace) -> f64 {
        let ends = [
            (place.holds_embedding(), self.embedding_s),
            (place.holds_head(), self.head_s),
        ];
        let ends = ends.into_iter().filter(|(is_there, _)| *is_there);
        f64::from(layers) * self.layer_s + self.stage_s + ends.map(|(_, s)| s).sum::<f64>()
    }

    /// Whether every stage's set-up takes some time or none.
    fn check(&self) -> Result<(), PartsError> {
        for place in StagePlace::ALL {
            for (action, seconds) in [
                ("set-up", self.seconds(1, place)),
                (
                    "set-up in a fresh process",
                    self.seconds(1, place) + self.fresh_s,
                ),
            ] {
                if !(seconds >= 0.0 && seconds.is_finite()) {
                    return Err(PartsError::Stage {
                        place,
                        action,
                        seconds,
                        least: "0 or more",
                    });
                }
            }
        }
        Ok(())
    }
}

impl DeviceTimes {
    /// What a stage of `layers` layers takes.
    pub fn stage_seconds(&self, layers: u32, place: StagePlace) -> StageSeconds {
        StageSeconds {
            set_up_s: self.set_up.seconds(layers, place),
            fresh_s: self.set_up.fresh_s,
            ..self.parts.stage_seconds(layers, place)
        }
    }

    /// The same of each number.
    pub fn map(&self, of: impl Fn(f64) -> f64) -> Self {
        let SetUp {
            layer_s,
            embedding_s,
            head_s,
            stage_s,
            fresh_s,
        } = self.set_up;
        Self {
            parts: self.parts.map(&of),
            set_up: SetUp {
                layer_s: of(layer_s),
                embedding_s: of(embedding_s),
                head_s: of(head_s),
                stage_s: of(stage_s),
                fresh_s: of(fresh_s),
            },
        }
    }

    /// Whether every stage takes time, and more with each layer.
    ///
    /// # Errors
    /// The first number that no measurement of a real stage can give.
    pub fn check(&self) -> Result<(), PartsError> {
        self.parts.check()?;
        self.set_up.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUTH: SetUp = SetUp {
        layer_s: 0.5,
        embedding_s: 2.0,
        head_s: 3.0,
        stage_s: 0.25,
        fresh_s: 8.0,
    };

    /// What a process with these set-ups would time, `noise_s` longer.
    fn round(noise_s: f64) -> SetUpRound {
        let of = |layers, place| TRUTH.seconds(layers, place) + noise_s;
        SetUpRound {
            fresh_s: of(FEW_LAYERS, StagePlace::Middle) + TRUTH.fresh_s,
            few_s: of(FEW_LAYERS, StagePlace::Middle),
            many_s: of(MANY_LAYERS, StagePlace::Middle),
            first_s: of(FEW_LAYERS, StagePlace::First),
            last_s: of(FEW_LAYERS, StagePlace::Last),
        }
    }

    #[test]
    fn rounds_are_taken_apart_into_what_they_were_made_of() {
        assert_eq!(SetUp::of(&[]), None);
        let found = SetUp::of(&[round(-0.125), round(0.0), round(64.0)]).unwrap();
        assert_eq!(found, TRUTH);
    }

    #[test]
    fn a_set_up_is_the_sum_of_what_the_stage_holds() {
        let seconds = StagePlace::ALL.map(|place| TRUTH.seconds(4, place));
        assert_eq!(seconds, [7.25, 4.25, 2.25, 5.25]);
    }

    #[test]
    fn a_set_up_below_nothing_is_refused() {
        TRUTH.check().unwrap();
        let wrong = SetUp {
            head_s: -1.0,
            ..TRUTH
        };
        let told = wrong.check().unwrap_err().to_string();
        assert_eq!(
            told,
            "a stage of one layer (Last) takes -0.25 s for its set-up; it has to be 0 or more"
        );
        let wrong = SetUp {
            fresh_s: f64::NAN,
            ..TRUTH
        };
        let told = wrong.check().unwrap_err().to_string();
        assert!(told.contains("set-up in a fresh process"), "{told}");
    }
}
