//! Figures of a validation as cells of tables.

use super::{Accuracy, Compared, ErrorStatistics};
use crate::table::{GLUE, Scale, UNKNOWN};
use crate::{Figure, Measured, Predicted};

/// What stands behind a figure that is at most its noise floor.
pub(super) const WITHIN: char = '~';

/// What holds what is not shown.
pub(super) const HOLDER: &str = "the JSON of the same validation";

pub(super) fn percent(share: f64) -> String {
    format!("{:.2}", share * 100.0)
}

pub(super) fn figure(figure: &Figure, show: impl Fn(f64) -> String) -> String {
    figure
        .known()
        .map_or_else(|| UNKNOWN.to_owned(), |value| show(*value))
}

/// A statistic, marked where it is within noise.
pub(super) fn shown(
    accuracy: &Accuracy,
    pick: fn(&ErrorStatistics) -> f64,
    show: impl Fn(f64) -> String,
) -> String {
    let Some(errors) = accuracy.errors.known() else {
        return UNKNOWN.to_owned();
    };
    let value = pick(errors);
    let within = accuracy
        .noise
        .known()
        .is_some_and(|noise| value.abs() <= pick(noise).abs());
    let mark = if within { WITHIN } else { GLUE };
    format!("{}{mark}", show(value))
}

pub(super) fn statistics(accuracy: &Accuracy) -> Vec<String> {
    let errors: [fn(&ErrorStatistics) -> f64; 5] = [
        |it| it.mean,
        |it| it.median,
        |it| it.p95,
        |it| it.max,
        |it| it.bias,
    ];
    let count = accuracy.errors.known().map_or(0, |errors| errors.count);
    let mut cells = vec![count.to_string()];
    cells.extend(errors.map(|pick| shown(accuracy, pick, percent)));
    let noise: [fn(ErrorStatistics) -> f64; 2] = [|it| it.mean, |it| it.max];
    cells.extend(noise.map(|pick| figure(&accuracy.noise.clone().map(pick), percent)));
    cells
}

/// What a column counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Time,
    Money,
    Energy,
}

impl Kind {
    pub fn scale(self, all: &[&Compared]) -> Scale {
        let figures: Vec<Figure> = all
            .iter()
            .flat_map(|compared| [prediction(compared), measurement(compared)])
            .collect();
        match self {
            Self::Time => Scale::plain(figures.iter()),
            Self::Money => Scale::dollars(figures.iter()),
            Self::Energy => Scale::energy(figures.iter()),
        }
    }

    pub fn unit(self, scale: &Scale) -> &'static str {
        match self {
            Self::Time => "s",
            _ => scale.unit(),
        }
    }
}

pub(super) fn prediction(compared: &Compared) -> Figure {
    compared.predicted.clone().map(|Predicted(value)| value)
}

pub(super) fn measurement(compared: &Compared) -> Figure {
    compared.measured.clone().map(|Measured(value)| value)
}

pub(super) fn sides(compared: &Compared, scale: &Scale) -> Vec<String> {
    vec![
        scale.show(&prediction(compared)),
        scale.show(&measurement(compared)),
    ]
}

pub(super) fn range(compared: &Compared, scale: &Scale) -> Vec<String> {
    match compared.measured_range() {
        Some(ends) => ends.map(|end| scale.show(&Figure::real(end.0))).to_vec(),
        None => vec![UNKNOWN.to_owned(); 2],
    }
}

pub(super) fn millis(compared: &Compared) -> Vec<String> {
    [prediction(compared), measurement(compared)]
        .map(|side| figure(&side, |s| format!("{:.2}", s * 1e3)))
        .to_vec()
}

/// The mean signed error and its floor, in percent; marked where it is within noise.
pub(super) fn error(compared: &Compared) -> Vec<String> {
    let shares = &compared.shares;
    let bias = figure(&shares.errors.clone().map(|errors| errors.bias), |share| {
        format!("{:+.2}", share * 100.0)
    });
    let within = shares.within_noise().is_some_and(|within| within.bias);
    let mark = if within { WITHIN } else { GLUE };
    vec![
        format!("{bias}{mark}"),
        figure(&shares.noise.clone().map(|noise| noise.bias), percent),
    ]
}

/// The error of the mean of many, which may be 0 one by one, and its floor, as shares of the measured mean.
pub(super) fn of_mean(compared: &Compared) -> Vec<String> {
    let off = &compared.differences;
    let share = |figure: &Figure<ErrorStatistics>| {
        figure
            .clone()
            .map(|it| it.bias)
            .with(&measurement(compared), |bias, mean| bias / mean)
    };
    let within = off.within_noise().is_some_and(|within| within.bias);
    let mark = if within { WITHIN } else { GLUE };
    let error = figure(&share(&off.errors), |share| {
        format!("{:+.2}", share * 100.0)
    });
    vec![
        format!("{error}{mark}"),
        figure(&share(&off.noise), percent),
    ]
}
