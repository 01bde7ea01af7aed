//! Attributions for people.

use std::collections::BTreeSet;

use bace_api::Attempt;

use super::{AttemptTimes, Attributed, Attribution, Cause, JobAttribution, LinkName, Sums};
use crate::Figure;
use crate::notes::sentence;
use crate::percent::percents;
use crate::table::{Columns, Scale, UNKNOWN, glued, paragraph, plain, wrapped};

/// What holds the rows that a table leaves out.
const ALL_IN: &str = "--json";

/// The section of a report that says where stage-time went, of at most 100 columns, plain text that ends with a line break.
pub fn render_attribution(attributed: &Attributed) -> String {
    let mut text = String::new();
    let sides = match attributed {
        Attributed::Simulated(_) => "predicted",
        Attributed::Real {
            predicted: Figure::Known(_),
            ..
        } => "measured beside predicted",
        Attributed::Real { .. } => "measured",
    };
    let heading = format!(
        "Where stage-time went, {sides}: every second of every stage, from its job's placement until its GPU was free."
    );
    paragraph(&mut text, &wrapped("", &heading));
    let rows = rows(attributed);
    paragraph(&mut text, &jobs(attributed, &rows));
    paragraph(&mut text, &stages(attributed));
    paragraph(&mut text, &links(attributed, &rows));
    let notes = notes(attributed);
    let lines = notes.iter().map(|note| wrapped("! ", note));
    paragraph(&mut text, &lines.collect::<Vec<_>>().join("\n"));
    plain(&text)
}

/// A job's sums on both sides.
struct Row<'a> {
    job: &'a str,
    own: Sums,
    beside: Option<Sums>,
}

fn rows(attributed: &Attributed) -> Vec<Row<'_>> {
    let known = |job: &JobAttribution| job.sums().known().cloned();
    let jobs = attributed.own().jobs.iter();
    jobs.filter_map(|job| {
        let beside = attributed.beside().and_then(|beside| beside.job(&job.job));
        Some(Row {
            job: &job.job,
            own: known(job)?,
            beside: beside.and_then(known),
        })
    })
    .collect()
}

fn jobs(attributed: &Attributed, rows: &[Row<'_>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let totals: Vec<Figure> = rows
        .iter()
        .map(|row| Figure::real(row.own.total_s()))
        .collect();
    let seconds = Scale::plain(totals.iter());
    let own = [format!("{} (stage-s)", attributed.word()), "(%)".to_owned()];
    let has_beside = attributed.beside().is_some();
    let mut headings = vec!["job", "went to", &own[0], &own[1]];
    if has_beside {
        headings.extend(["predicted (stage-s)", "(%)"]);
    }
    let mut table = Columns::new(&headings).rest_in(ALL_IN);
    table.wrap(1);
    for row in rows {
        let both = |pick: &dyn Fn(&Sums) -> [String; 2]| {
            let mut cells = pick(&row.own).to_vec();
            if has_beside {
                let beside = row.beside.as_ref();
                cells.extend(beside.map_or([UNKNOWN; 2].map(str::to_owned), pick));
            }
            cells
        };
        let mut first = vec![row.job.to_owned(), "all".to_owned()];
        first.extend(both(&|sums| {
            [shown(&seconds, sums.total_s()), "100.0".to_owned()]
        }));
        table.row(first);
        let sides = [Some(&row.own), row.beside.as_ref()];
        for cause in happened(sides.into_iter().flatten()) {
            let mut cells = vec![String::new(), glued(cause.name())];
            cells.extend(both(&|sums| {
                [shown(&seconds, sums.seconds(cause)), percent(sums, cause)]
            }));
            table.row(cells);
        }
    }
    table.finish("rows")
}

fn stages(attributed: &Attributed) -> String {
    let own: Vec<Start<'_>> = starts(attributed.own()).collect();
    if own.is_empty() {
        return String::new();
    }
    let beside: Vec<Start<'_>> = attributed.beside().into_iter().flat_map(starts).collect();
    let all = own.iter().chain(&beside);
    let causes = happened(all.flat_map(|start| start.times.stages.iter().map(|stage| &stage.sums)));
    let totals = own
        .iter()
        .map(|start| start.times.to_s - start.times.from_s);
    let totals: Vec<Figure> = totals.map(Figure::real).collect();
    let seconds = Scale::plain(totals.iter());
    let mut headings = vec!["stage, % of its time", "time (s)"];
    headings.extend(causes.iter().map(|cause| cause.heading()));
    let mut table = Columns::new(&headings).rest_in(ALL_IN);
    let row = |name: String, sums: &Sums| {
        let mut cells = vec![glued(&name), shown(&seconds, sums.total_s())];
        cells.extend(causes.iter().map(|&cause| percent(sums, cause)));
        cells
    };
    for start in &own {
        let predicted = beside.iter().find(|other| start.is_predicted_by(other));
        for (index, stage) in start.times.stages.iter().enumerate() {
            let name = format!("{} {index} {}", start.name(), stage.region);
            table.row(row(name, &stage.sums));
            if let Some(predicted) = predicted {
                let stage = &predicted.times.stages[index];
                table.row(row("  predicted".to_owned(), &stage.sums));
            }
        }
    }
    table.finish("rows")
}

/// A start whose time is known.
struct Start<'a> {
    job: &'a str,
    attempt: Attempt,
    times: &'a AttemptTimes,
}

