//! What trains: the worker's program with its libtorch.

use anyhow::Context;

use super::finding::Finding;
use crate::run::ask_worker_for_speed;

const BYTES_PER_MB: f64 = 1e6;

/// What one worker is worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WorkerWorth {
    /// At which it trains a small model on one thread, operations a second as the scheduler counts them.
    pub operations_per_s: f64,
    /// What its process holds before a job is loaded.
    pub memory_bytes: u64,
    /// Whether its libtorch can use GPUs.
    pub has_cuda: bool,
}

/// Starts a worker that measures itself.
pub fn look() -> (Option<WorkerWorth>, Finding) {
    match measure() {
        Ok(worth) => {
            let found = format!(
                "a worker trains a small model at {:.1} Gop/s on one thread and holds {:.0} MB",
                worth.operations_per_s / 1e9,
                worth.memory_bytes as f64 / BYTES_PER_MB
            );
            (Some(worth), Finding::present("libtorch", found).needed())
        }
        Err(error) => {
            let reason = format!("failed to {}", bace_api::told(error.as_ref()));
            let advice = "scripts/libtorch, then cargo build --release; simulations do not need it";
            (None, Finding::absent("libtorch", reason, advice).needed())
        }
    }
}

fn measure() -> anyhow::Result<WorkerWorth> {
    let found = ask_worker_for_speed()?;
    let speed = found.speed;
    let speed = speed.filter(|speed| speed.operations_per_s > 0.0 && speed.memory_bytes > 0);
    let speed = speed.context("read speed and memory in what bace-worker said")?;
    Ok(WorkerWorth {
        operations_per_s: speed.operations_per_s,
        memory_bytes: speed.memory_bytes,
        has_cuda: found.has_cuda,
    })
}
