//! Checks a device and a text without joining a run.

use anyhow::Context;
use serde_json::{Value, json};

use crate::cli::CheckArgs;
use crate::text::Text;
use crate::torch;

/// Checks device and text and says what was found, as JSON.
pub fn check(args: &CheckArgs) -> anyhow::Result<Value> {
    let precision = args.compute.precision();
    torch::set_up(args.compute.device, precision);
    let device = args.compute.device.describe()?;
    let text = Text::load(args.data.as_deref())?;
    text.check(args.sequence)?;
    text.warm_up(args.compute.device, precision)?;
    let mut found = json!({
        "device": device,
        "precision": precision.to_string(),
        "has_cuda": bace_torch::has_cuda(),
        "text_hash": text.hash(),
        "text_bytes": text.bytes(),
    });
    if args.speed {
        found["operations_per_s"] = text.speed(args.compute.device, precision)?.into();
        found["memory_bytes"] = own_memory_bytes()?.into();
    }
    Ok(found)
}

/// Memory that this process has held at most, libraries included.
fn own_memory_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let peak = status.lines().find_map(|line| {
        let kib = line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?;
        kib.parse::<u64>().ok()
    });
    let kib = peak.context("find VmHWM in /proc/self/status")?;
    Ok(kib << 10)
}
