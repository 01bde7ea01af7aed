//! What plotters draws, as SVG text.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::LedgerError;

/// What is drawn on.
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// Whether it could be laid out.
pub(crate) type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// What `draw` draws into so many pixels, width and height.
///
/// # Errors
/// If the picture cannot be laid out.
pub(crate) fn svg(
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<String, LedgerError> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    let drawn = draw(&area).and_then(|()| area.present());
    drop(area);
    drawn.map_err(|error| LedgerError::Undrawable(error.to_string()))?;
    Ok(svg)
}
