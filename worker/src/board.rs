//! Temperature and clock of a device.

use bace_api::BoardState;
use bace_torch::Device;

/// What `device` is like at this instant.
pub fn board_state(device: Device) -> BoardState {
    match device {
        Device::Cpu => BoardState::Absent("a processor has no board of its own".to_owned()),
        Device::Cuda(_) => {
            BoardState::Absent("NVML is not asked for temperature and clock".to_owned())
        }
    }
}
