//! When the job came, and what it waited for.

use bace_api::{InputRecord, Record};
use bace_ledger::{AttemptLog, JobLog, JobStatus};

use super::story::Told;
use super::words::{count, list, path, seconds, sentence};

/// Causes of waiting that still serve a person; the ledger holds all.
const MAX_CAUSES: usize = 6;

/// From its arrival to its first placement.
pub fn arrival(told: &Told<'_>) -> Vec<String> {
    let Some(submitted_s) = told.of.and_then(|of| of.submitted_s) else {
        return vec!["It had not arrived when the ledger ends.".to_owned()];
    };
    let mut sentences = vec![format!("It arrived at {}.", seconds(submitted_s))];
    if let JobStatus::Refused(reason) = &told.summary.status {
        sentences.push(format!("It was refused: {}", sentence_part(reason)));
        return sentences;
    }
    let Some(first) = told.of.and_then(|of| of.attempts.first()) else {
        sentences.extend(causes(told, submitted_s, f64::INFINITY));
        sentences.extend(still(told));
        return sentences;
    };
    let waited_s = first.placed_s - submitted_s;
    sentences.push(if waited_s > 0.0 {
        format!("It waited {} for its GPUs.", seconds(waited_s))
    } else {
        "It was placed at once.".to_owned()
    });
    sentences.extend(causes(told, submitted_s, first.placed_s));
    sentences.extend(overtaken(told, submitted_s, first.placed_s));
    sentences.extend(changed(told, submitted_s, first.placed_s));
    sentences.extend(freed(told, submitted_s, first.placed_s));
    sentences
}

/// From the end of `start` to the next placement of its job, or to the ledger's end.
pub fn after(told: &Told<'_>, start: &AttemptLog, next: Option<&AttemptLog>) -> Vec<String> {
    let mut sentences = Vec::new();
    let goes_on = next.is_some() || matches!(told.summary.status, JobStatus::Waiting(_));
    if let (true, Some(released_s)) = (goes_on, start.released_s) {
        sentences.push(taken_away(told, start, released_s));
    }
    if let (Some(next), Some(released_s)) = (next, start.released_s) {
        let waited_s = next.placed_s - released_s;
        if waited_s > 0.0 {
            sentences.push(format!(
                "After this start it waited {} for GPUs again.",
                seconds(waited_s)
            ));
        }
    }
    let to_s = next.map_or(f64::INFINITY, |next| next.placed_s);
    sentences.extend(causes(told, start.placed_s, to_s));
    match (next, start.released_s) {
        (Some(next), Some(released_s)) => {
            sentences.extend(changed(told, released_s, next.placed_s));
            sentences.extend(freed(told, released_s, next.placed_s));
        }
        (Some(_), None) => {}
        (None, _) => sentences.extend(still(told)),
    }
    sentences
}

/// Why `start` ended before its job did.
fn taken_away(told: &Told<'_>, start: &AttemptLog, released_s: f64) -> String {
    let is_its = |region: &str| start.path.iter().any(|part| part.region == region);
    let of_its =
        gpu_changes(told).filter(|&(at_s, region, _)| at_s == released_s && is_its(region));
    let changes: Vec<String> = of_its
        .map(|(_, region, gpus)| format!("{region} had {} from then on", count(gpus.into(), "GPU")))
        .collect();
    let why = match changes.is_empty() {
        true => String::new(),
        false => format!(", since {}", list(&changes)),
    };
    format!(
        "At {} its GPUs were taken away{why}; what it had done of the iteration under way was lost.",
        seconds(released_s)
    )
}

/// When a region's GPUs changed, and how many they were from then on.
fn gpu_changes<'a>(told: &Told<'a>) -> impl Iterator<Item = (f64, &'a str, u32)> {
    told.log.records.iter().filter_map(|record| match record {
        Record::Input {
            at_s,
            input: InputRecord::GpusChanged { region, gpus },
        } => Some((*at_s, region.as_str(), *gpus)),
        _ => None,
    })
}

