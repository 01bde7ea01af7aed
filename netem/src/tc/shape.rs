//! One end of a link as queueing disciplines.
//!
//! The root discipline, `1:`, gives the rate; what waits for it lies in its leaf, `10:`, which is netem where the kernel
//! has it. A link that is down has the root `2:`, a queue that holds nothing.

use std::fmt::Write as _;

use super::command::TcCommand;
use super::plan::PlanError;
use crate::accounting::{DATAGRAM_BYTES, SEGMENT_BYTES};
use crate::{Accounting, BitRate, Delay, Jitter, LinkSpec, Route};

/// The largest frame of an interface with an MTU of 1500.
const LARGEST_FRAME_BYTES: f64 = 1514.0;
/// How late the kernel may serve a link without losing link time, s: timers are 0.05 to 0.1 ms late. An idle link gives
/// as much for nothing; with 64 KiB at 5 Gbit/s, which is 0.1 ms, 6 % of the rate are lost.
const BURST_S: f64 = 0.5e-3;
/// Frames that a bucket holds at least; what is larger is cut into frames.
const LEAST_BURST_FRAMES: f64 = 2.0;
/// Flows at once whose windows the queue of a link holds that the kernel cannot delay.
const FLOWS: f64 = 4.0;
/// netem's own default, in frames.
const LEAST_NETEM_FRAMES: f64 = 1000.0;
/// The least rate that tc takes: it counts bytes.
const LEAST_BPS: u64 = 8;
/// The largest number of bytes or frames that tc takes.
const MOST: u64 = u32::MAX as u64;
/// The longest that htb may take to fill a bucket, s: it counts ticks of 64 ns in 32 bits, and tc does not notice more.
const LONGEST_FILL_S: f64 = 274.0;
/// Mean and standard deviation of the positive half of a normal distribution, in those of the whole.
const HALF_NORMAL_MEAN: f64 = 0.797_884_560_802_865_4;
const HALF_NORMAL_DEVIATION: f64 = 0.602_810_274_989_028_2;
const BITS_PER_BYTE: f64 = 8.0;

/// The discipline that gives a link its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateQdisc {
    /// Token bucket filter. It cuts batches of datagrams that exceed its bucket into frames.
    Tbf,
    /// Hierarchical token bucket. It lets whole batches pass and makes up for them afterwards.
    Htb,
}

impl RateQdisc {
    /// Its name in commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tbf => "tbf",
            Self::Htb => "htb",
        }
    }
}

/// What a kernel has to shape links with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Qdiscs {
    /// What gives rates.
    pub rate: RateQdisc,
    /// Whether there is netem, which gives delay, jitter and loss.
    pub netem: bool,
}

/// An interface in its namespace.
#[derive(Debug)]
pub(super) struct End<'a> {
    pub about: &'a str,
    pub namespace: &'a str,
    pub interface: &'a str,
}

