//! Why a link is not what it should be, in words.

use bace_netem::{
    BitRate, Finding, LATE_TOLERANCE_S, LinkId, LinkSpec, Miss, Quantity, Shaping, TimeScale,
    Timing, bucket_seconds,
};

const BITS_PER_MEGABIT: f64 = 1e6;

/// Who emulates the links of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emulator {
    /// Clocks for every chunk.
    Clocks,
    /// Delays, queues and losses of datagrams in user space.
    Packets,
    /// The kernel's queueing disciplines.
    Kernel,
    /// Nobody.
    Nobody,
}

impl Emulator {
    /// What can be promised of its links.
    pub fn shaping(self) -> Shaping {
        match self {
            Self::Clocks => Shaping::Clocked,
            Self::Packets | Self::Kernel => Shaping::Datagrams,
            Self::Nobody => Shaping::Nothing,
        }
    }

    /// How much earlier than its rate says a link of `spec` that idled may deliver, s.
    pub fn ahead_s(self, spec: &LinkSpec) -> f64 {
        match self {
            Self::Kernel => bucket_seconds(spec),
            Self::Clocks | Self::Packets | Self::Nobody => 0.0,
        }
    }

    /// Whether measurements of two links would measure each other: those of one link, and of both directions where the
    /// acknowledgements of one take the other.
    pub fn disturbs(self, one: LinkId, other: LinkId) -> bool {
        one == other || (self.shaping() == Shaping::Datagrams && one == other.reversed())
    }

    /// Why a link of `spec` cannot be measured, given the link `back`; `None` if it can.
    pub fn obstacle(self, spec: &LinkSpec, back: &LinkSpec) -> Option<&'static str> {
        // Handshakes and acknowledgements take the link back where it takes datagrams.
        let needs_back = self.shaping() == Shaping::Datagrams;
        if spec.rate == BitRate::ZERO {
            Some("it is down")
        } else if needs_back && back.rate == BitRate::ZERO {
            Some("the link back is down")
        } else {
            None
        }
    }
}

/// How messages came that measured a link.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Arrivals {
    /// Messages.
    pub messages: u64,
    /// Those that came more than 1 ms after the link would have delivered them.
    pub late: u64,
    /// The worst of that, s.
    pub worst_late_s: f64,
    /// Time of the fastest message from worker to worker, s; infinite without messages.
    pub fastest_s: f64,
}

impl Arrivals {
    /// How the messages of `timings` came.
    pub fn of<'a>(timings: impl IntoIterator<Item = &'a Timing>) -> Self {
        let none = Self {
            fastest_s: f64::INFINITY,
            ..Self::default()
        };
        timings.into_iter().fold(none, |all, timing| Self {
            messages: all.messages + 1,
            late: all.late + u64::from(timing.late_s() > LATE_TOLERANCE_S),
            worst_late_s: all.worst_late_s.max(timing.late_s()),
            fastest_s: all.fastest_s.min(timing.physical_s()),
        })
    }

    /// Those of both.
    pub fn and(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            late: self.late + other.late,
            worst_late_s: self.worst_late_s.max(other.worst_late_s),
            fastest_s: self.fastest_s.min(other.fastest_s),
        }
    }
}

/// What else is known when a link is judged, in wall seconds.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// The link.
    pub spec: &'a LinkSpec,
    /// Who emulates it.
    pub emulator: Emulator,
    /// How the messages came.
    pub arrivals: Arrivals,
    /// What two workers exchange where nothing shapes; absent where that was not measured.
    pub ceiling: Option<BitRate>,
    /// All links of the run together.
    pub links: BitRate,
    /// In whose emulated seconds the link's figures are told.
    pub scale: TimeScale,
}

/// What is wrong with a link and why, in words that follow its name and a colon; `None` if nothing is. `findings` are in wall
/// seconds; the words tell what is the link's in emulated ones, and what is this machine's as it is.
pub fn reason(findings: &[Finding], circumstances: &Circumstances<'_>) -> Option<String> {
    let misses: Vec<Miss> = findings.iter().filter_map(Finding::miss).collect();
    let worst = *[Miss::Over, Miss::Short, Miss::Unequal]
        .iter()
        .find(|miss| misses.contains(miss))?;
    let wrong = findings.iter().filter(|finding| finding.miss().is_some());
    let scale = circumstances.scale;
    let wrong = wrong.map(|finding| words(&scale.emulated_finding(*finding)));
    let wrong: Vec<String> = wrong.collect();
    let cause = match worst {
        Miss::Over => over(circumstances),
        Miss::Short => short(findings, circumstances),
        Miss::Unequal => format!("{}one of them was held up", late(circumstances)),
    };
    Some(format!("{}; {cause}", wrong.join(", ")))
}

