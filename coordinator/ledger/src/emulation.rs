//! Whether a run was what the scenario says: receipts, late messages and overruns, judged once.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bace_api::{
    ClockKind, DatagramSummary, Header, KernelShaping, NetworkRung, ReceiptPhase, ReceiptRecord,
    Receipts, ShapedBy, TransferSummary, Verdict,
};

use crate::notes::{late_from, sentence};
use crate::{Figure, OverrunSummary, RunEnd, promptness};

/// Late messages, or datagrams, of a link, or overruns of a job, that one hiccup of the host explains: fewer say nothing about a run,
/// whatever share they are.
pub(crate) const HANDFUL: u64 = 5;

/// How true the emulation was.
#[derive(Debug, Clone, PartialEq)]
pub struct EmulationSummary {
    /// Whether links were measured; absent in simulations and in ledgers of older programs.
    pub mode: Option<Receipts>,
    /// What this machine carries and what all measured links have together; absent where it was not measured.
    pub loopback: Option<Loopback>,
    /// Links as they were measured, by link and then by time.
    pub receipts: Vec<ReceiptRecord>,
    /// How paced actions fared; absent where that was not judged.
    pub overruns: Option<OverrunSummary>,
    /// Whether the links, and the times of paced actions, were what the scenario says, as far as that was measured.
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
    pub(crate) crossed: BTreeMap<(String, String), Crossed>,
    pub(crate) shaping: Option<KernelShaping>,
    /// Shortest one-way delay that each link ever had, seconds.
    pub(crate) delays_s: BTreeMap<(String, String), f64>,
}

/// What crossed a link.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Crossed {
    pub(crate) messages: Lateness,
    /// Absent unless the link took datagrams one by one.
    pub(crate) datagrams: Option<DatagramSummary>,
}

/// How messages came.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Lateness {
    pub(crate) sent: u64,
    pub(crate) late: u64,
    pub(crate) worst_s: f64,
}

/// Why nobody knows which messages of a run came late; absent where that is known.
pub(crate) fn lateness_unknown(header: &Header) -> Option<&'static str> {
    if header.clock == ClockKind::Virtual {
        return Some(NOT_EMULATED);
    }
    match header.network {
        NetworkRung::Shaped => None,
        NetworkRung::Modelled => Some(NOT_EMULATED),
        NetworkRung::Packet => Some("the links delayed datagrams, not messages"),
        NetworkRung::Kernel => {
            Some("the kernel does not tell when it should have delivered a message")
        }
        NetworkRung::None => Some(NOT_SHAPED),
    }
}

const NOT_EMULATED: &str = "nothing was emulated";

const NOT_SHAPED: &str = "nothing shaped the links";

impl EmulationFold {
    /// What crossed a boundary. A fabric is no link: it may well be faster than this machine's loopback, and a message that
    /// is late on it shows in its job.
    pub(crate) fn add_transfer(
        &mut self,
        from: &str,
        to: &str,
        summary: &TransferSummary,
        datagrams: Option<&DatagramSummary>,
    ) {
        if from == to {
            return;
        }
        let link = self
            .crossed
            .entry((from.to_owned(), to.to_owned()))
            .or_default();
        let messages = &mut link.messages;
        messages.sent = messages.sent.saturating_add(summary.messages);
        messages.late = messages.late.saturating_add(summary.late_arrivals);
        messages.worst_s = messages.worst_s.max(summary.worst_late_s);
        if let Some(more) = datagrams {
            let sum = link.datagrams.get_or_insert_default();
            sum.sent = sum.sent.saturating_add(more.sent);
            sum.bytes = sum.bytes.saturating_add(more.bytes);
            sum.lost = sum.lost.saturating_add(more.lost);
            sum.dropped = sum.dropped.saturating_add(more.dropped);
            sum.refused = sum.refused.saturating_add(more.refused);
            sum.late = sum.late.saturating_add(more.late);
            sum.worst_late_s = sum.worst_late_s.max(more.worst_late_s);
        }
    }

    /// A link has this one-way delay from now on, seconds.
    pub(crate) fn set_delay(&mut self, ends: (String, String), delay_s: f64) {
        let shortest_s = self.delays_s.entry(ends).or_insert(delay_s);
        *shortest_s = shortest_s.min(delay_s);
    }

    /// Why this machine is not prompt enough to tell whether the run was true, at its time scale: jobs' mean paced actions and the
    /// delays of links that carried messages are what it emulated.
    fn too_fast(&self, header: &Header, overruns: Option<&OverrunSummary>) -> Option<String> {
        let links = self.crossed.iter();
        let used = links.filter(|(_, link)| link.messages.sent > 0);
        let delays = used.filter_map(|(ends, _)| {
            let delay_s = *self.delays_s.get(ends)?;
            Some((
                format!("the delay of the link {} → {}", ends.0, ends.1),
                delay_s,
            ))
        });
        let jobs = overruns.iter().flat_map(|overruns| &overruns.jobs);
        let actions = jobs.map(|job| {
            let mean_s = (job.paced_s - job.excess_s) / job.actions as f64;
            (format!("the mean action of job {}", job.job), mean_s)
        });
        promptness::unjudged(header, delays.chain(actions))
    }

