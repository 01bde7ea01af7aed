//! `bace report`: tables from a ledger alone.

use crate::cli::ReportArgs;
use crate::output::say;
use crate::wrong_input::OrWrongInput;

/// Prints a run's results.
pub fn report(args: &ReportArgs) -> anyhow::Result<bool> {
    let summary = bace_ledger::summarise(&args.run).or_wrong_input()?;
    print_summary(&summary, args.json);
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
