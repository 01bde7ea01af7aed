//! What workers compute on: which devices there are, and what part of one's memory each worker may take.

use std::path::Path;

use bace_api::ComputeRung;
use bace_cuda::{DeviceInfo, Driver};
use bace_engine::Scenario;
use bace_models::ProfiledDevice;

use crate::cli::{DeviceChoice, EmulationArgs, PrecisionChoice};
use crate::wrong_input::WrongInput;

use super::ask::check;
use super::preflight::workers;

/// What CUDA itself takes of a GPU for each process that uses it, outside of what libtorch hands out, bytes. Rounded up
/// from what drivers take for the kernels of libtorch.
const CONTEXT_BYTES: f64 = 0.6e9;
const BYTES_PER_GB: f64 = 1e9;
/// How libtorch is told of options for its allocator; the second name is the older one and wins.
const ALLOCATOR_OPTIONS: [&str; 2] = ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"];
const FRACTION_OPTION: &str = "per_process_memory_fraction";

/// What one worker computes on.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerDevice {
    /// As `bace-worker --device` takes it.
    pub name: String,
    /// In which numbers it computes; absent for what is usual on the device.
    pub precision: Option<PrecisionChoice>,
    /// Part of the GPU's memory that it may take, 0 to 1; absent where it has all.
    pub memory_fraction: Option<f64>,
}

impl WorkerDevice {
    /// Arguments for `bace-worker`.
    pub fn arguments(&self) -> Vec<&str> {
        let mut arguments = vec!["--device", &self.name];
        if let Some(precision) = self.precision {
            arguments.extend(["--precision", precision.word()]);
        }
        arguments
    }

    /// Names and values of the environment that a worker is started with, and names that are taken out of it.
    pub fn environment(&self) -> (Option<(&'static str, String)>, &'static [&'static str]) {
        match allocator_options(own_options(), self.memory_fraction) {
            Some(options) => (
                Some((ALLOCATOR_OPTIONS[0], options)),
                &ALLOCATOR_OPTIONS[1..],
            ),
            None => (None, &[]),
        }
    }
}

/// The people's own options for the allocator.
fn own_options() -> Option<String> {
    let own = ALLOCATOR_OPTIONS.map(|name| std::env::var(name).ok());
    own.into_iter().rev().flatten().next()
}

/// Refuses a cap on memory beside the people's `own` options, if they have one already.
fn check_cap(asked_gb: Option<f64>, own: Option<&str>) -> anyhow::Result<()> {
    match (asked_gb, own) {
        (Some(asked_gb), Some(own)) if own.contains(FRACTION_OPTION) => {
            Err(WrongInput::error(format!(
                "cap the memory of workers with --device-memory-gb {asked_gb}: the environment's {} = `{own}` caps it already; leave {FRACTION_OPTION} out of it, or leave the option out",
                ALLOCATOR_OPTIONS.join(" or ")
            )))
        }
        _ => Ok(()),
    }
}

/// The people's own options with a worker's share; none where there is nothing to add to theirs.
fn allocator_options(own: Option<String>, fraction: Option<f64>) -> Option<String> {
    let share = format!("{FRACTION_OPTION}:{:.6}", fraction?);
    match own.filter(|own| !own.trim().is_empty()) {
        Some(own) if own.contains(FRACTION_OPTION) => None,
        Some(own) => Some(format!("{own},{share}")),
        None => Some(share),
    }
}

/// A device that was tried out.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedDevice {
    /// What a worker computes on.
    pub device: WorkerDevice,
    /// What it is.
    pub identity: ProfiledDevice,
}

/// The devices of `choice`, each tried out.
pub fn identify(
    choice: &DeviceChoice,
    precision: Option<PrecisionChoice>,
) -> anyhow::Result<Vec<CheckedDevice>> {
    let names = match choice {
        DeviceChoice::Cpu => vec!["cpu".to_owned()],
        DeviceChoice::Cuda(indices) => gpus(indices)?
            .iter()
            .map(|gpu| format!("cuda:{}", gpu.index))
            .collect(),
    };
    let devices = names.into_iter().map(|name| WorkerDevice {
        name,
        precision,
        memory_fraction: None,
    });
    checked(devices, 1, None)
}

/// What the device `name` is that computes as `precision` says, with `data` to train on.
pub fn identity_of(
    name: &str,
    precision: Option<PrecisionChoice>,
    data: Option<&Path>,
) -> anyhow::Result<ProfiledDevice> {
    let device = WorkerDevice {
        name: name.to_owned(),
        precision,
        memory_fraction: None,
    };
    Ok(check(&device, 1, data)?.identity)
}

/// Tries `devices` out; sequences of `sequence` tokens have to be cut from the text.
fn checked(
    devices: impl IntoIterator<Item = WorkerDevice>,
    sequence: u32,
    data: Option<&Path>,
) -> anyhow::Result<Vec<CheckedDevice>> {
    let checked = devices.into_iter().map(|device| {
        let identity = check(&device, sequence, data)?.identity;
        Ok(CheckedDevice { device, identity })
    });
    checked.collect()
}

/// The devices that workers take turns to use; none where nothing is computed.
pub fn devices(
    args: &EmulationArgs,
    asked: Option<ComputeRung>,
    scenario: &Scenario,
) -> anyhow::Result<Vec<CheckedDevice>> {
    if asked == Some(ComputeRung::Modelled) {
        return Ok(Vec::new());
    }
    let on = |name: String, memory_fraction| WorkerDevice {
        name,
        precision: args.precision,
        memory_fraction,
    };
    let devices: Vec<WorkerDevice> = match &args.device {
        DeviceChoice::Cpu if args.device_memory_gb.is_some() => {
            return Err(WrongInput::error(
                "cap the memory of workers on the CPU with --device-memory-gb: it is for GPUs; use --device cuda, or leave it out",
            ));
        }
        DeviceChoice::Cpu => vec![on("cpu".to_owned(), None)],
        DeviceChoice::Cuda(indices) => {
            check_cap(args.device_memory_gb, own_options().as_deref())?;
            // The driver tells in no time what workers could only tell one after the other.
            let gpus = gpus(indices)?;
            let on_each = workers(scenario).div_ceil(gpus.len() as u64);
            gpus.iter()
                .map(|gpu| {
                    let share = memory_fraction(gpu, on_each, args.device_memory_gb)?;
                    Ok(on(format!("cuda:{}", gpu.index), share))
                })
                .collect::<anyhow::Result<_>>()?
        }
    };
    let sequences = scenario.jobs.iter().map(|job| job.trained().shape.sequence);
    let longest = sequences.max().unwrap_or(1);
    checked(devices, longest, args.data.as_deref())
}

/// The GPUs that were asked for, all where none is named, as the driver describes them.
fn gpus(indices: &[u32]) -> anyhow::Result<Vec<DeviceInfo>> {
    let found = Driver::load().and_then(|driver| match indices {
        [] => driver.devices(),
        indices => indices.iter().map(|&index| driver.device(index)).collect(),
    });
    found.map_err(|error| WrongInput::error(format!("{error}; --device cpu needs none")))
}

/// What part of `gpu`'s memory each of the `workers` on it may take: what was asked for, or an equal share of what CUDA
/// itself leaves. A worker that has the GPU to itself has all of it.
fn memory_fraction(
    gpu: &DeviceInfo,
    workers: u64,
    asked_gb: Option<f64>,
) -> anyhow::Result<Option<f64>> {
    let all = gpu.memory_bytes as f64;
    let left = all - CONTEXT_BYTES * workers as f64;
    let wrong = |what: String| {
        let gb = all / BYTES_PER_GB;
        WrongInput::error(format!(
            "share cuda:{} ({}, {gb:.1} GB) among {workers} workers: {what}; use more GPUs or fewer emulated ones",
            gpu.index, gpu.name
        ))
    };
    let most = left / workers as f64;
    if most <= 0.0 {
        return Err(wrong("CUDA itself would take all of its memory".to_owned()));
    }
    match asked_gb.map(|gb| gb * BYTES_PER_GB) {
        Some(asked) if asked > most => Err(wrong(format!(
            "--device-memory-gb {} is more than the {:.2} GB that each can have",
            asked / BYTES_PER_GB,
            most / BYTES_PER_GB
        ))),
        Some(asked) => Ok(Some(asked / all)),
        None if workers == 1 => Ok(None),
        None => Ok(Some(most / all)),
    }
}

#[cfg(test)]
mod tests {
    use bace_cuda::ComputeCapability;

