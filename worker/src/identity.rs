//! What a device is, as far as the times of anything computed on it go.

use anyhow::Context;
use bace_cuda::Driver;
use bace_models::{DeviceKind, ProfiledDevice};
use bace_torch::{Device, LIBTORCH_VERSION, Precision};

use crate::torch::THREADS;

/// Where NVIDIA's kernel module says what it is.
const KERNEL_MODULE: &str = "/proc/driver/nvidia/version";

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
            // Without the file, as under WSL, only the CUDA that it serves is known.
            let text = std::fs::read_to_string(KERNEL_MODULE).unwrap_or_default();
            let version = kernel_module(&text).unwrap_or("of an unknown version");
            let words = format!("{version}, CUDA {}", driver.version());
            of(
                DeviceKind::Cuda,
                driver.device(index)?.name,
                None,
                Some(words),
            )
        }
    })
}

/// The version in what NVIDIA's kernel module says of itself, which is the driver's.
fn kernel_module(text: &str) -> Option<&str> {
    let line = text
        .lines()
        .find(|line| line.starts_with("NVRM version:"))?;
    line.split_whitespace().find(|word| {
        let mut numbers = word.split('.');
        word.contains('.')
            && numbers
                .all(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kernel_modules_tell_their_version() {
        let gcc = "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)";
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder)";
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95  Tue Sep 23 2025";
        assert_eq!(
            kernel_module(&format!("{open}\n{gcc}\n")),
            Some("580.65.06")
        );
        assert_eq!(kernel_module(&format!("{closed}\n{gcc}\n")), Some("580.95"));
        assert_eq!(kernel_module(gcc), None);
        assert_eq!(kernel_module(""), None);
    }
}
