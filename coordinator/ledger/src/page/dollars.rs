//! What was spent where and when.

use plotters::prelude::*;

use super::drawing::{Drawing, FAINT, INK, SERIES, TEXT, short};
use super::lanes::Key;
use super::table::TableView;
use super::words::Side;
use crate::svg::{Area, Drawn};
use crate::table::Scale;
use crate::{Figure, LedgerError};

const SIZE: (u32, u32) = (720, 340);
/// Lengths of a bin, seconds; an hour where that serves.
const ROUND_S: [f64; 18] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0,
    10_800.0, 21_600.0, 43_200.0, 86_400.0,
];
const HOUR_S: f64 = 3600.0;
/// Bins in which an hour serves: fewer show no course, more no bar.
const SERVING: std::ops::RangeInclusive<f64> = 3.0..=72.0;
/// Most bins of another length.
const MOST_BINS: f64 = 24.0;

/// Dollars of every region in equal spans of time, PUE and prices' steps included.
#[derive(Debug, Clone, PartialEq)]
pub struct Spending {
    /// Length of a span, seconds; the first begins with the run.
    pub bin_s: f64,
    /// Each region's name with its dollars, span after span.
    pub regions: Vec<(String, Vec<f64>)>,
}

impl Spending {
    /// The length of a span that shows the course of a run of this length: an hour, unless the run is too short or too long
    /// for that; and how many there are.
    pub fn bins(run_s: f64) -> (f64, usize) {
        let count = |bin_s: f64| (run_s / bin_s).ceil().max(1.0);
        let bin_s = if SERVING.contains(&count(HOUR_S)) {
            HOUR_S
        } else {
            let round = ROUND_S.into_iter().find(|bin_s| count(*bin_s) <= MOST_BINS);
            // Days, in round numbers of them.
            round.unwrap_or_else(|| 86_400.0 * (run_s / 86_400.0 / MOST_BINS).ceil())
        };
        (bin_s, count(bin_s) as usize)
    }

    /// How many spans there are.
    fn spans(&self) -> usize {
        let spans = self.regions.iter().map(|(_, usd)| usd.len());
        spans.max().unwrap_or(0)
    }

    fn total(&self) -> f64 {
        let all = self.regions.iter().flat_map(|(_, usd)| usd);
        all.sum()
    }
}

/// The picture and its table.
pub(super) struct DollarsView {
    pub drawing: Drawing,
    pub table: TableView,
    pub keys: Vec<Key>,
    /// A span in words.
    pub bin: String,
}

impl DollarsView {
    /// What `spending` looks like.
    ///
    /// # Errors
    /// If the picture cannot be laid out.
    pub fn of(spending: Figure<&Spending>, side: &Side) -> Result<Figure<Self>, LedgerError> {
        let spending = match spending {
            Figure::Known(spending) => spending,
            Figure::Unknown(reason) => return Ok(Figure::Unknown(reason)),
        };
        if spending.total() <= 0.0 {
            return Ok(Figure::Unknown(
                "no job held a GPU that costs anything".into(),
            ));
        }
        let bin = words(spending.bin_s);
        let name = format!(
            "Dollars in each {bin} of the run, stacked by region ({})",
            side.word()
        );
        let keys = spending
            .regions
            .iter()
            .enumerate()
            .map(|(place, (region, _))| Key {
                class: format!("s{}", place % SERIES.len()),
                text: region.clone(),
            });
        Ok(Figure::Known(Self {
            drawing: Drawing::new(name, SIZE, |area| draw(area, spending))?,
            table: table(spending, side, &bin),
            keys: keys.collect(),
            bin,
        }))
    }
}

/// A span in words that follow `each`.
fn words(bin_s: f64) -> String {
    match bin_s {
        HOUR_S => "hour".to_owned(),
        s if s < 60.0 => format!("{s} s"),
        s if s < HOUR_S => format!("{} min", s / 60.0),
        86_400.0 => "day".to_owned(),
        s if s < 86_400.0 => format!("{} h", s / HOUR_S),
        s => format!("{} days", s / 86_400.0),
    }
}

