//! Where the job's time went.

use std::collections::BTreeMap;

use bace_ledger::{
    AttemptAttribution, AttemptLog, Attribution, Cause, Figure, LinkName, Sums, percent,
};

use super::story::Told;
use super::words::{list, seconds};

/// A cause of less than this share of stage-time is left to the report.
const LEAST_SHARE: f64 = 0.001;

/// Links that still serve a person.
const MAX_LINKS: usize = 3;

/// The largest causes, measured beside predicted, and the links to blame.
pub fn sentences(told: &Told<'_>) -> Vec<String> {
    let name = &told.summary.name;
    let Some(job) = told.attributed.own().job(name) else {
        return Vec::new();
    };
    let sums = match job.sums() {
        Figure::Known(sums) => sums,
        Figure::Unknown(reason) => {
            return vec![format!(
                "Where its time went is unknown: {}.",
                reason.trim_end_matches('.')
            )];
        }
    };
    let predicted = told
        .attributed
        .beside()
        .and_then(|beside| known(beside, name));
    let mut sentences = vec![shares(&sums, predicted.as_ref())];
    sentences.extend(links(&sums));
    sentences.extend(sharers(told, &sums));
    sentences.extend(job.attempts.iter().filter_map(cut));
    sentences
}

/// What of a start is not among the time that is told.
fn cut(start: &AttemptAttribution) -> Option<String> {
    let times = start.times.known()?;
    let lacks = match times.unknown_s {
        Some(unknown_s) => format!(
            " and {} of its stages behind that are not",
            seconds(unknown_s)
        ),
        None => String::new(),
    };
    Some(format!(
        "Of start {}, the time up to {} is counted here{lacks}: {}.",
        u64::from(start.attempt.0) + 1,
        seconds(times.to_s),
        times.cut.as_ref()?.trim_end_matches('.')
    ))
}

fn known(attribution: &Attribution, name: &str) -> Option<Sums> {
    attribution.job(name)?.sums().known().cloned()
}

fn shares(sums: &Sums, predicted: Option<&Sums>) -> String {
    let mut causes: Vec<(Cause, f64)> = Cause::ALL
        .into_iter()
        .filter_map(|cause| Some((cause, sums.share(cause)?)))
        .filter(|(cause, share)| {
            let predicted = predicted.and_then(|predicted| predicted.share(*cause));
            share.max(predicted.unwrap_or(0.0)) >= LEAST_SHARE
        })
        .collect();
    causes.sort_by(|one, other| other.1.total_cmp(&one.1));
    let parts = causes.iter().enumerate().map(|(place, &(cause, share))| {
        let beside = predicted.and_then(|predicted| predicted.share(cause));
        let beside = beside.map_or_else(String::new, |share| {
            format!(" (predicted {})", percent(share))
        });
        let were = if place == 0 { " were" } else { "" };
        format!("{}{were} {}{beside}", percent(share), cause.name())
    });
    let parts: Vec<String> = parts.collect();
    format!(
        "Of the {} that its stages had together, {}.",
        seconds(sums.total_s()),
        list(&parts)
    )
}

/// The links that stages waited for longest.
fn links(sums: &Sums) -> Option<String> {
    let waited_s = |link: &LinkName| -> f64 {
        let causes = Cause::OF_LINKS.into_iter();
        causes.map(|cause| sums.link_seconds(link, cause)).sum()
    };
    let least_s = LEAST_SHARE * sums.total_s();
    let mut links: Vec<(&LinkName, f64)> = sums
        .links()
        .map(|link| (link, waited_s(link)))
        .filter(|(_, waited_s)| *waited_s >= least_s)
        .collect();
    links.sort_by(|one, other| other.1.total_cmp(&one.1));
    let parts = links.iter().take(MAX_LINKS).map(|(link, waited_s)| {
        let causes = Cause::OF_LINKS.into_iter().filter_map(|cause| {
            let at_link_s = sums.link_seconds(link, cause);
            (at_link_s >= least_s).then(|| format!("{} {}", seconds(at_link_s), cause.name()))
        });
        let link = match link.from == link.to {
            true => format!("the {link}"),
            false => format!("the link {link}"),
        };
        let causes = list(&causes.collect::<Vec<_>>());
        match causes.is_empty() {
            true => format!("{} for {link}", seconds(*waited_s)),
            false => format!("{} for {link} ({causes})", seconds(*waited_s)),
        }
    });
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| format!("Its stages together waited {}.", list(&parts)))
}

/// Whose tensors crossed the links that it queued at.
fn sharers(told: &Told<'_>, sums: &Sums) -> Vec<String> {
    let least_s = LEAST_SHARE * sums.total_s();
    let mut links: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for link in sums.links() {
        let others = others(told, link);
        if !others.is_empty() && sums.link_seconds(link, Cause::Queued) >= least_s {
            links.entry(others).or_default().push(link.to_string());
        }
    }
    let told = links.iter().map(|(names, links)| {
        let (names, links) = (list(names), list(links));
        format!("Meanwhile tensors of {names} crossed {links} too.")
    });
    told.collect()
}

/// The other jobs that used `link` while this one used it.
fn others(told: &Told<'_>, link: &LinkName) -> Vec<String> {
    let uses = |start: &&AttemptLog| {
        let mut boundaries = start.path.windows(2);
        boundaries.any(|ends| {
            let ends = [&ends[0].region, &ends[1].region];
            ends.contains(&&link.from) && ends.contains(&&link.to)
        })
    };
    let end_s = |start: &AttemptLog| start.released_s.unwrap_or(f64::INFINITY);
    let own = told.of.into_iter().flat_map(|of| &of.attempts);
    let own: Vec<&AttemptLog> = own.filter(uses).collect();
    let meets = |other: &AttemptLog| {
        let mut own = own.iter();
        own.any(|own| own.placed_s < end_s(other) && other.placed_s < end_s(own))
    };
    let jobs = told.log.jobs.iter();
    let others = jobs.filter(|job| job.name != told.summary.name);
    let others = others.filter(|job| job.attempts.iter().filter(uses).any(meets));
    others.map(|job| job.name.clone()).collect()
}
