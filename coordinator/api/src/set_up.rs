//! What a stage's worker did before the stage could train.

use bace_netem::TimeScale;
use serde::{Deserialize, Serialize};

/// What a stage took from the order to prepare it until it could train, part by part, one after the other. Emulated seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StageSetUp {
    /// Until both neighbours were connected, and the clock of the stage behind was known where that is another.
    pub connect_s: f64,
    /// Making its weights and what else it keeps.
    pub load_s: f64,
    /// Waiting for its turn on its device; absent where it waits for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_wait_s: Option<f64>,
    /// Computing once what every iteration computes.
    pub rehearse_s: f64,
}

/// A stage's set-up as its worker tells of it, in wall seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SetUpReport {
    /// As [`StageSetUp::connect_s`].
    pub connect_s: f64,
    /// As [`StageSetUp::load_s`].
    pub load_s: f64,
    /// As [`StageSetUp::lease_wait_s`].
    pub lease_wait_s: Option<f64>,
    /// As [`StageSetUp::rehearse_s`].
    pub rehearse_s: f64,
}

impl SetUpReport {
    /// What was told, in emulated seconds.
    pub fn emulated(self, scale: TimeScale) -> StageSetUp {
        StageSetUp {
            connect_s: scale.emulated_seconds(self.connect_s),
            load_s: scale.emulated_seconds(self.load_s),
            lease_wait_s: self
                .lease_wait_s
                .map(|wall_s| scale.emulated_seconds(wall_s)),
            rehearse_s: scale.emulated_seconds(self.rehearse_s),
        }
    }
}

impl StageSetUp {
    /// All of it.
    pub fn seconds(&self) -> f64 {
        self.connect_s + self.load_s + self.lease_wait_s.unwrap_or(0.0) + self.rehearse_s
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_ledger_holds_emulated_seconds_and_only_waits_that_there_are() {
        let mut told = SetUpReport {
            connect_s: 0.25,
            load_s: 0.5,
            lease_wait_s: Some(1.0),
            rehearse_s: 0.125,
        };
        let twice = TimeScale::new(2.0).unwrap();
        let set_up = told.emulated(twice);
        assert_eq!(set_up.seconds(), 3.75);
        let with =
            json!({"connect_s": 0.5, "load_s": 1.0, "lease_wait_s": 2.0, "rehearse_s": 0.25});
        assert_eq!(serde_json::to_value(set_up).unwrap(), with);
        told.lease_wait_s = None;
        let set_up = told.emulated(twice);
        assert_eq!(set_up.seconds(), 1.75);
        let without = json!({"connect_s": 0.5, "load_s": 1.0, "rehearse_s": 0.25});
        assert_eq!(serde_json::to_value(set_up).unwrap(), without);
        assert_eq!(
            serde_json::from_value::<StageSetUp>(without).unwrap(),
            set_up
        );
    }
}
