//! Why a GPU cannot be used.

use std::fmt;

use crate::device::CudaVersion;

/// Why there is no driver, no device, or no answer from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// No library of the driver, or one that cannot be loaded.
    #[error(
        "find a CUDA device: no library of the NVIDIA driver can be loaded ({reason}); install the driver, or give the container its GPUs"
    )]
    NoLibrary {
        /// The loader's words.
        reason: String,
    },
    /// A library that is not the whole driver.
    #[error(
        "use CUDA: the NVIDIA driver's library lacks {symbol}; install the driver anew, version {} or later",
        CudaVersion::DRIVER_NEEDED
    )]
    MissingSymbol {
        /// What it lacks.
        symbol: &'static str,
    },
    /// The driver does not know the CUDA that libtorch was built with.
    #[error(
        "use CUDA: the NVIDIA driver supports CUDA {supported}, and libtorch needs CUDA {}; install driver {} or later",
        CudaVersion::NEEDED,
        CudaVersion::DRIVER_NEEDED
    )]
    TooOld {
        /// What the driver supports.
        supported: CudaVersion,
    },
    /// The driver does not start.
    #[error("start the NVIDIA driver: {0}{hint}", hint = .0.hint())]
    Start(DriverFailure),
    /// A driver without any device.
    #[error("find a CUDA device: the NVIDIA driver is there and shows none{}", hidden(.visible.as_deref()))]
    NoDevice {
        /// `CUDA_VISIBLE_DEVICES`, where it is set.
        visible: Option<String>,
    },
    /// Fewer devices than that.
    #[error("use the device cuda:{index}: {}", shown(*.available, .visible.as_deref()))]
    NoSuchDevice {
        /// Device asked for, from 0.
        index: u32,
        /// Devices there are.
        available: u32,
        /// `CUDA_VISIBLE_DEVICES`, where it is set.
        visible: Option<String>,
    },
    /// A range of memory that is not the device's.
    #[error("{action} cuda:{device}: the address is none of the device's memory")]
    NotOnDevice {
        /// What was about to be done, up to the device's name.
        action: &'static str,
        /// The device.
        device: u32,
    },
    /// The driver refuses what it was asked for.
    #[error("{action} cuda:{device}: {failure}")]
    Refused {
        /// What was about to be done, up to the device's name.
        action: &'static str,
        /// The device.
        device: u32,
        /// The driver's words.
        failure: DriverFailure,
    },
}

/// What the driver says of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverFailure {
    /// Its number.
    pub code: u32,
    /// Its name and meaning, in the driver's words.
    pub words: String,
}

impl DriverFailure {
    /// What to do about failures at the start that have a usual reason.
    fn hint(&self) -> &'static str {
        match self.code {
            34 => "; the library is the toolkit's stub for linking: take it out of LD_LIBRARY_PATH",
            803 | 804 => {
                "; the driver's library and its kernel module differ: reboot, or install matching ones"
            }
            999 => "; often /dev/nvidia-uvm is missing: modprobe nvidia-uvm",
            _ => "",
        }
    }
}

impl fmt::Display for DriverFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} (error {})", self.words, self.code)
    }
}

fn hidden(visible: Option<&str>) -> String {
    match visible {
        Some(value) => format!("; CUDA_VISIBLE_DEVICES={value} says which may be seen"),
        None => {
            "; see whether nvidia-smi shows one, and whether a container was given it".to_owned()
        }
    }
}

fn shown(available: u32, visible: Option<&str>) -> String {
    let there = match available {
        1 => "there is one CUDA device, cuda:0".to_owned(),
        _ => format!(
            "there are {available} CUDA devices, cuda:0 to cuda:{}",
            available.saturating_sub(1)
        ),
    };
    match visible {
        Some(value) => format!("{there}, with CUDA_VISIBLE_DEVICES={value}"),
        None => there,
    }
}
