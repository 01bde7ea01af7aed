//! Where tensors live and how many threads work on them.

use std::fmt;
use std::str::FromStr;
use std::sync::Once;

use crate::error::Error;

/// Where a stage's tensors live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The CUDA GPU of this index among those that `CUDA_VISIBLE_DEVICES` leaves visible.
    Cuda(u32),
}

/// Lets libtorch work with `threads` threads (at least 1) inside an operation, and with one
/// operation at a time. One thread makes results on a CPU reproducible to the last bit, whatever
/// the machine's number of cores. To be called before the process's first tensor operation.
pub fn use_threads(threads: u32) {
    static BETWEEN_OPERATIONS: Once = Once::new();
    // libtorch accepts this one only once in a process.
    BETWEEN_OPERATIONS.call_once(|| tch::set_num_interop_threads(1));
    tch::set_num_threads(i32::try_from(threads.max(1)).unwrap_or(i32::MAX));
}

/// Version of the libtorch that this program is linked to.
pub const LIBTORCH_VERSION: &str = env!("BACE_LIBTORCH_VERSION");

/// What libtorch says where `device` has no memory left, found out by asking for more than any has.
///
/// # Errors
/// [`Error::WithoutCuda`], [`Error::Cuda`], [`Error::NotInLibtorch`].
pub fn exhaust(device: Device) -> Result<String, Error> {
    /// Bytes that no device has, and that addresses can still tell.
    const TOO_MANY: i64 = 1 << 50;
    let place = device.resolve()?;
    // Never written to: where the system promises any memory, it stays a promise.
    match tch::Tensor::f_empty([TOO_MANY], (tch::Kind::Uint8, place)) {
        Ok(_) => Ok("there is no end of its memory".to_owned()),
        // Its own stack stands behind the first line.
        Err(error) => Ok(error.to_string().lines().take(1).collect()),
    }
}

/// Whether the libtorch that this program is linked to can use GPUs.
pub fn has_cuda() -> bool {
    tch::utils::has_cudart()
}

impl Device {
    /// The device for tch, if libtorch has it.
    pub(crate) fn resolve(self) -> Result<tch::Device, Error> {
        let Device::Cuda(index) = self else {
            return Ok(tch::Device::Cpu);
        };
        if !has_cuda() {
            return Err(Error::WithoutCuda(index));
        }
        // The driver says why there is none; libtorch would only say that there is none.
        bace_cuda::Driver::load()?.device(index)?;
        let available = u32::try_from(tch::Cuda::device_count()).unwrap_or(0);
        if index < available {
            Ok(tch::Device::Cuda(index as usize))
        } else {
            Err(Error::NotInLibtorch { index, available })
        }
    }

    /// What the driver says of it, in words; its name alone for the CPU.
    ///
    /// # Errors
    /// [`Error::WithoutCuda`], [`Error::Cuda`], [`Error::NotInLibtorch`].
    pub fn describe(self) -> Result<String, Error> {
        self.resolve()?;
        match self {
            Device::Cpu => Ok(self.to_string()),
            Device::Cuda(index) => Ok(bace_cuda::Driver::load()?.device(index)?.to_string()),
        }
    }

    /// What processes that see other GPUs than this one know it by: a GPU's UUID; its name, where the driver does not tell, and
    /// for the CPU.
    pub fn identity(self) -> String {
        let Device::Cuda(index) = self else {
            return self.to_string();
        };
        let info = bace_cuda::Driver::load().and_then(|driver| driver.device(index));
        info.map_or_else(|_| self.to_string(), |info| info.uuid)
    }
}

impl Device {
    /// Waits until the device has done all it was given, so that time read afterwards includes it. Nothing to wait for on
    /// a CPU.
    pub fn synchronize(self) {
        if let Device::Cuda(index) = self {
            tch::Cuda::synchronize(index.into());
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    /// Reads `cpu`, `cuda` (its first GPU) or `cuda:N`.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Device::Cpu),
            None if text == "cuda" => Ok(Device::Cuda(0)),
            Some(("cuda", index)) if index.bytes().all(|byte| byte.is_ascii_digit()) => index
                .parse()
                .map(Device::Cuda)
                .map_err(|_| Error::DeviceName(text.to_owned())),
            _ => Err(Error::DeviceName(text.to_owned())),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => out.write_str("cpu"),
            Device::Cuda(index) => write!(out, "cuda:{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_nonsense_is_refused() {
        for name in ["cpu", "cuda:0", "cuda:13"] {
            assert_eq!(name.parse::<Device>().unwrap().to_string(), name);
        }
        assert_eq!("cuda".parse::<Device>().unwrap(), Device::Cuda(0));
        for name in [
            "", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:+1", "CPU", "cpu:0",
        ] {
            assert!(name.parse::<Device>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_gpu_that_is_not_there_is_an_error() {
        let message = Device::Cuda(4096).resolve().unwrap_err().to_string();
        let expected = if has_cuda() {
            ["CUDA", "driver"]
        } else {
            ["cuda:4096", "scripts/libtorch --cuda"]
        };
        for words in expected {
            assert!(message.contains(words), "{message}");
        }
    }
}
