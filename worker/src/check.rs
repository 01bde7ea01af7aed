//! Checks a device and a text without joining a run.

use anyhow::Context;
use bace_api::{DeviceCheck, DeviceSpeed};

use crate::cli::CheckArgs;
use crate::identity::identity;
use crate::text::Text;
use crate::torch;

/// Checks device and text and says what was found.
pub fn check(args: &CheckArgs) -> anyhow::Result<DeviceCheck> {
    let (device, precision) = (args.compute.device, args.compute.precision());
    torch::set_up(device, precision);
    let words = device.describe()?;
    let text = Text::load(args.data.as_deref())?;
    text.check(args.sequence)?;
    text.warm_up(device, precision)?;
    let speed = if args.speed {
        Some(DeviceSpeed {
            operations_per_s: text.speed(device, precision)?,
            memory_bytes: own_memory_bytes()?,
        })
    } else {
        None
    };
    Ok(DeviceCheck {
        device: words,
        identity: identity(device, precision)?,
        has_cuda: bace_torch::has_cuda(),
        text_hash: text.hash(),
        text_bytes: text.bytes() as u64,
        speed,
    })
}

/// Memory that this process has held at most, libraries included, since it began or last forgot its peak.
pub fn own_memory_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let peak = status.lines().find_map(|line| {
        let kib = line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?;
        kib.parse::<u64>().ok()
    });
    let kib = peak.context("find VmHWM in /proc/self/status")?;
    Ok(kib << 10)
}
