//! What is known of a GPU without computing on it.

use std::fmt;

/// A version of CUDA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CudaVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl CudaVersion {
    /// What the libtorch of scripts/libtorch --cuda was built with. Drivers serve all versions of their major number, and
    /// earlier ones.
    pub const NEEDED: Self = Self {
        major: 13,
        minor: 0,
    };
    /// The first driver that serves it.
    pub(crate) const DRIVER_NEEDED: u32 = 580;

    /// Reads the driver's form, 1000 major + 10 minor.
    pub(crate) fn of(number: i32) -> Self {
        let number = u32::try_from(number).unwrap_or(0);
        Self {
            major: number / 1000,
            minor: number % 1000 / 10,
        }
    }
}

impl fmt::Display for CudaVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.major, self.minor)
    }
}

/// What a GPU's processors can do; 9.0 is Hopper, 10.0 and 12.0 are Blackwell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ComputeCapability {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl fmt::Display for ComputeCapability {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.major, self.minor)
    }
}

/// A GPU as the driver describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its number among those that `CUDA_VISIBLE_DEVICES` leaves visible, which is libtorch's as well.
    pub index: u32,
    /// The product's name.
    pub name: String,
    /// `GPU-` and 36 characters, as NVML writes it; names the board whatever is visible.
    pub uuid: String,
    /// All its memory, bytes.
    pub memory_bytes: u64,
    /// What its processors can do.
    pub capability: ComputeCapability,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Highest clock of its processors, MHz; absent where the driver does not tell.
    pub clock_mhz: Option<u32>,
    /// Highest clock of its memory, MHz; absent where the driver does not tell.
    pub memory_clock_mhz: Option<u32>,
}

/// A GPU's memory at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// What no process holds, bytes.
    pub free_bytes: u64,
    /// All that programs can use, bytes.
    pub total_bytes: u64,
}

impl DeviceInfo {
    /// A UUID in NVML's form.
    pub(crate) fn uuid_in_words(bytes: [u8; 16]) -> String {
        let mut words = "GPU".to_owned();
        for (index, byte) in bytes.iter().enumerate() {
            if [0, 4, 6, 8, 10].contains(&index) {
                words.push('-');
            }
            words.push_str(&format!("{byte:02x}"));
        }
        words
    }
}

impl fmt::Display for DeviceInfo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "cuda:{} {}, {:.1} GB, compute capability {}, {} multiprocessors",
            self.index,
            self.name,
            self.memory_bytes as f64 / 1e9,
            self.capability,
            self.multiprocessors
        )?;
        if let Some(mhz) = self.clock_mhz {
            write!(out, " at up to {mhz} MHz")?;
        }
        write!(out, ", {}", self.uuid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_uuids_read_as_nvidia_writes_them() {
        assert_eq!(CudaVersion::of(12040).to_string(), "12.4");
        assert_eq!(CudaVersion::of(13000), CudaVersion::NEEDED);
        assert_eq!(CudaVersion::of(-1).to_string(), "0.0");
        let bytes = std::array::from_fn(|index| 0xa0 + index as u8);
        assert_eq!(
            DeviceInfo::uuid_in_words(bytes),
            "GPU-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf"
        );
    }
}
