//! A ladder for people.

use super::measure::Measure;
use super::sentence::arrow;
use super::steps::{Change, Step};
use super::{Climbed, Ladder, LadderRung};
use crate::Sample;
use crate::table::{Columns, GLUE, UNKNOWN, plain, wrapped};

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
            if self.runs(*rung).is_some() {
                let prefix = format!("{:<9} ", rung.name());
                text.push_str(&format!("{}\n", wrapped(&prefix, rung.adds())));
            }
            for note in notes(*rung, climbed) {
                text.push_str(&format!("{}\n", wrapped("! ", &note)));
            }
        }
        text.push_str(&format!("\n{}\n", wrapped("", &self.sentence())));
        plain(&text)
    }

    fn figures(&self) -> String {
        let headings = Measure::ALL.map(Measure::heading);
        let headings = [&["rung", "runs"][..], &headings, &["valid"]].concat();
        let mut table = Columns::new(&headings);
        for (rung, _) in &self.rungs {
            let Some(runs) = self.runs(*rung) else {
                continue;
            };
            let mut row = vec![rung.name().to_owned(), runs.len().to_string()];
            row.extend(Measure::ALL.map(|measure| figure(self.sample(*rung, measure), measure)));
            let valid = match self.valid(*rung) {
                Some(true) => "yes",
                Some(false) => "no",
                None => UNKNOWN,
            };
            row.push(valid.to_owned());
            table.row(row);
        }
        table.finish("rungs")
    }
}

/// What a reader has to know of a rung beyond its figures, a sentence each.
fn notes(rung: LadderRung, climbed: &Climbed) -> Vec<String> {
    let name = rung.name();
    let (runs, failed, stopped) = match climbed {
        Climbed::NotPossible(why) => return vec![format!("{name} is not possible here: {why}.")],
        Climbed::Runs {
            runs,
            failed,
            stopped,
        } => (runs, failed, stopped),
    };
    let mut notes: Vec<String> = failed
        .iter()
        .map(|why| format!("{name} failed: a run {why}."))
        .collect();
    notes.extend(stopped.iter().map(|why| format!("{name} was {why}.")));
    for run in runs {
        notes.extend(run.unfinished.iter().map(|why| format!("{name}: {why}.")));
        if run.valid == Some(false) {
            notes.push(format!("{name} is not valid: {}", run.faults.join(" ")));
        }
    }
    notes
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
        // One word to the table, which does not break within it.
        let mut row = vec![arrow(step).replace(' ', &GLUE.to_string())];
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

/// In percent, with its noise where there is any.
pub(super) fn shown(change: Option<Change>) -> String {
    match change {
        None => UNKNOWN.to_owned(),
        Some(Change {
            share,
            noise: Some(noise),
        }) if noise > 0.0 => format!("{:+.2} ± {:.2} %", 100.0 * share, 100.0 * noise),
        Some(Change { share, .. }) => format!("{:+.2} %", 100.0 * share),
    }
}
