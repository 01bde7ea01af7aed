//! How compute is emulated, and how much of it may be too slow.

use bace_api::ComputeRung;
use bace_netem::TimeScale;

use super::error::Fault;
use super::file::{ComputeFile, RungFile};
use super::limits;
use super::types::ComputeSettings;
use super::values::{count, optional};

/// How compute is emulated.
pub(super) fn settings(file: &ComputeFile) -> Result<ComputeSettings, Fault> {
    let default = ComputeSettings::default();
    Ok(ComputeSettings {
        rung: file.rung.map(|rung| match rung {
            RungFile::Modelled => ComputeRung::Modelled,
            RungFile::Paced => ComputeRung::Paced,
            RungFile::Native => ComputeRung::Native,
        }),
        time_scale: optional(&file.time_scale, limits::TIME_SCALE)?
            .and_then(TimeScale::new)
            .unwrap_or(default.time_scale),
        overrun_share: optional(&file.overrun_share, limits::KNOB)?
            .unwrap_or(default.overrun_share),
        lease: match &file.lease {
            Some(lease) => Some(count(lease, limits::LEASE)?),
            None => None,
        },
    })
}
