//! `bace report`: tables from a ledger alone.

use bace_ledger::{Attributed, RunLog, render_attribution};

use crate::attributed::{attributed, prediction};
use crate::cli::{AttributionChoice, ReportArgs};
use crate::output::say;
use crate::page::{Folder, write_page};
use crate::wrong_input::OrWrongInput;

/// Prints a run's results, and where the time of its stages went; writes a page about it where one is asked for.
pub fn report(args: &ReportArgs) -> anyhow::Result<bool> {
    if args.html.is_none() && args.attribution == AttributionChoice::Off {
        let summary = bace_ledger::summarise(&args.run).or_wrong_input()?;
        print_summary(&summary, args.json);
        return Ok(summary.succeeded());
    }
    let folder = match args.html {
        Some(_) => Folder::of(&args.run)?,
        None => Folder::alone(&args.run),
    };
    let log = RunLog::read(&folder.run).or_wrong_input()?;
    let prediction = prediction(&folder.run, &log);
    if let Some(file) = &args.html {
        write_page(&folder, (&log, &prediction), args.iteration.as_ref(), file)?;
        // Beside what is printed for programs.
        eprintln!("bace: the page is in {}", file.display());
    }
    match args.attribution {
        AttributionChoice::Off => print_summary(&log.summary, args.json),
        AttributionChoice::Full => {
            print_both(&log.summary, &attributed(&log, &prediction), args.json);
        }
    }
    Ok(log.summary.succeeded())
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