/// Regions whose GPUs changed while it waited, behind `from_s`.
fn changed(told: &Told<'_>, from_s: f64, placed_s: f64) -> Option<String> {
    let within = gpu_changes(told).filter(|&(at_s, ..)| from_s < at_s && at_s <= placed_s);
    let mut changes: Vec<String> = within
        .map(|(at_s, region, gpus)| {
            format!(
                "{region} had {} from {} on",
                count(gpus.into(), "GPU"),
                seconds(at_s)
            )
        })
        .collect();
    // The last are those that its placement may follow from.
    let more = changes.len().saturating_sub(MAX_CAUSES);
    changes.drain(..more);
    (!changes.is_empty()).then(|| format!("While it waited, {}.", list(&changes)))
}

/// That its wait is not over.
fn still(told: &Told<'_>) -> Option<String> {
    let waits = matches!(told.summary.status, JobStatus::Waiting(_));
    waits.then(|| "It still waits when the ledger ends.".to_owned())
}

/// Why it was passed over, from `from_s` until it was placed at `to_s`.
fn causes(told: &Told<'_>, from_s: f64, to_s: f64) -> Vec<String> {
    let name = &told.summary.name;
    let records = told.log.records.iter();
    let causes: Vec<(f64, &str)> = records
        .filter_map(|record| cause(record, name))
        .filter(|(at_s, _)| (from_s..to_s).contains(at_s))
        .collect();
    let mut sentences = Vec::new();
    for (at_s, why) in causes.iter().take(MAX_CAUSES) {
        sentences.push(match why.is_empty() {
            true => format!(
                "At {} it was passed over; the ledger does not say in words why.",
                seconds(*at_s)
            ),
            false => format!(
                "At {} it was passed over: {}",
                seconds(*at_s),
                sentence_part(why)
            ),
        });
        sentences.extend(holders(told, *at_s));
    }
    if causes.len() > MAX_CAUSES {
        sentences.push(format!(
            "The cause changed {} more times.",
            causes.len() - MAX_CAUSES
        ));
    }
    sentences
}

/// `text` behind a colon, with its end.
fn sentence_part(text: &str) -> String {
    let text = text.trim_end();
    if text.ends_with('.') {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}

fn cause<'a>(record: &'a Record, name: &str) -> Option<(f64, &'a str)> {
    match record {
        Record::PassedOver { at_s, job, why, .. } if job == name => Some((*at_s, why)),
        _ => None,
    }
}

/// Every start of every other job.
fn others<'a>(told: &Told<'a>) -> impl Iterator<Item = (&'a JobLog, &'a AttemptLog)> {
    let own = &told.summary.name;
    let jobs = told.log.jobs.iter().filter(move |job| job.name != *own);
    jobs.flat_map(|job| job.attempts.iter().map(move |start| (job, start)))
}

/// Who held GPUs at that time.
fn holders(told: &Told<'_>, at_s: f64) -> Option<String> {
    let held = others(told).filter(|(_, start)| {
        start.placed_s <= at_s && start.released_s.is_none_or(|released_s| released_s > at_s)
    });
    let held: Vec<String> = held
        .map(|(job, start)| format!("{} held {}", job.name, path(&start.path)))
        .collect();
    (!held.is_empty()).then(|| format!("At that time {}.", list(&held)))
}

/// Who came later and was placed before.
fn overtaken(told: &Told<'_>, submitted_s: f64, placed_s: f64) -> Option<String> {
    let overtakes = |job: &JobLog, start: &AttemptLog| {
        job.submitted_s.is_some_and(|at_s| at_s > submitted_s)
            && start.placed_s < placed_s
            && start.placed_s >= submitted_s
    };
    let names = others(told).filter(|(job, start)| overtakes(job, start));
    let names: Vec<String> = names
        .map(|(job, start)| format!("{} at {}", job.name, seconds(start.placed_s)))
        .collect();
    (!names.is_empty()).then(|| {
        sentence(&format!(
            "jobs that arrived after it were placed before it: {}",
            list(&names)
        ))
    })
}

/// Who gave GPUs back last before its placement, while it waited.
fn freed(told: &Told<'_>, submitted_s: f64, placed_s: f64) -> Option<String> {
    let waited = submitted_s..=placed_s;
    let freed = others(told).filter_map(|(job, start)| {
        let released_s = start.released_s.filter(|at_s| waited.contains(at_s))?;
        Some((released_s, job, start))
    });
    let (at_s, job, start) = freed.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (placed_s > submitted_s).then(|| {
        format!(
            "The last GPUs given back before its placement were {} of {}, at {}.",
            path(&start.path),
            job.name,
            seconds(at_s)
        )
    })
}
