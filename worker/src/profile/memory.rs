//! The peak of memory while a stage trains.

use anyhow::Context;
use bace_api::{MemoryReply, MemoryTask};
use bace_cuda::Driver;
use bace_torch::Device;

use super::subject::Workshop;
use crate::check::own_memory_bytes;

/// Iterations until everything that stays has been allocated: gradients come with the first backward.
const ITERATIONS: u32 = 2;

/// Trains the stage that `task` describes and says how much memory it needed at most, beyond what was held before.
///
/// On a CPU that is the process's resident memory. On a GPU it is what libtorch's allocator has taken from the driver and
/// keeps, its rounding included; other processes have to leave the board alone meanwhile.
pub fn measure(workshop: &Workshop<'_>, task: MemoryTask) -> anyhow::Result<MemoryReply> {
    match workshop.device {
        Device::Cpu => {
            // Makes the system forget the peak so far, which the libraries' loading has made.
            if let Err(error) = std::fs::write("/proc/self/clear_refs", "5") {
                return Ok(MemoryReply::Absent(format!(
                    "the system does not let a process forget its peak of memory ({error})"
                )));
            }
            let before = own_memory_bytes()?;
            train(workshop, task)?;
            Ok(MemoryReply::Peak(
                own_memory_bytes()?.saturating_sub(before),
            ))
        }
        Device::Cuda(index) => {
            let context = Driver::load()?.context(index)?;
            let before = context.memory()?.free_bytes;
            train(workshop, task)?;
            let after = context.memory()?.free_bytes;
            let taken = before.checked_sub(after);
            Ok(match taken {
                Some(bytes) => MemoryReply::Peak(bytes),
                None => MemoryReply::Absent(
                    "another process gave memory of the board back meanwhile".to_owned(),
                ),
            })
        }
    }
}

fn train(workshop: &Workshop<'_>, task: MemoryTask) -> anyhow::Result<()> {
    let mut stage = workshop
        .load(task.layers, task.place(), task.in_flight)
        .context("load the stage")?;
    for _ in 0..ITERATIONS {
        stage.fill().context("train the stage")?;
    }
    Ok(())
}
