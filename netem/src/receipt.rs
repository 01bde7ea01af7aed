//! What a measured link is held against: expectations from its spec, and how far a figure may be off.

use serde::{Deserialize, Serialize};

use crate::{BitRate, LinkSpec, LossModel, Sharing};

/// How late anything may be on the machine that emulates it before that counts, ns: what links are true to, and timers on a busy
/// machine. Less, such as a message on a fabric faster than loopback, says nothing about the host.
pub const LATE_TOLERANCE_NS: u64 = 1_000_000;
/// [`LATE_TOLERANCE_NS`], s.
pub const LATE_TOLERANCE_S: f64 = LATE_TOLERANCE_NS as f64 / 1e9;

/// Jain's index of two senders that count as equal: shares of 0.45 and 0.55 have it. Each holds a turn of one chunk, and a
/// measured stretch of a slow link has few of them.
const EQUAL_JAIN: f64 = 0.99;

/// How a message left the near end of a link with a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Departure {
    /// Its last bit has left, ns.
    pub left_ns: u64,
    /// Time that the clock gave to others while the message, or what its sender had queued before it, could have had it, ns:
    /// other jobs, and where each message counts as a flow other messages too. A link that was down served nobody.
    pub queued_ns: u64,
}

/// The times of one message in nanoseconds of the receiver's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// The sender could have sent it.
    pub ready_ns: u64,
    /// When and after whom it left; absent where no clock timed it.
    pub departure: Option<Departure>,
    /// The link delivers it; where no clock timed it, its arrival.
    pub deliver_at_ns: u64,
    /// Its last byte was here; after `deliver_at_ns` the host could not keep up with the link.
    pub arrived_ns: u64,
    /// It was handed up.
    pub delivered_ns: u64,
}

impl Timing {
    /// From the moment it could leave to the moment its receiver had it, s. Here, and in [`Self::physical_s`], times of the
    /// sender and of the receiver meet; between hosts they are as true as the offset that was taken off.
    pub fn transit_s(&self) -> f64 {
        seconds_between(self.ready_ns, self.delivered_ns)
    }

    /// From the moment it could leave to the arrival of its last byte, s; what no emulated link can go below.
    pub fn physical_s(&self) -> f64 {
        seconds_between(self.ready_ns, self.arrived_ns)
    }

    /// By how much its last byte came after the link would have delivered it, s.
    pub fn late_s(&self) -> f64 {
        seconds_between(self.deliver_at_ns, self.arrived_ns).max(0.0)
    }
}

/// Seconds from one reading of a clock to another, negative if it comes before.
pub fn seconds_between(from_ns: u64, to_ns: u64) -> f64 {
    if to_ns >= from_ns {
        (to_ns - from_ns) as f64 / 1e9
    } else {
        -((from_ns - to_ns) as f64 / 1e9)
    }
}

/// What of a link is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Quantity {
    /// Payload of messages sent back to back, bit/s.
    #[serde(rename = "rate_bps")]
    Rate,
    /// From the moment a message could leave an idle link to its complete arrival, s.
    #[serde(rename = "completion_s")]
    Completion,
    /// The same of a message of one byte, without the time of that byte, s.
    #[serde(rename = "delay_s")]
    Delay,
    /// Payload of two processes that send at once, bit/s.
    #[serde(rename = "shared_rate_bps")]
    SharedRate,
    /// Jain's index of what those two got: 1 if each had the same, 0.5 if one had all.
    #[serde(rename = "jain_index")]
    Fairness,
}

/// A measured figure and what it is held against, in the quantity's unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What was measured.
    pub quantity: Quantity,
    /// What the link is to give.
    pub configured: f64,
    /// What it gave.
    pub measured: f64,
    /// The least that counts as true; absent where nothing is promised downwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// The most that counts as true; absent where nothing is promised upwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
}

/// How a figure misses its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// The link gives less than it should: fewer bits a second, or later.
    Short,
    /// The link gives more than it should.
    Over,
    /// The link is not shared equally.
    Unequal,
}

