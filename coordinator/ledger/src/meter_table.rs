//! Sources of energy figures and what they counted, for people.

use bace_api::{EnergyColumn, MeterRecord, MeterTotalRecord};

use crate::notes::sentence;
use crate::physical::MeterSummary;
use crate::table::{Columns, Scale, glued};
use crate::{Figure, Summary};

/// A counter that stands still for longer is worth a sentence, seconds: those known refresh within a tenth of that.
const LONG_STILL_S: f64 = 1.0;
/// Numbers below are shown by their exponent.
const SMALL: f64 = 1e-3;

/// A row for each source; empty where nothing physical was metered.
pub(crate) fn meters(summary: &Summary) -> String {
    let meters = &summary.physical.meters;
    let is_physical = |one: &MeterSummary| one.meter.column == EnergyColumn::Physical;
    if !meters.iter().any(is_physical) {
        return String::new();
    }
    let energies = meters.iter().map(|one| &one.energy_j);
    let scale = Scale::energy(energies);
    let mut table = Columns::new(&[
        "energy source",
        "counts",
        &format!("energy ({})", scale.unit()),
        "workers'",
        "nobody's",
        "step",
    ]);
    for one in meters {
        let meter = &one.meter;
        table.row(vec![
            glued(&meter.meter),
            match meter.column {
                EnergyColumn::Physical => "drawn here",
                EnergyColumn::Emulated => "emulated",
            }
            .to_owned(),
            scale.show(&one.energy_j),
            scale.show(&one.attributed_j),
            scale.show(&one.unattributed_j),
            step(meter),
        ]);
    }
    table.finish("energy sources")
}

/// The smallest step of a source's figures.
fn step(meter: &MeterRecord) -> String {
    let (resolution, unit) = (meter.resolution, &meter.unit);
    if resolution < SMALL {
        format!("{resolution:e} {unit}")
    } else {
        format!("{resolution} {unit}")
    }
}

/// The line of what the machine drew; absent where no ledger says anything about it.
pub(crate) fn drawn(summary: &Summary) -> Option<String> {
    let physical = &summary.physical;
    if physical.meters.is_empty() && physical.absent.is_empty() {
        return None;
    }
    Some(match (&physical.energy_j, &physical.unattributed_j) {
        (Figure::Known(energy_j), Figure::Known(nobodys_j)) => {
            let scale = Scale::energy([&physical.energy_j].into_iter());
            let mut text = format!(
                "{} {} by this machine",
                scale.show(&physical.energy_j),
                scale.unit()
            );
            if *energy_j > 0.0 {
                let share = 100.0 * (1.0 - nobodys_j / energy_j);
                text.push_str(&format!(", {share:.1} % of it for workers"));
            }
            text
        }
        (Figure::Unknown(reason), _) | (_, Figure::Unknown(reason)) => {
            format!("unknown: {reason}")
        }
    })
}

/// What to know of meters, in sentences.
pub(crate) fn remarks(summary: &Summary) -> Vec<String> {
    let physical = &summary.physical;
    let mut remarks = Vec::new();
    // Where none is there, the line of what was drawn says so with all reasons.
    if physical.energy_j.known().is_some() {
        let absent = physical.absent.iter();
        remarks.extend(absent.map(|absent| {
            let reason = sentence(&absent.reason);
            format!("Not metered: {}: {reason}", absent.meter)
        }));
    }
    for one in &physical.meters {
        if let Some(total) = &one.total {
            remarks.extend(faults(total));
        }
    }
    remarks
}

fn faults(total: &MeterTotalRecord) -> Vec<String> {
    let meter = &total.meter;
    let mut faults = Vec::new();
    if let Some(at_s) = total.lost_at_s {
        let reason = total.lost_reason.as_deref();
        faults.push(format!(
            "Meter {meter} could not be read any more from {at_s:.1} s on: {} Its energy is that up to there.",
            sentence(reason.unwrap_or("no reason is recorded"))
        ));
    }
    if total.resets > 0 {
        faults.push(format!(
            "Meter {meter} was reset {} times: what it had counted since the reading before is lost, at most a tenth of a \
             second each time.",
            total.resets
        ));
    }
    if total.longest_still_s > LONG_STILL_S {
        faults.push(format!(
            "Meter {meter} stood still for {:.1} s: joules of that time are split over all of it.",
            total.longest_still_s
        ));
    }
    if total.unread_s > 0.0 {
        faults.push(format!(
            "Meter {meter} was not read for {:.1} s, whose energy is not in its figures.",
            total.unread_s
        ));
    }
    faults
}
