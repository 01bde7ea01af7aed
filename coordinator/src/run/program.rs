//! The program that stands for an emulated GPU.

use std::path::PathBuf;

use anyhow::{Context, bail};
use bace_api::ComputeRung;
use bace_netem::shell_word;

/// A program that joins a run as a worker.
#[derive(Debug, Clone)]
pub struct WorkerProgram {
    /// Where it is.
    pub path: PathBuf,
    /// What comes before the arguments that every worker takes.
    pub first_arguments: &'static [&'static str],
}

impl WorkerProgram {
    /// The program for a run on this rung: where nothing is computed this one, which needs no libtorch.
    pub fn for_rung(rung: ComputeRung) -> anyhow::Result<Self> {
        match rung {
            ComputeRung::Modelled => Ok(Self {
                path: own_path()?,
                first_arguments: &["worker"],
            }),
            ComputeRung::Paced | ComputeRung::Native => Self::with_libtorch(),
        }
    }

    /// `bace-worker`, beside this program.
    pub fn with_libtorch() -> anyhow::Result<Self> {
        let path = own_path()?.with_file_name("bace-worker");
        if !path.is_file() {
            bail!(
                "find the program bace-worker at {}: build it with `cargo build{} -p worker`, after scripts/libtorch; --compute modelled needs none",
                path.display(),
                if cfg!(debug_assertions) {
                    ""
                } else {
                    " --release"
                },
            );
        }
        Ok(Self {
            path,
            first_arguments: &[],
        })
    }

    /// As the beginning of a command line that a shell understands.
    pub fn as_command(&self) -> String {
        let path = self.path.display().to_string();
        let words = std::iter::once(path.as_str()).chain(self.first_arguments.iter().copied());
        words.map(shell_word).collect::<Vec<_>>().join(" ")
    }
}

fn own_path() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("find the worker's program: this one has no path")
}
