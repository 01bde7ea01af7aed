//! The power model of an emulated GPU, described as a source.

use crate::{Source, SourceKind};

/// The source of what GPUs of type `gpu` in `region` would have drawn: `busy_w` while they compute, `idle_w` while they are
/// held. The engine's accounts do the arithmetic; dollars and carbon come from it.
pub fn modelled(region: &str, gpu: &str, busy_w: f64, idle_w: f64) -> Source {
    Source {
        name: format!("model {region}"),
        kind: SourceKind::Model,
        unit: "J",
        // Times are to the nanosecond.
        resolution: busy_w / 1e9,
        refresh_ns: None,
        provenance: format!(
            "emulated: what the {gpu} GPUs of {region} would have drawn by the scenario's power model, {busy_w} W while \
             computing and {idle_w} W while held"
        ),
    }
}
