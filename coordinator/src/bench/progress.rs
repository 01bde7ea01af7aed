//! What is being measured, on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often the clock of the line is drawn; rarely, since drawing takes time from what is measured.
const TICK: Duration = Duration::from_millis(500);

/// A line on standard error that tells what is being measured; nothing where nobody looks.
pub fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed:>4} {msg}").expect("the template is fixed");
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(TICK);
    bar
}
