//! In which numbers a stage computes.

use std::fmt;
use std::str::FromStr;

use tch::Kind;

use crate::device::Device;
use crate::error::Error;

/// In which numbers a stage computes. Whatever it is, weights, their gradients' sums and the optimizer's moments are kept
/// in fp32, and the loss is computed in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits; 16 bytes of training state for each parameter.
    Fp32,
    /// bf16, with its 8 bits of mantissa; 2 bytes more for each parameter, half the bytes of activations.
    Bf16,
}

impl Precision {
    /// What is usual on a device: GPUs have units for bf16, processors mostly not.
    pub fn usual(device: Device) -> Self {
        match device {
            Device::Cpu => Self::Fp32,
            Device::Cuda(_) => Self::Bf16,
        }
    }

    /// Bytes kept for each parameter beyond the 16 of its training state: its weight, cast to compute with.
    pub fn cast_bytes_per_parameter(self) -> u64 {
        match self {
            Self::Fp32 => 0,
            Self::Bf16 => 2,
        }
    }

    /// The kind of tensors that are computed with.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Fp32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }
}

impl FromStr for Precision {
    type Err = Error;

    /// Reads `fp32` or `bf16`.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "fp32" => Ok(Self::Fp32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(Error::PrecisionName(text.to_owned())),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Fp32 => "fp32",
            Self::Bf16 => "bf16",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for name in ["fp32", "bf16"] {
            assert_eq!(name.parse::<Precision>().unwrap().to_string(), name);
        }
        assert_eq!(
            "fp16".parse::<Precision>().unwrap_err().to_string(),
            "read the precision `fp16`: expected `fp32` or `bf16`"
        );
    }
}