fn starts(attribution: &Attribution) -> impl Iterator<Item = Start<'_>> {
    attribution.jobs.iter().flat_map(|job| {
        job.attempts.iter().filter_map(|attempt| {
            Some(Start {
                job: &job.job,
                attempt: attempt.attempt,
                times: attempt.times.known()?,
            })
        })
    })
}

impl Start<'_> {
    fn name(&self) -> String {
        match self.attempt {
            Attempt(0) => self.job.to_owned(),
            Attempt(again) => format!("{} start {}", self.job, u64::from(again) + 1),
        }
    }

    /// Whether `other` is the same start, on stages in the same regions.
    fn is_predicted_by(&self, other: &Self) -> bool {
        fn regions(times: &AttemptTimes) -> impl Iterator<Item = &String> {
            times.stages.iter().map(|stage| &stage.region)
        }
        (self.job, self.attempt) == (other.job, other.attempt)
            && regions(self.times).eq(regions(other.times))
    }
}

fn links(attributed: &Attributed, rows: &[Row<'_>]) -> String {
    let mut own = Sums::default();
    rows.iter().for_each(|row| own.merge(&row.own));
    let mut beside = Sums::default();
    let predicted = rows.iter().filter_map(|row| row.beside.as_ref());
    predicted.for_each(|sums| beside.merge(sums));
    let links: BTreeSet<&LinkName> = own.links().chain(beside.links()).collect();
    let causes = Cause::OF_LINKS.into_iter();
    let causes: Vec<Cause> = causes
        .filter(|&cause| own.seconds(cause) > 0.0 || beside.seconds(cause) > 0.0)
        .collect();
    if links.is_empty() || causes.is_empty() {
        return String::new();
    }
    let all = [&own, &beside].into_iter().flat_map(|sums| {
        causes
            .iter()
            .map(|&cause| Figure::real(sums.seconds(cause)))
    });
    let all: Vec<Figure> = all.collect();
    let seconds = Scale::plain(all.iter());
    let mut headings = vec!["waited for (stage-s)"];
    headings.extend(causes.iter().map(|cause| cause.heading()));
    let mut table = Columns::new(&headings).rest_in(ALL_IN);
    for link in links {
        let row = |name: &str, sums: &Sums| {
            let mut cells = vec![glued(name)];
            let at_link = causes.iter().map(|&cause| sums.link_seconds(link, cause));
            cells.extend(at_link.map(|value| shown(&seconds, value)));
            cells
        };
        table.row(row(&link.to_string(), &own));
        if attributed.beside().is_some() {
            table.row(row("  predicted", &beside));
        }
    }
    table.finish("rows")
}

fn notes(attributed: &Attributed) -> Vec<String> {
    let mut notes = Vec::new();
    if let Attributed::Real {
        predicted: Figure::Unknown(reason),
        ..
    } = attributed
        && attributed.own().is_known()
    {
        notes.push(format!("No prediction stands beside: {}", sentence(reason)));
    }
    notes.extend(unknown(attributed.own(), "Where the time"));
    if let Some(beside) = attributed.beside() {
        notes.extend(unknown(beside, "Where the predicted time"));
    }
    for start in starts(attributed.own()) {
        if let Some(cut) = &start.times.cut {
            notes.push(format!(
                "Job {}: the time up to {:.3} s is told; {}",
                start.name(),
                start.times.to_s,
                sentence(cut)
            ));
        }
        let beside = attributed.beside().into_iter().flat_map(starts);
        let mut same = beside.filter(|other| other.job == start.job);
        if same
            .next()
            .is_some_and(|other| !start.is_predicted_by(&other))
        {
            notes.push(format!(
                "Job {}: its prediction has no such start with stages in the same regions.",
                start.name()
            ));
        }
    }
    notes
}

/// A sentence for each reason for which the time of jobs is not known.
fn unknown(attribution: &Attribution, what: &str) -> Vec<String> {
    let mut jobs: Vec<(&str, Vec<&str>)> = Vec::new();
    for job in &attribution.jobs {
        for attempt in &job.attempts {
            let Some(reason) = attempt.times.reason() else {
                continue;
            };
            match jobs.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, names)) if names.last() == Some(&job.job.as_str()) => {}
                Some((_, names)) => names.push(&job.job),
                None => jobs.push((reason, vec![&job.job])),
            }
        }
    }
    let notes = jobs.into_iter().map(|(reason, names)| {
        let of = match names.len() {
            all if all > 1 && all == attribution.jobs.len() => "all jobs".to_owned(),
            1 => format!("job {}", names[0]),
            _ => format!("jobs {}", names.join(", ")),
        };
        format!("{what} of {of} went is unknown: {}", sentence(reason))
    });
    notes.collect()
}

/// Less than this share of all time is what rounding leaves between times that are the same.
const ROUNDING: f64 = 1e-9;

/// Causes that took time in any of these.
fn happened<'a>(sums: impl Iterator<Item = &'a Sums>) -> Vec<Cause> {
    let mut all = Sums::default();
    sums.for_each(|one| all.merge(one));
    let causes = Cause::ALL.into_iter();
    let least_s = ROUNDING * all.total_s();
    causes
        .filter(|&cause| all.seconds(cause) > least_s)
        .collect()
}

fn shown(scale: &Scale, seconds: f64) -> String {
    scale.show(&Figure::real(seconds))
}

fn percent(sums: &Sums, cause: Cause) -> String {
    match sums.share(cause) {
        Some(share) => percents(share),
        None => UNKNOWN.to_owned(),
    }
}
