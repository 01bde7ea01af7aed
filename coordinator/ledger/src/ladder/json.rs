//! A ladder for programs.

use serde_json::{Map, Value, json};

use super::steps::{Change, Measure};
use super::{Climbed, Ladder};

impl Ladder {
    /// One object: `rungs` with their figures or the reason for which one is absent, `steps`, `blame`.
    pub fn to_json(&self) -> Value {
        let rungs = self.rungs.iter().map(|(rung, climbed)| {
            let mut object = Map::new();
            object.insert("rung".to_owned(), rung.name().into());
            object.insert("adds".to_owned(), rung.adds().into());
            match climbed {
                Climbed::Absent(why) => {
                    drop(object.insert("absent".to_owned(), why.as_str().into()))
                }
                Climbed::Runs(runs) => {
                    object.insert("runs".to_owned(), runs.len().into());
                    for measure in Measure::ALL {
                        let sample = self.sample(*rung, measure).map(|sample| sample.to_json());
                        object.insert(measure.key().to_owned(), sample.into());
                    }
                    let unfinished = runs.iter().find_map(|run| run.unfinished.clone());
                    object.insert("unfinished".to_owned(), unfinished.into());
                }
            }
            Value::Object(object)
        });
        let steps = self.steps().into_iter().map(|step| {
            let changes = Measure::ALL.into_iter().zip(step.changes);
            let changes = changes.map(|(measure, change)| {
                let change =
                    change.map(|Change { share, noise }| json!({"share": share, "noise": noise}));
                (measure.key().to_owned(), Value::from(change))
            });
            json!({
                "from": step.from.name(), "rung": step.rung.name(), "blamed": step.rung.blamed(),
                "same_placements": step.same_placements, "changes": Map::from_iter(changes),
            })
        });
        let blame = self.blamed().map(|(step, measure, change)| {
            json!({
                "from": step.from.name(), "rung": step.rung.name(), "blamed": step.rung.blamed(),
                "figure": measure.key(), "share": change.share,
            })
        });
        json!({
            "scenario": self.scenario, "policy": self.policy, "rungs": rungs.collect::<Vec<_>>(),
            "steps": steps.collect::<Vec<_>>(), "blame": blame, "sentence": self.sentence(),
        })
    }
}
