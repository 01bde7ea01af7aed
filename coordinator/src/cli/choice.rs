//! Values of arguments.

use std::fmt;

use bace_api::{ComputeRung, Iteration, NetworkRung, Receipts};
use bace_ledger::IterationChoice;
use bace_netem::TimeScale;
use bace_sim::IterationModel;
use clap::ValueEnum;
use serde::{Serialize, Serializer};

/// How fast emulated time passes.
pub(super) fn time_scale(text: &str) -> Result<TimeScale, String> {
    let scale = text.parse::<f64>().ok().and_then(TimeScale::new);
    scale.ok_or_else(|| {
        let (least, most) = (TimeScale::LEAST, TimeScale::MOST);
        format!("it has to be a number from {least} to {most}")
    })
}

/// An iteration of a job; the job's name may hold colons itself.
pub(super) fn iteration(text: &str) -> Result<IterationChoice, String> {
    let parts = text.rsplit_once(':').filter(|(job, _)| !job.is_empty());
    let choice = parts.and_then(|(job, number)| {
        Some(IterationChoice {
            job: job.to_owned(),
            iteration: Iteration(number.parse().ok()?),
        })
    });
    choice.ok_or_else(|| {
        "it has to be a job's name, a colon and a number from 0, such as wide:3".to_owned()
    })
}

/// What a measurement carries.
pub(super) fn gigabytes(text: &str) -> Result<f64, String> {
    let gigabytes = text.parse::<f64>().ok();
    let gigabytes = gigabytes.filter(|gigabytes| (0.001..=1000.0).contains(gigabytes));
    gigabytes.ok_or_else(|| "it has to be a number from 0.001 to 1000".to_owned())
}

/// A load between an idle cluster and one whose queue never ends.
pub(super) fn load(text: &str) -> Result<f64, String> {
    let load = text.parse::<f64>().ok();
    let load = load.filter(|load| (0.001..=1000.0).contains(load));
    load.ok_or_else(|| "it has to be a number from 0.001 to 1000".to_owned())
}

/// A part of a GPU's memory.
pub(super) fn device_memory(text: &str) -> Result<f64, String> {
    let gigabytes = text.parse::<f64>().ok();
    let gigabytes = gigabytes.filter(|gigabytes| (0.1..=10_000.0).contains(gigabytes));
    gigabytes.ok_or_else(|| "it has to be a number from 0.1 to 10000".to_owned())
}

/// A share above 0.
pub(super) fn positive(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok();
    let share = share.filter(|share| share.is_finite() && *share > 0.0);
    share.ok_or_else(|| "it has to be a number above 0".to_owned())
}

/// An instant of emulated time.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok();
    let seconds = seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    seconds.ok_or_else(|| "it has to be a number of seconds, 0 or more".to_owned())
}

/// What workers compute on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// libtorch's CPU backend.
    #[default]
    Cpu,
    /// CUDA devices; empty means all there are.
    Cuda(Vec<u32>),
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no device; use cpu, cuda, or cuda:0,2");
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(Vec::new())),
            Some(("cuda", list)) => list
                .split(',')
                .map(|index| index.parse().map_err(|_| wrong()))
                .collect::<Result<_, _>>()
                .map(Self::Cuda),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(indices) => {
                let indices: Vec<String> = indices.iter().map(u32::to_string).collect();
                let colon = if indices.is_empty() { "" } else { ":" };
                write!(f, "cuda{colon}{}", indices.join(","))
            }
        }
    }
}

impl Serialize for DeviceChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrecisionChoice {
    Fp32,
    Bf16,
}

impl PrecisionChoice {
    /// As `bace-worker --precision` takes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Bf16 => "bf16",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComputeChoice {
    Modelled,
    Paced,
    Native,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkChoice {
    Virtual,
    Packet,
    Kernel,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AttributionChoice {
    /// By job, stage and link, beside the prediction of a real run.
    Full,
    /// Leave it out.
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ActionsChoice {
    /// Each one, in a record beside that of its iteration.
    Full,
    /// Iterations only.
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReceiptsChoice {
    /// Measure.
    Full,
    /// Do not; the report says so.
    Off,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetersChoice {
    /// All that are there.
    #[default]
    Auto,
    /// None; the report says so.
    Off,
}

impl From<ReceiptsChoice> for Receipts {
    fn from(choice: ReceiptsChoice) -> Self {
        match choice {
            ReceiptsChoice::Full => Self::Full,
            ReceiptsChoice::Off => Self::Off,
        }
    }
}

impl From<NetworkChoice> for NetworkRung {
    fn from(choice: NetworkChoice) -> Self {
        match choice {
            NetworkChoice::Virtual => Self::Shaped,
            NetworkChoice::Packet => Self::Packet,
            NetworkChoice::Kernel => Self::Kernel,
            NetworkChoice::None => Self::None,
        }
    }
}

impl From<ComputeChoice> for ComputeRung {
    fn from(choice: ComputeChoice) -> Self {
        match choice {
            ComputeChoice::Modelled => Self::Modelled,
            ComputeChoice::Paced => Self::Paced,
            ComputeChoice::Native => Self::Native,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IterationModelChoice {
    Analytic,
    Event,
}

impl IterationModelChoice {
    /// As ledgers write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Analytic => "analytic",
            Self::Event => "event",
        }
    }
}

impl From<IterationModelChoice> for IterationModel {
    fn from(choice: IterationModelChoice) -> Self {
        match choice {
            IterationModelChoice::Analytic => Self::Analytic,
            IterationModelChoice::Event => Self::Event,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_parse() {
        assert_eq!("cpu".parse(), Ok(DeviceChoice::Cpu));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(vec![])));
        assert_eq!("cuda:0,2".parse(), Ok(DeviceChoice::Cuda(vec![0, 2])));
        for word in ["cpu", "cuda", "cuda:0,2"] {
            let device = word.parse::<DeviceChoice>();
            assert_eq!(device.map(|device| device.to_string()).as_deref(), Ok(word));
        }
        for wrong in ["gpu", "cuda:", "cuda:x", "cpu:0"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }
}
