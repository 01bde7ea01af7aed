//! Links as they were measured, for people.

use bace_api::{ReceiptPhase, ReceiptRecord, Receipts, Verdict};
use bace_netem::{Finding, Quantity};

use crate::Summary;
use crate::table::{Columns, UNKNOWN, glued};

const BITS_PER_MEGABIT: f64 = 1e6;

/// A row for each time a link was measured; empty where none was.
pub(crate) fn receipts(summary: &Summary) -> String {
    let receipts = &summary.emulation.receipts;
    if receipts.is_empty() {
        return String::new();
    }
    let mut table = Columns::new(&[
        "measured link",
        "",
        "Mbit/s",
        "got",
        "off (%)",
        "message (ms)",
        "delay (ms)",
        "both (%)",
        "verdict",
    ]);
    for receipt in receipts {
        table.row(row(receipt));
    }
    table.finish("receipts")
}

/// What to know of receipts beside faults, in sentences.
pub(crate) fn remarks(summary: &Summary) -> Vec<String> {
    let emulation = &summary.emulation;
    let mut remarks = Vec::new();
    if emulation.mode == Some(Receipts::Off) {
        remarks.push(
            "The links were not measured (--receipts off): nothing shows that they were what the scenario says."
                .to_owned(),
        );
    }
    let loopback = emulation.loopback;
    if let Some(crowd) = loopback.filter(|loopback| loopback.links_bps > loopback.rate_bps) {
        remarks.push(format!(
            "All links together have {:.0} Mbit/s, and this machine carries {:.0} Mbit/s between two processes: jobs that \
             fill many links at once would find them too slow.",
            crowd.links_bps / BITS_PER_MEGABIT,
            crowd.rate_bps / BITS_PER_MEGABIT
        ));
    }
    remarks
}

fn row(receipt: &ReceiptRecord) -> Vec<String> {
    let find = |quantity| {
        let of = |finding: &&Finding| finding.quantity == quantity;
        receipt.figures.iter().find(of)
    };
    let cell =
        |quantity, show: fn(&Finding) -> String| find(quantity).map_or(UNKNOWN.to_owned(), show);
    vec![
        glued(&format!("{} → {}", receipt.from, receipt.to)),
        phase(receipt.phase).to_owned(),
        cell(Quantity::Rate, |rate| mbps(rate.configured)),
        cell(Quantity::Rate, |rate| mbps(rate.measured)),
        cell(Quantity::Rate, off),
        cell(Quantity::Completion, ms),
        cell(Quantity::Delay, ms),
        cell(Quantity::SharedRate, off),
        verdict(receipt.verdict).to_owned(),
    ]
}

fn mbps(bps: f64) -> String {
    let mbps = bps / BITS_PER_MEGABIT;
    let decimals = match mbps {
        slow if slow < 100.0 => 2,
        fast if fast < 10_000.0 => 1,
        _ => 0,
    };
    format!("{mbps:.decimals$}")
}

/// A share of what is configured, where that says anything.
fn off(finding: &Finding) -> String {
    if finding.is_judged() {
        format!("{:+.2}", 100.0 * finding.error() / finding.configured)
    } else {
        UNKNOWN.to_owned()
    }
}

/// What is configured and how far it is off; what was measured where that says nothing.
fn ms(finding: &Finding) -> String {
    if finding.is_judged() {
        glued(&format!(
            "{:.1} {:+.2}",
            1e3 * finding.configured,
            1e3 * finding.error()
        ))
    } else {
        format!("{:.2}", 1e3 * finding.measured)
    }
}

fn phase(phase: ReceiptPhase) -> &'static str {
    match phase {
        ReceiptPhase::Before => "before",
        ReceiptPhase::After => "after",
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::True => "true",
        Verdict::Untrue => "untrue",
        Verdict::NotJudged => "not judged",
    }
}
