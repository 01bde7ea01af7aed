//! Arguments of validations.

use std::path::PathBuf;

use bace_ledger::Tolerances;
use clap::{Arg, Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::EmulationArgs;
use crate::wrong_input::WrongInput;

#[derive(Debug, Args)]
#[command(mut_args(unless_judged_again))]
pub struct ValidateArgs {
    /// A scenario file, or the name of a built-in one (`bace scenario list`).
    #[arg(required_unless_present = "again")]
    pub scenario: Option<String>,
    /// Run nothing; judge the ledgers in the folder of an earlier validation once more.
    #[arg(long, value_name = "DIR")]
    pub again: Option<PathBuf>,
    /// Policies to validate, or `all` (`bace policies` lists them).
    #[arg(long, value_delimiter = ',', default_value = "bace-pipe")]
    pub policies: Vec<String>,
    /// Real runs of each policy. Their spread is the noise floor; below two there is none.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeats: u32,
    /// Seed of weights, batches and draws, instead of the scenario's.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Seed of the order in which the policies take turns. Default: that of the scenario.
    #[arg(long, value_name = "SEED")]
    pub order_seed: Option<u64>,
    #[command(flatten)]
    pub emulation: EmulationArgs,
    /// In which real runs links are measured before the first job and after the last: `ends` in the first and the last of all,
    /// `each` in every one, `off` in none. What a run without measurements emulated is not known.
    #[arg(long, value_enum, default_value = "ends")]
    pub receipts: SetReceiptsChoice,
    /// How far off predictions may be, as shares of what was measured: `iteration-mean` (0.02 unless it is given),
    /// `iteration-max` (0.05), `jct-mean` (0.03) and `jct-max` (0.10), all absolute errors.
    #[arg(long, value_name = "WHAT=SHARE,…", value_delimiter = ',', value_parser = tolerance)]
    pub tolerance: Vec<(Tolerance, f64)>,
    /// Folder for all ledgers and the verdict. A validation that was interrupted goes on there where it stood, if the scenario
    /// and the arguments are the same. Default: a fresh folder `runs/validate-NAME-1`, …
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print the validation as one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
}

/// In which runs of a set links are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SetReceiptsChoice {
    /// In every one.
    Each,
    /// In the first and in the last.
    Ends,
    /// In none; the report says so.
    Off,
}

/// What a tolerance is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tolerance {
    IterationMean,
    IterationMax,
    JctMean,
    JctMax,
}

impl ValidateArgs {
    /// The tolerances, where none is given the usual ones.
    ///
    /// # Errors
    /// If one is given twice.
    pub fn tolerances(&self) -> anyhow::Result<Tolerances> {
        let mut tolerances = Tolerances::default();
        let mut given = Vec::new();
        for &(what, share) in &self.tolerance {
            if given.contains(&what) {
                let word = what.to_possible_value();
                return Err(WrongInput::error(format!(
                    "judge with --tolerance: {} is given twice",
                    word.as_ref().map_or("one", |word| word.get_name())
                )));
            }
            given.push(what);
            *match what {
                Tolerance::IterationMean => &mut tolerances.iteration_mean,
                Tolerance::IterationMax => &mut tolerances.iteration_max,
                Tolerance::JctMean => &mut tolerances.jct_mean,
                Tolerance::JctMax => &mut tolerances.jct_max,
            } = share;
        }
        Ok(tolerances)
    }
}

/// What is judged again has run already: nothing can be said any more about how.
fn unless_judged_again(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "again" | "tolerance" | "json" => arg,
        _ => arg.conflicts_with("again"),
    }
}

/// `WHAT=SHARE`.
fn tolerance(text: &str) -> Result<(Tolerance, f64), String> {
    let (what, share) = text
        .split_once('=')
        .ok_or("it has to be WHAT=SHARE, such as iteration-mean=0.02")?;
    let what = Tolerance::from_str(what, false).map_err(|_| {
        format!("`{what}` is none; there are iteration-mean, iteration-max, jct-mean and jct-max")
    })?;
    let parsed = share.parse::<f64>().ok();
    let parsed = parsed.filter(|share| share.is_finite() && *share >= 0.0);
    let wrong = || format!("`{share}` is no share; 0.02 are 2 %");
    Ok((what, parsed.ok_or_else(wrong)?))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parsed(words: &[&str]) -> Result<ValidateArgs, String> {
        let all = [&["bace", "validate"], words].concat();
        match Cli::try_parse_from(all)
            .map_err(|error| error.to_string())?
            .command
        {
            Command::Validate(args) => Ok(*args),
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn tolerances_are_the_usual_ones_but_for_those_given() {
        let of = |words: &[&str]| parsed(words).unwrap().tolerances();
        assert_eq!(of(&["s"]).unwrap(), Tolerances::default());
        let some = of(&["s", "--tolerance", "jct-max=0.5,iteration-mean=0"]).unwrap();
        let wanted = Tolerances {
            jct_max: 0.5,
            iteration_mean: 0.0,
            ..Tolerances::default()
        };
        assert_eq!(some, wanted);
        let twice = of(&["s", "--tolerance", "jct-max=1", "--tolerance", "jct-max=2"]);
        assert!(
            twice
                .unwrap_err()
                .to_string()
                .contains("jct-max is given twice")
        );
        for (wrong, word) in [
            ("jct=1", "there are iteration-mean"),
            ("jct-max", "WHAT=SHARE"),
            ("jct-max=2%", "`2%` is no share"),
            ("jct-max=-1", "`-1` is no share"),
            ("jct-max=NaN", "`NaN` is no share"),
        ] {
            let told = parsed(&["s", "--tolerance", wrong]).unwrap_err();
            assert!(told.contains(word), "{wrong}: {told}");
        }
    }

    #[test]
    fn what_has_run_is_judged_as_it_is() {
        parsed(&["--again", "d", "--json", "--tolerance", "jct-max=1"]).unwrap();
        for option in [
            &["s"][..],
            &["--repeats", "2"],
            &["--policies", "all"],
            &["--compute", "paced"],
            &["--receipts", "off"],
            &["--out", "o"],
        ] {
            let told = parsed(&[&["--again", "d"], option].concat()).unwrap_err();
            assert!(told.contains("cannot be used with"), "{option:?}: {told}");
        }
        assert!(parsed(&[]).is_err());
    }
}
