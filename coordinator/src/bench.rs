//! `bace bench`: how true this machine's emulation is.

use anyhow::Context;
use bace_netem::{BitRate, Delay, LinkSpec};
use bace_socket::measure_link;
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

use crate::cli::BenchLinkArgs;
use crate::output::say;
use crate::wrong_input::WrongInput;

/// Sends messages over shaped links and compares their times with the ideal ones.
pub fn link(args: &BenchLinkArgs) -> anyhow::Result<bool> {
    let bytes = usize::try_from(args.message_mib).context("count the message's bytes")? << 20;
    let specs = specs(args)?;
    say!(
        "{} MiB messages on {}",
        args.message_mib,
        crate::machine::describe()
    );
    say!("ideal = bytes/rate + delay; true = within 1 % or 1 ms of it, whichever is larger\n");
    let mut table = Table::new();
    let style = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
    table.load_style(style).set_header([
        "rate Mbit/s",
        "delay ms",
        "ideal ms",
        "median ms",
        "error ms",
        "worst ms",
        "worst %",
        "late ms",
        "verdict",
    ]);
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut all_true = true;
    for spec in specs {
        let mut measured = measure_link(&spec, bytes, args.repeats as usize, |_| {})?;
        measured.sort_by(|a, b| a.measured_s.total_cmp(&b.measured_s));
        let median = measured[measured.len() / 2];
        let worst = measured
            .iter()
            .max_by(|a, b| a.error_s().abs().total_cmp(&b.error_s().abs()))
            .context("measure at least one message")?;
        let is_true = measured.iter().all(|one| one.is_true());
        all_true &= is_true;
        let late_us = measured
            .iter()
            .map(|one| one.late_us)
            .max()
            .unwrap_or_default();
        table.add_row([
            format!("{}", spec.rate.bps() / 1e6),
            format!("{}", spec.delay.seconds() * 1e3),
            format!("{:.2}", median.ideal_s * 1e3),
            format!("{:.2}", median.measured_s * 1e3),
            format!("{:+.3}", median.error_s() * 1e3),
            format!("{:+.3}", worst.error_s() * 1e3),
            format!("{:+.3}", worst.error_s() / worst.ideal_s * 1e2),
            format!("{:.3}", late_us as f64 / 1e3),
            if is_true { "true" } else { "NOT TRUE" }.to_owned(),
        ]);
    }
    say!("{table}");
    Ok(all_true)
}

fn specs(args: &BenchLinkArgs) -> anyhow::Result<Vec<LinkSpec>> {
    let mut specs = Vec::new();
    for &mbps in &args.rates_mbps {
        let rate = BitRate::from_bps(mbps * 1e6)
            .filter(|rate| rate.bps() > 0.0)
            .ok_or_else(|| {
                WrongInput::error(format!("use the rate {mbps} Mbit/s: it has to be above 0"))
            })?;
        for &ms in &args.delays_ms {
            let delay = Delay::from_seconds(ms / 1e3).ok_or_else(|| {
                WrongInput::error(format!("use the delay {ms} ms: it must not be negative"))
            })?;
            specs.push(LinkSpec::new(rate, delay));
        }
    }
    Ok(specs)
}
