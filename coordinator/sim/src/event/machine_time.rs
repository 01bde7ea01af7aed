//! The clock by which senders go.

use bace_netem::TimeScale;

const NANOS_PER_SECOND: f64 = 1e9;

/// Emulated seconds as nanoseconds of the machine that emulates them, both from the start of the simulation.
#[derive(Debug, Clone, Copy)]
pub(super) struct MachineTime {
    pub scale: TimeScale,
}

impl MachineTime {
    /// The nearest nanosecond.
    pub fn nanos(self, at_s: f64) -> u64 {
        (self.scale.wall_seconds(at_s) * NANOS_PER_SECOND).round() as u64
    }

    /// Emulated seconds.
    pub fn seconds(self, nanos: u64) -> f64 {
        self.scale.emulated_seconds(nanos as f64 / NANOS_PER_SECOND)
    }
}
