//! The rungs, from a formula up to what stands nearest to reality.

/// A rung of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LadderRung {
    /// Simulated, iterations by formula.
    Analytic,
    /// Simulated, iterations walked action by action.
    Event,
    /// Real processes and clocked links; compute takes modelled times.
    Modelled,
    /// libtorch computes, at the pace of the emulated GPUs.
    Paced,
    /// Simulated as [`Self::Event`], with times of compute that were measured on this machine's device.
    Profiled,
    /// libtorch computes and takes as long as it takes.
    Native,
    /// As [`Self::Paced`], with QUIC's datagrams on the links.
    Packet,
    /// As [`Self::Paced`], with links that the kernel shapes.
    Kernel,
}

impl LadderRung {
    /// All of them, in the order in which a ladder is climbed.
    pub const ALL: [Self; 8] = [
        Self::Analytic,
        Self::Event,
        Self::Modelled,
        Self::Paced,
        Self::Profiled,
        Self::Native,
        Self::Packet,
        Self::Kernel,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Analytic => "analytic",
            Self::Event => "event",
            Self::Modelled => "modelled",
            Self::Paced => "paced",
            Self::Profiled => "profiled",
            Self::Native => "native",
            Self::Packet => "packet",
            Self::Kernel => "kernel",
        }
    }

    /// The rung that its name belongs to.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rung| rung.name() == name)
    }

    /// Whether it is simulated.
    pub fn is_simulated(self) -> bool {
        matches!(self, Self::Analytic | Self::Event | Self::Profiled)
    }

    /// The rung from which it differs in one thing alone; absent for those that begin anew, the profiled one among them, whose
    /// GPUs are others.
    pub fn below(self) -> Option<Self> {
        match self {
            Self::Analytic | Self::Profiled => None,
            Self::Event => Some(Self::Analytic),
            Self::Modelled => Some(Self::Event),
            Self::Paced => Some(Self::Modelled),
            Self::Native => Some(Self::Profiled),
            Self::Packet | Self::Kernel => Some(Self::Paced),
        }
    }

    /// What it adds to the rung below, as one word of blame; absent where there is none below.
    pub fn blamed(self) -> Option<&'static str> {
        match self {
            Self::Analytic | Self::Profiled => None,
            Self::Event => Some("the pipeline formula"),
            Self::Modelled => Some("the runtime"),
            Self::Paced => Some("the machine's compute"),
            Self::Native => Some("the compute model"),
            Self::Packet | Self::Kernel => Some("the network"),
        }
    }

    /// What it adds, as a sentence.
    pub fn adds(self) -> &'static str {
        match self {
            Self::Analytic => "Iterations take what the scheduler's formula says.",
            Self::Event => {
                "Pipelines are walked action by action: stalls behind long links, and links that jobs share."
            }
            Self::Modelled => {
                "Real processes and clocks send real bytes over clocked links: starting workers, QUIC and the system's scheduler."
            }
            Self::Paced => {
                "libtorch computes, at the emulated GPUs' pace: turns on the cores, copies of tensors, overruns."
            }
            Self::Profiled => {
                "Simulated again, with times of compute that were measured on this machine's device: what native stands beside."
            }
            Self::Native => {
                "Compute takes what this machine takes: what the profile does not know of it."
            }
            Self::Packet => {
                "QUIC's datagrams are delayed, queued and lost one by one: headers, slow start, congestion control."
            }
            Self::Kernel => {
                "The kernel shapes the links: its queueing disciplines, its timers, its own overheads."
            }
        }
    }
}
