//! Arguments of the ladder.

use std::path::PathBuf;

use bace_ledger::LadderRung;
use bace_netem::TimeScale;
use clap::Args;

use super::choice::time_scale;
use super::{ReceiptsChoice, ScenarioArgs};

#[derive(Debug, Args)]
pub struct LadderArgs {
    #[command(flatten)]
    pub scenario: ScenarioArgs,
    /// How often each real rung is run; with two or more, what is chance is told from what is not.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repeats: u32,
    /// Only these rungs, of analytic, event, modelled, paced, profiled, native, packet and kernel; one that cannot be had is an
    /// error. Default: all that can be had.
    #[arg(long, value_delimiter = ',', value_name = "RUNG,…", value_parser = rung)]
    pub rungs: Vec<LadderRung>,
    /// The profile of this machine's processor, which the rungs profiled and native need. Default: the one under `profiles` that
    /// it has.
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Emulated seconds that pass in a second of this machine on the rungs that are run, from 0.001 to 100000; native takes
    /// none but 1.
    #[arg(long, value_name = "SCALE", value_parser = time_scale)]
    pub time_scale: Option<TimeScale>,
    /// Text to train on: a file or a folder. Default: the Python sources that came with libtorch.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Whether links are measured before the first job and after the last of each real run.
    #[arg(long, value_enum, default_value = "full")]
    pub receipts: ReceiptsChoice,
    /// Folder for a folder of each run, RUNG or RUNG-REPEAT. Default: a fresh folder runs/ladder-NAME-1.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print the ladder as one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
    /// Draw mean iteration times as bars into this SVG file.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

fn rung(text: &str) -> Result<LadderRung, String> {
    LadderRung::by_name(text).ok_or_else(|| {
        let names = LadderRung::ALL.map(LadderRung::name);
        format!("there are {}", names.join(", "))
    })
}
