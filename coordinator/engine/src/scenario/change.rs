//! What changes during a run: links, by `[[link_change]]` and by traces, and GPUs.

use std::collections::{BTreeMap, BTreeSet};

use bace_netem::{BitRate, Delay, LinkId, LinkSpec};
use toml::Spanned;

use super::ends::{Ends, RegionNames};
use super::error::Fault;
use super::file::{GpuChangeFile, LinkChangeFile, LinkFile, TraceFile, TraceStep};
use super::limits;
use super::link::{self, delay_ms, rate_mbps};
use super::types::{GpuChange, LinkChange};
use super::values::{ReadSource, count, csv_rows, number, optional};

/// Columns of a trace's CSV file.
const TRACE_COLUMNS: &str = "at_s,bandwidth_mbps";
const TRACE_COLUMNS_WITH_DELAY: &str = "at_s,bandwidth_mbps,one_way_delay_ms";

/// What is to change on which link, as written: what is not named stays as it is then.
#[derive(Debug, Clone, Copy)]
struct Wish {
    at_s: f64,
    rate: Option<BitRate>,
    delay: Option<Delay>,
}

/// All changes of links by time: steps of traces in the order of their links, then entries of `[[link_change]]` in file
/// order, where they fall on one instant.
pub(super) fn link_changes(
    links: &[Spanned<LinkFile>],
    changes: &[Spanned<LinkChangeFile>],
    regions: &RegionNames<'_>,
    specs: &BTreeMap<LinkId, LinkSpec>,
    sources: ReadSource<'_>,
) -> Result<Vec<LinkChange>, Fault> {
    let mut wishes: Vec<(LinkId, Wish)> = Vec::new();
    for file in links {
        let Some(written) = &file.get_ref().trace else {
            continue;
        };
        let ids = link::ends(file.get_ref()).resolve(file.span(), regions)?;
        let steps = trace(written, sources)?;
        if wishes.len() + ids.len() * steps.len() > limits::LINK_CHANGES {
            return Err(too_many(written.span()));
        }
        for id in ids {
            wishes.extend(steps.iter().map(|step| (id, *step)));
        }
    }
    let traced = wishes
        .iter()
        .map(|(link, wish)| (wish.at_s.to_bits(), *link));
    let mut seen: BTreeSet<(u64, LinkId)> = traced.collect();
    for file in changes {
        let ends = change_ends(file.get_ref());
        let wish = wish(file)?;
        for link in ends.resolve(file.span(), regions)? {
            let (from, to) = (regions.name(link.from), regions.name(link.to));
            if !specs.contains_key(&link) {
                let message =
                    format!("there is no link from `{from}` to `{to}`; add it as a `[[link]]`");
                return Err(Fault::at(ends.span(), message));
            }
            if !seen.insert((wish.at_s.to_bits(), link)) {
                let at_s = wish.at_s;
                let message = format!(
                    "the link from `{from}` to `{to}` already changes at {at_s} s; keep one change"
                );
                return Err(Fault::at(file.get_ref().at_s.span(), message));
            }
            wishes.push((link, wish));
        }
        if wishes.len() > limits::LINK_CHANGES {
            return Err(too_many(file.span()));
        }
    }
    Ok(resolved(wishes, specs))
}

/// What links give after each wish.
fn resolved(
    mut wishes: Vec<(LinkId, Wish)>,
    specs: &BTreeMap<LinkId, LinkSpec>,
) -> Vec<LinkChange> {
    wishes.sort_by(|(_, a), (_, b)| a.at_s.total_cmp(&b.at_s));
    let mut present: BTreeMap<LinkId, (BitRate, Delay)> = specs
        .iter()
        .map(|(&link, spec)| (link, (spec.rate, spec.delay)))
        .collect();
    let changes = wishes.into_iter().filter_map(|(link, wish)| {
        let (rate, delay) = present.get_mut(&link)?;
        *rate = wish.rate.unwrap_or(*rate);
        *delay = wish.delay.unwrap_or(*delay);
        Some(LinkChange {
            at_s: wish.at_s,
            link,
            rate: *rate,
            delay: *delay,
        })
    });
    changes.collect()
}

fn too_many(span: std::ops::Range<usize>) -> Fault {
    let most = limits::LINK_CHANGES;
    let message = format!(
        "more than {most} changes of directed links, the most a scenario may have; thin the traces out"
    );
    Fault::at(span, message)
}

fn change_ends(file: &LinkChangeFile) -> Ends<'_> {
    Ends {
        between: file.between.as_ref(),
        from: file.from.as_ref(),
        to: file.to.as_ref(),
    }
}

