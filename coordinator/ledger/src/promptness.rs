//! Whether what counts as prompt on this machine is short enough, in emulated time, to judge a run by.

use bace_api::Header;
use bace_netem::LATE_TOLERANCE_S;

use crate::notes::duration;
use crate::overruns::rounded_down;

/// Share of what is emulated that [`LATE_TOLERANCE_S`] may be, in which nothing tells of messages, links and paced actions. Where it is more, all could be late by as much and nobody would know.
const TOLERABLE_SHARE: f64 = 0.05;

/// Why a run whose shortest emulated times are these, each with its name, cannot be judged; absent where it can. At no more than
/// the machine's own speed a millisecond is what everybody means by it.
pub(crate) fn unjudged(
    header: &Header,
    times: impl Iterator<Item = (String, f64)>,
) -> Option<String> {
    let scale = header.time_scale.filter(|&scale| scale > 1.0)?;
    let positive = times.filter(|(_, seconds)| *seconds > 0.0);
    let (what, shortest_s) = positive.min_by(|(_, one), (_, two)| one.total_cmp(two))?;
    let largest = rounded_down(TOLERABLE_SHARE * shortest_s / LATE_TOLERANCE_S).max(1.0);
    (scale > largest).then(|| {
        format!(
            "at time_scale {scale} what may be late unnoticed, a millisecond of this machine, is {} of emulated time, more than \
             {:.0} % of {what} ({}); the run can be judged at a time_scale of at most {largest}",
            duration(LATE_TOLERANCE_S * scale),
            100.0 * TOLERABLE_SHARE,
            duration(shortest_s),
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn header(time_scale: Option<f64>) -> Header {
        let header = json!({
            "format": 1, "scenario": "s", "scenario_hash": "00", "policy": "p", "seed": 1, "version": "0", "machine": "m",
            "clock": "wall", "compute": "modelled", "network": "shaped", "regions": [], "jobs": [], "time_scale": time_scale,
        });
        serde_json::from_value(header).unwrap()
    }

    #[test]
    fn the_shortest_time_decides_and_the_largest_scale_is_said() {
        let told = |time_scale, times: [f64; 2]| {
            let named = ["the link", "an action"].map(str::to_owned);
            unjudged(&header(time_scale), named.into_iter().zip(times))
        };
        for (scale, times, largest) in [
            (None, [0.0001, 0.0001], None),
            (Some(0.5), [0.0001, 0.0001], None),
            // Nothing is emulated where it takes no time.
            (Some(1e5), [0.0, 0.0], None),
            (Some(3.9), [0.08, 0.1], None),
            (Some(4.1), [0.08, 0.1], Some("at most 4")),
            (
                Some(60.0),
                [0.2, 0.1],
                Some("an action (100.00 ms); the run can be judged at a time_scale of at most 5"),
            ),
            (
                Some(2.0),
                [0.005, 1.0],
                Some("the link (5.00 ms); the run can be judged at a time_scale of at most 1"),
            ),
        ] {
            let told = told(scale, times).map(|told| told.replace('\u{a0}', " "));
            let fits = match (&told, largest) {
                (Some(told), Some(largest)) => told.ends_with(largest),
                (told, largest) => told.is_none() && largest.is_none(),
            };
            assert!(fits, "{scale:?} {times:?}: {told:?}");
        }
    }
}
