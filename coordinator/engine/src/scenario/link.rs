//! Links between regions: what every key of a `[[link]]` makes of a [`LinkSpec`].

use std::collections::BTreeMap;

use bace_netem::{
    Accounting, BitRate, BurstCredit, Delay, Jitter, LinkId, LinkSpec, Loss, LossModel, Sharing,
};
use toml::Spanned;

use super::ends::{Ends, RegionNames};
use super::error::Fault;
use super::file::{AccountingFile, JitterFile, LinkFile, LossModelFile, SharingFile};
use super::limits;
use super::values::{number, optional};

pub(super) const SECONDS_PER_MS: f64 = 1e-3;
const BPS_PER_MBPS: f64 = 1e6;
const BYTES_PER_KB: f64 = 1e3;
const BYTES_PER_MB: f64 = 1e6;

/// Every directed link once.
pub(super) fn links(
    files: &[Spanned<LinkFile>],
    regions: &RegionNames<'_>,
) -> Result<BTreeMap<LinkId, LinkSpec>, Fault> {
    let mut links = BTreeMap::new();
    for file in files {
        let ends = ends(file.get_ref());
        let ids = ends.resolve(file.span(), regions)?;
        let spec = spec(file.get_ref())?;
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

/// Between whom a link is.
pub(super) fn ends(file: &LinkFile) -> Ends<'_> {
    Ends {
        between: file.between.as_ref(),
        from: file.from.as_ref(),
        to: file.to.as_ref(),
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

fn spec(file: &LinkFile) -> Result<LinkSpec, Fault> {
    let mut spec = LinkSpec::new(
        rate_mbps(number(&file.bandwidth_mbps, limits::BANDWIDTH_MBPS)?),
        delay_ms(number(&file.one_way_delay_ms, limits::DELAY_MS)?),
    );
    spec.jitter = jitter(file)?;
    spec.loss = loss(file)?;
    spec.accounting = match file.accounting {
        AccountingFile::Payload => Accounting::Payload,
        AccountingFile::Ip => Accounting::Ip,
        AccountingFile::Ethernet => Accounting::Ethernet,
    };
    spec.sharing = match file.sharing {
        SharingFile::PerJob => Sharing::PerJob,
        SharingFile::PerFlow => Sharing::PerFlow,
    };
    spec.burst = burst(file)?;
    let queue_kb = optional(&file.queue_kb, limits::QUEUE_KB)?;
    spec.queue_bytes = queue_kb.map(|kb| (kb * BYTES_PER_KB).round() as u64);
    Ok(spec)
}

fn jitter(file: &LinkFile) -> Result<Jitter, Fault> {
    let spread = optional(&file.jitter_ms, limits::JITTER_MS)?;
    let shape = file.jitter.as_ref();
    match (spread, shape.map(Spanned::get_ref)) {
        (None, None) => Ok(Jitter::None),
        (None, Some(_)) => {
            let message = "says how jitter is spread, and there is none; give `jitter_ms` too";
            let span = shape.map(Spanned::span).unwrap_or_default();
            Err(Fault::at(span, message))
        }
        // A spread of nothing draws nothing.
        (Some(0.0), _) => Ok(Jitter::None),
        (Some(ms), None | Some(JitterFile::Uniform)) => Ok(Jitter::Uniform(delay_ms(ms))),
        (Some(ms), Some(JitterFile::Normal)) => Ok(Jitter::Normal(delay_ms(ms))),
    }
}

fn loss(file: &LinkFile) -> Result<Loss, Fault> {
    let share = optional(&file.loss, limits::LOSS)?;
    match (share, &file.loss_model) {
        (None, Some(model)) => {
            let message = "says what loss does, and there is none; give `loss` too";
            Err(Fault::at(model.span(), message))
        }
        (share, model) => Ok(Loss {
            share: share.unwrap_or(0.0),
            model: match model.as_ref().map(Spanned::get_ref) {
                None | Some(LossModelFile::Goodput) => LossModel::Goodput,
                Some(LossModelFile::Mathis) => LossModel::Mathis,
            },
        }),
    }
}

fn burst(file: &LinkFile) -> Result<Option<BurstCredit>, Fault> {
    let (credit, sustained) = match (&file.burst_credit_mb, &file.sustained_mbps) {
        (None, None) => return Ok(None),
        (Some(credit), Some(sustained)) => (credit, sustained),
        (Some(alone), None) => {
            let message = "needs `sustained_mbps` beside it: the rate at which credit fills, and at which the link sends without";
            return Err(Fault::at(alone.span(), message));
        }
        (None, Some(alone)) => {
            let message = "needs `burst_credit_mb` beside it: what may be sent at `bandwidth_mbps` before the rate falls";
            return Err(Fault::at(alone.span(), message));
        }
    };
    let (mbps, bandwidth_mbps) = (
        number(sustained, limits::SUSTAINED_MBPS)?,
        *file.bandwidth_mbps.get_ref(),
    );
    if mbps >= bandwidth_mbps {
        let message = format!(
            "{mbps} is not below `bandwidth_mbps` = {bandwidth_mbps}, at which the link sends while there is credit; \
             lower it, or leave both keys out"
        );
        return Err(Fault::at(sustained.span(), message));
    }
    let bytes = (number(credit, limits::BURST_MB)? * BYTES_PER_MB).round() as u64;
    Ok(Some(BurstCredit {
        bytes,
        sustained: rate_mbps(mbps),
    }))
}
