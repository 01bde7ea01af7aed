//! A ladder for programs.

use serde_json::{Map, Value, json};

use super::measure::Measure;
use super::steps::{Change, Step};
use super::{Climbed, Ladder, LadderRun, LadderRung};

impl Ladder {
    /// One object: `rungs` with their figures or the reason for which one is not possible, `steps`, `blame`.
    pub fn to_json(&self) -> Value {
        let rungs = self.rungs.iter();
        let rungs = rungs.map(|(rung, climbed)| self.rung_to_json(*rung, climbed));
        let steps = self.steps();
        let blame = self.blamed().map(|(step, measure, change)| {
            json!({
                "from": step.from.name(), "rung": step.rung.name(), "blamed": step.between(),
                "figure": measure.key(), "share": change.share, "may_be_chance": change.noise.is_none(),
            })
        });
        json!({
            "scenario": self.scenario, "policy": self.policy, "rungs": rungs.collect::<Vec<_>>(),
            "steps": steps.iter().map(Step::to_json).collect::<Vec<_>>(), "blame": blame,
            "sentence": self.sentence(),
        })
    }

    fn rung_to_json(&self, rung: LadderRung, climbed: &Climbed) -> Value {
        let mut object = json!({"rung": rung.name(), "adds": rung.adds()});
        match climbed {
            Climbed::NotPossible(why) => object["not_possible"] = why.as_str().into(),
            Climbed::Runs {
                runs,
                failed,
                stopped,
            } => {
                object["runs"] = runs.len().into();
                for measure in Measure::ALL {
                    let sample = self.sample(rung, measure).map(|sample| sample.to_json());
                    object[measure.key()] = sample.into();
                }
                let unfinished = runs.iter().find_map(|run| run.unfinished.clone());
                object["unfinished"] = unfinished.into();
                object["failed"] = failed.as_slice().into();
                object["stopped"] = stopped.as_deref().into();
                object["valid"] = self.valid(rung).into();
                object["validity"] = runs.iter().map(validity).collect();
            }
        }
        object
    }
}

/// Whether a run was what the scenario says, and why not.
fn validity(run: &LadderRun) -> Value {
    json!({"valid": run.valid, "reasons": run.faults})
}

impl Step {
    fn to_json(&self) -> Value {
        let changes = Measure::ALL.into_iter().zip(self.changes);
        let changes = changes.map(|(measure, change)| {
            let change =
                change.map(|Change { share, noise }| json!({"share": share, "noise": noise}));
            (measure.key().to_owned(), Value::from(change))
        });
        json!({
            "from": self.from.name(), "rung": self.rung.name(), "blamed": self.between(),
            "same_placements": self.same_placements, "valid": self.valid,
            "changes": Map::from_iter(changes),
        })
    }
}
