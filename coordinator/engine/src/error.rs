//! What can go wrong while driving an engine.

use bace_netem::LinkId;

/// Why the engine could not be asked or told something.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// No policy of this name.
    #[error("find the policy `{name}`: there are {known}")]
    UnknownPolicy {
        /// What was asked for.
        name: String,
        /// All names, separated by commas.
        known: String,
    },
    /// No knob of this name.
    #[error("find the sweep key `{name}`: {hint}")]
    UnknownKnob {
        /// What was asked for.
        name: String,
        /// The nearest name, or all of them.
        hint: String,
    },
    /// A knob cannot be turned this far.
    #[error("set {name} to {value}: it is a {summary}")]
    KnobValue {
        /// The knob.
        name: &'static str,
        /// What was asked for.
        value: f64,
        /// What its values mean.
        summary: &'static str,
    },
    /// A recorded input names a job that the scenario does not have.
    #[error("find the job `{0}` in the scenario")]
    UnknownJob(String),
    /// A recorded input names a region that the scenario does not have.
    #[error("find the region `{0}` in the scenario")]
    UnknownRegion(String),
    /// A recorded change of a link that the scenario does not have.
    #[error("find the link {0} in the scenario")]
    UnknownLink(LinkId),
    /// A recorded delay that is none.
    #[error("take {0} s as a link's delay: it has to be finite and not negative")]
    NotADelay(f64),
    /// A recorded capacity that is none.
    #[error("take {0} bit/s as a link's capacity: it has to be finite and not negative")]
    NotARate(f64),
}
