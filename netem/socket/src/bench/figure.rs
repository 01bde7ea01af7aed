//! A measured figure beside what it should be.

use std::fmt;

use serde::Serialize;

use super::stats::median;

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
    /// Neither less than the first nor more than the second.
    Within(f64, f64),
}

/// How a figure fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As good as was aimed at.
    Aim,
    /// As good as it has to be.
    Met,
    /// Not that good.
    Missed,
}

/// One figure of a measurement: the median of its samples against its goal.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Figure {
    /// What was measured, and on what.
    pub name: String,
    /// Of the samples; empty for ratios.
    pub unit: &'static str,
    /// One for each round; at least one.
    pub samples: Vec<f64>,
    /// Their median.
    pub median: f64,
    /// What the median has to be.
    pub goal: Bound,
    /// What it would be at best.
    pub aim: Bound,
    /// How it fares.
    pub verdict: Verdict,
}

impl Bound {
    /// Whether `value` keeps to it.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
            Self::Within(least, most) => (least..=most).contains(&value),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::Within(least, most) => write!(f, "{least}–{most}"),
        }
    }
}

impl Figure {
    /// A figure of these samples, held against what it has to be and what it would be at best; `None` without samples.
    pub fn new(
        name: String,
        unit: &'static str,
        samples: Vec<f64>,
        [goal, aim]: [Bound; 2],
    ) -> Option<Self> {
        let median = median(&samples)?;
        let verdict = match (aim.holds(median), goal.holds(median)) {
            (true, true) => Verdict::Aim,
            (false, true) => Verdict::Met,
            (_, false) => Verdict::Missed,
        };
        Some(Self {
            name,
            unit,
            samples,
            median,
            goal,
            aim,
            verdict,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_follows_the_median() {
        let bounds = [Bound::Within(0.99, 1.01), Bound::Within(0.999, 1.001)];
        let verdict = |samples: &[f64]| {
            Figure::new(String::new(), "", samples.to_vec(), bounds).map(|figure| figure.verdict)
        };
        assert_eq!(verdict(&[]), None);
        assert_eq!(verdict(&[2.0, 1.0, 1.0]), Some(Verdict::Aim));
        assert_eq!(verdict(&[0.995]), Some(Verdict::Met));
        assert_eq!(verdict(&[1.0, 1.02, 1.03]), Some(Verdict::Missed));
        assert_eq!(verdict(&[f64::NAN]), Some(Verdict::Missed));
        assert!(Bound::AtLeast(0.5).holds(0.5) && !Bound::AtMost(0.5).holds(0.6));
        assert_eq!(bounds[0].to_string(), "0.99–1.01");
    }
}
