//! Meters of boards, read through NVML.

use nvml_wrapper::Device;

use crate::counter::{Counter, Health};
use crate::meter::{Meter, ReadError, Source, SourceKind};
use crate::nvml::told;
use crate::{BoardId, Place};

/// Microjoules of a millijoule, the counter's step.
const UJ_PER_MJ: u64 = 1000;
/// The counter is told to be 64 bits wide; what the hardware has may be narrower.
const ENERGY_RANGES: [u128; 2] = [1 << 32, 1 << 64];
/// How often the energy counter changes, ns.
const ENERGY_REFRESH_NS: u64 = 100_000_000;
/// How often power changes, ns.
const POWER_REFRESH_NS: u64 = 100_000_000;
/// Longest time between two readings of power that an integral bridges, ns: nobody knows what was drawn in a longer one.
const LONGEST_BRIDGE_NS: u64 = 2_000_000_000;
/// Milliwatts x nanoseconds of a microjoule.
const PJ_PER_UJ: u128 = 1_000_000;

/// A board whose energy the driver counts: Volta and later.
#[derive(Debug)]
pub(crate) struct EnergyBoard<'nvml> {
    device: Device<'nvml>,
    place: Place,
    source: Source,
    counter: Counter,
}

impl<'nvml> EnergyBoard<'nvml> {
    pub fn new(device: Device<'nvml>, asked: BoardId, uuid: &str, description: &str) -> Self {
        Self {
            device,
            place: Place::Board(asked),
            source: Source {
                name: format!("nvml {uuid}"),
                kind: SourceKind::NvmlEnergy,
                unit: "mJ",
                resolution: 1.0,
                refresh_ns: Some(ENERGY_REFRESH_NS),
                provenance: format!(
                    "NVML total energy counter of the whole board, {description}; it changes about every 100 ms, so that \
                     joules show up to that much after they were drawn"
                ),
            },
            counter: Counter::new(ENERGY_RANGES.to_vec(), UJ_PER_MJ),
        }
    }
}

impl Meter for EnergyBoard<'_> {
    fn source(&self) -> &Source {
        &self.source
    }

    fn place(&self) -> &Place {
        &self.place
    }

    fn read(&mut self, now_ns: u64) -> Result<u64, ReadError> {
        match self.device.total_energy_consumption() {
            Ok(raw) => Ok(self.counter.advance(raw, now_ns)),
            Err(error) => Err(ReadError(told(&error))),
        }
    }

    fn health(&self) -> Health {
        self.counter.health()
    }
}

/// A board without a counter, whose power is integrated.
#[derive(Debug)]
pub(crate) struct PowerBoard<'nvml> {
    device: Device<'nvml>,
    place: Place,
    source: Source,
    integral: Integral,
}

/// Power over time, by trapezoids.
#[derive(Debug, Clone, Default)]
struct Integral {
    /// Time and power, mW, of the last reading.
    last: Option<(u64, u32)>,
    total_pj: u128,
    unread_ns: u64,
}

impl<'nvml> PowerBoard<'nvml> {
    pub fn new(device: Device<'nvml>, asked: BoardId, uuid: &str, description: &str) -> Self {
        Self {
            device,
            place: Place::Board(asked),
            source: Source {
                name: format!("nvml {uuid}"),
                kind: SourceKind::NvmlPower,
                unit: "mW",
                resolution: 1.0,
                refresh_ns: Some(POWER_REFRESH_NS),
                provenance: format!(
                    "no energy counter: NVML power of the whole board, integrated, {description}; good to about 5 %, and \
                     an average over 1 s on Ampere and later, so that work shorter than that is smeared over it"
                ),
            },
            integral: Integral::default(),
        }
    }
}

impl Integral {
    fn advance(&mut self, power_mw: u32, now_ns: u64) -> u64 {
        if let Some((last_ns, last_mw)) = self.last {
            let elapsed_ns = now_ns.saturating_sub(last_ns);
            if elapsed_ns > LONGEST_BRIDGE_NS {
                self.unread_ns += elapsed_ns;
            } else {
                let twice_mw = u128::from(last_mw) + u128::from(power_mw);
                self.total_pj += twice_mw * u128::from(elapsed_ns) / 2;
            }
        }
        self.last = Some((now_ns, power_mw));
        u64::try_from(self.total_pj / PJ_PER_UJ).unwrap_or(u64::MAX)
    }
}

impl Meter for PowerBoard<'_> {
    fn source(&self) -> &Source {
        &self.source
    }

    fn place(&self) -> &Place {
        &self.place
    }

    fn read(&mut self, now_ns: u64) -> Result<u64, ReadError> {
        match self.device.power_usage() {
            Ok(power_mw) => Ok(self.integral.advance(power_mw, now_ns)),
            Err(error) => Err(ReadError(told(&error))),
        }
    }

    fn health(&self) -> Health {
        Health {
            unread_ns: self.integral.unread_ns,
            ..Health::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_integrated_by_trapezoids() {
        let mut integral = Integral::default();
        assert_eq!(integral.advance(100_000, 5_000_000_000), 0);
        // 100 W to 300 W within a second: 200 J.
        assert_eq!(integral.advance(300_000, 6_000_000_000), 200_000_000);
        assert_eq!(integral.advance(300_000, 6_000_001_000), 200_000_300);
    }

    #[test]
    fn nobody_knows_what_a_long_pause_took() {
        let mut integral = Integral::default();
        integral.advance(100_000, 0);
        assert_eq!(integral.advance(100_000, 3_000_000_000), 0);
        assert_eq!(integral.unread_ns, 3_000_000_000);
        assert_eq!(integral.advance(100_000, 4_000_000_000), 100_000_000);
    }
}
