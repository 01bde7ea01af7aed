//! A comparison for people: tables in Markdown, aligned so that they also read well as they are.

use crate::compare::{Comparison, Kind, MEASURES, Row, Sample};
use crate::notes::without_set_up;

/// A unit that fits all numbers of a column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit {
    pub name: &'static str,
    /// What one unit is of the number's own.
    pub size: f64,
    decimals: usize,
}

impl Unit {
    /// The unit in which numbers of this kind, `largest` among them, are short.
    pub fn of(kind: Kind, largest: f64) -> Self {
        let unit = |name, size, decimals| Self {
            name,
            size,
            decimals,
        };
        match kind {
            Kind::Time if largest < 6e3 => unit("s", 1.0, 1),
            Kind::Time => unit("h", 3600.0, if largest < 360e3 { 2 } else { 1 }),
            Kind::Dollars if largest < 1.0 => unit("$", 1.0, 6),
            Kind::Dollars => unit("$", 1.0, if largest < 1e4 { 2 } else { 0 }),
            Kind::Energy if largest < 1e7 => unit("kJ", 1e3, 1),
            Kind::Energy if largest < 1e10 => unit("MJ", 1e6, 1),
            Kind::Energy => unit("GJ", 1e9, 2),
            Kind::Share => unit("%", 0.01, 1),
        }
    }

    fn show(self, sample: Option<Sample>) -> String {
        let show = |value: f64| format!("{:.*}", self.decimals, value / self.size);
        match sample {
            None => "–".to_owned(),
            Some(Sample {
                mean,
                half_width: Some(half_width),
                ..
            }) => format!("{} ± {}", show(mean), show(half_width)),
            Some(Sample { mean, .. }) => show(mean),
        }
    }
}

impl Comparison {
    /// Tables, one for each point of the sweep, and what has to be said about them.
    pub fn render(&self) -> String {
        let mut text = self.heading();
        let mut notes: Vec<String> = Vec::new();
        for point in self.points() {
            let rows = self.rows(point);
            if !point.is_empty() {
                text.push_str(&format!("\n{point}\n"));
            }
            text.push('\n');
            text.push_str(&self.table(&rows));
            for row in &rows {
                notes.extend(unfinished(point, row));
                notes.extend(invalid(point, row));
            }
        }
        let is_unfinished = |point: &&str| {
            let rows = self.rows(point);
            rows.iter().any(|row| row.unfinished.is_some())
        };
        if self.points().iter().any(is_unfinished) {
            notes.push(
                "! Means are over finished jobs: rows with fewer of them tell of other jobs."
                    .to_owned(),
            );
        }
        let lacks_set_up = self.lacks_set_up.as_ref();
        notes.extend(lacks_set_up.map(|lack| format!("! {}", without_set_up(lack))));
        if !notes.is_empty() {
            text.push('\n');
            text.push_str(&notes.join("\n"));
            text.push('\n');
        }
        text
    }

    /// The unit of a measure over the whole comparison.
    pub(crate) fn unit(&self, measure: usize) -> Unit {
        let points = self.points();
        let rows = points.iter().flat_map(|point| self.rows(point));
        let means = rows.filter_map(|row| row.samples[measure].map(|sample| sample.mean));
        Unit::of(MEASURES[measure].kind, means.fold(0.0, f64::max))
    }

    fn heading(&self) -> String {
        let same = "the same under every seed, since it has no [draw]";
        let measured = self.cases.iter().any(|case| case.measured);
        let seeds = self.seeds();
        let told = match seeds.as_slice() {
            [first, .., last] => format!(
                "{} seeds ({first} to {last}), mean ± half of the 95 % interval",
                seeds.len()
            ),
            [seed] => format!("seed {seed}"),
            [] => "no run".to_owned(),
        };
        let seeds = match (self.varies, measured) {
            (true, _) => told,
            (false, true) => format!("{told}; simulated {same}"),
            (false, false) => same.to_owned(),
        };
        let profile = self.profile.as_ref();
        let times = profile.map(|path| format!(", times of compute from {path}"));
        format!(
            "{}: iterations {}{}; {seeds}\n",
            self.scenario,
            self.iteration_model,
            times.unwrap_or_default()
        )
    }

    fn table(&self, rows: &[Row<'_>]) -> String {
        let measured = rows.iter().any(|row| row.measured);
        let units: Vec<Unit> = (0..MEASURES.len()).map(|index| self.unit(index)).collect();
        let mut headings = vec!["policy".to_owned()];
        if measured {
            headings.push("run".to_owned());
        }
        headings.push("jobs done".to_owned());
        for (measure, unit) in MEASURES.iter().zip(&units) {
            headings.push(format!("{} ({})", measure.heading, unit.name));
        }
        headings.push("BACE-Pipe saves JCT (%)".to_owned());
        headings.push("cost (%)".to_owned());
        let mut lines = vec![headings];
        for row in rows {
            let mut cells = vec![row.policy.to_owned()];
            if measured {
                let word = if row.measured {
                    "measured"
                } else {
                    "simulated"
                };
                cells.push(word.to_owned());
            }
            cells.push(format!("{}/{}", row.finished, row.jobs));
            for (unit, sample) in units.iter().zip(&row.samples) {
                cells.push(unit.show(*sample));
            }
            for saving in row.savings {
                cells.push(Unit::of(Kind::Share, 1.0).show(saving));
            }
            lines.push(cells);
        }
        markdown(&lines)
    }
}

fn invalid(point: &str, row: &Row<'_>) -> Option<String> {
    let (why, at) = (row.invalid?, at(point));
    Some(format!(
        "! {at}{}: emulation not valid. {why} Seeds with such runs are left out of the savings.",
        row.policy
    ))
}

fn at(point: &str) -> String {
    if point.is_empty() {
        String::new()
    } else {
        format!("{point}, ")
    }
}

fn unfinished(point: &str, row: &Row<'_>) -> Option<String> {
    let (why, at) = (row.unfinished?, at(point));
    let left = row.jobs - row.finished;
    Some(format!(
        "! {at}{}: {left} of {} jobs did not finish, such as {why}. Seeds with such jobs are left out of the savings.",
        row.policy, row.jobs
    ))
}

/// Lines of cells, the first of them headings; numbers end on the right.
fn markdown(lines: &[Vec<String>]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns).filter_map(width).collect();
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let cells = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| {
                if column == 0 {
                    format!(" {cell:<width$} ")
                } else {
                    format!(" {cell:>width$} ")
                }
            });
        text.push_str(&format!("|{}|\n", cells.collect::<Vec<_>>().join("|")));
        if index == 0 {
            let rules = widths.iter().enumerate().map(|(column, width)| {
                let end = if column == 0 { '-' } else { ':' };
                format!("{}{end}", "-".repeat(width + 1))
            });
            text.push_str(&format!("|{}|\n", rules.collect::<Vec<_>>().join("|")));
        }
    }
    text
}
