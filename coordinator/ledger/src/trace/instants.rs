//! What happened at an instant: arrivals, decisions with their reasons, outcomes, changes.

use bace_api::{InputRecord, Record};

use super::event::{Args, Kind};
use super::nanos::Nanos;
use super::out::Out;
use crate::{RunLog, path_text};

const BITS_PER_MEGABIT: f64 = 1e6;

/// Writes them into threads of the process `pid`.
pub(super) fn instants<E>(out: &mut Out<'_, E>, pid: u32, log: &RunLog) -> Result<(), E> {
    let jobs = out.thread(pid, "jobs")?;
    let decisions = out.thread(pid, "decisions")?;
    let changes = out.thread(pid, "changes")?;
    for record in &log.records {
        let Some(told) = told(record) else { continue };
        if told.job.is_some_and(|job| !out.wants(job)) {
            continue;
        }
        let place = match told.kind {
            Kind::Change => changes,
            Kind::Decision => decisions,
            _ => jobs,
        };
        let args = Args {
            job: told.job,
            ..told.args
        };
        out.instant(place, &told.name, (told.kind, Nanos::of(told.at_s)), args)?;
    }
    Ok(())
}

struct Told<'a> {
    kind: Kind,
    at_s: f64,
    name: String,
    job: Option<&'a str>,
    args: Args<'a>,
}

impl<'a> Told<'a> {
    fn of_job(kind: Kind, at_s: f64, job: &'a str, what: &str) -> Self {
        Self {
            kind,
            at_s,
            name: format!("{job} {what}"),
            job: Some(job),
            args: Args::default(),
        }
    }

    fn change(at_s: f64, name: String) -> Self {
        Self {
            kind: Kind::Change,
            at_s,
            name,
            job: None,
            args: Args::default(),
        }
    }

    fn with(mut self, args: Args<'a>) -> Self {
        self.args = args;
        self
    }
}

fn told(record: &Record) -> Option<Told<'_>> {
    let why = |why| Args {
        why: Some(why),
        ..Args::default()
    };
    Some(match record {
        Record::Input { at_s, input } => return input_told(*at_s, input),
        Record::Refused { at_s, job, reason } => {
            Told::of_job(Kind::Decision, *at_s, job, "refused").with(why(reason))
        }
        Record::Placed {
            at_s,
            job,
            attempt,
            path,
            reason,
            ..
        } => {
            let path = path_text(path.iter().map(|part| (part.region.as_str(), part.gpus)));
            Told::of_job(Kind::Decision, *at_s, job, "placed").with(Args {
                attempt: Some(attempt.0),
                path: Some(path),
                reason: Some(reason),
                ..Args::default()
            })
        }
        Record::PassedOver {
            at_s,
            job,
            why,
            reason,
        } => Told::of_job(Kind::Decision, *at_s, job, "passed over").with(Args {
            why: (!why.is_empty()).then_some(why),
            reason: Some(reason),
            ..Args::default()
        }),
        Record::JobFinished { at_s, job } => Told::of_job(Kind::Outcome, *at_s, job, "finished"),
        Record::JobFailed { at_s, job, reason } => {
            Told::of_job(Kind::Outcome, *at_s, job, "failed").with(why(reason))
        }
        Record::WorkerLost {
            at_s,
            worker,
            reason,
        } => Told::change(*at_s, format!("{worker} lost")).with(why(reason)),
        _ => return None,
    })
}

fn input_told(at_s: f64, input: &InputRecord) -> Option<Told<'_>> {
    Some(match input {
        InputRecord::Submitted { job } => Told::of_job(Kind::Arrival, at_s, job, "arrives"),
        InputRecord::LinkChanged {
            from,
            to,
            bandwidth_bps,
            one_way_delay_s,
        } => Told::change(at_s, format!("{from} → {to} changes")).with(Args {
            mbps: Some(bandwidth_bps / BITS_PER_MEGABIT),
            one_way_delay_s: *one_way_delay_s,
            ..Args::default()
        }),
        InputRecord::GpusChanged { region, gpus } => {
            Told::change(at_s, format!("GPUs of {region} change")).with(Args {
                gpus: Some(*gpus),
                ..Args::default()
            })
        }
        _ => return None,
    })
}
