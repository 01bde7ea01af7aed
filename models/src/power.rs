//! The power model: a held GPU draws `busy_w` while it computes and `idle_w` while it waits.

use crate::GpuType;

/// Joules in a kilowatt hour, the unit that electricity is priced in.
pub const JOULES_PER_KWH: f64 = 3.6e6;

impl GpuType {
    /// Joules drawn by one GPU that is held for `held_s` and computes for `busy_s` of it.
    pub fn joules(&self, held_s: f64, busy_s: f64) -> f64 {
        self.idle_w * held_s + self.extra_w() * busy_s
    }

    /// Watts that computing adds to waiting.
    pub fn extra_w(&self) -> f64 {
        self.busy_w - self.idle_w
    }
}

#[cfg(test)]
mod tests {
    use crate::catalogue;

    #[test]
    fn busy_and_idle_seconds_add_up() {
        let gpu = catalogue::gpu("a6000").unwrap();
        assert_eq!(gpu.joules(10.0, 4.0), 4.0 * 300.0 + 6.0 * 22.0);
    }
}