fn wish(file: &Spanned<LinkChangeFile>) -> Result<Wish, Fault> {
    let LinkChangeFile {
        at_s,
        bandwidth_mbps,
        one_way_delay_ms,
        ..
    } = file.get_ref();
    if bandwidth_mbps.is_none() && one_way_delay_ms.is_none() {
        let message = "nothing changes; give `bandwidth_mbps`, `one_way_delay_ms` or both";
        return Err(Fault::at(file.span(), message));
    }
    Ok(Wish {
        at_s: number(at_s, limits::SECONDS)?,
        rate: optional(bandwidth_mbps, limits::BANDWIDTH_MBPS)?.map(rate_mbps),
        delay: optional(one_way_delay_ms, limits::DELAY_MS)?.map(delay_ms),
    })
}

fn trace(written: &Spanned<TraceFile>, sources: ReadSource<'_>) -> Result<Vec<Wish>, Fault> {
    let (steps, span) = match written.get_ref() {
        TraceFile::Steps(steps) => (trace_of_steps(steps)?, written.span()),
        TraceFile::Csv(csv) => (trace_of_csv(&csv.csv, sources)?, csv.csv.span()),
    };
    if steps.is_empty() {
        let message = "the trace has no step; give one, or leave the key out";
        return Err(Fault::at(span, message));
    }
    let late = steps
        .windows(2)
        .position(|pair| pair[1].at_s <= pair[0].at_s);
    if let Some(before) = late {
        let (index, at_s) = (before + 1, steps[before + 1].at_s);
        let message = format!(
            "step {index} at {at_s} s does not come after the one before it; sort the trace by `at_s`"
        );
        return Err(Fault::at(span, message));
    }
    Ok(steps)
}

fn trace_of_steps(steps: &[Spanned<TraceStep>]) -> Result<Vec<Wish>, Fault> {
    let wish = |step: &Spanned<TraceStep>| {
        let TraceStep {
            at_s,
            bandwidth_mbps,
            one_way_delay_ms,
        } = step.get_ref();
        Ok(Wish {
            at_s: number(at_s, limits::SECONDS)?,
            rate: Some(rate_mbps(number(bandwidth_mbps, limits::BANDWIDTH_MBPS)?)),
            delay: optional(one_way_delay_ms, limits::DELAY_MS)?.map(delay_ms),
        })
    };
    steps.iter().map(wish).collect()
}

fn trace_of_csv(file: &Spanned<String>, sources: ReadSource<'_>) -> Result<Vec<Wish>, Fault> {
    let columns = [
        ("at_s", limits::SECONDS),
        ("bandwidth_mbps", limits::BANDWIDTH_MBPS),
        ("one_way_delay_ms", limits::DELAY_MS),
    ];
    let headers = [TRACE_COLUMNS, TRACE_COLUMNS_WITH_DELAY];
    csv_rows(file, &headers, sources, |row| {
        for (value, (key, range)) in row.iter().zip(columns) {
            if !range.contains(*value) {
                return Err(format!("`{key}` = {value} has to be {range}"));
            }
        }
        Ok(Wish {
            // A negative zero would print as one.
            at_s: row[0] + 0.0,
            rate: Some(rate_mbps(row[1] + 0.0)),
            delay: row.get(2).map(|ms| delay_ms(ms + 0.0)),
        })
    })
}

/// GPU changes by time; those of one instant in file order.
pub(super) fn gpu_changes(
    files: &[GpuChangeFile],
    regions: &RegionNames<'_>,
) -> Result<Vec<GpuChange>, Fault> {
    let mut seen = BTreeSet::new();
    let mut changes = Vec::new();
    for file in files {
        let at_s = number(&file.at_s, limits::SECONDS)?;
        let region = regions.find(&file.region)?;
        let gpus = count(&file.gpus, limits::GPUS)?;
        let declared = regions.0[region.index()].gpus;
        if gpus > declared {
            let message = format!(
                "{gpus} GPUs are more than `{}` has, which is {declared}; raise its `gpus`",
                regions.name(region)
            );
            return Err(Fault::at(file.gpus.span(), message));
        }
        if !seen.insert((at_s.to_bits(), region)) {
            let message = format!(
                "the GPUs of `{}` already change at {at_s} s; keep one change",
                regions.name(region)
            );
            return Err(Fault::at(file.at_s.span(), message));
        }
        changes.push(GpuChange { at_s, region, gpus });
    }
    changes.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    Ok(changes)
}
