//! What a reader of a report has to know beyond its numbers, in sentences.

use bace_api::{ClockKind, Header, ProfileUse};

use crate::fold::LOSS_NOT_A_NUMBER;
use crate::meter_table;
use crate::receipt_table::remarks;
use crate::table::GLUE;
use crate::{EmulationSummary, Figure, JobStatus, JobSummary, RunEnd, Summary};

/// Share of a job's JCT that its set-up may be before that is said.
const SET_UP_SHARE: f64 = 0.01;

/// Sentences of one sort that still serve a person.
const MAX_EACH: usize = 20;

/// Sentences about jobs that did not finish, numbers that are missing, and signs that the machine could not
/// keep up with what it emulates; none if all went well.
pub(crate) fn notes(summary: &Summary) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(end(summary));
    limited(
        &mut notes,
        summary
            .emulation
            .faults
            .iter()
            .map(|fault| format!("Emulation not valid. {fault}")),
        "links were not true",
    );
    notes.extend(remarks(summary));
    notes.extend(profile(summary));
    limited(
        &mut notes,
        summary.jobs.iter().filter_map(status),
        "jobs did not finish",
    );
    limited(
        &mut notes,
        summary.jobs.iter().filter_map(preempted),
        "jobs lost their GPUs",
    );
    limited(
        &mut notes,
        summary.workers_lost.iter().cloned(),
        "workers were lost",
    );
    notes.extend(set_up(summary));
    notes.extend(clocks(summary));
    notes.extend(scale_models(summary));
    limited(
        &mut notes,
        meter_table::remarks(summary).into_iter(),
        "remarks about meters",
    );
    limited(
        &mut notes,
        summary.jobs.iter().filter_map(missing),
        "jobs lack numbers",
    );
    limited(
        &mut notes,
        summary
            .jobs
            .iter()
            .filter_map(|job| late(job, &summary.header)),
        "jobs had late messages",
    );
    limited(
        &mut notes,
        summary
            .jobs
            .iter()
            .filter_map(|job| overruns(job, &summary.emulation)),
        "jobs had slow actions",
    );
    notes.extend(omissions(summary));
    notes
}

fn limited(notes: &mut Vec<String>, sentences: impl Iterator<Item = String>, what: &str) {
    let mut more = 0;
    for (place, sentence) in sentences.enumerate() {
        if place < MAX_EACH {
            notes.push(sentence);
        } else {
            more += 1;
        }
    }
    if more > 0 {
        notes.push(format!("{more} more {what}; summary.json names them."));
    }
}

fn profile(summary: &Summary) -> Option<String> {
    match summary.header.profile.as_deref() {
        Some(ProfileUse::Absent { reason }) => Some(format!(
            "The scheduler took the times of compute from the scenario's GPU types, not from this machine's device: {}",
            sentence(reason)
        )),
        Some(ProfileUse::Used {
            lacks_set_up: Some(lack),
            ..
        // The formula predicts none, whatever a profile knows.
        }) if !summary.header.is_by_formula() => Some(without_set_up(lack)),
        _ => None,
    }
}

/// That predictions lack what a profile lacks, and why.
pub(crate) fn without_set_up(lack: &str) -> String {
    format!(
        "What is predicted from the profile lacks what stages take to load and rehearse before they train: {}",
        sentence(lack)
    )
}

fn clocks(summary: &Summary) -> Option<String> {
    let uncertainty_ms = summary.clock_uncertainty_s? * 1e3;
    Some(format!(
        "Workers were on several hosts, whose clocks are known to within {uncertainty_ms:.3} ms: delays \
         between hosts, and when stages on other hosts did what, are true to that."
    ))
}

/// The set-up that is the largest share of its job's JCT, where that is a share worth telling.
fn set_up(summary: &Summary) -> Option<String> {
    if summary.header.clock != ClockKind::Wall {
        return None;
    }
    let jobs = summary.jobs.iter().filter_map(|job| {
        let (set_up_s, jct_s) = (*job.set_up_s.known()?, *job.jct_s.known()?);
        (set_up_s > SET_UP_SHARE * jct_s).then(|| (set_up_s / jct_s, set_up_s, job))
    });
    let told: Vec<_> = jobs.collect();
    let (share, set_up_s, job) = told.iter().max_by(|one, two| one.0.total_cmp(&two.0))?;
    let more = match told.len() - 1 {
        0 => String::new(),
        more => format!(
            "; it is over {:.0} % of the JCT of {more} other{}",
            100.0 * SET_UP_SHARE,
            if more == 1 { "" } else { "s" }
        ),
    };
    let here = match summary.header.time_scale {
        Some(scale) => format!(", {} here × time_scale {scale}", duration(set_up_s / scale)),
        None => String::new(),
    };
    Some(format!(
        "JCT, energy and cost contain start-up: what stages took here to connect, load, get their turn on the device and rehearse, from placement to the \
         begin of training: \
         {}{here}, {:.1} % of the JCT of job {}{more}.",
        duration(*set_up_s),
        100.0 * share,
        job.name,
    ))
}