impl Finding {
    /// Measured less configured.
    pub fn error(&self) -> f64 {
        self.measured - self.configured
    }

    /// Whether anything is promised of it.
    pub fn is_judged(&self) -> bool {
        self.at_least.is_some() || self.at_most.is_some()
    }

    /// How it misses, if it does.
    pub fn miss(&self) -> Option<Miss> {
        let is_low = self.at_least.is_some_and(|least| self.measured < least);
        let is_high = self.at_most.is_some_and(|most| self.measured > most);
        let (low, high) = match self.quantity {
            Quantity::Rate | Quantity::SharedRate => (Miss::Short, Miss::Over),
            Quantity::Completion | Quantity::Delay => (Miss::Over, Miss::Short),
            Quantity::Fairness => (Miss::Unequal, Miss::Unequal),
        };
        if is_low {
            Some(low)
        } else if is_high {
            Some(high)
        } else {
            None
        }
    }
}

/// How far a time may be off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowance {
    /// As a share of the expected time.
    pub share: f64,
    /// In seconds, where that is more.
    pub seconds: f64,
}

impl Allowance {
    fn of(&self, expected_s: f64) -> f64 {
        self.seconds.max(self.share * expected_s)
    }
}

/// Who shapes a link, which decides what can be promised of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shaping {
    /// A clock for every chunk: all is promised.
    Clocked,
    /// Datagrams below QUIC: the link is a bound, and QUIC's congestion control decides how much of it is used.
    Datagrams,
    /// Nobody: nothing is promised.
    Nothing,
}

impl Shaping {
    /// The link whose times and rates are promised for one of `spec`. Models of loss are for clocks: datagrams are lost for
    /// real, and what a sender makes of that only its congestion control knows.
    pub fn timed(self, spec: &LinkSpec) -> LinkSpec {
        let mut timed = *spec;
        if self == Self::Datagrams {
            timed.loss.share = 0.0;
        }
        timed
    }
}

/// What a link promises.
#[derive(Debug, Clone, Copy)]
pub struct Promise<'a> {
    /// The link.
    pub spec: &'a LinkSpec,
    /// Who shapes it.
    pub shaping: Shaping,
    /// How far it may be off.
    pub allowance: Allowance,
    /// How much earlier than its rate says it may deliver what it carries after idling, s; 0 for all but the kernel's buckets.
    pub ahead_s: f64,
}