    use super::*;

    fn gpu() -> DeviceInfo {
        DeviceInfo {
            index: 1,
            name: "Some GPU".to_owned(),
            uuid: "GPU-0".to_owned(),
            memory_bytes: 10_000_000_000,
            capability: ComputeCapability { major: 9, minor: 0 },
            multiprocessors: 10,
            clock_mhz: None,
            memory_clock_mhz: None,
        }
    }

    #[test]
    fn workers_share_what_cuda_leaves() {
        let share = |workers, asked| memory_fraction(&gpu(), workers, asked).unwrap();
        assert_eq!(share(1, None), None);
        assert_eq!(share(1, Some(2.5)), Some(0.25));
        let four = share(4, None).unwrap();
        assert!((four - 0.19).abs() < 1e-12, "{four}");
        assert_eq!(share(4, Some(1.5)), Some(0.15));
    }

    #[test]
    fn more_than_there_is_is_refused() {
        let refused = |workers, asked| {
            let error = memory_fraction(&gpu(), workers, asked).unwrap_err();
            assert!(error.is::<WrongInput>());
            error.to_string()
        };
        assert_eq!(
            refused(4, Some(3.0)),
            "share cuda:1 (Some GPU, 10.0 GB) among 4 workers: --device-memory-gb 3 is more than the 1.90 GB that each can have; use more GPUs or fewer emulated ones"
        );
        assert!(refused(20, None).contains("CUDA itself would take all"));
    }

    #[test]
    fn two_caps_contradict_each_other() {
        let own = Some("expandable_segments:True,per_process_memory_fraction:0.5");
        let error = check_cap(Some(2.0), own).unwrap_err();
        assert!(error.is::<WrongInput>());
        assert_eq!(
            error.to_string(),
            "cap the memory of workers with --device-memory-gb 2: the environment's PYTORCH_ALLOC_CONF or PYTORCH_CUDA_ALLOC_CONF = `expandable_segments:True,per_process_memory_fraction:0.5` caps it already; leave per_process_memory_fraction out of it, or leave the option out"
        );
        check_cap(None, own).unwrap();
        check_cap(Some(2.0), Some("expandable_segments:True")).unwrap();
        check_cap(Some(2.0), None).unwrap();
    }

    #[test]
    fn peoples_own_options_stay() {
        let options = |own: Option<&str>, share| allocator_options(own.map(str::to_owned), share);
        let share = "per_process_memory_fraction:0.250000";
        assert_eq!(options(None, Some(0.25)).unwrap(), share);
        assert_eq!(
            options(Some("expandable_segments:True"), Some(0.25)).unwrap(),
            format!("expandable_segments:True,{share}")
        );
        assert_eq!(options(Some(share), Some(0.5)), None);
        assert_eq!(options(Some("backend:native"), None), None);
    }
}
