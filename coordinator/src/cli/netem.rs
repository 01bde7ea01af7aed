//! Arguments of networks that are put up by hand.

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub enum NetemCommand {
    /// Print every ip and tc command that `up` would run, for a shell; needs no privileges.
    Plan(NetemPlanArgs),
    /// Put the network up until `down`: a namespace for each region and a hub, shaped links between them. Needs root;
    /// a run with `--network kernel` has a network of its own and needs neither.
    Up {
        /// A scenario file, or the name of a built-in one.
        scenario: String,
    },
    /// Take down what `up` has put up, and what runs have left behind that were killed.
    Down {
        /// A scenario file, or the name of a built-in one.
        scenario: String,
    },
    /// Tell what is up; the exit status is 0 if the network is, complete and as the scenario says, else 1.
    Status {
        /// A scenario file, or the name of a built-in one.
        scenario: String,
    },
}

#[derive(Debug, Args)]
pub struct NetemPlanArgs {
    /// A scenario file, or the name of a built-in one.
    pub scenario: String,
    /// What gives links their rates.
    #[arg(long, value_enum, default_value = "tbf")]
    pub rate_qdisc: RateQdiscChoice,
    /// The plan for a kernel without the netem discipline, which cannot delay or lose packets.
    #[arg(long)]
    pub without_netem: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RateQdiscChoice {
    Tbf,
    Htb,
}
