//! Links of a scenario file, and the changes of links and GPUs over time.

use std::collections::{BTreeMap, BTreeSet};

use bace_api::NetworkRung;
use bace_netem::{BitRate, Delay, LinkId, LinkSpec, RegionId};
use toml::Spanned;

use super::error::{Fault, suggestion};
use super::file::{BackendFile, GpuChangeFile, LinkChangeFile, LinkFile, NetworkFile};
use super::limits;
use super::types::{GpuChange, LinkChange, NetworkSettings, Region};
use super::values::{count, number};

const BPS_PER_MBPS: f64 = 1e6;
const SECONDS_PER_MS: f64 = 1e-3;

/// Regions by name.
pub(super) struct RegionNames<'a>(pub &'a [Region]);

impl RegionNames<'_> {
    fn find(&self, name: &Spanned<String>) -> Result<RegionId, Fault> {
        self.0
            .iter()
            .position(|region| region.name == *name.get_ref())
            .and_then(RegionId::from_index)
            .ok_or_else(|| {
                let names: Vec<&str> = self.0.iter().map(|region| region.name.as_str()).collect();
                let hint = suggestion(name.get_ref(), &names);
                let message = format!("no region is named `{}`; {hint}", name.get_ref());
                Fault::at(name.span(), message)
            })
    }

    fn name(&self, id: RegionId) -> &str {
        &self.0[id.index()].name
    }
}

/// A capacity in bit/s from one in Mbit/s.
pub(super) fn rate_mbps(mbps: f64) -> BitRate {
    BitRate::from_bps(mbps * BPS_PER_MBPS).expect("limits keep rates finite and not negative")
}

/// A delay from milliseconds.
pub(super) fn delay_ms(ms: f64) -> Delay {
    Delay::from_seconds(ms * SECONDS_PER_MS).expect("limits keep delays finite and not negative")
}

/// Every directed link once.
pub(super) fn links(
    files: &[Spanned<LinkFile>],
    regions: &RegionNames<'_>,
) -> Result<BTreeMap<LinkId, LinkSpec>, Fault> {
    let mut links = BTreeMap::new();
    for file in files {
        let ends = Ends {
            between: file.get_ref().between.as_ref(),
            from: file.get_ref().from.as_ref(),
            to: file.get_ref().to.as_ref(),
        };
        let ids = ends.resolve(file.span(), regions)?;
        let file = file.get_ref();
        let spec = LinkSpec::new(
            rate_mbps(number(&file.bandwidth_mbps, limits::BANDWIDTH_MBPS)?),
            delay_ms(number(&file.one_way_delay_ms, limits::DELAY_MS)?),
        );
        for id in ids {
            if links.insert(id, spec).is_some() {
                let (from, to) = (regions.name(id.from), regions.name(id.to));
                let message = format!("the link from `{from}` to `{to}` is already given above");
                return Err(Fault::at(ends.span(), message));
            }
        }
    }
    Ok(links)
}

/// How links are emulated.
pub(super) fn settings(file: &NetworkFile) -> Result<NetworkSettings, Fault> {
    let default = NetworkSettings::default();
    let knob = |value: &Option<Spanned<f64>>, range, default| {
        value
            .as_ref()
            .map_or(Ok(default), |value| number(value, range))
    };
    let error_ms = default.receipt_error_s / SECONDS_PER_MS;
    Ok(NetworkSettings {
        backend: match file.backend {
            None => default.backend,
            Some(BackendFile::Virtual) => NetworkRung::Shaped,
            Some(BackendFile::Packet) => NetworkRung::Packet,
            Some(BackendFile::Kernel) => NetworkRung::Kernel,
            Some(BackendFile::None) => NetworkRung::None,
        },
        receipt_error: knob(&file.receipt_error, limits::KNOB, default.receipt_error)?,
        receipt_error_s: knob(&file.receipt_error_ms, limits::DELAY_MS, error_ms)? * SECONDS_PER_MS,
        late_share: knob(&file.late_share, limits::KNOB, default.late_share)?,
    })
}

/// Capacity changes by time; those of one instant in file order.
pub(super) fn link_changes(
    files: &[Spanned<LinkChangeFile>],
    regions: &RegionNames<'_>,
    links: &BTreeMap<LinkId, LinkSpec>,
) -> Result<Vec<LinkChange>, Fault> {
    let mut seen = BTreeSet::new();
    let mut changes = Vec::new();
    for file in files {
        let ends = Ends {
            between: file.get_ref().between.as_ref(),
            from: file.get_ref().from.as_ref(),
            to: file.get_ref().to.as_ref(),
        };
        let ids = ends.resolve(file.span(), regions)?;
        let file = file.get_ref();
        let at_s = number(&file.at_s, limits::SECONDS)?;
        let rate = rate_mbps(number(&file.bandwidth_mbps, limits::BANDWIDTH_MBPS)?);
        for link in ids {
            let (from, to) = (regions.name(link.from), regions.name(link.to));
            if !links.contains_key(&link) {
                let message =
                    format!("there is no link from `{from}` to `{to}`; add it as a `[[link]]`");
                return Err(Fault::at(ends.span(), message));
            }
            if !seen.insert((at_s.to_bits(), link)) {
                let message = format!(
                    "the link from `{from}` to `{to}` already changes at {at_s} s; keep one change"
                );
                return Err(Fault::at(file.at_s.span(), message));
            }
            changes.push(LinkChange { at_s, link, rate });
        }
    }
    changes.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    Ok(changes)
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

/// The ends of a link in either form: `between` for both directions, `from` and `to` for one.
#[derive(Clone, Copy)]
struct Ends<'a> {
    between: Option<&'a Spanned<Vec<Spanned<String>>>>,
    from: Option<&'a Spanned<String>>,
    to: Option<&'a Spanned<String>>,
}

impl Ends<'_> {
    fn resolve(
        self,
        table: std::ops::Range<usize>,
        regions: &RegionNames<'_>,
    ) -> Result<Vec<LinkId>, Fault> {
        let (both, one, other) = match (self.between, self.from, self.to) {
            (Some(between), None, None) => match between.get_ref().as_slice() {
                [one, other] => (true, one, other),
                _ => {
                    let message = "`between` names two regions, such as [\"a\", \"b\"]";
                    return Err(Fault::at(between.span(), message));
                }
            },
            (None, Some(from), Some(to)) => (false, from, to),
            _ => {
                let message = "a link has either `between` (both directions) or `from` and `to` (one direction)";
                return Err(Fault::at(table, message));
            }
        };
        let link = LinkId::new(regions.find(one)?, regions.find(other)?);
        if link.is_fabric() {
            let message = "a link joins two regions; `fabric_gbps` of a region is its inside";
            return Err(Fault::at(other.span(), message));
        }
        Ok(if both {
            vec![link, link.reversed()]
        } else {
            vec![link]
        })
    }

    fn span(self) -> std::ops::Range<usize> {
        self.between
            .map(Spanned::span)
            .or_else(|| self.to.map(Spanned::span))
            .unwrap_or_default()
    }
}
