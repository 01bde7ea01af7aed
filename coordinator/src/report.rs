//! `bace report`: tables from a ledger alone.

use bace_ledger::{Attributed, RunLog, render_attribution};

use crate::attributed::{attributed, prediction};
use crate::cli::{AttributionChoice, ReportArgs};
use crate::output::say;
use crate::page::{Folder, write_page};
use crate::wrong_input::OrWrongInput;

/// Prints a run's results, and where the time of its stages went; writes a page about it where one is asked for.
pub fn report(args: &ReportArgs) -> anyhow::Result<bool> {
    let folder = match args.html {
        Some(_) => Folder::of(&args.run)?,
        None => Folder::alone(&args.run),
    };
    let run = folder.run.as_path();
    let summary = bace_ledger::summarise(run).or_wrong_input()?;
    if let Some(file) = &args.html {
        write_page(&folder, &summary, args.iteration.as_ref(), file)?;
    }
    match args.attribution {
        AttributionChoice::Off => print_summary(&summary, args.json),
        AttributionChoice::Full => {
            let log = RunLog::read(run).or_wrong_input()?;
            let attributed = attributed(&log, &prediction(run, &log));
            print_both(&summary, &attributed, args.json);
        }
    }
    Ok(summary.succeeded())
}

/// Prints a summary as people or as programs read it.
pub fn print_summary(summary: &bace_ledger::Summary, json: bool) {
    if json {
        say!("{:#}", summary.to_json());
    } else {
        crate::output::print(format_args!("{}", bace_ledger::render(summary)));
    }
}

fn print_both(summary: &bace_ledger::Summary, attributed: &Attributed, json: bool) {
    if json {
        let mut object = summary.to_json();
        object["attribution"] = attributed.to_json();
        say!("{object:#}");
    } else {
        crate::output::print(format_args!(
            "{}\n{}",
            bace_ledger::render(summary),
            render_attribution(attributed)
        ));
    }
}
