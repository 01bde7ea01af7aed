//! Where a real run went another way than its prediction.

use serde_json::Value;

use super::Whereabouts;
use super::state::State;

/// The first place of its sort at which a real run went another way than its prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Where.
    pub place: Whereabouts,
    /// What differs, such as `decision 3`.
    pub what: String,
    /// What the prediction has there.
    pub predicted: Moment,
    /// What the real run has there.
    pub measured: Moment,
}

/// What one side has where the two differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    /// What it did, in words; absent where it has nothing more.
    pub did: Option<String>,
    /// Why, as the engine's data; null where nobody decided.
    pub reason: Value,
    /// What led to it; where the side did nothing, how it stood when the other did.
    pub state: State,
}

impl Difference {
    /// Whether it is the same difference, in whichever repeat.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let place = Whereabouts {
            repeat: self.place.repeat,
            ..other.place.clone()
        };
        self.place == place
            && self.what == other.what
            && self.predicted.did == other.predicted.did
            && self.measured.did == other.measured.did
    }

    /// Lines for people: what differs, and each side with its state and reason.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{}: {} differs", self.place, self.what)];
        for (side, moment) in [("predicted", &self.predicted), ("measured", &self.measured)] {
            let did = moment.did.as_deref().unwrap_or("nothing more");
            lines.push(format!("{side} at {:.3} s: {did}", moment.state.at_s));
            lines.push(moment.state.to_string());
            lines.extend(reason(&moment.reason));
        }
        lines
    }
}

/// The engine's reason on a line: numbers by their names, and what became of each path.
fn reason(reason: &Value) -> Option<String> {
    let keys = reason.as_object()?;
    let told = keys
        .iter()
        .filter_map(|(key, value)| match (key.as_str(), value) {
            ("paths", Value::Array(paths)) => {
                let paths: Vec<String> = paths.iter().filter_map(path).collect();
                Some(format!("paths {}", paths.join(", ")))
            }
            (_, Value::Null) => None,
            (key, value) => Some(format!("{key} {}", compact(value))),
        });
    let told: Vec<String> = told.collect();
    Some(format!("because {}", told.join("; ")))
}

/// `["eu",2],["us",1]` and their outcome, as `eu×2 → us×1 chosen`.
fn path(path: &Value) -> Option<String> {
    let regions = path.get("regions")?.as_array()?;
    let regions = regions.iter().filter_map(|part| {
        let gpus = part.get(1)?.as_u64()?;
        Some((part.get(0)?.as_str()?, u32::try_from(gpus).ok()?))
    });
    let outcome = path.get("outcome")?.get("outcome")?.as_str()?;
    Some(format!(
        "{} {}",
        crate::path_text(regions),
        outcome.replace('_', " ")
    ))
}

fn compact(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(keys) => {
            let keys = keys
                .iter()
                .map(|(key, value)| format!("{key} {}", compact(value)));
            format!("({})", keys.collect::<Vec<_>>().join(", "))
        }
        Value::Number(number) => match number.as_f64() {
            Some(real) if number.is_f64() => format!("{real:.4}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}
