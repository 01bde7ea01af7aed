//! How long a stage needs before it can train: its weights are made, and a micro-batch is rehearsed.
//!
//! As with times of compute, it is the sum of a stage's parts. A process needs longer for the first stage it holds, since
//! libraries' code and memory are touched for the first time.

use serde::{Deserialize, Serialize};

use crate::fit::{error_of_median, percentiles};
use crate::{FEW_LAYERS, MANY_LAYERS, PartsError, Percentiles, StagePlace, median};

/// A stage that is set up to take set-ups apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetUpStage {
    /// Of [`FEW_LAYERS`] layers, between two others.
    Few,
    /// Of [`MANY_LAYERS`] layers, between two others.
    Many,
    /// The first one, of [`FEW_LAYERS`] layers.
    First,
    /// The last one, of [`FEW_LAYERS`] layers.
    Last,
}

/// What was timed in one process, seconds from the order to load a stage until it has been rehearsed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SetUpRound {
    /// What the first stage that the process held took beyond the same stage later; which of the stages it was differs
    /// from process to process.
    pub fresh_s: f64,
    /// A stage of [`FEW_LAYERS`] layers between two others, in a process that has held others.
    pub few_s: f64,
    /// A stage of [`MANY_LAYERS`] layers between two others, likewise.
    pub many_s: f64,
    /// The first stage, of [`FEW_LAYERS`] layers, likewise.
    pub first_s: f64,
    /// The last stage, of [`FEW_LAYERS`] layers, likewise.
    pub last_s: f64,
}

/// The parts of a stage's set-up, seconds. All are differences, and all but the layer may come out a little below 0 where they
/// are smaller than the noise.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SetUp<T> {
    /// One layer.
    pub layer_s: T,
    /// The embedding.
    pub embedding_s: T,
    /// The head.
    pub head_s: T,
    /// Every stage, whatever it holds.
    pub stage_s: T,
    /// What the first stage that a process holds takes beyond.
    pub fresh_s: T,
}

/// What processes say together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SetUpFit {
    /// The parts: what follows from the stages' medians, and the spread of the differences within processes.
    pub parts: SetUp<Percentiles>,
    /// Standard error of the median set-up of a stage of [`FEW_LAYERS`] layers between two others in a fresh process, as a
    /// share of it.
    pub error_share: f64,
    /// Processes that it follows from.
    pub processes: u32,
}

impl SetUpStage {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Few, Self::Many, Self::First, Self::Last];

    /// Its layers.
    pub fn layers(self) -> u32 {
        match self {
            Self::Many => MANY_LAYERS,
            Self::Few | Self::First | Self::Last => FEW_LAYERS,
        }
    }

    /// Where it stands.
    pub fn place(self) -> StagePlace {
        match self {
            Self::Few | Self::Many => StagePlace::Middle,
            Self::First => StagePlace::First,
            Self::Last => StagePlace::Last,
        }
    }
}

impl SetUpRound {
    /// The median of each quantity over `rounds`.
    fn median_of(rounds: &[Self]) -> Self {
        let over = |of: fn(&Self) -> f64| median(&rounds.iter().map(of).collect::<Vec<_>>());
        Self {
            fresh_s: over(|round| round.fresh_s),
            few_s: over(|round| round.few_s),
            many_s: over(|round| round.many_s),
            first_s: over(|round| round.first_s),
            last_s: over(|round| round.last_s),
        }
    }

    fn parts(&self) -> SetUp<f64> {
        let layer_s = (self.many_s - self.few_s) / f64::from(MANY_LAYERS - FEW_LAYERS);
        SetUp {
            layer_s,
            embedding_s: self.first_s - self.few_s,
            head_s: self.last_s - self.few_s,
            stage_s: self.few_s - f64::from(FEW_LAYERS) * layer_s,
            fresh_s: self.fresh_s,
        }
    }
}

impl SetUpFit {
    /// What `rounds`, each of a process of its own, say together; `None` without rounds.
    pub fn of(rounds: &[SetUpRound]) -> Option<Self> {
        if rounds.is_empty() {
            return None;
        }
        let found: Vec<SetUp<f64>> = rounds.iter().map(SetUpRound::parts).collect();
        let central = SetUpRound::median_of(rounds).parts();
        let spread = |of: fn(&SetUp<f64>) -> f64| Percentiles {
            median: of(&central),
            ..percentiles(&found.iter().map(of).collect::<Vec<_>>())
        };
        let fresh = rounds.iter().map(|round| round.few_s + round.fresh_s);
        let fresh: Vec<f64> = fresh.collect();
        Some(Self {
            parts: SetUp {
                layer_s: spread(|parts| parts.layer_s),
                embedding_s: spread(|parts| parts.embedding_s),
                head_s: spread(|parts| parts.head_s),
                stage_s: spread(|parts| parts.stage_s),
                fresh_s: spread(|parts| parts.fresh_s),
            },
            error_share: error_of_median(&fresh) / median(&fresh),
            processes: u32::try_from(rounds.len()).unwrap_or(u32::MAX),
        })
    }
}

impl<T: Copy> SetUp<T> {
    /// The same of each number.
    pub fn map<U>(&self, of: impl Fn(T) -> U) -> SetUp<U> {
        SetUp {
            layer_s: of(self.layer_s),
            embedding_s: of(self.embedding_s),
            head_s: of(self.head_s),
            stage_s: of(self.stage_s),
            fresh_s: of(self.fresh_s),
        }
    }
}

