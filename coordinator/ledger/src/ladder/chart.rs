//! A ladder as a picture: a bar of iteration time for each rung.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::measure::Measure;
use super::{Ladder, LadderRung};
use crate::chart::{FONT, TEXT_SIZE};
use crate::svg::{Area, Drawn, svg};
use crate::{LedgerError, Sample};

const WIDTH: u32 = 960;
const HEIGHT: u32 = 380;
/// Part of a rung's width that its bar takes.
const BAR: f64 = 0.7;
const SIMULATED: RGBColor = RGBColor(0, 114, 178);
const REAL: RGBColor = RGBColor(213, 94, 0);

impl Ladder {
    /// Mean iteration times as bars with their 95 % intervals, simulated rungs in blue: an SVG image.
    ///
    /// # Errors
    /// If the picture cannot be laid out.
    pub fn svg(&self) -> Result<String, LedgerError> {
        let climbed = self.rungs.iter().map(|(rung, _)| *rung);
        let bars = climbed.filter_map(|rung| Some((rung, self.sample(rung, Measure::Iteration)?)));
        let bars: Vec<(LadderRung, Sample)> = bars.collect();
        svg((WIDTH, HEIGHT), |root| draw(root, &bars))
    }
}

fn draw(root: &Area<'_>, bars: &[(LadderRung, Sample)]) -> Drawn {
    root.fill(&WHITE)?;
    let tops = bars
        .iter()
        .map(|(_, bar)| bar.mean + bar.half_width.unwrap_or(0.0));
    let highest = tops.fold(0.0, f64::max) * 1.08;
    let highest = if highest > 0.0 { highest } else { 1.0 };
    let mut chart = ChartBuilder::on(root)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(84)
        .build_cartesian_2d(0.0..bars.len().max(1) as f64, 0.0..highest)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .y_labels(6)
        .y_desc("mean iteration time (s)")
        .label_style((FONT, TEXT_SIZE))
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.15))
        .draw()?;
    for (index, (rung, bar)) in bars.iter().enumerate() {
        let middle = index as f64 + 0.5;
        let colour = if rung.is_simulated() { SIMULATED } else { REAL };
        let corners = [(middle - BAR / 2.0, 0.0), (middle + BAR / 2.0, bar.mean)];
        chart.draw_series([Rectangle::new(corners, colour.filled())])?;
        if let Some(half_width) = bar.half_width {
            let ends = vec![
                (middle, (bar.mean - half_width).max(0.0)),
                (middle, bar.mean + half_width),
            ];
            chart.draw_series([PathElement::new(ends, BLACK.stroke_width(2))])?;
        }
        let (x, y) = chart.backend_coord(&(middle, 0.0));
        let style = (FONT, TEXT_SIZE).into_text_style(root);
        let style = style.pos(Pos::new(HPos::Center, VPos::Top));
        root.draw_text(rung.name(), &style, (x, y + 10))?;
    }
    Ok(())
}
