//! A scenario's links on this machine's clock, and the words for those that it cannot carry.

use std::collections::BTreeMap;

use bace_engine::Scenario;
use bace_netem::{LinkId, LinkSpec, TimeScale};

use crate::wrong_input::WrongInput;

/// The links between regions as they have to be in wall seconds.
pub fn links(scenario: &Scenario, scale: TimeScale) -> BTreeMap<LinkId, LinkSpec> {
    let links = scenario.links.iter();
    links
        .map(|(&link, &spec)| (link, scale.wall_link(spec)))
        .collect()
}

/// That something is more than this machine can carry at `scale`: `problem`, whose rates and times are wall ones, and the
/// largest scale at which it `fits`.
pub fn beyond(problem: &str, scale: TimeScale, fits: impl Fn(TimeScale) -> bool) -> anyhow::Error {
    let largest = TimeScale::largest(fits);
    let more = match (largest, scale == TimeScale::ONE) {
        (Some(largest), true) => format!("; or use a time_scale of at most {largest}"),
        (None, true) => String::new(),
        (Some(largest), false) => format!(
            " (all on this machine's clock, at time_scale {scale}); use a time_scale of at most {largest}"
        ),
        (None, false) => format!(
            " (all on this machine's clock, at time_scale {scale}); no time_scale is small enough"
        ),
    };
    WrongInput::error(format!("{problem}{more}"))
}
