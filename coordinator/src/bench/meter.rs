//! `bace bench meter`: what reading this machine's meters takes of a processor. What a run loses by it takes runs with and
//! without meters; docs/energy.md says how.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, bail};
use bace_meter::{Finished, INTERVAL, Places, Sampler, SamplerPlan, Started, TimeKeeper, Wanted};
use serde_json::json;

use super::figures::table;
use super::progress;
use crate::cli::BenchMeterArgs;
use crate::machine;
use crate::output::say;

/// Processor time that reading the meters may take, of one core.
const MOST_SHARE: f64 = 0.005;
const NS_PER_S: f64 = 1e9;

/// Reads every meter there is as a run does, and holds what that took against its goal.
pub fn meter(args: &BenchMeterArgs) -> anyhow::Result<bool> {
    let plan = SamplerPlan {
        places: Places::from_environment(),
        wanted: Wanted::AllBoards,
        workers: Vec::new(),
        keeper: TimeKeeper::Holding,
    };
    let started = Sampler::<()>::start(plan);
    let Started {
        sampler,
        sources,
        absent,
    } = started.context("start the thread that reads the meters")?;
    if sources.is_empty() {
        let reasons = absent
            .iter()
            .map(|absent| format!("{}: {}", absent.source, absent.reason));
        let reasons: Vec<_> = reasons.collect();
        bail!("read a meter: there is none ({})", reasons.join("; "));
    }
    let line = progress::spinner();
    line.set_message(format!("{} meters", sources.len()));
    sleep(Duration::from_secs(args.seconds.into()));
    line.finish_and_clear();
    let Finished { totals, cost, .. } = sampler.finish();
    let wall_s = cost.wall_ns as f64 / NS_PER_S;
    let share = cost.cpu_ns as f64 / cost.wall_ns.max(1) as f64;
    let sample_us = cost.cpu_ns as f64 / cost.samples.max(1) as f64 / 1e3;
    let is_met = share <= MOST_SHARE;
    if args.json {
        let meters = totals.iter().map(|total| {
            json!({
                "meter": total.source.name,
                "provenance": total.source.provenance,
                "energy_j": total.energy_uj as f64 / 1e6,
                "readings": total.readings,
                "failures": total.failures,
            })
        });
        let all = json!({
            "machine": machine::describe(),
            "meters": meters.collect::<Vec<_>>(),
            "samples": cost.samples,
            "wall_s": wall_s,
            "cpu_s": cost.cpu_ns as f64 / NS_PER_S,
            "cpu_share": share,
            "cpu_us_a_sample": sample_us,
            "worst_sample_us": cost.worst_ns as f64 / 1e3,
            "most_share": MOST_SHARE,
            "met": is_met,
        });
        say!("{all}");
        return Ok(is_met);
    }
    say!(
        "{} samples in {wall_s:.1} s, one every {} ms, on {}\n",
        cost.samples,
        INTERVAL.as_millis(),
        machine::describe()
    );
    let mut table = table(&["meter", "drawn (J)", "mean (W)", "failures"], 1);
    for total in &totals {
        let joules = total.energy_uj as f64 / 1e6;
        let seconds = total.to_ns.saturating_sub(total.from_ns) as f64 / NS_PER_S;
        table.add_row([
            total.source.name.clone(),
            format!("{joules:.2}"),
            format!("{:.2}", joules / seconds.max(f64::MIN_POSITIVE)),
            total.failures.to_string(),
        ]);
    }
    say!("{table}\n");
    say!(
        "a sample takes {sample_us:.0} us of processor time, the longest took {:.0} us; together {:.3} % of a core ({}: at most {} %)",
        cost.worst_ns as f64 / 1e3,
        share * 1e2,
        if is_met { "met" } else { "MISSED" },
        MOST_SHARE * 1e2
    );
    Ok(is_met)
}
