//! A comparison as a picture: grouped bars of mean JCT and cost.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::LedgerError;
use crate::compare::{COST, Comparison, MEAN_JCT, MEASURES, Sample};
use crate::svg::{Area, Drawn, svg};

const WIDTH: u32 = 960;
const PANEL_HEIGHT: u32 = 340;
const LEGEND_HEIGHT: u32 = 40;
pub(crate) const FONT: &str = "sans-serif";
pub(crate) const TEXT_SIZE: u32 = 16;
/// Part of a group's width that its bars take.
const BARS: f64 = 0.84;
/// Okabe and Ito's colours, told apart by colour-blind readers too; ours first.
const COLOURS: [RGBColor; 8] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(148, 203, 120),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(120, 120, 120),
];

/// Bars that stand together.
struct Group {
    label: String,
    bars: Vec<Bar>,
}

/// One policy's bar in a group.
#[derive(Default)]
struct Bar {
    /// Absent where nothing is known.
    sample: Option<Sample>,
    /// Such as `1/5 jobs`, where some did not finish: the mean is over others than its neighbours'.
    mark: Option<String>,
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

impl Comparison {
    /// Mean JCT and cost as bars with their 95 % intervals: an SVG image.
    ///
    /// # Errors
    /// If the picture cannot be laid out.
    pub fn svg(&self) -> Result<String, LedgerError> {
        let panels = [MEAN_JCT, COST];
        let height = LEGEND_HEIGHT + PANEL_HEIGHT * panels.len() as u32;
        svg((WIDTH, height), |root| self.draw(root, panels))
    }

    fn draw(&self, root: &Area<'_>, panels: [usize; 2]) -> Drawn {
        root.fill(&WHITE)?;
        let (top, rest) = root.split_vertically(LEGEND_HEIGHT);
        let names = self.bar_names();
        legend(&top, &names)?;
        for (area, measure) in rest.split_evenly((panels.len(), 1)).iter().zip(panels) {
            self.panel(area, measure, &names)?;
        }
        Ok(())
    }

    /// What bars stand for: policies.
    fn bar_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for case in &self.cases {
            if !names.contains(&case.policy.as_str()) {
                names.push(&case.policy);
            }
        }
        names
    }

    /// A group for each point of the sweep, and for simulated and measured runs where there are both.
    fn groups(&self, measure: usize, names: &[&str]) -> Vec<Group> {
        let mut groups = Vec::new();
        let both = self.cases.iter().any(|case| case.measured);
        for point in self.points() {
            let rows = self.rows(point);
            for measured in [false, true] {
                let word = if measured { "measured" } else { "simulated" };
                let label = match (point.is_empty(), both) {
                    (true, true) => word.to_owned(),
                    (true, false) => self.scenario.clone(),
                    (false, true) => format!("{point}, {word}"),
                    (false, false) => point.to_owned(),
                };
                let row = |name: &&str| {
                    let same = |row: &&_| is(row, name, measured);
                    rows.iter().find(same).map_or_else(Bar::default, |row| Bar {
                        sample: row.samples[measure],
                        mark: (row.finished < row.jobs)
                            .then(|| format!("{}/{} jobs", row.finished, row.jobs)),
                    })
                };
                let bars: Vec<Bar> = names.iter().map(row).collect();
                if bars.iter().any(|bar| bar.sample.is_some()) {
                    groups.push(Group { label, bars });
                }
            }
        }
        groups
    }

    fn panel(&self, area: &Area<'_>, measure: usize, names: &[&str]) -> Drawn {
        let unit = self.unit(measure);
        let groups = self.groups(measure, names);
        let bars = groups.iter().flat_map(|group| &group.bars);
        let highest = bars
            .filter_map(|bar| bar.sample)
            .map(|sample| (sample.mean + sample.half_width.unwrap_or(0.0)) / unit.size)
            .fold(0.0, f64::max);
        let highest = if highest > 0.0 { highest * 1.08 } else { 1.0 };
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(84)
            .build_cartesian_2d(0.0..groups.len() as f64, 0.0..highest)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .y_labels(6)
            .y_desc(format!("{} ({})", MEASURES[measure].heading, unit.name))
            .y_label_formatter(&|value| short(*value, highest))
            .label_style((FONT, TEXT_SIZE))
            .axis_desc_style((FONT, TEXT_SIZE + 2))
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.15))
            .draw()?;
        for (index, group) in groups.iter().enumerate() {
            draw_group(&mut chart, area, (index as f64, unit.size), group)?;
        }
        Ok(())
    }
}

