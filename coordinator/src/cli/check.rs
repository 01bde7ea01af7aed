//! Arguments of what looks at the machine.

use std::path::PathBuf;

use clap::Args;

use super::DeviceChoice;

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Also tell whether this scenario fits, and which limit it meets first.
    pub scenario: Option<String>,
    /// Print the findings as one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct GpuCheckArgs {
    /// What to check: `cuda` (all devices) or `cuda:0,2` (these); `cpu` shows what is done without a GPU.
    #[arg(long, default_value = "cuda")]
    pub device: DeviceChoice,
    /// The scenario to train, natively and paced: a file, or the name of a built-in one.
    #[arg(long, default_value = "three-regions")]
    pub scenario: String,
    /// Text to train on. Default: the Python sources that came with libtorch.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Script that measures throughput beside torch.distributed.pipelining; left out without it.
    #[arg(long, value_name = "SCRIPT")]
    pub bench_torch: Option<PathBuf>,
    /// Folder for gpu-check.txt, gpu-check.json and the runs, whose folders there are replaced.
    #[arg(long, value_name = "DIR", default_value = "gpu-check")]
    pub out: PathBuf,
}
