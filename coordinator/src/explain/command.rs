//! The command: reads a run and tells of a job.

use bace_ledger::RunLog;

use super::story::{Told, story};
use crate::attributed::{attributed, prediction};
use crate::cli::ExplainArgs;
use crate::output;
use crate::wrong_input::{OrWrongInput, WrongInput};

/// Names that may have been meant which still serve a person.
const SUGGESTIONS: usize = 3;

/// Tells the story of a job; whether it finished.
pub fn explain(args: &ExplainArgs) -> anyhow::Result<bool> {
    let log = RunLog::read(&args.run).or_wrong_input()?;
    let summary = bace_ledger::summarise(&args.run).or_wrong_input()?;
    let job = summary.jobs.iter().find(|job| job.name == args.job);
    let job = job.ok_or_else(|| {
        let names = summary.jobs.iter().map(|job| job.name.as_str());
        WrongInput::error(format!(
            "find a job `{}` in {}: {}",
            args.job,
            args.run.display(),
            nearest(&args.job, names.collect())
        ))
    })?;
    let predicted = prediction(&args.run, &log);
    let told = Told {
        log: &log,
        summary: job,
        of: log.job(&args.job),
        attributed: &attributed(&log, &predicted),
        predicted: predicted.known().map(|predicted| &predicted.0),
    };
    output::print(format_args!("{}", story(&told)));
    Ok(job.status == bace_ledger::JobStatus::Finished)
}

/// The names that are most like `name`, as a clause.
fn nearest(name: &str, mut names: Vec<&str>) -> String {
    let unlike = |other: &str| 1.0 - strsim::jaro_winkler(name, other);
    names.sort_by(|one, other| unlike(one).total_cmp(&unlike(other)));
    match names.as_slice() {
        [] => "the run has no jobs".to_owned(),
        few if few.len() <= SUGGESTIONS => format!("there are {}", few.join(", ")),
        many => format!(
            "of its {} jobs the nearest are {}",
            many.len(),
            many[..SUGGESTIONS].join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first() {
        let names = vec!["wide", "last", "third", "first", "patient"];
        assert_eq!(
            nearest("thrid", names),
            "of its 5 jobs the nearest are third, patient, first"
        );
        assert_eq!(nearest("b", vec!["a"]), "there are a");
        assert_eq!(nearest("b", vec![]), "the run has no jobs");
    }
}
