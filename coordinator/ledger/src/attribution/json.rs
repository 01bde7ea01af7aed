//! Attributions for programs.

use serde_json::{Map, Value, json};

use super::{
    AttemptAttribution, Attributed, Attribution, Cause, JobAttribution, LinkName, StageAttribution,
    Sums,
};
use crate::Figure;

impl Attributed {
    /// The value of the key `attribution` of `bace report --json`: `measured` and `predicted`, each an object or `null`, with the
    /// reasons in `unknown` where one of them should be there and is not. All numbers are stage-seconds or emulated seconds.
    pub fn to_json(&self) -> Value {
        let (measured, predicted, unknown) = match self {
            Self::Simulated(predicted) => (None, Some(&predicted.0), None),
            Self::Real {
                measured,
                predicted: Figure::Known(predicted),
            } => (Some(&measured.0), Some(&predicted.0), None),
            Self::Real {
                measured,
                predicted: Figure::Unknown(reason),
            } => (Some(&measured.0), None, Some(reason)),
        };
        let mut object = json!({
            "measured": measured.map(attribution),
            "predicted": predicted.map(attribution),
        });
        if let Some(reason) = unknown {
            object["unknown"] = json!({"predicted": reason});
        }
        object
    }
}

fn attribution(attribution: &Attribution) -> Value {
    json!({"jobs": attribution.jobs.iter().map(job).collect::<Vec<_>>()})
}

fn job(job: &JobAttribution) -> Value {
    let attempts = job.attempts.iter().map(attempt);
    let mut object = json!({
        "name": job.job,
        "attempts": attempts.collect::<Vec<_>>(),
    });
    match job.sums() {
        Figure::Known(all) => {
            object["seconds"] = seconds(&all);
            object["links"] = links(&all).into();
        }
        Figure::Unknown(reason) => {
            object["seconds"] = Value::Null;
            object["unknown"] = json!({"seconds": reason});
        }
    }
    object
}

fn attempt(attempt: &AttemptAttribution) -> Value {
    match &attempt.times {
        Figure::Known(times) => json!({
            "attempt": attempt.attempt,
            "from_s": times.from_s,
            "to_s": times.to_s,
            "cut": times.cut,
            "unknown_s": times.unknown_s,
            "stages": times.stages.iter().enumerate().map(stage).collect::<Vec<_>>(),
        }),
        Figure::Unknown(reason) => json!({
            "attempt": attempt.attempt,
            "stages": null,
            "unknown": {"stages": reason},
        }),
    }
}

fn stage((index, stage): (usize, &StageAttribution)) -> Value {
    json!({
        "stage": index,
        "region": stage.region,
        "seconds": seconds(&stage.sums),
        "links": links(&stage.sums),
    })
}

fn seconds(sums: &Sums) -> Value {
    let by_cause = Cause::ALL.into_iter();
    let object: Map<String, Value> = by_cause
        .map(|cause| (cause.key().to_owned(), sums.seconds(cause).into()))
        .collect();
    object.into()
}

fn links(sums: &Sums) -> Vec<Value> {
    let link = |link: &LinkName| {
        let mut object = json!({"from": link.from, "to": link.to});
        for cause in Cause::OF_LINKS {
            object[cause.key()] = sums.link_seconds(link, cause).into();
        }
        object
    };
    sums.links().map(link).collect()
}