impl SetUp<f64> {
    /// What a stage of `layers` layers needs in a process that has held others.
    pub fn stage_seconds(&self, layers: u32, place: StagePlace) -> f64 {
        let ends = [
            (place.holds_embedding(), self.embedding_s),
            (place.holds_head(), self.head_s),
        ];
        let ends = ends.into_iter().filter(|(is_there, _)| *is_there);
        f64::from(layers) * self.layer_s + self.stage_s + ends.map(|(_, s)| s).sum::<f64>()
    }

    /// Whether every stage's set-up takes some time or none, however many layers it has.
    ///
    /// # Errors
    /// The first number that no measurement of a real stage can give.
    pub fn check(&self) -> Result<(), PartsError> {
        let is_some_or_none = |seconds: f64| seconds >= 0.0 && seconds.is_finite();
        if !is_some_or_none(self.layer_s) {
            return Err(PartsError::SetUpOfLayer {
                seconds: self.layer_s,
            });
        }
        for place in StagePlace::ALL {
            let again_s = self.stage_seconds(1, place);
            for (action, seconds) in [
                ("set-up", again_s),
                ("set-up in a fresh process", again_s + self.fresh_s),
            ] {
                if !is_some_or_none(seconds) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const TRUTH: SetUp<f64> = SetUp {
        layer_s: 0.5,
        embedding_s: 2.0,
        head_s: 3.0,
        stage_s: 0.25,
        fresh_s: 8.0,
    };

    /// What a process with these set-ups would time, each `noise_s` longer, and the first stage twice that.
    fn round(noise_s: f64) -> SetUpRound {
        let of = |stage: SetUpStage| TRUTH.stage_seconds(stage.layers(), stage.place()) + noise_s;
        let [few_s, many_s, first_s, last_s] = SetUpStage::ALL.map(of);
        SetUpRound {
            fresh_s: TRUTH.fresh_s + noise_s,
            few_s,
            many_s,
            first_s,
            last_s,
        }
    }

    #[test]
    fn rounds_are_taken_apart_into_what_they_were_made_of() {
        assert_eq!(SetUpFit::of(&[]), None);
        let fit = SetUpFit::of(&[round(-0.125), round(0.0), round(64.0)]).unwrap();
        assert_eq!(fit.parts.map(|times| times.median), TRUTH);
        assert_eq!(fit.processes, 3);
        // What all stages of a process took longer is in none of its differences but that of the stage itself.
        let layer_s = fit.parts.layer_s;
        assert_eq!((layer_s.p5, layer_s.p95), (0.5, 0.5));
        let fresh_s = fit.parts.fresh_s;
        assert!(fresh_s.p5 < 8.0 && fresh_s.p95 > 60.0, "{fresh_s:?}");
    }

    #[test]
    fn noise_is_a_share_of_a_fresh_set_up() {
        let fit = SetUpFit::of(&[round(0.0); 4]).unwrap();
        assert_eq!(fit.error_share, 0.0);
        // Fresh set-ups of 8.75 s and 2 s more: the quartiles are 1 s apart, the median is 9.75 s.
        let rounds = [0.0, 0.25, 0.5, 0.75, 1.0].map(round);
        let error_share = SetUpFit::of(&rounds).unwrap().error_share;
        let expected = 1.2533 / 1.349 / 5.0_f64.sqrt() / 9.75;
        assert!((error_share - expected).abs() < 1e-12, "{error_share}");
    }

    #[test]
    fn a_set_up_is_the_sum_of_what_the_stage_holds() {
        let seconds = StagePlace::ALL.map(|place| TRUTH.stage_seconds(4, place));
        assert_eq!(seconds, [7.25, 4.25, 2.25, 5.25]);
    }

    #[test]
    fn a_set_up_below_nothing_is_refused() {
        TRUTH.check().unwrap();
        let told = |wrong: SetUp<f64>| wrong.check().unwrap_err().to_string();
        assert_eq!(
            told(SetUp {
                head_s: -1.0,
                ..TRUTH
            }),
            "a stage of one layer (Last) takes -0.25 s for its set-up; it has to be 0 or more"
        );
        let fresh = told(SetUp {
            fresh_s: f64::NAN,
            ..TRUTH
        });
        assert!(fresh.contains("set-up in a fresh process"), "{fresh}");
    }

    #[test]
    fn a_layer_below_nothing_is_refused_even_where_one_is_made_up_for() {
        // 10 ms with one layer and 7 ms with four: twelve would take less than nothing.
        let round = SetUpRound {
            fresh_s: 0.1,
            few_s: 0.010,
            many_s: 0.007,
            first_s: 0.012,
            last_s: 0.012,
        };
        let set_up = round.parts();
        assert!(set_up.stage_seconds(1, StagePlace::Middle) > 0.0);
        assert!(set_up.stage_seconds(12, StagePlace::Middle) < 0.0);
        let told = set_up.check().unwrap_err().to_string();
        assert!(told.starts_with("a layer's set-up takes -0.00"), "{told}");
        assert!(told.ends_with("it has to be 0 or more"), "{told}");
    }
}
