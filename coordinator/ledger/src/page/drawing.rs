//! Pictures that plotters draws: colours stand for roles, which the page's style sheet fills for light and dark.

use askama::Template;
use plotters::style::RGBColor;

use crate::LedgerError;
use crate::svg::{Area, Drawn, svg};

/// Axes, their text and ticks.
pub(super) const INK: RGBColor = RGBColor(1, 1, 1);
/// Lines behind the figures.
pub(super) const FAINT: RGBColor = RGBColor(2, 2, 2);
/// Roles of what is drawn; the style sheet knows them as `#0A0A00` to `#0A0A07`.
pub(super) const SERIES: [RGBColor; 8] = [
    RGBColor(10, 10, 0),
    RGBColor(10, 10, 1),
    RGBColor(10, 10, 2),
    RGBColor(10, 10, 3),
    RGBColor(10, 10, 4),
    RGBColor(10, 10, 5),
    RGBColor(10, 10, 6),
    RGBColor(10, 10, 7),
];
/// Text, in pixels as it stands on the page.
pub(super) const TEXT: (&str, i32) = ("sans-serif", 13);

/// A picture as SVG.
#[derive(Debug, Clone, Template)]
#[template(path = "drawing.html")]
pub(super) struct Drawing {
    /// Its accessible name.
    name: String,
    svg: String,
}

impl Drawing {
    /// What `draw` draws into so many pixels.
    ///
    /// # Errors
    /// If the picture cannot be laid out.
    pub fn new(
        name: String,
        size: (u32, u32),
        draw: impl FnOnce(&Area<'_>) -> Drawn,
    ) -> Result<Self, LedgerError> {
        svg(size, draw).map(|svg| Self { name, svg })
    }
}

/// A figure at an axis that ends at `highest`.
pub(super) fn short(value: f64, highest: f64) -> String {
    let decimals = match highest {
        highest if highest >= 20.0 => 0,
        highest if highest >= 2.0 => 1,
        highest if highest >= 0.2 => 2,
        highest if highest >= 0.02 => 3,
        highest if highest >= 0.002 => 4,
        _ => 6,
    };
    format!("{value:.decimals$}")
}