    /// What the records amount to.
    pub(crate) fn summary(
        mut self,
        header: &Header,
        end: &RunEnd,
        overruns: Option<OverrunSummary>,
    ) -> EmulationSummary {
        let place = |receipt: &ReceiptRecord| {
            let of = |link: &bace_api::HeaderLink| {
                (&link.from, &link.to) == (&receipt.from, &receipt.to)
            };
            header.links.iter().position(of)
        };
        self.receipts
            .sort_by_key(|receipt| (place(receipt), receipt.phase));
        let mut faults: Vec<String> = self.receipts.iter().filter_map(untrue).collect();
        faults.extend(self.shaping.iter().flat_map(lacking));
        if let Some(share) = header.late_share {
            let judged = lateness_unknown(header).is_none();
            for (ends, crossed) in &self.crossed {
                let messages = crossed.messages;
                faults.extend(
                    judged
                        .then(|| messages.fault(ends, "messages", (share, header)))
                        .flatten(),
                );
                let datagrams = crossed.datagrams.map(Lateness::from);
                faults.extend(
                    datagrams.and_then(|all| all.fault(ends, "datagrams", (share, header))),
                );
            }
        }
        faults.extend(overruns.iter().flat_map(OverrunSummary::faults));
        let valid = if faults.is_empty() {
            self.unmeasured(header, end)
                .or_else(|| self.too_fast(header, overruns.as_ref()).map(Cow::from))
                .map_or(Figure::Known(true), Figure::Unknown)
        } else {
            Figure::Known(false)
        };
        EmulationSummary {
            overruns,
            mode: header.receipts,
            loopback: self.loopback,
            valid,
            receipts: self.receipts,
            faults,
        }
    }

    /// Why nobody can say whether the links were true.
    fn unmeasured(&self, header: &Header, end: &RunEnd) -> Option<Cow<'static, str>> {
        if header.clock == ClockKind::Virtual {
            return Some(NOT_EMULATED.into());
        }
        match header.receipts {
            None => return Some("the ledger does not say whether links were measured".into()),
            Some(Receipts::Off) => {
                return Some("the links were not measured (--receipts off)".into());
            }
            Some(Receipts::Full) => {}
        }
        if header.network == NetworkRung::None {
            return Some(NOT_SHAPED.into());
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
        if *end != RunEnd::Complete {
            return Some("the run did not come to its end".into());
        }
        let judged = |receipt: &ReceiptRecord| receipt.verdict != Verdict::NotJudged;
        if !self.receipts.is_empty() && !self.receipts.iter().any(judged) {
            return Some("nothing is promised of any measured link".into());
        }
        let used = self
            .crossed
            .iter()
            .filter(|(_, link)| link.messages.sent > 0);
        used.flat_map(|(ends, _)| [(ends, ReceiptPhase::Before), (ends, ReceiptPhase::After)])
            .find_map(|(ends, phase)| self.unproven(ends, phase).map(Cow::from))
    }

    /// Why a link that carried messages may have been anything; untrue ones have been told before.
    fn unproven(&self, (from, to): &(String, String), phase: ReceiptPhase) -> Option<String> {
        let of = |receipt: &&ReceiptRecord| {
            (&receipt.from, &receipt.to, receipt.phase) == (from, to, phase)
        };
        let link = || format!("the link {from} → {to} was not");
        match self.receipts.iter().find(of) {
            None => Some(format!("{} measured {}", link(), when(phase))),
            Some(receipt) if receipt.verdict != Verdict::True => {
                let why = receipt.reason.as_deref().unwrap_or("no reason is recorded");
                Some(format!("{} judged {}: {why}", link(), when(phase)))
            }
            Some(_) => None,
        }
    }
}

impl From<DatagramSummary> for Lateness {
    fn from(datagrams: DatagramSummary) -> Self {
        Self {
            sent: datagrams.sent,
            late: datagrams.late,
            worst_s: datagrams.worst_late_s,
        }
    }
}

impl Lateness {
    /// What is wrong with a link of which more than `share` of `what` came late.
    fn fault(
        self,
        (from, to): &(String, String),
        what: &str,
        (share, header): (f64, &Header),
    ) -> Option<String> {
        let late_share = self.late as f64 / self.sent as f64;
        (self.late >= HANDFUL && late_share > share).then(|| {
            format!(
                "On the link {from} → {to} {} of {} {what} ({:.1} %) arrived over {} later than it would have \
                 delivered them, the worst by {:.2} ms; more than {:.1} % are no emulation of it. Use a lower time_scale, \
                 fewer or slower emulated GPUs or links, or more cores.",
                self.late,
                self.sent,
                100.0 * late_share,
                late_from(header),
                1e3 * self.worst_s,
                100.0 * share
            )
        })
    }
}

/// What the scenario gives its links and nobody emulated.
fn lacking(shaping: &KernelShaping) -> impl Iterator<Item = String> + use<> {
    let (netem, links) = if shaping.netem {
        ("", "Links")
    } else {
        ("This kernel has no netem: ", "links")
    };
    let parts = [
        ("delay", shaping.delay),
        ("jitter", shaping.jitter),
        ("loss", shaping.loss),
    ];
    let lacking = parts.into_iter().filter(|(_, by)| *by == ShapedBy::Nobody);
    lacking.map(move |(what, _)| {
        format!("{netem}{links} had no {what}, which the scenario gives them; nobody emulated it.")
    })
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
    let when = when(receipt.phase);
    format!("The link {} → {} {when}", receipt.from, receipt.to)
}

fn when(phase: ReceiptPhase) -> &'static str {
    match phase {
        ReceiptPhase::Before => "before the first job",
        ReceiptPhase::After => "after the last job",
    }
}
