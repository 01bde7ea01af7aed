//! What would have let the job be done earlier, as far as its ledger tells.

use bace_api::{ComputeRung, Header, PlacementReason, Record, Schedule, Shortfall};
use bace_ledger::{Cause, Figure, JobStatus, percent};
use serde_json::Value;

use super::story::Told;
use super::words::count;

/// Less than this share, of a job's time to wait or of its stages' to lose, is not worth a change.
const WORTH_SHARE: f64 = 0.1;

/// What to change, for the wait for GPUs and for what took most of its stages' time besides computing.
pub fn sentences(told: &Told<'_>) -> Vec<String> {
    [waiting(told), training(told)]
        .into_iter()
        .flatten()
        .collect()
}

/// For a job that waited long, or still does.
fn waiting(told: &Told<'_>) -> Option<String> {
    let summary = told.summary;
    let is_long = match (&summary.queueing_s, &summary.jct_s) {
        (Figure::Known(waited_s), Figure::Known(jct_s)) => *waited_s >= WORTH_SHARE * jct_s,
        _ => matches!(summary.status, JobStatus::Waiting(_)),
    };
    if !is_long {
        return None;
    }
    let (at_s, reason) = longest(told)?;
    let starts = told.of.into_iter().flat_map(|of| &of.attempts);
    let goal = if starts
        .map(|start| start.placed_s)
        .any(|placed_s| placed_s < at_s)
    {
        "To go on earlier"
    } else {
        "To begin earlier"
    };
    match serde_json::from_value(reason.clone()).ok()? {
        Shortfall::Gpus { needs, .. } => fewer_gpus(told, goal, needs),
        Shortfall::Bandwidth {
            from, to, has_bps, ..
        } if has_bps <= 0.0 => Some(format!(
            "{goal} it needs the link between {from} and {to}, which had nothing left."
        )),
        Shortfall::Bandwidth { from, to, .. } => Some(format!(
            "{goal} it needs more bandwidth between {from} and {to} (`bandwidth_mbps` of that link), or fewer bytes over it \
             (`bytes_per_element` of the job)."
        )),
        Shortfall::Behind { job } => Some(format!(
            "Under {} nobody overtakes a job that cannot be placed, here {job}; `bace-pipe` passes over it.",
            told.log.header.policy
        )),
    }
}

/// The reason for which the job was passed over that held for longest, and since when.
fn longest<'a>(told: &Told<'a>) -> Option<(f64, &'a Value)> {
    let records = told.log.records.iter();
    let reasons = records.filter_map(|record| match record {
        Record::PassedOver {
            at_s, job, reason, ..
        } if *job == told.summary.name => Some((*at_s, Some(reason))),
        _ => None,
    });
    let starts = told.of.into_iter().flat_map(|of| &of.attempts);
    let ends = starts.map(|start| (start.placed_s, None));
    let mut instants: Vec<(f64, Option<&Value>)> = reasons.chain(ends).collect();
    instants.push((told.log.end_s(), None));
    instants.sort_by(|one, other| one.0.total_cmp(&other.0));
    let with_next = instants.iter().zip(instants.iter().skip(1));
    let lasted = with_next
        .filter_map(|((from_s, reason), (to_s, _))| Some((to_s - from_s, *from_s, (*reason)?)));
    lasted
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, from_s, reason)| (from_s, reason))
}

/// Only of use where the job waits for more GPUs than hold it, which a policy does that knows K°.
fn fewer_gpus(told: &Told<'_>, goal: &str, needs: u32) -> Option<String> {
    let start = told.of.and_then(|of| of.attempts.last())?;
    let reason: PlacementReason = serde_json::from_value(start.reason.clone()).ok()?;
    reason.k_full?;
    (reason.k_min < needs).then(|| {
        format!(
            "{goal} it could take fewer GPUs: it fits the memory of {}, and a `min_share` below what the scenario's [policy] says \
             (1.0 where it says nothing) lets it begin with fewer than {needs}.",
            count(reason.k_min.into(), "GPU")
        )
    })
}

/// For what its stages did most besides computing.
fn training(told: &Told<'_>) -> Option<String> {
    let sums = told.attributed.own().job(&told.summary.name)?.sums();
    let sums = sums.known()?;
    let waits = Cause::ALL
        .into_iter()
        .filter(|cause| !matches!(cause, Cause::Forward | Cause::Backward | Cause::Step));
    let shares = waits.filter_map(|cause| Some((cause, sums.share(cause)?)));
    let (cause, share) = shares.max_by(|one, other| one.1.total_cmp(&other.1))?;
    if share < WORTH_SHARE {
        return None;
    }
    let start = told.of.and_then(|of| of.attempts.last())?;
    Some(format!(
        "Besides computing, {} took most of its stages' time ({}): {}.",
        cause.name(),
        percent(share),
        remedy(cause, start.schedule?, &told.log.header)
    ))
}

fn remedy(cause: Cause, schedule: Schedule, header: &Header) -> &'static str {
    match cause {
        Cause::Forward | Cause::Backward | Cause::Step => "a faster GPU computes it sooner",
        Cause::Bubble => {
            "an iteration of more micro-batches (`micro_batches`), or fewer stages, has a smaller share of it"
        }
        Cause::Propagation if schedule == Schedule::OneFOneB => {
            "`schedule = \"eager-1f1b\"` keeps more micro-batches under way where there are more and memory holds them, so that less of \
             the delay is waited for"
        }
        Cause::Propagation => {
            "each iteration waits for the delay at its begin and at its end, so that more micro-batches (`micro_batches`) make its \
             share smaller, as does a link with less delay"
        }
        Cause::LinkSerialisation => {
            "more bandwidth (`bandwidth_mbps` of links, `fabric_gbps` within a region) or fewer bytes (`bytes_per_element`) shorten it"
        }
        Cause::Queued => {
            "fewer jobs at a time on the links that it waited for, or more bandwidth there (`bandwidth_mbps`), shorten it"
        }
        Cause::ReceiveLate if header.network.shapes_datagrams() => {
            "on these links it holds what QUIC, losses and other jobs' turns took beyond the link's rate and delay"
        }
        Cause::LeaseWait | Cause::HostOverhead if header.compute == ComputeRung::Native => {
            "that is this machine's doing and not the scenario's; a device for each worker has none of it"
        }
        Cause::ReceiveLate | Cause::LeaseWait | Cause::HostOverhead => {
            "that is this machine's doing and not the scenario's; `bace doctor SCENARIO` tells the largest `time_scale` that the machine \
             keeps up with"
        }
        Cause::StartUp => {
            "that is this machine's doing and not the scenario's, and a job of more iterations has a smaller share of it"
        }
    }
}
