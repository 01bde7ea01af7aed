//! What a native run needs of a profile and does not find there, measured on the spot.

use std::path::Path;

use super::chosen::{ChosenProfile, FOLDER, absent};
use super::command::measure;
use super::wanted::wanted;
use crate::cli::{EmulationArgs, ProfileArgs};
use crate::run::CheckedDevice;
use crate::wrong_input::WrongInput;

/// Measures what the jobs of a scenario need on `devices` and their profile has no times of, as `bace profile` does and into the
/// same file, and tells of it on standard error.
///
/// # Errors
/// If the devices are not alike, and those of a measurement: what was measured before is kept.
pub fn measure_missing(
    (scenario, seed): (&str, Option<u64>),
    emulation: &EmulationArgs,
    devices: &[CheckedDevice],
) -> anyhow::Result<()> {
    let alike = |first: &CheckedDevice| devices.iter().all(|one| one.identity == first.identity);
    let Some(first) = devices.first().filter(|first| alike(first)) else {
        let why = absent(devices, scenario, seed);
        return Err(WrongInput::error(format!("measure a profile: {why}")));
    };
    let args = ProfileArgs {
        precision: emulation.precision,
        data: emulation.data.clone(),
        ..ProfileArgs::of_scenario(scenario, seed, first.device.name.clone())
    };
    let known = ChosenProfile::of(&first.identity, Path::new(FOLDER))?;
    let known = known.map(|known| known.profile.entries).unwrap_or_default();
    let mut missing = wanted(&args)?;
    missing.retain(|wanted| known.iter().all(|entry| entry.key != wanted.key));
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!(
        "{} has no profile of {} of the scenario's micro-batches; it is measured now:",
        first.identity.name,
        missing.len()
    );
    for wanted in &missing {
        measure(&args, wanted, &mut |line| eprintln!("{line}"))?;
    }
    Ok(())
}
