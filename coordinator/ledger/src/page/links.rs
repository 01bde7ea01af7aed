//! Links as they were measured, beside what they were configured to be.

use bace_api::{ReceiptPhase, ReceiptRecord, Receipts, Verdict};
use bace_netem::{Finding, Quantity};

use super::axis::{Axis, Share};
use super::lanes::{Beyond, Block, Lanes, Mark};
use super::table::TableView;
use super::words::Side;
use crate::{Figure, Summary};

const ROW_PX: u32 = 22;
const PLOT_PX: u32 = 420;
/// Rows that still serve a person.
const MOST_ROWS: usize = 90;
/// Furthest that the axis reaches, percent: marks beyond stand at its edge as arrows, and the table has their figures.
const FURTHEST: f64 = 50.0;

/// The picture and its table.
pub(super) struct LinksView {
    /// Or why nothing can be drawn.
    pub lanes: Figure<Lanes>,
    pub table: TableView,
    /// What this machine carries, in a sentence.
    pub loopback: Option<String>,
}

/// A quantity of a link, before and after.
struct Row<'a> {
    receipt: &'a ReceiptRecord,
    quantity: Quantity,
    found: Vec<(ReceiptPhase, &'a Finding)>,
}

impl LinksView {
    /// All receipts of a run, or why there are none.
    pub fn of(summary: &Summary, side: &Side) -> Figure<Self> {
        let receipts = &summary.emulation.receipts;
        if receipts.is_empty() {
            let reason = match summary.emulation.mode {
                Some(Receipts::Off) => {
                    "the links were not measured: the run was made with --receipts off"
                }
                Some(Receipts::Full) => {
                    "the run ended before a link was measured, or has no links between regions with workers"
                }
                None if side.is_measured() => "the program that made the run did not measure links",
                None => "a simulation has no links to measure",
            };
            return Figure::Unknown(reason.into());
        }
        let loopback = summary.emulation.loopback.map(|of| {
            format!(
                "Between two processes this machine carries {:.0} Mbit/s where nothing shapes it; all measured links together have {:.0} Mbit/s.",
                of.rate_bps / 1e6,
                of.links_bps / 1e6
            )
        });
        let table = table(receipts, side);
        Figure::Known(Self {
            lanes: lanes(receipts, side, &table),
            table,
            loopback,
        })
    }
}

fn rows(receipts: &[ReceiptRecord]) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for receipt in receipts {
        for found in &receipt.figures {
            // A share of nothing is none; fairness is no share of anything configured.
            if !found.is_judged() || found.configured <= 0.0 || found.quantity == Quantity::Fairness
            {
                continue;
            }
            let same = |row: &&mut Row<'_>| {
                row.quantity == found.quantity
                    && (&row.receipt.from, &row.receipt.to) == (&receipt.from, &receipt.to)
            };
            match rows.iter_mut().find(same) {
                Some(row) => row.found.push((receipt.phase, found)),
                None => rows.push(Row {
                    receipt,
                    quantity: found.quantity,
                    found: vec![(receipt.phase, found)],
                }),
            }
        }
    }
    rows
}

fn lanes(receipts: &[ReceiptRecord], side: &Side, table: &TableView) -> Figure<Lanes> {
    let rows = rows(receipts);
    if rows.is_empty() {
        return Figure::Unknown(unjudged(receipts).into());
    }
    let reach = rows
        .iter()
        .flat_map(|row| &row.found)
        .flat_map(|(_, found)| {
            let bounds = [found.at_least, found.at_most].into_iter().flatten();
            bounds
                .chain([found.measured])
                .map(|value| off(found, value).abs())
        });
    let reach = reach.fold(1.0, f64::max).min(FURTHEST) * 1.1;
    let axis = Axis::of_figures((-reach, reach), "off configured (%)");
    let name = format!(
        "How far measured links were off what is configured, in percent ({})",
        side.word()
    );
    let mut lanes = Lanes::new(name, axis, PLOT_PX);
    let mut last = None;
    for row in rows.iter().take(MOST_ROWS) {
        let link = (&row.receipt.from, &row.receipt.to);
        if last.replace(link) != Some(link) {
            if lanes.height > 0 {
                lanes.gap(6);
            }
            lanes.lane(&format!("{} → {}", link.0, link.1), "", ROW_PX);
        }
        let top = lanes.lane("", quantity_word(row.quantity), ROW_PX);
        draw_row(&mut lanes, row, top);
    }
    lanes.key("tolerance", "what counts as true");
    lanes.key("before", "measured before the first job");
    lanes.key("after", "measured after the last job");
    let mut left_out = Vec::new();
    let beyond = lanes.marks.iter().filter(|mark| mark.beyond != Beyond::No);
    match beyond.count() {
        0 => {}
        1 => left_out.push(format!(
            "One figure lies beyond the axis: an arrow at its edge; {}.",
            table.reach()
        )),
        many => left_out.push(format!(
            "{many} figures lie beyond the axis: arrows at its edge; {}.",
            table.reach()
        )),
    }
    if rows.len() > MOST_ROWS {
        left_out.push(format!(
            "{MOST_ROWS} of {} rows are drawn; {}.",
            rows.len(),
            table.reach()
        ));
    }
    lanes.left_out = (!left_out.is_empty()).then(|| left_out.join(" "));
    Figure::Known(lanes)
}