impl End<'_> {
    fn tc(&self, words: &str) -> TcCommand {
        TcCommand::new(self.about, &format!("tc -n {} {words}", self.namespace))
    }

    /// What is not quite as the scenario says, since tc takes no larger number.
    pub fn remark(&self, route: &Route, qdiscs: Qdiscs) -> Option<String> {
        let wanted = queue_bytes(route, qdiscs);
        (route.there.rate > BitRate::ZERO && !qdiscs.netem && wanted > MOST).then(|| {
            format!(
                "{}: its queue has {MOST} bytes, the most that tc takes; its rate and delay would give it {wanted}",
                self.about
            )
        })
    }

    /// Refuses what tc does not take and cannot be less without being another link.
    pub fn check(&self, route: &Route, qdiscs: Qdiscs) -> Result<(), PlanError> {
        let spec = &route.there;
        let refused = |what: String| {
            Err(PlanError::BeyondTc {
                link: self.about.to_owned(),
                what,
            })
        };
        let at_most = |what: &str, bytes: u64| {
            refused(format!(
                "{what} of {bytes} bytes; it may have {MOST} at most"
            ))
        };
        if let Some(bytes) = spec.queue_bytes.filter(|&bytes| bytes > MOST) {
            return at_most("queue_bytes asks for a queue", bytes);
        }
        if spec.rate == BitRate::ZERO {
            return Ok(());
        }
        let buckets = Buckets::of(spec);
        let (peak_bps, peak_burst) = buckets.peak.unwrap_or((buckets.bps, buckets.burst));
        for (bps, burst) in [(buckets.bps, buckets.burst), (peak_bps, peak_burst)] {
            if burst > MOST {
                return at_most(&format!("{bps} bit/s need a bucket"), burst);
            }
            let fill_s = burst as f64 * BITS_PER_BYTE / bps as f64;
            if qdiscs.rate == RateQdisc::Htb && fill_s > LONGEST_FILL_S {
                let least = (burst as f64 * BITS_PER_BYTE / LONGEST_FILL_S).ceil();
                return refused(format!(
                    "htb cannot fill a bucket of {burst} bytes at {bps} bit/s, since that takes longer than {LONGEST_FILL_S} s; from {least} bit/s on it can"
                ));
            }
        }
        if qdiscs.netem && netem_frames(route, qdiscs) > MOST as f64 {
            return refused(format!(
                "what is under way would be more than {MOST} frames; a lower rate or delay is needed"
            ));
        }
        Ok(())
    }

    /// Makes the end send as the link of `route` to its peer says, where it sends as `before` says or, without one, as fast
    /// as it can.
    pub fn shape(
        &self,
        before: Option<&LinkSpec>,
        route: &Route,
        qdiscs: Qdiscs,
    ) -> Vec<TcCommand> {
        let (device, spec) = (self.interface, &route.there);
        let is_down = |spec: &LinkSpec| spec.rate == BitRate::ZERO;
        if is_down(spec) {
            let words = format!("qdisc replace dev {device} root handle 2: pfifo limit 0");
            return vec![self.tc(&words)];
        }
        let buckets = Buckets::of(spec);
        let mut commands = Vec::new();
        match qdiscs.rate {
            RateQdisc::Tbf => {
                let words = buckets.tbf(queue_bytes(route, qdiscs).min(MOST));
                commands.push(format!("qdisc replace dev {device} root handle 1: {words}"));
            }
            RateQdisc::Htb => {
                // Its root has nothing to change.
                if before.is_none_or(is_down) {
                    commands.push(format!(
                        "qdisc replace dev {device} root handle 1: htb default 1"
                    ));
                }
                let words = buckets.htb();
                commands.push(format!(
                    "class replace dev {device} parent 1: classid 1:1 {words}"
                ));
            }
        }
        let leaf = if qdiscs.netem {
            netem(route, qdiscs)
        } else {
            format!("bfifo limit {}", queue_bytes(route, qdiscs).min(MOST))
        };
        commands.push(format!(
            "qdisc replace dev {device} parent 1:1 handle 10: {leaf}"
        ));
        commands.iter().map(|words| self.tc(words)).collect()
    }
}

/// Rates in tc's bytes and the buckets that go with them.
struct Buckets {
    bps: u64,
    burst: u64,
    /// Of a link with credit for bursts: what it gives while there is credit.
    peak: Option<(u64, u64)>,
}

impl Buckets {
    fn of(spec: &LinkSpec) -> Self {
        let (bps, burst) = (frame_bps(spec.rate, spec.accounting), burst_bytes(spec));
        match spec.burst {
            None => Self {
                bps,
                burst,
                peak: None,
            },
            Some(credit) => Self {
                bps: frame_bps(credit.sustained, spec.accounting),
                burst: credit.bytes.max(burst),
                peak: Some((bps, burst)),
            },
        }
    }

    fn tbf(&self, limit: u64) -> String {
        let Self { bps, burst, peak } = self;
        let mut words = format!("tbf rate {bps}bit burst {burst}");
        if let Some((bps, burst)) = peak {
            let _ = write!(words, " peakrate {bps}bit mtu {burst}");
        }
        let _ = write!(words, " limit {limit}");
        words
    }

    fn htb(&self) -> String {
        let Self { bps, burst, peak } = self;
        let (ceil, cburst) = peak.unwrap_or((*bps, *burst));
        // Only classes that compete need a quantum; without one htb warns.
        format!("htb rate {bps}bit burst {burst} ceil {ceil}bit cburst {cburst} quantum 60000")
    }
}