/// What of a link's figures cannot be judged and why, as words behind "not judged:"; `None` if all can.
pub fn unjudged(emulator: Emulator, spec: &LinkSpec) -> Option<&'static str> {
    match emulator {
        Emulator::Nobody => Some("nothing shapes links in this run"),
        Emulator::Packets | Emulator::Kernel => Some(
            "how much of its rate is used, since QUIC's congestion control decides that, and how two share it",
        ),
        Emulator::Clocks if spec.loss.share > 0.0 => {
            Some("how two share it, since losses hit one more than the other")
        }
        Emulator::Clocks => None,
    }
}

/// A finding that misses, in emulated seconds.
fn words(finding: &Finding) -> String {
    let mbps = |bps: f64| bps / BITS_PER_MEGABIT;
    let (configured, measured) = (finding.configured, finding.measured);
    let ms = |what: &str| {
        format!(
            "{what} {:.2} ms instead of {:.2} ms",
            measured * 1e3,
            configured * 1e3
        )
    };
    let rate = |what: &str| {
        format!(
            "{what} {:.1} Mbit/s instead of {:.1} ({:+.1} %)",
            mbps(measured),
            mbps(configured),
            100.0 * finding.error() / configured
        )
    };
    match finding.quantity {
        Quantity::Rate => rate("it carried"),
        Quantity::SharedRate => rate("two senders together got"),
        Quantity::Completion => ms("an isolated message took"),
        Quantity::Delay => ms("its delay was"),
        Quantity::Fairness => {
            format!("two senders shared it unequally (Jain's index {measured:.3})")
        }
    }
}

fn over(circumstances: &Circumstances<'_>) -> String {
    match circumstances.emulator {
        Emulator::Kernel => "the kernel does not hold its traffic back: it may lack netem, htb or tbf, or the rules are \
                             not in place"
            .to_owned(),
        Emulator::Packets => "its datagrams were not held back".to_owned(),
        Emulator::Clocks | Emulator::Nobody => {
            "the clocks of the two workers disagree by at least that".to_owned()
        }
    }
}

fn short(findings: &[Finding], circumstances: &Circumstances<'_>) -> String {
    let rate = circumstances.spec.rate;
    let mbps = |rate: BitRate| rate.bps() / BITS_PER_MEGABIT;
    if let Some(ceiling) = circumstances.ceiling.filter(|ceiling| *ceiling < rate) {
        let advice = match circumstances.scale {
            TimeScale::ONE => "use a lower `bandwidth_mbps`".to_owned(),
            scale => format!(
                "at time_scale {scale} the link needs {:.0} of them; use a lower time_scale or `bandwidth_mbps`",
                mbps(rate)
            ),
        };
        return format!(
            "this machine carries only {:.0} Mbit/s between two workers: {advice}",
            mbps(ceiling)
        );
    }
    let fastest_s = circumstances.arrivals.fastest_s;
    let is_too_far = findings.iter().any(|finding| {
        let most = finding
            .at_most
            .filter(|_| finding.quantity == Quantity::Delay);
        most.is_some_and(|most| fastest_s > most)
    });
    if is_too_far {
        return format!(
            "even the fastest message was {:.2} ms under way from worker to worker{}: the path between them is longer than \
             the link, or one of them is too busy",
            fastest_s * 1e3,
            of_this_machine(circumstances)
        );
    }
    match circumstances.emulator {
        Emulator::Clocks | Emulator::Nobody => {
            let late = late(circumstances);
            format!(
                "{late}this machine is too slow or too busy for it; use fewer emulated GPUs or slower links{}",
                crowd(circumstances)
            )
        }
        Emulator::Packets | Emulator::Kernel => {
            "the path between the two workers delays more or carries less than the link".to_owned()
        }
    }
}

/// Late messages, if there were any, as the begin of a clause.
fn late(circumstances: &Circumstances<'_>) -> String {
    let arrivals = circumstances.arrivals;
    if arrivals.late == 0 {
        return String::new();
    }
    format!(
        "{} of {} messages came late, the worst by {:.2} ms{}: ",
        arrivals.late,
        arrivals.messages,
        arrivals.worst_late_s * 1e3,
        of_this_machine(circumstances)
    )
}

/// Whether all links together are more than this machine carries, as a further sentence.
fn crowd(circumstances: &Circumstances<'_>) -> String {
    let links = circumstances.links;
    match circumstances.ceiling.filter(|ceiling| *ceiling < links) {
        Some(ceiling) => format!(
            " (all links together have {:.0} Mbit/s{}, two workers exchange {:.0} Mbit/s here)",
            links.bps() / BITS_PER_MEGABIT,
            of_this_machine(circumstances),
            ceiling.bps() / BITS_PER_MEGABIT
        ),
        None => String::new(),
    }
}

/// What stands behind a number that is this machine's, beside others that are emulated.
fn of_this_machine(circumstances: &Circumstances<'_>) -> &'static str {
    if circumstances.scale == TimeScale::ONE {
        ""
    } else {
        " on this machine's clock"
    }
}