fn scale_models(summary: &Summary) -> Option<String> {
    let header = &summary.header;
    let who = match header.scale_models.as_slice() {
        [] => return None,
        [one] => format!("Job {one} trained a scale model"),
        all if all.len() == header.jobs.len() => "All jobs trained scale models".to_owned(),
        some => format!(
            "{} of {} jobs trained scale models",
            some.len(),
            header.jobs.len()
        ),
    };
    Some(format!(
        "{who}: loss and weights are those of what was trained; times, bytes on links, tokens, energy \
         and money stand for the models that the scenario names."
    ))
}

fn end(summary: &Summary) -> Option<String> {
    match &summary.end {
        RunEnd::Complete => None,
        RunEnd::Stopped(reason) => Some(format!("The run was stopped: {}", sentence(reason))),
        RunEnd::CutOff { last_s } => Some(format!(
            "The ledger ends at {last_s:.1} s without the end of the run, which still goes on or was \
             killed. The numbers are those up to there."
        )),
    }
}

fn status(job: &JobSummary) -> Option<String> {
    let name = &job.name;
    Some(match &job.status {
        JobStatus::Finished => return None,
        JobStatus::Failed(reason) => format!("Job {name} failed: {}", sentence(reason)),
        JobStatus::Refused(reason) => format!("Job {name} was refused: {}", sentence(reason)),
        JobStatus::Waiting(None) => format!("Job {name} still waits for a place."),
        JobStatus::Waiting(Some(why)) => {
            format!("Job {name} still waits for a place: {}", sentence(why))
        }
        JobStatus::Unfinished => match job.iterations {
            Figure::Known(done) => {
                format!("Job {name} had not ended; {done} iterations were done.")
            }
            Figure::Unknown(_) => format!("Job {name} had not ended."),
        },
        JobStatus::NotSubmitted => format!("Job {name} had not arrived."),
    })
}

fn preempted(job: &JobSummary) -> Option<String> {
    let starts = job.placed.as_ref()?.starts;
    let waits = matches!(job.status, JobStatus::Waiting(_));
    let (lost, queueing) = if waits {
        (starts, "the waits before each start, not the one it is in")
    } else {
        (starts.saturating_sub(1), "all its waits")
    };
    (lost > 0).then(|| {
        format!(
            "Job {} lost its GPUs {lost} time{}; its queueing is {queueing}.",
            job.name,
            if lost == 1 { "" } else { "s" },
        )
    })
}

fn missing(job: &JobSummary) -> Option<String> {
    let energy = job
        .energy_j
        .reason()
        .map(|reason| ("energy and cost are", reason));
    let loss = [&job.loss_first, &job.loss_last]
        .into_iter()
        .find_map(|loss| loss.reason().filter(|reason| *reason == LOSS_NOT_A_NUMBER))
        .map(|reason| ("loss is", reason));
    let (what, reason) = energy.or(loss)?;
    Some(format!(
        "The {what} unknown for job {}: {}",
        job.name,
        sentence(reason)
    ))
}

/// From when on a message counts as late: a millisecond of this machine's clock, as emulated time.
pub(crate) fn late_from(header: &Header) -> String {
    let scale = header.time_scale.unwrap_or(1.0);
    if scale == 1.0 {
        "1 ms".to_owned()
    } else {
        format!("{scale} ms (1 ms here)")
    }
}

fn late(job: &JobSummary, header: &Header) -> Option<String> {
    let late = *job.late_arrivals.known().filter(|late| **late > 0)?;
    Some(format!(
        "Job {}: {late} message{} arrived over {} later than the emulated link would have delivered \
         {}, the worst by {}; this machine could not keep up there.",
        job.name,
        if late == 1 { "" } else { "s" },
        late_from(header),
        if late == 1 { "it" } else { "them" },
        match &job.worst_late_s {
            Figure::Known(worst_s) => duration(*worst_s),
            Figure::Unknown(why) => format!("an unknown time ({why})"),
        }
    ))
}

/// Overruns that do not make a run not valid; those that do have been told.
fn overruns(job: &JobSummary, emulation: &EmulationSummary) -> Option<String> {
    let judged = emulation.overruns.as_ref();
    let overruns = job.overruns;
    if overruns == 0 || judged.is_some_and(|judged| judged.are_too_many(&job.name)) {
        return None;
    }
    let (of_all, tolerated) = match judged.and_then(|judged| judged.tolerated(&job.name)) {
        Some((of, share)) => (
            format!(" of {} paced", of.actions),
            format!(" They are within the {share}, or the handful, that may be."),
        ),
        None => (String::new(), String::new()),
    };
    Some(format!(
        "Job {}: {overruns}{of_all} action{} took longer here than on the emulated GPU, the worst by {}; \
         the measured times are too long by at least that.{tolerated}",
        job.name,
        if overruns == 1 && of_all.is_empty() {
            ""
        } else {
            "s"
        },
        duration(job.worst_overrun_s)
    ))
}

fn omissions(summary: &Summary) -> Vec<String> {
    let omissions = &summary.omissions;
    let mut notes = Vec::new();
    if let Some(line) = omissions.torn_line {
        notes.push(format!(
            "Line {line}, the ledger's last, is torn and was left out."
        ));
    }
    notes.extend(omissions.unknown().map(|clause| sentence(&clause)));
    notes
}

pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.2}{GLUE}ms", seconds * 1e3)
    } else {
        format!("{seconds:.2}{GLUE}s")
    }
}

/// `text` with an end.
pub(crate) fn sentence(text: &str) -> String {
    let text = text.trim_end();
    if text.ends_with(['.', '!', '?']) {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}
