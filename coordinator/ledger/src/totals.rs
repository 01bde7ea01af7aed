//! Sums over jobs: the run, its regions, its links.

use std::collections::{BTreeMap, BTreeSet};

use bace_netem::BitRate;

use crate::emulation::lateness_unknown;
use crate::fold::Fold;
use crate::{Figure, JobSummary, LinkSummary, RegionSummary, Totals};

/// A number that changes in steps, from the start of a run on.
#[derive(Debug, Clone)]
pub(crate) struct Steps(Vec<(f64, f64)>);

impl Steps {
    pub(crate) fn new(value: f64) -> Self {
        Self(vec![(0.0, value)])
    }

    /// From `at_s`, which is not before earlier changes, the number is `value`.
    pub(crate) fn set(&mut self, at_s: f64, value: f64) {
        self.0.push((at_s, value));
    }

    /// Integral from 0 to `end_s`.
    fn integral(&self, end_s: f64) -> f64 {
        let ends = self.0.iter().skip(1).map(|(at_s, _)| *at_s);
        self.0
            .iter()
            .zip(ends.chain([end_s]))
            .map(|((from_s, value), to_s)| value * (to_s.min(end_s) - from_s).max(0.0))
            .sum()
    }
}

pub(crate) fn totals(fold: &Fold, jobs: &[JobSummary]) -> Totals {
    let mut jcts = known(jobs, |job| &job.jct_s);
    jcts.sort_by(f64::total_cmp);
    let of_jcts = |pick: fn(&[f64]) -> f64| statistic(&jcts, pick, "no job finished");
    let held_s = sum(jobs, |job| &job.gpu_held_s);
    let busy_s = sum(jobs, |job| &job.gpu_busy_s);
    let link_bytes = jobs.iter().fold(Figure::Known(0), |sum, job| {
        plus(sum, explained(job, &job.link_bytes))
    });
    Totals {
        finished: jcts.len(),
        mean_jct_s: of_jcts(mean),
        median_jct_s: of_jcts(|sorted| percentile(sorted, 0.5)),
        p95_jct_s: of_jcts(|sorted| percentile(sorted, 0.95)),
        max_jct_s: of_jcts(|sorted| percentile(sorted, 1.0)),
        mean_queueing_s: statistic(
            &known(jobs, |job| &job.queueing_s),
            mean,
            "no job was placed",
        ),
        makespan_s: statistic(
            &known(jobs, |job| &job.finished_s),
            |all| all.iter().copied().fold(f64::MIN, f64::max),
            "no job finished",
        ),
        energy_j: sum(jobs, |job| &job.energy_j),
        cost_usd: sum(jobs, |job| &job.cost_usd),
        carbon_g: sum(jobs, |job| &job.carbon_g),
        gpu_busy_share: if held_s == Figure::Known(0.0) {
            Figure::Unknown("no GPU was held".into())
        } else {
            busy_s.with(&held_s, |busy, held| busy / held)
        },
        gpu_utilisation: busy_s.with(&gpu_seconds(fold, None), |busy, all| busy / all),
        link_utilisation: utilisation(fold, &link_bytes, None),
        late_arrivals: match lateness_unknown(&fold.header) {
            Some(why) => Figure::Unknown(why.into()),
            None => jobs.iter().fold(Figure::Known(0), |sum, job| {
                plus(sum, explained(job, &job.late_arrivals))
            }),
        },
        overruns: jobs
            .iter()
            .fold(0, |sum, job| sum.saturating_add(job.overruns)),
    }
}

