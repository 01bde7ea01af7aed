//! What a device is, as far as the times of anything computed on it go.

use anyhow::Context;
use bace_cuda::Driver;
use bace_models::{DeviceKind, ProfiledDevice};
use bace_torch::{Device, LIBTORCH_VERSION, Precision};

use crate::torch::THREADS;

/// What `device` is where stages compute in `precision`.
pub fn identity(device: Device, precision: Precision) -> anyhow::Result<ProfiledDevice> {
    let of = |kind, name, threads, driver| ProfiledDevice {
        kind,
        name,
        threads,
        driver,
        libtorch: LIBTORCH_VERSION.to_owned(),
        precision: precision.to_string(),
    };
    Ok(match device {
        Device::Cpu => of(DeviceKind::Cpu, processor()?, Some(THREADS), None),
        Device::Cuda(index) => {
            let driver = Driver::load()?;
            let serves = format!("CUDA {}", driver.version());
            of(
                DeviceKind::Cuda,
                driver.device(index)?.name,
                None,
                Some(serves),
            )
        }
    })
}

/// The processor's name.
fn processor() -> anyhow::Result<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
    let name = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    name.context("find `model name` in /proc/cpuinfo")
}
