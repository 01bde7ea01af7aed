//! Figures beside their goals, as a table.

use bace_socket::bench::{Figure, Verdict};
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

/// A table with this header; columns from `right` on hold numbers.
pub fn table(header: &[&str], right: usize) -> Table {
    let mut table = Table::new();
    let style = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
    table.load_style(style).set_header(header);
    for column in table.column_iter_mut().skip(right) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A row for each figure: its median, what it has to be and what is aimed at.
pub fn goals_table(figures: &[Figure]) -> Table {
    let mut table = table(
        &[
            "figure", "median", "least", "most", "goal", "aim", "verdict",
        ],
        1,
    );
    for figure in figures {
        let unit = if figure.unit.is_empty() {
            String::new()
        } else {
            format!(", {}", figure.unit)
        };
        let least = figure.samples.iter().copied().fold(f64::INFINITY, f64::min);
        let most = figure
            .samples
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        table.add_row([
            format!("{}{unit}", figure.name),
            number(figure.median),
            number(least),
            number(most),
            figure.goal.to_string(),
            figure.aim.to_string(),
            word(figure.verdict).to_owned(),
        ]);
    }
    table
}

/// Whether all figures are as good as they have to be.
pub fn all_met(figures: &[Figure]) -> bool {
    figures
        .iter()
        .all(|figure| figure.verdict != Verdict::Missed)
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Aim => "aim",
        Verdict::Met => "met",
        Verdict::Missed => "MISSED",
    }
}

/// Four digits behind the point, where there is anything to tell.
fn number(value: f64) -> String {
    if value == value.trunc() {
        format!("{value}")
    } else {
        format!("{value:.4}")
    }
}