impl Promise<'_> {
    /// One-way delay of a tiny message, whose bytes' time has been taken off.
    pub fn delay(&self, measured_s: f64) -> Finding {
        let ideal_s = self.spec.delay.seconds();
        // A single datagram meets no congestion control, but it may be lost and sent again.
        let is_bounded = self.shaping == Shaping::Clocked || self.spec.loss.share == 0.0;
        self.time(Quantity::Delay, ideal_s, measured_s, is_bounded)
    }

    /// Completion of an isolated message of `bytes`.
    pub fn completion(&self, bytes: u64, measured_s: f64) -> Finding {
        let ideal_s = self.timed().ideal_seconds(bytes);
        let is_bounded = self.shaping == Shaping::Clocked;
        self.time(Quantity::Completion, ideal_s, measured_s, is_bounded)
    }

    /// Rate of `messages` of `message_bytes` each, sent back to back: from the first one's delivery on where they come one
    /// behind the other, else from when they could leave.
    pub fn rate(&self, message_bytes: u64, messages: u64, measured: BitRate) -> Finding {
        let all = message_bytes.saturating_mul(messages);
        let (bytes, ideal_s) = match self.spec.sharing {
            Sharing::PerJob => (
                all - message_bytes,
                self.busy_s(all, all) - self.busy_s(message_bytes, message_bytes),
            ),
            // Each is a flow, and all are under way at once.
            Sharing::PerFlow => (all, self.busy_s(all, message_bytes)),
        };
        let is_filled = self.shaping == Shaping::Clocked;
        self.throughput(Quantity::Rate, (bytes, ideal_s), measured, is_filled)
    }

    /// Rate of `messages` of `message_bytes` each, half of them from one process and half from another, from when the first
    /// could leave.
    pub fn shared_rate(&self, message_bytes: u64, messages: u64, measured: BitRate) -> Finding {
        let all = message_bytes.saturating_mul(messages);
        let flow_bytes = match self.spec.sharing {
            Sharing::PerJob => all / 2,
            Sharing::PerFlow => message_bytes,
        };
        let ideal_s = self.busy_s(all, flow_bytes);
        let is_filled = self.shaping == Shaping::Clocked && self.spec.loss.share == 0.0;
        self.throughput(Quantity::SharedRate, (all, ideal_s), measured, is_filled)
    }

    /// Jain's index of two equal senders.
    pub fn fairness(&self, measured: f64) -> Finding {
        let is_equal = self.shaping == Shaping::Clocked
            && self.spec.loss.share == 0.0
            && self.spec.sharing == Sharing::PerJob;
        Finding {
            quantity: Quantity::Fairness,
            configured: 1.0,
            measured,
            at_least: is_equal.then_some(EQUAL_JAIN),
            at_most: None,
        }
    }

    fn timed(&self) -> LinkSpec {
        self.shaping.timed(self.spec)
    }

    /// Time that the link takes for `bytes` of flows of which each has `flow_bytes`, s. None is faster than one flow may be.
    fn busy_s(&self, bytes: u64, flow_bytes: u64) -> f64 {
        let link = self.timed();
        let link_s = link.rate.seconds_for(link.charged_bytes(bytes));
        let flow_s = link
            .flow_cap()
            .map_or(0.0, |cap| cap.seconds_for(flow_bytes));
        link_s.max(flow_s)
    }

    fn time(&self, quantity: Quantity, ideal_s: f64, measured: f64, is_bounded: bool) -> Finding {
        let allowed_s = self.allowance.of(ideal_s);
        let is_shaped = self.shaping != Shaping::Nothing;
        Finding {
            quantity,
            configured: ideal_s,
            measured,
            at_least: is_shaped.then_some(ideal_s - allowed_s - self.ahead_s),
            at_most: (is_shaped && is_bounded && self.is_steady())
                .then_some(ideal_s + allowed_s + self.spread_s()),
        }
    }

    fn throughput(
        &self,
        quantity: Quantity,
        (bytes, ideal_s): (u64, f64),
        measured: BitRate,
        is_filled: bool,
    ) -> Finding {
        let off_s = self.allowance.of(ideal_s) + self.spread_s();
        let within =
            |seconds: f64| (seconds > 0.0).then(|| BitRate::carrying(bytes, seconds).bps());
        let is_shaped = self.shaping != Shaping::Nothing;
        Finding {
            quantity,
            configured: BitRate::carrying(bytes, ideal_s).bps(),
            measured: measured.bps(),
            at_least: within(ideal_s + off_s)
                .filter(|_| is_shaped && is_filled && self.is_steady()),
            at_most: within(ideal_s - off_s - self.ahead_s).filter(|_| is_shaped),
        }
    }

    /// Whether the link gives its rate at any time: one with burst credit gives less once that is used up.
    fn is_steady(&self) -> bool {
        self.spec.burst.is_none()
    }

    /// What random impairments may add to one message, s.
    fn spread_s(&self) -> f64 {
        // A loss costs a message at most one more round trip; where it only holds flows to a rate, nothing is repeated.
        let loss = self.spec.loss;
        let is_repeated = self.shaping == Shaping::Datagrams || loss.model == LossModel::Goodput;
        let recovery_s = if loss.share > 0.0 && is_repeated {
            2.0 * self.spec.delay.seconds()
        } else {
            0.0
        };
        self.spec.jitter.most().seconds() + recovery_s
    }
}

