//! The command line.

use bace_stage::JoinArgs;
use clap::{Parser, Subcommand};

use super::{
    BenchCommand, CompareArgs, DoctorArgs, ExplainArgs, GpuCheckArgs, LadderArgs, NetemCommand,
    PlanArgs, ProfileArgs, ReplayArgs, ReportArgs, RunArgs, ScenarioCommand, SimulateArgs,
    TraceArgs, ValidateArgs,
};

/// Emulates geo-distributed LLM training: real pipelines, shaped links, measured completion time and cost.
///
/// A scenario file says which regions exist, what their electricity costs, how they are linked and which jobs
/// arrive. `bace run` trains those jobs for real on emulated GPUs; `bace simulate` predicts the same run.
#[derive(Debug, Parser)]
#[command(name = "bace", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  bace run three-regions              train the built-in scenario on this machine
  bace run my.toml --policy lcf       your scenario under a baseline policy
  bace simulate three-regions         the same run, predicted in virtual time
  bace scenario show three-regions    a commented scenario to start from
  bace report runs/three-regions-1    the tables of a finished run, from its ledger
  bace explain runs/three-regions-1 wide
                                      the story of one of its jobs
  bace compare paper --seeds 20       all policies over twenty draws of the paper's setting
  bace trace runs/three-regions-1     the run as a trace for ui.perfetto.dev
  bace validate three-regions         how far predictions are from measurements
  bace replay runs/three-regions-1    the same inputs, the same decisions
  bace doctor three-regions           what this machine can carry, and whether the scenario fits

Exit status: 0 all jobs finished; 1 the run or a job failed, or links were not what the scenario says; 2 the command
line or the scenario is wrong.

Runs that name no --out go to runs/NAME-1, runs/NAME-2, … in the present folder. BACE_LOG=debug tells more on
standard error (levels as in tracing's filters, such as bace=debug,warn).";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a scenario's jobs for real on emulated GPUs.
    Run(RunArgs),
    /// Predict a scenario in virtual time.
    Simulate(SimulateArgs),
    /// Print the tables of a run or a simulation from its ledger alone.
    Report(ReportArgs),
    /// Tell the story of one job in sentences: why it waited, where it was placed and why, where its time and money went.
    ///
    /// Exit status: 0 the job finished; 1 it did not; 2 there is no such job or ledger.
    Explain(ExplainArgs),
    /// Write a run as a trace that Perfetto and chrome://tracing open, for a real run with its prediction below it.
    Trace(TraceArgs),
    /// Feed a ledger's inputs back to the scheduler; fails at the first decision that differs.
    Replay(ReplayArgs),
    /// Explain where jobs are placed and why, and print their pipelines as grids.
    Plan(PlanArgs),
    /// Compare policies in a table, over seeds and changed quantities.
    Compare(CompareArgs),
    /// Run a scenario on every rung from the formula to the kernel's links, and say which step changes what.
    ///
    /// Exit status: 0 every job of every rung that is possible here finished, and no emulation was found not valid; 1 otherwise, and
    /// where a run failed or was stopped; 2 the command line or the scenario is wrong, or a rung named by --rungs is not possible.
    Ladder(LadderArgs),
    /// Tell how far the simulator is from reality: predict a scenario, run it for real several times, and judge the one by the other.
    ///
    /// Exit status: 0 every error is within its tolerance; 1 one is not, or a run did not come to its end; 2 the command line or the
    /// scenario is wrong.
    Validate(Box<ValidateArgs>),
    /// List the scheduling policies.
    Policies,
    /// List, print or check scenarios.
    #[command(subcommand)]
    Scenario(ScenarioCommand),
    /// Make a scenario's links of network namespaces and tc, by hand.
    #[command(subcommand)]
    Netem(NetemCommand),
    /// Measure this machine's emulation.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Measure what models take on this machine's device, so that native runs of them can be predicted.
    ///
    /// Forward, backward and optimizer step of a layer, the embedding, the head and the copies at a stage's boundary, and the
    /// peak of memory. Needs bace-worker with libtorch. What was measured before of other models stays in the file.
    Profile(ProfileArgs),
    /// Stand for one emulated GPU that computes nothing: what `bace run --compute modelled` starts for each.
    Worker(JoinArgs),
    /// Look at what this machine has and measure what size of scenario it can carry; takes about ten seconds.
    ///
    /// Exit status: 0 a run on the CPU works here, and the scenario fits if one is named; 1 it does not.
    Doctor(DoctorArgs),
    /// Compare GPUs with the CPU, train on them, and write a report with a verdict for each check.
    ///
    /// Exit status: 0 no check failed; 1 one did, or there is no GPU.
    GpuCheck(GpuCheckArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
