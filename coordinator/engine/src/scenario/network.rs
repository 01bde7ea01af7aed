//! How links are emulated, and how true they have to be.

use bace_api::NetworkRung;
use bace_netem::Congestion;

use super::error::Fault;
use super::file::{BackendFile, CongestionFile, NetworkFile};
use super::limits;
use super::link::SECONDS_PER_MS;
use super::types::NetworkSettings;
use super::values::optional;

/// How links are emulated.
pub(super) fn settings(file: &NetworkFile) -> Result<NetworkSettings, Fault> {
    let default = NetworkSettings::default();
    let knob = |value, range, default| Ok(optional(value, range)?.unwrap_or(default));
    let error_ms = default.receipt_error_s / SECONDS_PER_MS;
    Ok(NetworkSettings {
        backend: match file.backend {
            None => default.backend,
            Some(BackendFile::Virtual) => NetworkRung::Shaped,
            Some(BackendFile::Packet) => NetworkRung::Packet,
            Some(BackendFile::Kernel) => NetworkRung::Kernel,
            Some(BackendFile::None) => NetworkRung::None,
        },
        congestion: match file.congestion {
            None => default.congestion,
            Some(CongestionFile::Bbr) => Congestion::Bbr,
            Some(CongestionFile::Cubic) => Congestion::Cubic,
            Some(CongestionFile::Fixed) => Congestion::Fixed,
        },
        receipt_error: knob(&file.receipt_error, limits::KNOB, default.receipt_error)?,
        receipt_error_s: knob(&file.receipt_error_ms, limits::DELAY_MS, error_ms)? * SECONDS_PER_MS,
        late_share: knob(&file.late_share, limits::KNOB, default.late_share)?,
    })
}
