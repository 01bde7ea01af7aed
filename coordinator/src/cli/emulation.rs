//! How real runs are done, for every command that makes some.

use std::path::PathBuf;

use bace_netem::TimeScale;
use clap::Args;
use serde::Serialize;

use super::choice::{device_memory, time_scale};
use super::{ComputeChoice, DeviceChoice, MetersChoice, NetworkChoice, PrecisionChoice};

/// What a real run computes on and with what, who shapes its links, and what is metered: all that two runs of one scenario,
/// policy and seed have to have in common to be repeats of each other.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize)]
pub struct EmulationArgs {
    /// What workers compute on: `cpu`, `cuda` (all devices) or `cuda:0,2` (these). Workers that people start
    /// are told their own.
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
    /// In which numbers workers compute; weights are kept in fp32. Default: fp32 on the CPU, bf16 on GPUs.
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionChoice>,
    /// Most memory that each worker may take of its GPU, 10^9 bytes. Default: all of it, or where several workers share a
    /// GPU an equal share of what CUDA itself leaves.
    #[arg(long, value_name = "GB", value_parser = device_memory)]
    pub device_memory_gb: Option<f64>,
    /// Who takes the time of compute: `paced` gives every action the emulated GPU's time, `native` lets
    /// libtorch take as long as it takes, `modelled` computes nothing. Default: native with --device
    /// cuda where there are as many CUDA devices as emulated GPUs, else paced; paced with --await-workers.
    #[arg(long)]
    pub compute: Option<ComputeChoice>,
    /// What the scheduler of a native run takes times of compute from. Default: the profile under `profiles` that the
    /// device has, if there is one, else the GPU types.
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Whether the profile that the device has is left alone; no choice of the user's.
    #[arg(skip)]
    #[serde(skip)]
    pub ignores_profiles: bool,
    /// Emulated seconds that pass in a second of this machine, from 0.001 to 100000: below 1 a slow machine emulates what is
    /// faster than it, above 1 hours are compressed. Compute, links, arrivals, changes and prices all follow (`bace doctor
    /// SCENARIO` says what this machine can). Default: what the scenario's `[compute]` says, else 1.
    #[arg(long, value_name = "SCALE", value_parser = time_scale)]
    pub time_scale: Option<TimeScale>,
    /// Who gives links their rates and delays: `virtual` clocks every chunk, exactly; `packet` delays, queues and loses
    /// QUIC's datagrams in user space; `kernel` lets tc shape them between network namespaces; `none` shapes
    /// nothing. Default: what the scenario's `[network]` says, else virtual.
    #[arg(long)]
    pub network: Option<NetworkChoice>,
    /// Workers that may compute on one device at a time; the others wait for their turn. Default: what the scenario's
    /// `[compute]` says, else 1 on a GPU and as many as there are cores on the CPU.
    #[arg(long, value_name = "WORKERS", value_parser = clap::value_parser!(u32).range(1..))]
    pub lease: Option<u32>,
    /// Whether this machine's energy is metered beside the emulated one: `auto` reads every meter there is (NVML of the
    /// boards that the run uses, RAPL), and says why others are not there.
    #[arg(long, value_enum, default_value = "auto")]
    pub meters: MetersChoice,
    /// Text to train on: a file or a folder. Default: the Python sources that came with libtorch.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn what_nobody_says_is_the_default() {
        let words = ["bace", "run", "three-regions"];
        let Command::Run(run) = Cli::try_parse_from(words).unwrap().command else {
            panic!("`run` is a run");
        };
        assert_eq!(run.emulation, EmulationArgs::default());
    }

    #[test]
    fn a_comparison_takes_what_a_run_takes_and_only_with_real_runs() {
        let compare = |options: &[&str]| {
            let words = [&["bace", "compare", "three-regions"], options].concat();
            Cli::try_parse_from(words)
        };
        let options = [
            ["--device-memory-gb", "2"],
            ["--time-scale", "2"],
            ["--network", "none"],
            ["--lease", "1"],
            ["--meters", "off"],
            ["--data", "text"],
            ["--receipts", "off"],
            ["--out", "folder"],
        ];
        for option in options {
            let told = compare(&option).unwrap_err().to_string();
            assert!(told.contains("--real"), "{option:?}: {told}");
            compare(&[&option[..], &["--real"]].concat()).unwrap();
        }
        compare(&[
            "--compute",
            "native",
            "--profile",
            "file",
            "--precision",
            "fp32",
        ])
        .unwrap();
    }

    #[test]
    fn workers_that_people_start_bring_their_own_device() {
        for option in [
            ["--device", "cpu"],
            ["--precision", "fp32"],
            ["--device-memory-gb", "2"],
        ] {
            let words = ["bace", "run", "three-regions", "--await-workers"];
            let told = Cli::try_parse_from([&words[..], &option].concat()).unwrap_err();
            assert!(told.to_string().contains("cannot be used with"), "{told}");
        }
    }
}
