//! What a stage-second can have gone to.

/// What a stage-second went to. There are no others, and none is counted twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Computing forwards.
    Forward,
    /// Computing backwards.
    Backward,
    /// The optimizer's step.
    Step,
    /// Waiting for a stage that computed, and for the others' last step at the end: the price of the schedule.
    Bubble,
    /// Waiting for a link that carried this job's bits.
    LinkSerialisation,
    /// Waiting for what had left the link's near end.
    Propagation,
    /// Waiting for a link that served other jobs.
    Queued,
    /// Waiting for what the link had delivered and this machine had not.
    ReceiveLate,
    /// Waiting for a turn on the device, beyond the time that the emulated GPU takes.
    LeaseWait,
    /// What the host took besides: between actions, beyond the emulated GPU's time, and behind the last step.
    HostOverhead,
    /// From the placement to a stage's first action: connecting, loading, waiting for the device and rehearsing.
    StartUp,
}

impl Cause {
    /// How many there are.
    pub const COUNT: usize = 11;

    /// All of them, in the order of reports.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Forward,
        Self::Backward,
        Self::Step,
        Self::Bubble,
        Self::LinkSerialisation,
        Self::Propagation,
        Self::Queued,
        Self::ReceiveLate,
        Self::LeaseWait,
        Self::HostOverhead,
        Self::StartUp,
    ];

    /// Those that a link is to blame for.
    pub const OF_LINKS: [Self; 4] = [
        Self::LinkSerialisation,
        Self::Propagation,
        Self::Queued,
        Self::ReceiveLate,
    ];

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Step => "step",
            Self::Bubble => "schedule bubble",
            Self::LinkSerialisation => "link serialisation",
            Self::Propagation => "propagation",
            Self::Queued => "queued behind another job",
            Self::ReceiveLate => "receive late",
            Self::LeaseWait => "lease wait",
            Self::HostOverhead => "host overhead",
            Self::StartUp => "start-up",
        }
    }

    /// Its key in JSON, seconds.
    pub fn key(self) -> &'static str {
        match self {
            Self::Forward => "forward_s",
            Self::Backward => "backward_s",
            Self::Step => "step_s",
            Self::Bubble => "bubble_s",
            Self::LinkSerialisation => "link_serialisation_s",
            Self::Propagation => "propagation_s",
            Self::Queued => "queued_s",
            Self::ReceiveLate => "receive_late_s",
            Self::LeaseWait => "lease_wait_s",
            Self::HostOverhead => "host_overhead_s",
            Self::StartUp => "start_up_s",
        }
    }

    /// The heading of its column, where room is short.
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Forward => "fwd",
            Self::Backward => "bwd",
            Self::Step => "step",
            Self::Bubble => "bubble",
            Self::LinkSerialisation => "link",
            Self::Propagation => "prop",
            Self::Queued => "queued",
            Self::ReceiveLate => "late",
            Self::LeaseWait => "lease",
            Self::HostOverhead => "host",
            Self::StartUp => "start",
        }
    }

    /// Its place in [`Cause::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Whether the stage computed.
    pub(crate) fn is_compute(self) -> bool {
        matches!(self, Self::Forward | Self::Backward | Self::Step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_stands_at_its_place() {
        for (place, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause.index(), place);
        }
    }
}
