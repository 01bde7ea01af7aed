//! Where the job's time went.

use bace_ledger::{Attribution, Cause, Figure, LinkName, Sums};

use super::story::Told;
use super::words::{list, percent, seconds, sentence};

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
    for attempt in &job.attempts {
        let cut = attempt.times.known().and_then(|times| times.cut.as_ref());
        sentences.extend(cut.map(|cut| sentence(cut)));
    }
    sentences
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
        let went = if place == 0 { " went" } else { "" };
        format!("{}{went} to {}{beside}", percent(share), cause.name())
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