pub(crate) fn regions(fold: &Fold, jobs: &[JobSummary]) -> Vec<RegionSummary> {
    let used = fold
        .jobs
        .iter()
        .flat_map(|job| job.energy.by_region.keys())
        .chain(paths(jobs));
    let mut summaries: Vec<RegionSummary> = ordered(&fold.header.regions, used)
        .into_iter()
        .map(|name| RegionSummary {
            name,
            energy_j: Figure::Known(0.0),
            cost_usd: Figure::Known(0.0),
            gpu_utilisation: Figure::Known(0.0),
        })
        .collect();
    let index = index(summaries.iter().map(|region| region.name.clone()));
    for (records, job) in fold.jobs.iter().zip(jobs) {
        for (name, used) in &records.energy.by_region {
            let region = &mut summaries[index[name]];
            add(&mut region.energy_j, Figure::real(used.energy_j));
            add(&mut region.cost_usd, Figure::real(used.cost_usd));
            // Busy seconds, until they are set against the region's GPUs below.
            add(&mut region.gpu_utilisation, Figure::real(used.busy_s));
        }
        // A job whose energy is not fully known leaves all regions of its path in the dark.
        if job.energy_j.known().is_none() {
            for name in paths(std::slice::from_ref(job)) {
                let region = &mut summaries[index[name]];
                add(&mut region.energy_j, explained(job, &job.energy_j));
                add(&mut region.cost_usd, explained(job, &job.cost_usd));
                add(&mut region.gpu_utilisation, explained(job, &job.energy_j));
            }
        }
    }
    for region in &mut summaries {
        let all_s = gpu_seconds(fold, Some(&region.name));
        region.gpu_utilisation = region.gpu_utilisation.with(&all_s, |busy, all| busy / all);
    }
    summaries
}

pub(crate) fn links(fold: &Fold, jobs: &[JobSummary]) -> Vec<LinkSummary> {
    let declared: Vec<_> = fold
        .header
        .links
        .iter()
        .map(|link| (link.from.clone(), link.to.clone()))
        .collect();
    let crossed: BTreeSet<_> = jobs.iter().flat_map(crossings).collect();
    let used = fold
        .jobs
        .iter()
        .flat_map(|job| job.transfers.by_link.keys())
        .chain(&crossed);
    let names = ordered(&declared, used);
    let index = index(names.iter().cloned());
    let mut bytes = vec![Figure::Known(0); names.len()];
    for (records, job) in fold.jobs.iter().zip(jobs) {
        for (ends, sent) in &records.transfers.by_link {
            let sum = &mut bytes[index[ends]];
            *sum = plus(sum.clone(), Figure::Known(*sent));
        }
        if job.link_bytes.known().is_none() {
            for ends in crossings(job) {
                bytes[index[&ends]] = explained(job, &job.link_bytes);
            }
        }
    }
    let summaries = names.into_iter().zip(bytes).map(|(ends, bytes)| {
        let crossed = fold.emulation.crossed.get(&ends);
        let crossed = crossed.copied().unwrap_or_default();
        let messages = bytes.clone().map(|_| crossed.messages.sent);
        let late = lateness_unknown(&fold.header);
        let late = match late.filter(|_| messages.known().is_some()) {
            Some(why) => Figure::Unknown(why.into()),
            None => messages.clone(),
        };
        LinkSummary {
            utilisation: utilisation(fold, &bytes, Some(&ends)),
            from: ends.0,
            to: ends.1,
            bytes,
            messages,
            late_arrivals: late.clone().map(|_| crossed.messages.late),
            worst_late_s: late.map(|_| crossed.messages.worst_s),
            datagrams: crossed.datagrams,
        }
    });
    summaries.collect()
}

/// The declared names in their order, then others that records use.
fn ordered<'a, T: Clone + Ord + 'a>(declared: &[T], used: impl Iterator<Item = &'a T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    let others: BTreeSet<&T> = used.collect();
    let all = declared.iter().chain(others);
    all.filter(|name| seen.insert(*name)).cloned().collect()
}

fn index<T: Ord>(names: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    names
        .enumerate()
        .map(|(place, name)| (name, place))
        .collect()
}

/// Regions of the jobs' latest placements.
fn paths(jobs: &[JobSummary]) -> impl Iterator<Item = &String> {
    let placed = jobs.iter().filter_map(|job| job.placed.as_ref());
    placed.flat_map(|placed| placed.path.iter().map(|part| &part.region))
}