fn is(row: &crate::compare::Row<'_>, policy: &str, measured: bool) -> bool {
    row.policy == policy && row.measured == measured
}

fn draw_group(
    chart: &mut Chart<'_, '_>,
    area: &Area<'_>,
    (left, size): (f64, f64),
    group: &Group,
) -> Drawn {
    let width = BARS / group.bars.len() as f64;
    for (bar, Bar { sample, mark }) in group.bars.iter().enumerate() {
        let from = left + (1.0 - BARS) / 2.0 + width * bar as f64;
        let Some(sample) = sample else {
            draw_mark(chart, area, from + width * 0.45, mark.as_deref())?;
            continue;
        };
        let corners = [(from, 0.0), (from + width * 0.9, sample.mean / size)];
        let style = COLOURS[bar % COLOURS.len()].filled();
        chart.draw_series([Rectangle::new(corners, style)])?;
        if let Some(half_width) = sample.half_width {
            let middle = from + width * 0.45;
            let (low, high) = (sample.mean - half_width, sample.mean + half_width);
            let tick = width * 0.15;
            let line = |points: Vec<(f64, f64)>| PathElement::new(points, BLACK.stroke_width(1));
            let (low, high) = (low.max(0.0) / size, high / size);
            chart.draw_series([
                line(vec![(middle, low), (middle, high)]),
                line(vec![(middle - tick, low), (middle + tick, low)]),
                line(vec![(middle - tick, high), (middle + tick, high)]),
            ])?;
        }
        draw_mark(chart, area, from + width * 0.45, mark.as_deref())?;
    }
    let (x, y) = chart.backend_coord(&(left + 0.5, 0.0));
    let (origin_x, origin_y) = area.get_base_pixel();
    let style = (FONT, TEXT_SIZE).into_text_style(area);
    let place = (x - origin_x, y - origin_y + 10);
    area.draw_text(
        &group.label,
        &style.pos(Pos::new(HPos::Center, VPos::Top)),
        place,
    )
}

/// Writes a mark upwards from the axis, along the middle of a bar.
fn draw_mark(chart: &Chart<'_, '_>, area: &Area<'_>, middle: f64, mark: Option<&str>) -> Drawn {
    let Some(mark) = mark else {
        return Ok(());
    };
    let (x, y) = chart.backend_coord(&(middle, 0.0));
    let (origin_x, origin_y) = area.get_base_pixel();
    let font = (FONT, TEXT_SIZE).into_font();
    let style = TextStyle::from(font.transform(FontTransform::Rotate270));
    let style = style.pos(Pos::new(HPos::Left, VPos::Center));
    area.draw_text(mark, &style, (x - origin_x, y - origin_y - 6))
}

fn legend(area: &Area<'_>, names: &[&str]) -> Drawn {
    let style = (FONT, TEXT_SIZE).into_text_style(area);
    let step = WIDTH as i32 / names.len().max(1) as i32;
    let step = step.min(150);
    let left = (WIDTH as i32 - step * names.len() as i32) / 2;
    for (index, name) in names.iter().enumerate() {
        let x = left + step * index as i32;
        let square = [(x, 16), (x + 14, 30)];
        area.draw(&Rectangle::new(
            square,
            COLOURS[index % COLOURS.len()].filled(),
        ))?;
        let middle = style.pos(Pos::new(HPos::Left, VPos::Center));
        area.draw_text(name, &middle, (x + 20, 23))?;
    }
    Ok(())
}

/// A number at an axis that ends at `highest`.
fn short(value: f64, highest: f64) -> String {
    let decimals = match highest {
        highest if highest >= 20.0 => 0,
        highest if highest >= 2.0 => 1,
        highest if highest >= 0.2 => 2,
        highest if highest >= 0.02 => 3,
        _ => 6,
    };
    format!("{value:.decimals$}")
}