/// Jain's index of what equal senders got; `None` where nobody got anything.
pub fn jain_index(shares: &[f64]) -> Option<f64> {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    (squares > 0.0).then(|| sum * sum / (shares.len() as f64 * squares))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Delay, Jitter, Loss};

    const ALLOWANCE: Allowance = Allowance {
        share: 0.02,
        seconds: 0.001,
    };

    fn spec(mbps: f64, delay_ms: f64) -> LinkSpec {
        LinkSpec::new(
            BitRate::from_bps(mbps * 1e6).unwrap(),
            Delay::from_seconds(delay_ms / 1e3).unwrap(),
        )
    }

    /// 100 Mbit/s and 20 ms.
    fn lossy(share: f64, model: LossModel) -> LinkSpec {
        let loss = Loss { share, model };
        LinkSpec {
            loss,
            ..spec(100.0, 20.0)
        }
    }

    fn promise(spec: &LinkSpec, shaping: Shaping) -> Promise<'_> {
        Promise {
            spec,
            shaping,
            allowance: ALLOWANCE,
            ahead_s: 0.0,
        }
    }

    fn mbps(value: f64) -> BitRate {
        BitRate::from_bps(value * 1e6).unwrap()
    }

    #[test]
    fn a_time_may_be_off_by_the_share_or_by_the_seconds() {
        // 1 MB at 100 Mbit/s is 80 ms: with 20 ms of delay 2 ms are allowed.
        let spec = spec(100.0, 20.0);
        let promise = promise(&spec, Shaping::Clocked);
        let miss = |seconds| promise.completion(1_000_000, seconds).miss();
        assert_eq!(miss(0.100), None);
        assert_eq!(miss(0.1019), None);
        assert_eq!(miss(0.1021), Some(Miss::Short));
        assert_eq!(miss(0.0981), None);
        assert_eq!(miss(0.0979), Some(Miss::Over));
        // 2 % of 20 ms are less than 1 ms.
        assert_eq!(promise.delay(0.0209).miss(), None);
        assert_eq!(promise.delay(0.0211).miss(), Some(Miss::Short));
        assert_eq!(promise.delay(0.0).miss(), Some(Miss::Over));
    }

    #[test]
    fn a_rate_may_be_off_by_what_its_time_may_be() {
        // 2.5 MB at 100 Mbit/s are 200 ms: 4 ms are 2 %.
        let spec = spec(100.0, 20.0);
        let promise = promise(&spec, Shaping::Clocked);
        let finding = |measured| promise.rate(500_000, 6, mbps(measured));
        assert!((finding(100.0).configured - 100e6).abs() < 1.0);
        assert_eq!(finding(98.1).miss(), None);
        assert_eq!(finding(98.0).miss(), Some(Miss::Short));
        assert_eq!(finding(102.0).miss(), None);
        assert_eq!(finding(102.1).miss(), Some(Miss::Over));
        // Bytes that take a fiftieth of a millisecond cannot be told from none.
        let short = promise.rate(250, 2, mbps(10_000.0));
        assert_eq!((short.at_most, short.miss()), (None, None));
    }

    #[test]
    fn a_shared_link_gives_two_what_it_gives_one() {
        let spec = spec(100.0, 20.0);
        let promise = promise(&spec, Shaping::Clocked);
        let miss = |measured| promise.shared_rate(250_000, 10, mbps(measured)).miss();
        assert_eq!(miss(100.0), None);
        assert_eq!(miss(103.0), Some(Miss::Over));
        assert_eq!(miss(97.0), Some(Miss::Short));
        assert_eq!(
            promise.fairness(jain_index(&[1.0, 1.1]).unwrap()).miss(),
            None
        );
        let unequal = promise.fairness(jain_index(&[1.0, 2.0]).unwrap());
        assert!((unequal.measured - 0.9).abs() < 1e-12);
        assert_eq!(unequal.miss(), Some(Miss::Unequal));
    }

    #[test]
    fn random_impairments_widen_what_counts_as_true() {
        let mut spec = spec(100.0, 20.0);
        spec.jitter = Jitter::Uniform(Delay::from_seconds(0.005).unwrap());
        let miss = |spec: &LinkSpec, seconds| promise(spec, Shaping::Clocked).delay(seconds).miss();
        assert_eq!(miss(&spec, 0.0255), None);
        assert_eq!(miss(&spec, 0.0261), Some(Miss::Short));
        assert_eq!(miss(&spec, 0.0189), Some(Miss::Over));
        spec.jitter = Jitter::Normal(Delay::from_seconds(0.002).unwrap());
        assert_eq!(miss(&spec, 0.0289), None);
        assert_eq!(miss(&spec, 0.0291), Some(Miss::Short));
        spec.jitter = Jitter::None;
        spec.loss = Loss {
            share: 0.01,
            model: LossModel::Goodput,
        };
        assert_eq!(miss(&spec, 0.0609), None);
        assert_eq!(miss(&spec, 0.0611), Some(Miss::Short));
        let fairness = promise(&spec, Shaping::Clocked).fairness(0.5);
        assert!(!fairness.is_judged());
    }

    #[test]
    fn two_held_flows_get_twice_what_one_gets() {
        // 1.22 x 1421 x 8 / (0.04 x 0.1) = 3.467 24 Mbit/s.
        let mut spec = spec(100.0, 20.0);
        spec.loss = Loss {
            share: 0.01,
            model: LossModel::Mathis,
        };
        let promise = promise(&spec, Shaping::Clocked);
        let finding = promise.shared_rate(250_000, 10, mbps(6.934));
        assert!((finding.configured / 6.934_48e6 - 1.0).abs() < 1e-9);
        assert_eq!(finding.miss(), None);
        assert_eq!(
            promise.shared_rate(250_000, 10, mbps(8.0)).miss(),
            Some(Miss::Over)
        );
    }

    #[test]
    fn messages_that_are_flows_are_held_one_by_one() {
        // Each is held to 3.467 24 Mbit/s: six of 50 kB take 115.4 ms, as long as one.
        let mut spec = lossy(0.01, LossModel::Mathis);
        spec.sharing = Sharing::PerFlow;
        let promise = promise(&spec, Shaping::Clocked);
        let six = promise.rate(50_000, 6, mbps(6.0 * 3.467));
        assert!((six.configured / (6.0 * 3.467_24e6) - 1.0).abs() < 1e-9);
        assert_eq!(six.miss(), None);
        let over = promise.rate(50_000, 6, mbps(30.0));
        assert_eq!(over.miss(), Some(Miss::Over));
        let ten = promise.shared_rate(50_000, 10, mbps(34.67));
        assert!((ten.configured / 34.672_4e6 - 1.0).abs() < 1e-9);
        assert_eq!(ten.miss(), None);
        // So many of them fill the link.
        let many = promise.rate(50_000, 60, mbps(100.0));
        assert!((many.configured - 100e6).abs() < 1.0, "{many:?}");
    }

    #[test]
    fn datagrams_are_lost_for_real_and_not_by_a_model() {
        for model in [LossModel::Mathis, LossModel::Goodput] {
            let spec = lossy(0.1, model);
            let promise = promise(&spec, Shaping::Datagrams);
            let findings = [
                promise.rate(500_000, 6, mbps(100.0)),
                promise.shared_rate(250_000, 10, mbps(100.0)),
                promise.completion(500_000, 0.060),
                promise.delay(0.020),
            ];
            for finding in findings {
                assert_eq!(finding.miss(), None, "{finding:?}");
            }
            assert!((findings[0].configured - 100e6).abs() < 1.0);
            assert!((findings[2].configured - 0.060).abs() < 1e-9);
        }
    }

    #[test]
    fn a_flow_held_to_a_rate_repeats_nothing() {
        let spec = lossy(0.01, LossModel::Mathis);
        let miss = |shaping| promise(&spec, shaping).delay(0.030).miss();
        assert_eq!(miss(Shaping::Clocked), Some(Miss::Short));
        let goodput = lossy(0.01, LossModel::Goodput);
        assert_eq!(
            promise(&goodput, Shaping::Clocked).delay(0.030).miss(),
            None
        );
    }

    #[test]
    fn a_bucket_delivers_early_and_no_link_is_refused_for_it() {
        // Two frames of 1514 bytes take 2.4 ms at 10 Mbit/s, of which headers take 5 %.
        let spec = spec(10.0, 5.0);
        let bucket_s = crate::bucket_seconds(&spec);
        assert!((0.0022..0.0025).contains(&bucket_s), "{bucket_s}");
        let plain = promise(&spec, Shaping::Datagrams);
        let kernel = Promise {
            ahead_s: bucket_s,
            ..plain
        };
        // 50 kB in 40 ms and 5 ms of delay.
        let early_s = 0.045 - bucket_s;
        assert_eq!(plain.completion(50_000, early_s).miss(), Some(Miss::Over));
        assert_eq!(kernel.completion(50_000, early_s).miss(), None);
        let twice_s = early_s - bucket_s;
        assert_eq!(kernel.completion(50_000, twice_s).miss(), Some(Miss::Over));
        let early = BitRate::carrying(100_000, 0.08 - bucket_s);
        assert_eq!(plain.rate(50_000, 3, early).miss(), Some(Miss::Over));
        assert_eq!(kernel.rate(50_000, 3, early).miss(), None);
    }

    #[test]
    fn nobody_shares_nothing() {
        assert_eq!(jain_index(&[0.0, 0.0]), None);
        assert_eq!(jain_index(&[]), None);
        assert_eq!(jain_index(&[1.0, 0.0]), Some(0.5));
    }

    #[test]
    fn credit_promises_a_bound() {
        let mut spec = spec(100.0, 20.0);
        spec.burst = Some(crate::BurstCredit {
            bytes: 1,
            sustained: mbps(10.0),
        });
        let promise = promise(&spec, Shaping::Clocked);
        assert_eq!(promise.rate(500_000, 6, mbps(10.0)).miss(), None);
        assert_eq!(
            promise.rate(500_000, 6, mbps(103.0)).miss(),
            Some(Miss::Over)
        );
        assert_eq!(promise.completion(1_000_000, 0.9).miss(), None);
        assert_eq!(promise.completion(1_000_000, 0.05).miss(), Some(Miss::Over));
    }

    #[test]
    fn senders_do_not_share_equally_where_messages_do() {
        let mut spec = spec(100.0, 20.0);
        spec.sharing = Sharing::PerFlow;
        assert!(!promise(&spec, Shaping::Clocked).fairness(0.5).is_judged());
    }

    #[test]
    fn datagrams_promise_a_bound_and_the_delay() {
        let spec = spec(100.0, 20.0);
        let promise = promise(&spec, Shaping::Datagrams);
        assert_eq!(promise.rate(500_000, 6, mbps(50.0)).miss(), None);
        assert_eq!(
            promise.rate(500_000, 6, mbps(103.0)).miss(),
            Some(Miss::Over)
        );
        assert_eq!(promise.completion(1_000_000, 5.0).miss(), None);
        assert_eq!(promise.completion(1_000_000, 0.05).miss(), Some(Miss::Over));
        assert_eq!(promise.delay(0.030).miss(), Some(Miss::Short));
        assert_eq!(promise.delay(0.001).miss(), Some(Miss::Over));
        assert!(!promise.fairness(0.6).is_judged());
    }

    #[test]
    fn nothing_is_promised_where_nothing_is_shaped() {
        let spec = spec(100.0, 20.0);
        let promise = promise(&spec, Shaping::Nothing);
        let findings = [
            promise.delay(1.0),
            promise.completion(1, 1.0),
            promise.rate(1, 2, mbps(1e6)),
            promise.shared_rate(1, 2, mbps(1e6)),
            promise.fairness(0.5),
        ];
        for finding in findings {
            assert!(
                !finding.is_judged() && finding.miss().is_none(),
                "{finding:?}"
            );
        }
    }

    #[test]
    fn times_of_a_message() {
        let timing = Timing {
            departure: None,
            ready_ns: 1_000_000,
            deliver_at_ns: 3_000_000,
            arrived_ns: 3_500_000,
            delivered_ns: 4_000_000,
        };
        assert_eq!(timing.transit_s(), 0.003);
        assert_eq!(timing.physical_s(), 0.0025);
        assert_eq!(timing.late_s(), 0.0005);
        assert_eq!(seconds_between(2_000_000_000, 1_500_000_000), -0.5);
    }
}