/// Directed links of a job's latest placement.
fn crossings(job: &JobSummary) -> Vec<(String, String)> {
    let pairs = job.placed.iter().flat_map(|placed| placed.path.windows(2));
    pairs
        .flat_map(|pair| {
            let (one, two) = (pair[0].region.clone(), pair[1].region.clone());
            [(one.clone(), two.clone()), (two, one)]
        })
        .collect()
}

/// GPU time there was in a region, or in all, until the last job ended.
fn gpu_seconds(fold: &Fold, region: Option<&String>) -> Figure {
    let missing = "the ledger does not say how many GPUs there are";
    let Some(end_s) = fold.ended_s else {
        return Figure::Unknown("no job ended".into());
    };
    let all: f64 = match region {
        Some(region) => fold
            .gpus
            .get(region)
            .map_or(0.0, |gpus| gpus.integral(end_s)),
        None => fold.gpus.values().map(|gpus| gpus.integral(end_s)).sum(),
    };
    Figure::new((all > 0.0).then_some(all), missing)
}

/// Share that `bytes` are of what a link, or all of them, could have carried until the last job ended.
fn utilisation(fold: &Fold, bytes: &Figure<u64>, link: Option<&(String, String)>) -> Figure {
    let Some(end_s) = fold.ended_s else {
        return Figure::Unknown("no job ended".into());
    };
    let all: f64 = match link {
        Some(link) => fold
            .capacities
            .get(link)
            .map_or(0.0, |rate| rate.integral(end_s)),
        None => fold
            .capacities
            .values()
            .map(|rate| rate.integral(end_s))
            .sum(),
    };
    let mean_bps = Figure::new(
        (all > 0.0).then_some(all / end_s),
        "the ledger names no capacities",
    );
    let sent_bps = bytes
        .clone()
        .map(|bytes| BitRate::carrying(bytes, end_s).bps());
    sent_bps.with(&mean_bps, |sent, capacity| sent / capacity)
}

/// The sum over jobs; the first reason, with its job's name, if one is missing.
fn sum(jobs: &[JobSummary], pick: fn(&JobSummary) -> &Figure) -> Figure {
    let mut sum = Figure::Known(0.0);
    for job in jobs {
        add(&mut sum, explained(job, pick(job)));
    }
    sum
}

fn add(sum: &mut Figure, figure: Figure) {
    *sum = sum.with(&figure, |one, two| one + two);
}

fn plus(one: Figure<u64>, two: Figure<u64>) -> Figure<u64> {
    match (one, two) {
        (Figure::Known(one), Figure::Known(two)) => Figure::Known(one.saturating_add(two)),
        (Figure::Unknown(reason), _) | (_, Figure::Unknown(reason)) => Figure::Unknown(reason),
    }
}

/// A figure of a job; where it is missing, the reason names the job.
fn explained<T: Clone>(job: &JobSummary, figure: &Figure<T>) -> Figure<T> {
    match figure {
        Figure::Known(value) => Figure::Known(value.clone()),
        Figure::Unknown(reason) => Figure::Unknown(format!("job {}: {reason}", job.name).into()),
    }
}

fn known(jobs: &[JobSummary], pick: fn(&JobSummary) -> &Figure) -> Vec<f64> {
    let figures = jobs.iter().filter_map(|job| pick(job).known());
    figures.copied().collect()
}

fn statistic(values: &[f64], pick: fn(&[f64]) -> f64, missing: &'static str) -> Figure {
    if values.is_empty() {
        return Figure::Unknown(missing.into());
    }
    Figure::real(pick(values))
}

/// Of `values`, of which there is at least one.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Linear between the ranks of `sorted`, which is not empty.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = share * (sorted.len() - 1) as f64;
    let below = sorted[rank.floor() as usize];
    let above = sorted[rank.ceil() as usize];
    below + (above - below) * rank.fract()
}
