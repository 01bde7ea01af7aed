//! A ladder for people.

use super::steps::{Change, Measure, Step};
use super::{Climbed, Ladder};
use crate::Sample;
use crate::table::{Columns, UNKNOWN, wrapped};

impl Ladder {
    /// Tables of figures and steps, what each rung adds, and whom to blame.
    pub fn render(&self) -> String {
        let mut text = format!(
            "{}, policy {}: from formula to network, rung by rung\n\n{}\n\n",
            self.scenario,
            self.policy,
            self.figures()
        );
        let steps = self.steps();
        if !steps.is_empty() {
            text.push_str(&format!("{}\n\n", steps_table(&steps)));
        }
        for (rung, climbed) in &self.rungs {
            match climbed {
                Climbed::Runs(runs) => {
                    let prefix = format!("{:<9} ", rung.name());
                    text.push_str(&format!("{}\n", wrapped(&prefix, rung.adds())));
                    for reason in runs.iter().filter_map(|run| run.unfinished.as_ref()) {
                        let told = format!("{}: {reason}.", rung.name());
                        text.push_str(&format!("{}\n", wrapped("! ", &told)));
                    }
                }
                Climbed::Absent(why) => {
                    let told = format!("{} was left out: {why}.", rung.name());
                    text.push_str(&format!("{}\n", wrapped("! ", &told)));
                }
            }
        }
        text.push_str(&format!("\n{}\n", self.sentence()));
        text
    }

    /// Whom to blame, as a sentence.
    pub(super) fn sentence(&self) -> String {
        let Some((step, measure, change)) = self.blamed() else {
            return "No step differs by more than chance from the one below it.".to_owned();
        };
        let what = match measure {
            Measure::Jct => "mean JCT",
            _ => "mean iteration time",
        };
        format!(
            "The largest step is {} → {}: {what} {}; {} is to blame.",
            step.from.name(),
            step.rung.name(),
            shown(Some(change)),
            step.rung.blamed().unwrap_or("nothing below it")
        )
    }

    fn figures(&self) -> String {
        let headings = Measure::ALL.map(Measure::heading);
        let headings = [&["rung", "runs"][..], &headings].concat();
        let mut table = Columns::new(&headings);
        for (rung, climbed) in &self.rungs {
            let Climbed::Runs(runs) = climbed else {
                continue;
            };
            let mut row = vec![rung.name().to_owned(), runs.len().to_string()];
            row.extend(Measure::ALL.map(|measure| figure(self.sample(*rung, measure), measure)));
            table.row(row);
        }
        table.finish("rungs")
    }
}

fn steps_table(steps: &[Step]) -> String {
    let headings = [
        "step",
        "iteration",
        "mean JCT",
        "makespan",
        "cost",
        "placements",
    ];
    let mut table = Columns::new(&headings);
    for step in steps {
        let mut row = vec![format!("{} → {}", step.from.name(), step.rung.name())];
        row.extend(step.changes.map(shown));
        let placements = if step.same_placements {
            "the same"
        } else {
            "differ"
        };
        row.push(placements.to_owned());
        table.row(row);
    }
    table.finish("steps")
}

fn figure(sample: Option<Sample>, measure: Measure) -> String {
    let decimals = match measure {
        Measure::Iteration => 4,
        Measure::Jct | Measure::Makespan => 2,
        Measure::Cost => 6,
    };
    match sample {
        None => UNKNOWN.to_owned(),
        Some(Sample {
            mean,
            half_width: Some(half_width),
            ..
        }) => format!("{mean:.decimals$} ± {half_width:.decimals$}"),
        Some(Sample { mean, .. }) => format!("{mean:.decimals$}"),
    }
}

fn shown(change: Option<Change>) -> String {
    match change {
        None => UNKNOWN.to_owned(),
        Some(Change {
            share,
            noise: Some(noise),
        }) => format!("{:+.2} ± {:.2} %", 100.0 * share, 100.0 * noise),
        Some(Change { share, .. }) => format!("{:+.2} %", 100.0 * share),
    }
}