/// The rate that tc has to give, in bits of Ethernet frames, so that what the link counts gets the link's rate.
fn frame_bps(rate: BitRate, accounting: Accounting) -> u64 {
    let counted = match accounting {
        Accounting::Payload => SEGMENT_BYTES,
        Accounting::Ip | Accounting::Ethernet => accounting.datagram_bytes(DATAGRAM_BYTES),
    };
    ((rate.bps() * frame_bytes() / counted as f64).round() as u64).max(LEAST_BPS)
}

/// A full datagram's frame, as tc counts it.
fn frame_bytes() -> f64 {
    Accounting::Ethernet.datagram_bytes(DATAGRAM_BYTES) as f64
}

/// How much earlier than its rate says a link that idled may deliver: the time of what its bucket holds, s.
pub fn bucket_seconds(spec: &LinkSpec) -> f64 {
    burst_bytes(spec) as f64 * BITS_PER_BYTE / frame_bps(spec.rate, spec.accounting) as f64
}

fn burst_bytes(spec: &LinkSpec) -> u64 {
    let bytes = frame_bps(spec.rate, spec.accounting) as f64 / BITS_PER_BYTE * BURST_S;
    bytes.max(LEAST_BURST_FRAMES * LARGEST_FRAME_BYTES).ceil() as u64
}

/// What should be able to wait for the link, in the bytes of its frames.
fn queue_bytes(route: &Route, qdiscs: Qdiscs) -> u64 {
    let there = &route.there;
    let queue = route.queue_bytes(frame_bps(there.rate, there.accounting));
    if qdiscs.netem || there.queue_bytes.is_some() {
        return queue;
    }
    // Nothing is under way: the queue has to hold the windows of all flows.
    let window = route.without_delay().fixed_window_bytes() as f64;
    queue.max((FLOWS * window * frame_bytes() / SEGMENT_BYTES as f64).ceil() as u64)
}

/// netem's delay, s, and its spread with the name of its distribution.
fn netem_delay(spec: &LinkSpec) -> (f64, Option<(f64, &'static str)>) {
    let (delay_s, spread) = match spec.jitter {
        Jitter::None => (0.0, None),
        // Evenly from nothing to all of it.
        Jitter::Uniform(most) => (most.seconds() / 2.0, Some((most.seconds() / 2.0, ""))),
        // The whole distribution of the same mean and spread; netem has no half of one.
        Jitter::Normal(deviation) => (
            deviation.seconds() * HALF_NORMAL_MEAN,
            Some((
                deviation.seconds() * HALF_NORMAL_DEVIATION,
                " distribution normal",
            )),
        ),
    };
    (spec.delay.seconds() + delay_s, spread)
}

/// netem counts what it delays and what waits for the rate together, in frames.
fn netem_frames(route: &Route, qdiscs: Qdiscs) -> f64 {
    let spec = &route.there;
    let bytes_per_s = frame_bps(spec.rate, spec.accounting) as f64 / BITS_PER_BYTE;
    let (delay_s, _) = netem_delay(spec);
    let bytes = bytes_per_s * delay_s + queue_bytes(route, qdiscs) as f64;
    (bytes / frame_bytes()).max(LEAST_NETEM_FRAMES).ceil()
}

fn netem(route: &Route, qdiscs: Qdiscs) -> String {
    let spec = &route.there;
    let (delay_s, spread) = netem_delay(spec);
    let frames = netem_frames(route, qdiscs) as u64;
    let mut words = format!("netem limit {frames} delay {}", micros(delay_s));
    if let Some((spread_s, distribution)) = spread {
        // With a rate of its own, however high, netem keeps frames in order.
        let _ = write!(words, " {}{distribution} rate 100gbit", micros(spread_s));
    }
    if spec.loss.share > 0.0 {
        let _ = write!(words, " loss {}%", decimal(spec.loss.share * 100.0));
    }
    words
}

fn micros(seconds: f64) -> String {
    let delay = Delay::from_seconds(seconds).expect("a sum of delays is a delay");
    format!("{}us", decimal(delay.nanos() as f64 / 1e3))
}

/// At most six digits behind the point, and no zeros at the end.
fn decimal(number: f64) -> String {
    let text = format!("{number:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
