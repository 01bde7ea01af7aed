//! Whether a run's links were what the scenario says: receipts and late messages, judged once.

use std::collections::BTreeMap;

use bace_api::{
    ClockKind, Header, NetworkRung, ReceiptPhase, ReceiptRecord, Receipts, TransferSummary, Verdict,
};

use crate::notes::sentence;
use crate::{Figure, RunEnd};

/// Late messages of a link that one hiccup of the host explains: fewer say nothing about a run, whatever share they are.
const HANDFUL: u64 = 5;

/// How true the emulation was.
#[derive(Debug, Clone, PartialEq)]
pub struct EmulationSummary {
    /// Whether links were measured; absent in simulations and in ledgers of older programs.
    pub mode: Option<Receipts>,
    /// What this machine carries and what all measured links have together; absent where it was not measured.
    pub loopback: Option<Loopback>,
    /// Links as they were measured, by link and then by time.
    pub receipts: Vec<ReceiptRecord>,
    /// Whether the links were what the scenario says, as far as that was measured.
    pub valid: Figure<bool>,
    /// Why not, a sentence each; empty unless `valid` is known to be false.
    pub faults: Vec<String>,
}

/// What a machine carries beside what it is asked for, bit/s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loopback {
    /// Between two processes where nothing shapes.
    pub rate_bps: f64,
    /// All measured links together.
    pub links_bps: f64,
}

/// What the records so far say about the links.
#[derive(Debug, Clone, Default)]
pub(crate) struct EmulationFold {
    pub(crate) loopback: Option<Loopback>,
    pub(crate) receipts: Vec<ReceiptRecord>,
    pub(crate) lateness: BTreeMap<(String, String), Lateness>,
}

/// How the messages of a link came.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Lateness {
    pub(crate) messages: u64,
    pub(crate) late: u64,
    pub(crate) worst_s: f64,
}

impl EmulationFold {
    /// What crossed a boundary. A fabric is no link: it may well be faster than this machine's loopback, and a message that
    /// is late on it shows in its job.
    pub(crate) fn add_transfer(&mut self, from: &str, to: &str, summary: &TransferSummary) {
        if from == to {
            return;
        }
        let link = self
            .lateness
            .entry((from.to_owned(), to.to_owned()))
            .or_default();
        link.messages = link.messages.saturating_add(summary.messages);
        link.late = link.late.saturating_add(summary.late_arrivals);
        link.worst_s = link.worst_s.max(summary.worst_late_s);
    }

    /// What the records amount to.
    pub(crate) fn summary(mut self, header: &Header, end: &RunEnd) -> EmulationSummary {
        let place = |receipt: &ReceiptRecord| {
            let of = |link: &bace_api::HeaderLink| {
                (&link.from, &link.to) == (&receipt.from, &receipt.to)
            };
            header.links.iter().position(of)
        };
        self.receipts
            .sort_by_key(|receipt| (place(receipt), receipt.phase));
        let mut faults: Vec<String> = self.receipts.iter().filter_map(untrue).collect();
        if let Some(share) = header.late_share {
            let late =
                |(ends, lateness): (&(String, String), &Lateness)| lateness.fault(ends, share);
            faults.extend(self.lateness.iter().filter_map(late));
        }
        EmulationSummary {
            mode: header.receipts,
            loopback: self.loopback,
            valid: if faults.is_empty() {
                self.unmeasured(header, end)
                    .map_or(Figure::Known(true), Figure::Unknown)
            } else {
                Figure::Known(false)
            },
            receipts: self.receipts,
            faults,
        }
    }

    /// Why nobody can say whether the links were true.
    fn unmeasured(&self, header: &Header, end: &RunEnd) -> Option<std::borrow::Cow<'static, str>> {
        if header.clock == ClockKind::Virtual {
            return Some("nothing was emulated".into());
        }
        match header.receipts {
            None => return Some("the ledger does not say whether links were measured".into()),
            Some(Receipts::Off) => {
                return Some("the links were not measured (--receipts off)".into());
            }
            Some(Receipts::Full) => {}
        }
        if header.network == NetworkRung::None && !self.receipts.is_empty() {
            return Some("nothing shaped the links".into());
        }
        let not_measured = self.receipts.iter().find(|receipt| receipt.attempts == 0);
        if let Some(receipt) = not_measured {
            let why = receipt.reason.as_deref().unwrap_or("no reason is recorded");
            return Some(format!("{} was not measured: {why}", name(receipt)).into());
        }
        let is_in = |phase| self.receipts.iter().any(|receipt| receipt.phase == phase);
        if is_in(ReceiptPhase::Before) && !is_in(ReceiptPhase::After) {
            return Some("the links were not measured again after the last job".into());
        }
        (*end != RunEnd::Complete).then(|| "the run did not come to its end".into())
    }
}

impl Lateness {
    /// What is wrong with a link of which more than `share` of the messages came late.
    fn fault(self, (from, to): &(String, String), share: f64) -> Option<String> {
        let late_share = self.late as f64 / self.messages as f64;
        (self.late >= HANDFUL && late_share > share).then(|| {
            format!(
                "On the link {from} → {to} {} of {} messages ({:.1} %) arrived over 1 ms later than it would have \
                 delivered them, the worst by {:.2} ms; more than {:.1} % are no emulation of it. Use fewer or slower \
                 emulated GPUs or links, or more cores.",
                self.late,
                self.messages,
                100.0 * late_share,
                1e3 * self.worst_s,
                100.0 * share
            )
        })
    }
}

fn untrue(receipt: &ReceiptRecord) -> Option<String> {
    if receipt.verdict != Verdict::Untrue {
        return None;
    }
    let why = receipt.reason.as_deref().unwrap_or("no reason is recorded");
    Some(format!("{} was untrue: {}", name(receipt), sentence(why)))
}

/// A link and when it was measured, as the begin of a sentence.
fn name(receipt: &ReceiptRecord) -> String {
    let when = match receipt.phase {
        ReceiptPhase::Before => "before the first job",
        ReceiptPhase::After => "after the last job",
    };
    format!("The link {} → {} {when}", receipt.from, receipt.to)
}
