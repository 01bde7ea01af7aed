//! `bace bench link`: how true links are on this machine.

use anyhow::Context;
use bace_netem::{BitRate, Delay, LinkSpec};
use bace_socket::bench::{LinkMeasurement, measure_link};
use serde_json::{Value, json};

use super::figures::table;
use super::link_goals::link_goals;
use super::progress;
use crate::cli::{BenchLinkArgs, LinkPartChoice};
use crate::machine;
use crate::output::say;
use crate::wrong_input::WrongInput;

/// Rates of the table, Mbit/s.
const TABLE_RATES: [f64; 3] = [10.0, 100.0, 1000.0];
/// Delays of the table, ms.
const TABLE_DELAYS: [f64; 2] = [0.0, 40.0];
/// Rates that have goals, Mbit/s.
const GOAL_RATES: [f64; 4] = [10.0, 100.0, 1000.0, 5000.0];
/// Delays that have goals, ms.
const GOAL_DELAYS: [f64; 2] = [20.0, 100.0];

/// Measures what the command line asks for.
pub fn link(args: &BenchLinkArgs) -> anyhow::Result<bool> {
    let parts = if args.all {
        LinkPartChoice::ALL.to_vec()
    } else {
        args.parts.clone()
    };
    if parts.is_empty() {
        let (rates, delays) = (rates(args, &TABLE_RATES)?, delays(args, &TABLE_DELAYS)?);
        return link_table(args, &rates, &delays);
    }
    link_goals(
        args,
        &parts,
        rates(args, &GOAL_RATES)?,
        delays(args, &GOAL_DELAYS)?,
    )
}

/// Sends messages over shaped links and compares their times with the ideal ones.
fn link_table(args: &BenchLinkArgs, rates: &[BitRate], delays: &[Delay]) -> anyhow::Result<bool> {
    let bytes = (args.message_mib as usize) << 20;
    let line = progress::spinner();
    let mut rows = Vec::new();
    for &rate in rates {
        for &delay in delays {
            line.set_message(format!(
                "{} Mbit/s, {} ms",
                rate.bps() / 1e6,
                delay.seconds() * 1e3
            ));
            let spec = LinkSpec::new(rate, delay);
            let measured = measure_link(&spec, bytes, args.repeats as usize, |_| {})?;
            rows.push(TableRow::new(measured).context("measure at least one message")?);
        }
    }
    line.finish_and_clear();
    let all_true = rows.iter().all(TableRow::is_true);
    if args.json {
        let all = json!({
            "machine": machine::describe(),
            "message_bytes": bytes,
            "links": rows.iter().map(TableRow::json).collect::<Vec<_>>(),
            "all_true": all_true,
        });
        say!("{all}");
        return Ok(all_true);
    }
    say!(
        "{} MiB messages on {}",
        args.message_mib,
        machine::describe()
    );
    say!("ideal = bytes/rate + delay; true = within 1 % or 1 ms of it, whichever is larger\n");
    let header = [
        "rate Mbit/s",
        "delay ms",
        "ideal ms",
        "median ms",
        "error ms",
        "worst ms",
        "worst %",
        "late ms",
        "verdict",
    ];
    let mut table = table(&header, 0);
    for row in &rows {
        table.add_row(row.cells());
    }
    say!("{table}");
    Ok(all_true)
}

/// The messages over one link.
struct TableRow {
    /// Sorted by time; at least one.
    measured: Vec<LinkMeasurement>,
    median: LinkMeasurement,
    worst: LinkMeasurement,
}

impl TableRow {
    fn new(mut measured: Vec<LinkMeasurement>) -> Option<Self> {
        measured.sort_by(|a, b| a.measured_s.total_cmp(&b.measured_s));
        let median = *measured.get(measured.len() / 2)?;
        let worst = *measured
            .iter()
            .max_by(|a, b| a.error_s().abs().total_cmp(&b.error_s().abs()))?;
        Some(Self {
            measured,
            median,
            worst,
        })
    }

    fn is_true(&self) -> bool {
        self.measured.iter().all(LinkMeasurement::is_true)
    }

    fn late_us(&self) -> u64 {
        let late = self.measured.iter().map(|one| one.late_us);
        late.max().unwrap_or_default()
    }

    fn cells(&self) -> [String; 9] {
        let Self { median, worst, .. } = self;
        [
            format!("{}", median.spec.rate.bps() / 1e6),
            format!("{}", median.spec.delay.seconds() * 1e3),
            format!("{:.2}", median.ideal_s * 1e3),
            format!("{:.2}", median.measured_s * 1e3),
            format!("{:+.3}", median.error_s() * 1e3),
            format!("{:+.3}", worst.error_s() * 1e3),
            format!("{:+.3}", worst.error_s() / worst.ideal_s * 1e2),
            format!("{:.3}", self.late_us() as f64 / 1e3),
            if self.is_true() { "true" } else { "NOT TRUE" }.to_owned(),
        ]
    }

    fn json(&self) -> Value {
        let Self { median, worst, .. } = self;
        json!({
            "rate_mbps": median.spec.rate.bps() / 1e6,
            "one_way_delay_ms": median.spec.delay.seconds() * 1e3,
            "ideal_s": median.ideal_s,
            "measured_s": self.measured.iter().map(|one| one.measured_s).collect::<Vec<_>>(),
            "median_error_s": median.error_s(),
            "worst_error_s": worst.error_s(),
            "late_max_s": self.late_us() as f64 / 1e6,
            "is_true": self.is_true(),
        })
    }
}

/// The rates asked for, else `usual`.
fn rates(args: &BenchLinkArgs, usual: &[f64]) -> anyhow::Result<Vec<BitRate>> {
    let asked = if args.rates_mbps.is_empty() {
        usual
    } else {
        &args.rates_mbps
    };
    let rates = asked.iter().map(|mbps| {
        BitRate::from_bps(mbps * 1e6)
            .filter(|rate| rate.bps() > 0.0)
            .ok_or_else(|| {
                WrongInput::error(format!("use the rate {mbps} Mbit/s: it has to be above 0"))
            })
    });
    rates.collect()
}

/// The delays asked for, else `usual`.
fn delays(args: &BenchLinkArgs, usual: &[f64]) -> anyhow::Result<Vec<Delay>> {
    let asked = if args.delays_ms.is_empty() {
        usual
    } else {
        &args.delays_ms
    };
    let delays = asked.iter().map(|ms| {
        Delay::from_seconds(ms / 1e3).ok_or_else(|| {
            WrongInput::error(format!("use the delay {ms} ms: it must not be negative"))
        })
    });
    delays.collect()
}
