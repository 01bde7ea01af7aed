//! GPU types.

use serde::{Deserialize, Serialize};

/// What the scheduler and the power model know of a kind of GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuType {
    /// Peak floating-point operations a second, of the data type used.
    pub flops: f64,
    /// Share of the peak that training reaches, in (0, 1].
    pub mfu: f64,
    /// Device memory, in bytes.
    pub memory_bytes: u64,
    /// Watts while computing.
    pub busy_w: f64,
    /// Watts while held but waiting.
    pub idle_w: f64,
}

impl GpuType {
    /// Seconds that `operations` take: operations / (flops·mfu).
    pub fn seconds_for(&self, operations: f64) -> f64 {
        operations / (self.flops * self.mfu)
    }
}
