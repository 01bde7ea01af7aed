//! GPUs: what the driver says of them, and whether workers can use them.

use bace_cuda::{CudaError, CudaVersion, DeviceInfo, DeviceMemory, Driver};
use serde_json::{Value, json};

use super::finding::Finding;

const BYTES_PER_GB: f64 = 1e9;

/// The driver and its GPUs, or why there are none.
#[derive(Debug)]
pub struct Gpus(Result<(CudaVersion, Vec<Gpu>), CudaError>);

/// A GPU and its memory now.
#[derive(Debug)]
struct Gpu {
    info: DeviceInfo,
    memory: Result<DeviceMemory, CudaError>,
}

impl Gpus {
    /// Asks the driver.
    pub fn look() -> Self {
        let found = Driver::load().and_then(|driver| {
            let gpus = driver.devices()?.into_iter().map(|info| Gpu {
                memory: driver
                    .context(info.index)
                    .and_then(|context| context.memory()),
                info,
            });
            Ok((driver.version(), gpus.collect()))
        });
        Self(found)
    }

    /// One finding for the driver and one for each GPU; `workers_can` says whether the worker's libtorch has CUDA, where that
    /// is known.
    pub fn findings(&self, workers_can: Option<bool>) -> Vec<Finding> {
        let (version, gpus) = match &self.0 {
            Ok(found) => found,
            Err(error) => {
                let reason = format!("failed to {error}");
                return vec![Finding::absent("CUDA", reason, "CPU runs need none")];
            }
        };
        let serves = format!("the driver supports CUDA {version}");
        let driver = match workers_can {
            Some(false) => Finding::limited(
                "CUDA",
                format!("{serves}; bace-worker is linked to a libtorch without CUDA"),
                "scripts/libtorch --cuda, then build again",
            ),
            _ => Finding::present("CUDA", serves),
        };
        std::iter::once(driver)
            .chain(gpus.iter().map(Gpu::finding))
            .collect()
    }

    /// As `bace doctor --json` prints it.
    pub fn json(&self) -> Value {
        match &self.0 {
            Ok((version, gpus)) => json!({
                "cuda_version": version.to_string(),
                "devices": gpus.iter().map(Gpu::json).collect::<Vec<_>>(),
            }),
            Err(error) => json!({ "devices": [], "reason": error.to_string() }),
        }
    }
}

impl Gpu {
    fn finding(&self) -> Finding {
        match &self.memory {
            Ok(memory) => Finding::present(
                "GPU",
                format!(
                    "{}; {:.1} GB of its memory free",
                    self.info,
                    memory.free_bytes as f64 / BYTES_PER_GB
                ),
            ),
            Err(error) => Finding::limited(
                "GPU",
                format!("{}; failed to {error}", self.info),
                "see in nvidia-smi who uses it and in which compute mode it is",
            ),
        }
    }

    fn json(&self) -> Value {
        let DeviceInfo {
            index,
            name,
            uuid,
            memory_bytes,
            capability,
            multiprocessors,
            clock_mhz,
            memory_clock_mhz,
        } = &self.info;
        json!({
            "index": index,
            "name": name,
            "uuid": uuid,
            "memory_bytes": memory_bytes,
            "free_memory_bytes": self.memory.as_ref().ok().map(|memory| memory.free_bytes),
            "compute_capability": capability.to_string(),
            "multiprocessors": multiprocessors,
            "clock_mhz": clock_mhz,
            "memory_clock_mhz": memory_clock_mhz,
        })
    }
}
