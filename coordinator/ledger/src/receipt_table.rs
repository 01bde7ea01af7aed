//! Links as they were measured, for people.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bace_api::{ClockKind, ReceiptPhase, ReceiptRecord, Receipts, Verdict};
use bace_netem::{Finding, Quantity};

use crate::notes::sentence;
use crate::table::{Columns, GLUE, UNKNOWN, glued};
use crate::{Figure, Summary};

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
    } else if let (ClockKind::Wall, Figure::Unknown(why)) = (summary.header.clock, &emulation.valid)
    {
        remarks.push(format!(
            "Whether the links were what the scenario says is unknown: {}",
            sentence(why)
        ));
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
    remarks.extend(unjudged(&emulation.receipts));
    remarks
}

/// What receipts did not judge, each reason once; those of untrue links are told as faults.
fn unjudged(receipts: &[ReceiptRecord]) -> impl Iterator<Item = String> + use<> {
    let mut links: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for receipt in receipts
        .iter()
        .filter(|receipt| receipt.verdict != Verdict::Untrue)
    {
        if let Some(reason) = &receipt.reason {
            let first = || (format!("{} → {}", receipt.from, receipt.to), 0);
            let (_, count) = links.entry(reason.clone()).or_insert_with(first);
            *count += 1;
        }
    }
    links.into_iter().map(|(reason, (link, count))| {
        let more = match count {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        format!(
            "Not judged in the receipt of {link}{more}: {}",
            sentence(&reason)
        )
    })
}

fn row(receipt: &ReceiptRecord) -> Vec<String> {
    let find = |quantity| {
        let of = receipt
            .figures
            .iter()
            .filter(move |of| of.quantity == quantity);
        of.max_by(|one, two| worse(one, two))
    };
    let cell =
        |quantity, show: fn(&Finding) -> String| find(quantity).map_or(UNKNOWN.to_owned(), show);
    vec![
        // Where room is short the line breaks behind the arrow, never within a name.
        format!("{}{GLUE}→ {}", glued(&receipt.from), glued(&receipt.to)),
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

/// Orders findings of one quantity by how much they speak against their link: those that miss it are the worst.
fn worse(one: &Finding, two: &Finding) -> Ordering {
    let share = |finding: &Finding| finding.error().abs() / finding.configured.abs();
    let misses = |finding: &Finding| finding.miss().is_some();
    let by_miss = misses(one).cmp(&misses(two));
    by_miss.then(share(one).total_cmp(&share(two)))
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

/// A share of what is configured, where it is held to that from both sides.
fn off(finding: &Finding) -> String {
    if finding.at_least.is_some() && finding.at_most.is_some() {
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
        // Short, so that links keep their names on one line.
        Verdict::NotJudged => UNKNOWN,
    }
}