/// Why no figure of any link can be drawn.
fn unjudged(receipts: &[ReceiptRecord]) -> String {
    let reason = receipts
        .iter()
        .find_map(|receipt| receipt.reason.as_deref());
    match reason {
        Some(reason) => format!("no figure of a link was judged: {reason}"),
        None => "no figure of a link was judged".to_owned(),
    }
}

/// By how much a value is off, percent of what is configured.
fn off(found: &Finding, value: f64) -> f64 {
    100.0 * (value - found.configured) / found.configured
}

fn draw_row(lanes: &mut Lanes, row: &Row<'_>, top: u32) {
    if let Some((_, found)) = row.found.last() {
        let edge = |bound: Option<f64>, open: f64| bound.map_or(open, |value| off(found, value));
        let (left, width) = lanes.axis.span(
            edge(found.at_least, lanes.axis.from),
            edge(found.at_most, lanes.axis.to),
        );
        lanes.blocks.push(Block {
            left,
            width,
            top: top + 3,
            height: ROW_PX - 6,
            class: "tolerance".to_owned(),
            text: String::new(),
            title: format!("true: {}", bounds(found)),
        });
    }
    for (phase, found) in &row.found {
        let (class, word) = match phase {
            ReceiptPhase::Before => ("before", "before"),
            ReceiptPhase::After => ("after", "after"),
        };
        let off_percent = off(found, found.measured);
        let at: Share = lanes.axis.place(off_percent);
        let beyond = match off_percent {
            off if off < lanes.axis.from => Beyond::Left,
            off if off > lanes.axis.to => Beyond::Right,
            _ => Beyond::No,
        };
        lanes.marks.push(Mark {
            at,
            beyond,
            middle: top + ROW_PX / 2,
            class,
            title: format!(
                "{} → {}, {} {word}: {} measured, {} configured, {:+.2} %",
                row.receipt.from,
                row.receipt.to,
                quantity_word(row.quantity),
                shown(found, found.measured),
                shown(found, found.configured),
                off_percent
            ),
        });
    }
}

fn quantity_word(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Rate => "rate",
        Quantity::Completion => "one message",
        Quantity::Delay => "delay",
        Quantity::SharedRate => "rate of two",
        Quantity::Fairness => "fairness",
    }
}

/// A value in the unit of its quantity.
fn shown(found: &Finding, value: f64) -> String {
    match found.quantity {
        Quantity::Rate | Quantity::SharedRate => format!("{:.3} Mbit/s", value / 1e6),
        Quantity::Completion | Quantity::Delay => format!("{:.3} ms", value * 1e3),
        Quantity::Fairness => format!("{value:.4}"),
    }
}

fn bounds(found: &Finding) -> String {
    match (found.at_least, found.at_most) {
        (Some(least), Some(most)) => format!("{} to {}", shown(found, least), shown(found, most)),
        (Some(least), None) => format!("at least {}", shown(found, least)),
        (None, Some(most)) => format!("at most {}", shown(found, most)),
        (None, None) => "not judged".to_owned(),
    }
}

fn table(receipts: &[ReceiptRecord], side: &Side) -> TableView {
    let mut table = TableView::new(
        format!("Link receipts, {}", side.label()),
        &[
            "link|",
            "when|",
            "quantity|",
            "configured",
            "measured",
            "off (%)",
            "counts as true",
            "verdict of the link|",
        ],
    );
    for receipt in receipts {
        let link = format!("{} → {}", receipt.from, receipt.to);
        let when = match receipt.phase {
            ReceiptPhase::Before => "before",
            ReceiptPhase::After => "after",
        };
        let verdict = match receipt.verdict {
            Verdict::True => "true",
            Verdict::Untrue => "untrue",
            Verdict::NotJudged => "not judged",
        };
        let verdict = match &receipt.reason {
            Some(reason) => format!("{verdict}: {reason}"),
            None => verdict.to_owned(),
        };
        for found in &receipt.figures {
            let share = Figure::new(
                (found.configured > 0.0).then(|| off(found, found.measured)),
                "nothing is configured to take a share of",
            );
            let cells = vec![
                table.cell(&link),
                table.cell(when),
                table.cell(quantity_word(found.quantity)),
                table.cell(shown(found, found.configured)),
                table.cell(shown(found, found.measured)),
                table.figure(&share, |share| format!("{share:+.2}")),
                table.cell(bounds(found)),
                table.cell(&verdict),
            ];
            table.row(cells);
        }
        if receipt.figures.is_empty() {
            let row = [link.as_str(), when, "", "", "", "", "", verdict.as_str()];
            let cells = row.map(|text| table.cell(text));
            table.row(cells.into());
        }
    }
    table
}
