//! A line of figures drawn from left to right, as shares of whatever width there is.

use std::fmt;

/// Most ticks of an axis: labels of 70 pixels in the narrowest picture.
const MOST_TICKS: f64 = 8.0;

/// A place or a width as a share of a picture's width.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Share(pub f64);

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}%", self.0 * 100.0)
    }
}

/// From one figure to another, with ticks at round ones.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub from: f64,
    pub to: f64,
    pub ticks: Vec<Tick>,
    /// What is counted, with its unit.
    pub title: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    pub at: Share,
    pub label: String,
}

/// A unit of time that people read, and the steps that are round in it.
struct TimeUnit {
    name: &'static str,
    seconds: f64,
    /// Round steps besides those of the decimal system, in the unit; empty where decimal ones are.
    steps: &'static [f64],
}

const MINUTES: &[f64] = &[0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0];
const HOURS: &[f64] = &[0.25, 0.5, 1.0, 2.0, 3.0, 6.0, 12.0, 24.0];

impl TimeUnit {
    /// The one in which a time of this length has few digits.
    fn of(length_s: f64) -> Self {
        let (name, seconds, steps): (_, _, &[f64]) = match length_s {
            s if s < 2.0 => ("ms", 1e-3, &[]),
            s if s < 600.0 => ("s", 1.0, &[]),
            s if s < 4.0 * 3600.0 => ("min", 60.0, MINUTES),
            s if s < 72.0 * 3600.0 => ("h", 3600.0, HOURS),
            _ => ("days", 86_400.0, &[]),
        };
        Self {
            name,
            seconds,
            steps,
        }
    }
}

impl Axis {
    /// Times between two instants, told as seconds since `zero_s`; `what` says what zero is.
    pub fn of_time((from_s, to_s): (f64, f64), zero_s: f64, what: &str) -> Self {
        let to_s = if to_s > from_s { to_s } else { from_s + 1.0 };
        let unit = TimeUnit::of(to_s - from_s);
        let step = round_step((to_s - from_s) / unit.seconds, unit.steps) * unit.seconds;
        Self {
            from: from_s,
            to: to_s,
            ticks: ticks((from_s, to_s), zero_s, step, |value| {
                number(value / unit.seconds)
            }),
            title: format!("{what} ({})", unit.name),
        }
    }

    /// Figures between two others, told as they are.
    pub fn of_figures((from, to): (f64, f64), title: &str) -> Self {
        let step = round_step(to - from, &[]);
        Self {
            from,
            to,
            ticks: ticks((from, to), 0.0, step, number),
            title: title.to_owned(),
        }
    }

    /// Where a figure stands.
    pub fn place(&self, at: f64) -> Share {
        Share(((at - self.from) / (self.to - self.from)).clamp(0.0, 1.0))
    }

    /// Where a span begins, and how wide it is.
    pub fn span(&self, from: f64, to: f64) -> (Share, Share) {
        let (left, right) = (self.place(from), self.place(to));
        (left, Share((right.0 - left.0).max(0.0)))
    }
}

fn ticks((from, to): (f64, f64), zero: f64, step: f64, label: impl Fn(f64) -> String) -> Vec<Tick> {
    let first = ((from - zero) / step - 1e-9).ceil();
    let last = ((to - zero) / step + 1e-9).floor();
    let count = (last - first).clamp(0.0, 4.0 * MOST_TICKS) as u32;
    let values = (0..=count).map(|place| (first + f64::from(place)) * step);
    values
        .map(|value| Tick {
            at: Share((value + zero - from) / (to - from)),
            label: label(value),
        })
        .collect()
}

/// The smallest round step that keeps the ticks of `length` few.
fn round_step(length: f64, steps: &[f64]) -> f64 {
    let least = length / MOST_TICKS;
    if let Some(step) = steps.iter().find(|step| **step >= least) {
        return *step;
    }
    let power = 10f64.powf(least.log10().floor());
    let decimal = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power);
    let fits = decimal.into_iter().find(|step| *step >= least * 0.999_999);
    fits.unwrap_or(10.0 * power)
}

/// A round figure without needless zeros.
fn number(value: f64) -> String {
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text {
        "-0" => "0".to_owned(),
        text => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_in_the_unit_that_people_read() {
        let axis = Axis::of_time((0.0, 33.7), 0.0, "time");
        assert_eq!(labels(&axis), ["0", "5", "10", "15", "20", "25", "30"]);
        assert_eq!(axis.title, "time (s)");
        assert_eq!(axis.place(33.7).to_string(), "100.000%");
        let axis = Axis::of_time((0.0, 5.0 * 3600.0), 0.0, "time");
        assert_eq!(labels(&axis), ["0", "1", "2", "3", "4", "5"]);
        assert_eq!(axis.title, "time (h)");
        // An iteration that begins at 4.1 s, counted from its own begin.
        let axis = Axis::of_time((4.1, 4.34), 4.1, "since its begin");
        assert_eq!(labels(&axis)[..3], ["0", "50", "100"]);
        assert_eq!(axis.title, "since its begin (ms)");
        let axis = Axis::of_figures((-11.0, 11.0), "off (%)");
        assert_eq!(labels(&axis), ["-10", "-5", "0", "5", "10"]);
    }

    #[test]
    fn what_lies_outside_is_drawn_at_the_edge() {
        let axis = Axis::of_time((10.0, 20.0), 10.0, "time");
        let (left, width) = axis.span(5.0, 15.0);
        assert_eq!((left.0, width.0), (0.0, 0.5));
        assert_eq!(axis.span(25.0, 30.0).1.0, 0.0);
        // A run of no length has an axis all the same.
        assert!(Axis::of_time((0.0, 0.0), 0.0, "time").place(0.0).0 == 0.0);
    }
}
