//! Numbers that may be missing.

use std::borrow::Cow;

/// A number of a report, or why there is none; a number that was not measured is never 0.
#[derive(Debug, Clone, PartialEq)]
pub enum Figure<T = f64> {
    /// The number.
    Known(T),
    /// Why there is none, as a phrase that fits after "unknown: ".
    Unknown(Cow<'static, str>),
}

impl<T> Figure<T> {
    /// A number, or else `reason`.
    pub fn new(value: Option<T>, reason: impl Into<Cow<'static, str>>) -> Self {
        match value {
            Some(value) => Self::Known(value),
            None => Self::Unknown(reason.into()),
        }
    }

    /// The number.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }

    /// Why there is no number.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Known(_) => None,
            Self::Unknown(reason) => Some(reason),
        }
    }

    /// The same reason, or what `change` makes of the number.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Figure<U> {
        match self {
            Self::Known(value) => Figure::Known(change(value)),
            Self::Unknown(reason) => Figure::Unknown(reason),
        }
    }
}

impl Figure {
    /// A real number; unknown if it is not finite, which only a damaged ledger brings about.
    pub fn real(value: f64) -> Self {
        Self::new(
            value.is_finite().then_some(value),
            "it is not a finite number",
        )
    }

    /// `change` of two numbers; the first reason if one is missing.
    pub fn with(&self, other: &Self, change: impl FnOnce(f64, f64) -> f64) -> Self {
        match (self, other) {
            (Self::Known(one), Self::Known(two)) => Self::real(change(*one, *two)),
            (Self::Unknown(reason), _) | (_, Self::Unknown(reason)) => {
                Self::Unknown(reason.clone())
            }
        }
    }
}
