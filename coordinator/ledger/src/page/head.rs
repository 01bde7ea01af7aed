//! What run this is, whether it is valid, and what it comes to.

use bace_api::ProfileUse;

use super::words::{Side, signed_percent};
use crate::notes::notes;
use crate::table::{Scale, outcome, plain, rung, shaped};
use crate::{Figure, Measured, Predicted, Summary};

/// The page's head.
pub(super) struct Head {
    pub scenario: String,
    pub policy: String,
    /// How many jobs came to what.
    pub outcome: String,
    /// What the run is: name, value.
    pub facts: Vec<(&'static str, String)>,
    pub validity: Validity,
    pub tiles: Vec<Tile>,
    /// What a reader has to know beyond the figures.
    pub notes: Vec<String>,
}

/// Whether the emulation was what the scenario says.
pub(super) struct Validity {
    pub class: &'static str,
    pub word: &'static str,
    pub reasons: Vec<String>,
}

/// A figure of the whole run.
pub(super) struct Tile {
    pub name: &'static str,
    pub value: String,
    /// Why there is no value, or what it is beside the prediction.
    pub more: String,
}

impl Head {
    /// That of a run, beside its prediction.
    pub fn of(
        summary: &Summary,
        side: &Side,
        predicted: Option<&Figure<Predicted<Summary>>>,
    ) -> Self {
        let header = &summary.header;
        Self {
            scenario: header.scenario.clone(),
            policy: header.policy.clone(),
            outcome: outcome(summary),
            facts: facts(summary),
            validity: Validity::of(summary, side),
            tiles: tiles(summary, predicted),
            notes: notes(summary).iter().map(|note| plain(note)).collect(),
        }
    }
}

impl Validity {
    fn of(summary: &Summary, side: &Side) -> Self {
        let emulation = &summary.emulation;
        let (class, word, reasons) = match &emulation.valid {
            Figure::Known(true) => ("good", "emulation valid", Vec::new()),
            Figure::Known(false) => ("bad", "emulation not valid", emulation.faults.clone()),
            Figure::Unknown(_) if !side.is_measured() => {
                let reason =
                    "a simulation emulates nothing, so that there is nothing to be true to";
                ("unknown", "prediction", vec![reason.to_owned()])
            }
            Figure::Unknown(reason) => (
                "unknown",
                "validity unknown",
                vec![reason.clone().into_owned()],
            ),
        };
        Self {
            class,
            word,
            reasons,
        }
    }
}

fn facts(summary: &Summary) -> Vec<(&'static str, String)> {
    let header = &summary.header;
    let mut facts = vec![
        ("rung", rung(header)),
        ("seed", header.seed.to_string()),
        ("scenario (blake3)", header.scenario_hash.clone()),
        ("version", header.version.clone()),
        ("machine", header.machine.clone()),
    ];
    if let Some(ProfileUse::Used {
        path, hash, device, ..
    }) = header.profile.as_deref()
    {
        facts.push(("profile", format!("{path}, of {device} ({hash})")));
    }
    if let Some(shaping) = &summary.shaping {
        facts.push(("links", shaped(shaping)));
    }
    facts.extend(
        header
            .started
            .clone()
            .map(|started| ("started (UTC)", started)),
    );
    let ledger = summary.ledger.as_ref();
    facts.extend(ledger.map(|path| ("ledger", path.display().to_string())));
    facts
}

fn tiles(summary: &Summary, predicted: Option<&Figure<Predicted<Summary>>>) -> Vec<Tile> {
    let totals = &summary.totals;
    let other = |pick: fn(&Summary) -> &Figure| -> Option<f64> {
        let predicted = predicted?.known()?;
        pick(&predicted.0).known().copied()
    };
    let seconds = |name, pick: fn(&Summary) -> &Figure| {
        let figure = pick(summary);
        tile(name, figure, other(pick), |value| format!("{value:.2} s"))
    };
    let energy = Scale::energy([&totals.energy_j].into_iter());
    let dollars = Scale::dollars([&totals.cost_usd].into_iter());
    vec![
        seconds("mean JCT", |of| &of.totals.mean_jct_s),
        seconds("longest JCT", |of| &of.totals.max_jct_s),
        seconds("makespan", |of| &of.totals.makespan_s),
        seconds("mean wait", |of| &of.totals.mean_queueing_s),
        tile(
            "energy of the emulated GPUs",
            &totals.energy_j,
            other(|of| &of.totals.energy_j),
            |value| format!("{} {}", energy.show(&Figure::Known(value)), energy.unit()),
        ),
        tile(
            "cost",
            &totals.cost_usd,
            other(|of| &of.totals.cost_usd),
            |value| format!("${}", dollars.show(&Figure::Known(value))),
        ),
        tile(
            "GPUs computing, of all their time",
            &totals.gpu_utilisation,
            other(|of| &of.totals.gpu_utilisation),
            |value| format!("{:.1} %", value * 100.0),
        ),
    ]
}

fn tile(
    name: &'static str,
    figure: &Figure,
    predicted: Option<f64>,
    show: impl Fn(f64) -> String,
) -> Tile {
    match figure {
        Figure::Unknown(reason) => Tile {
            name,
            value: crate::table::UNKNOWN.to_owned(),
            more: reason.clone().into_owned(),
        },
        Figure::Known(value) => {
            let error =
                predicted.and_then(|predicted| Predicted(predicted).error(Measured(*value)));
            let off = error.map(|error| format!(" ({}\u{a0}%)", signed_percent(error)));
            let more = predicted.map(|predicted| {
                format!("predicted {}{}", show(predicted), off.unwrap_or_default())
            });
            Tile {
                name,
                value: show(*value),
                more: more.unwrap_or_default(),
            }
        }
    }
}
