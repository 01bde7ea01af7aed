//! A ladder for people.

use super::measure::Measure;
use super::sentence::arrow;
use super::steps::{Step, share_of_chance};
use super::{Climbed, Ladder, LadderRung};
use crate::table::{Columns, GLUE, UNKNOWN, glued, plain, wrapped};

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

    /// A row for every rung that was asked for, so that the ones that cannot be climbed here are seen to be missing.
    fn figures(&self) -> String {
        let is_noisy = self.rungs.iter().any(|(rung, _)| {
            let mut samples = Measure::ALL.iter().map(|&of| self.sample(*rung, of));
            samples.any(|sample| sample.is_some_and(|sample| sample.half_width.is_some()))
        });
        let headings = Measure::ALL.map(|of| format!("{}\n({})", of.heading(), of.unit()));
        let mut table = narrow("rung", (&headings, is_noisy), &["valid"]);
        for (rung, climbed) in &self.rungs {
            let mut row = vec![called(*rung, climbed)];
            for measure in Measure::ALL {
                let sample = self.sample(*rung, measure);
                row.push(sample.map_or_else(unknown, |sample| figure(sample.mean, measure)));
                if is_noisy {
                    let noise = sample.and_then(|sample| share_of_chance(*rung, &sample));
                    row.push(noise.map_or_else(unknown, percent));
                }
            }
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
    let noises = steps.iter().flat_map(|step| step.changes);
    let mut noises = noises.filter_map(|change| change?.noise);
    let is_noisy = noises.any(|noise| noise > 0.0);
    let headings = Measure::ALL.map(|of| format!("{}\n(%)", of.heading()));
    let mut table = narrow("step", (&headings, is_noisy), &[]);
    for step in steps {
        let mut row = vec![glued(&arrow(step))];
        for change in step.changes {
            let share = change.map(|change| signed_percent(change.share));
            row.push(share.unwrap_or_else(unknown));
            if is_noisy {
                let noise = change.and_then(|change| change.noise);
                row.push(noise.map_or_else(unknown, percent));
            }
        }
        table.row(row);
    }
    table.finish("steps")
}

/// A rung, and how often it was run where that is more than once.
fn called(rung: LadderRung, climbed: &Climbed) -> String {
    match climbed.count() {
        0 | 1 => rung.name().to_owned(),
        count => format!("{}{GLUE}×{count}", rung.name()),
    }
}

/// A table that stays within 80 columns: measures between what stands first and last in a row, each with a column for what may be
/// chance where any of it may.
fn narrow(
    first: &str,
    (measures, is_noisy): (&[String; 4], bool),
    last: &[&'static str],
) -> Columns {
    let mut headings = vec![first];
    let mut pairs = Vec::new();
    for measure in measures {
        pairs.push(headings.len());
        headings.push(measure);
        headings.extend(is_noisy.then_some("±\n(%)"));
    }
    headings.extend(last);
    let mut table = Columns::new(&headings).unbroken();
    if is_noisy {
        pairs.into_iter().for_each(|place| table.join_next(place));
    }
    table
}

/// With five digits that count, and no more decimals than the measure has a use for.
fn figure(value: f64, measure: Measure) -> String {
    let most = match measure {
        Measure::Iteration => 4,
        Measure::Jct | Measure::Makespan => 2,
        Measure::Cost => 6,
    };
    let before_point = value.abs().max(1.0).log10().floor() as usize + 1;
    let decimals = match before_point {
        1 => most,
        digits => most.min(5_usize.saturating_sub(digits)),
    };
    format!("{value:.decimals$}")
}

/// A share in percent, without a sign: 0 where there is nothing that chance could change.
fn percent(share: f64) -> String {
    if share == 0.0 {
        return "0".to_owned();
    }
    format!("{:.*}", decimals(share), 100.0 * share)
}

fn signed_percent(share: f64) -> String {
    format!("{:+.*}", decimals(share), 100.0 * share)
}

/// Of a share in percent: fewer where it is large, so that columns stay narrow.
fn decimals(share: f64) -> usize {
    if share.abs() < 1.0 { 2 } else { 0 }
}

fn unknown() -> String {
    UNKNOWN.to_owned()
}
