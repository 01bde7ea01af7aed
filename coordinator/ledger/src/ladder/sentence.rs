//! Whom to blame, in words.

use super::Ladder;
use super::measure::Measure;
use super::steps::{Change, Step};

impl Ladder {
    /// Which step is the largest and what lies in it, and which steps could not be judged.
    pub(super) fn sentence(&self) -> String {
        let steps = self.steps();
        let mut sentences = vec![self.verdict(&steps)];
        sentences.extend(steps.iter().filter_map(excused));
        sentences.join(" ")
    }

    fn verdict(&self, steps: &[Step]) -> String {
        let Some((step, measure, change)) = self.blamed() else {
            let mut judged = steps
                .iter()
                .filter(|step| step.is_comparable() && step.judged().is_some());
            return if steps.is_empty() {
                "There is no step: no two rungs of which one stands upon the other have been climbed."
            } else if judged.next().is_none() {
                "No step can be judged."
            } else {
                "No step differs by more than chance from the rung below it."
            }
            .to_owned();
        };
        let what = match measure {
            Measure::Jct => "mean JCT",
            _ => "mean iteration time",
        };
        let between = step.between();
        let verb = if between.len() > 1 {
            "together are"
        } else {
            "is"
        };
        let blame = format!("{} {verb} to blame", listed(&between));
        let told = format!(
            "The largest step is {}: {what} {}",
            arrow(&step),
            shown(change)
        );
        match change.noise {
            Some(_) => format!("{told}; {blame}."),
            None => format!(
                "{told}; {blame}, unless it is chance: this is one run, and --repeats 2 or more tell."
            ),
        }
    }
}

/// Why nobody is blamed for a step, whatever its figures; absent where that would be fair.
fn excused(step: &Step) -> Option<String> {
    let why = if !step.valid {
        "an emulation was not valid"
    } else if !step.same_placements {
        "decisions differ, so that its times are not of the same placements"
    } else if step.judged().is_none() {
        "no job has finished on both, so that its times are unknown"
    } else {
        return None;
    };
    Some(format!("Nobody is blamed for {}: {why}.", arrow(step)))
}

/// In percent, with its noise where there is any.
fn shown(Change { share, noise }: Change) -> String {
    match noise {
        Some(noise) if noise > 0.0 => {
            format!("{:+.2} ± {:.2} %", 100.0 * share, 100.0 * noise)
        }
        _ => format!("{:+.2} %", 100.0 * share),
    }
}

/// The two rungs of a step.
pub(super) fn arrow(step: &Step) -> String {
    format!("{} → {}", step.from.name(), step.rung.name())
}

/// `a`, `a and b`, `a, b and c`.
fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    }
}