/// The unit that bins are counted in at the axis, and its seconds.
fn axis_unit(bin_s: f64) -> (&'static str, f64) {
    match bin_s {
        s if s < 60.0 => ("s", 1.0),
        s if s < 1800.0 => ("min", 60.0),
        s if s < 86_400.0 => ("h", HOUR_S),
        _ => ("days", 86_400.0),
    }
}

fn draw(area: &Area<'_>, spending: &Spending) -> Drawn {
    let bins = spending.spans();
    let in_bin = |bin: usize| {
        let regions = spending.regions.iter();
        regions.map(move |(_, usd)| usd.get(bin).copied().unwrap_or(0.0))
    };
    let highest = (0..bins).map(|bin| in_bin(bin).sum()).fold(0.0, f64::max) * 1.08;
    // Millionths where dollars would be all zeros.
    let (unit, factor) = if highest < 1e-3 {
        ("µ$", 1e6)
    } else {
        ("$", 1.0)
    };
    let (time_unit, seconds) = axis_unit(spending.bin_s);
    let bin = spending.bin_s / seconds;
    let text = TEXT.into_text_style(area).color(&INK);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .margin_right(24)
        .x_label_area_size(46)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..bins as f64 * bin, 0.0..highest * factor)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(10)
        .y_labels(6)
        .x_desc(format!("time since the run's start ({time_unit})"))
        .y_desc(unit)
        .x_label_formatter(&|value| short(*value, bins as f64 * bin))
        .y_label_formatter(&|value| short(*value, highest * factor))
        .label_style(text.clone())
        .axis_desc_style(text)
        .axis_style(INK)
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .draw()?;
    for place in 0..bins {
        let mut below = 0.0;
        for (region, usd) in in_bin(place).enumerate() {
            let left = place as f64 * bin;
            let corners = [
                (left + bin * 0.06, below * factor),
                (left + bin * 0.94, (below + usd) * factor),
            ];
            below += usd;
            if usd > 0.0 {
                let style = SERIES[region % SERIES.len()].filled();
                chart.draw_series([Rectangle::new(corners, style)])?;
            }
        }
    }
    Ok(())
}

fn table(spending: &Spending, side: &Side, bin: &str) -> TableView {
    let names = spending
        .regions
        .iter()
        .map(|(region, _)| format!("{region} ($)"));
    let mut headings = vec!["from (s)".to_owned()];
    headings.extend(names);
    headings.push("all ($)".to_owned());
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut table = TableView::new(
        format!("Dollars in each {bin}, {}", side.label()),
        &headings,
    );
    let bins = spending.spans();
    let total = Figure::Known(spending.total());
    let scale = Scale::dollars([&total].into_iter());
    let mut add = |first: String, usd: Vec<f64>| {
        let all: f64 = usd.iter().sum();
        let mut cells = vec![table.cell(first)];
        for usd in usd.into_iter().chain([all]) {
            cells.push(table.cell(scale.show(&Figure::Known(usd))));
        }
        table.row(cells);
    };
    for place in 0..bins {
        let in_bin = spending.regions.iter();
        let in_bin = in_bin.map(|(_, usd)| usd.get(place).copied().unwrap_or(0.0));
        add(
            format!("{}", place as f64 * spending.bin_s),
            in_bin.collect(),
        );
    }
    let sums = spending.regions.iter().map(|(_, usd)| usd.iter().sum());
    add("all".to_owned(), sums.collect());
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_hours_where_hours_show_the_course() {
        assert_eq!(Spending::bins(33.7), (2.0, 17));
        assert_eq!(Spending::bins(0.0), (1.0, 1));
        assert_eq!(Spending::bins(5.5 * 3600.0), (3600.0, 6));
        assert_eq!(Spending::bins(72.0 * 3600.0), (3600.0, 72));
        assert_eq!(Spending::bins(100.0 * 86_400.0), (5.0 * 86_400.0, 20));
        assert_eq!(words(3600.0), "hour");
        assert_eq!(words(300.0), "5 min");
    }
}
