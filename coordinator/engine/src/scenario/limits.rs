//! How large a scenario may be.
//!
//! A number beyond these is a slip of the pen, and refusing it keeps every product that the engine forms
//! (parameters, bytes over a boundary, operations) inside 64 bits.

use std::ops::RangeInclusive;

use bace_netem::TimeScale;

/// Largest file, in bytes: 100 000 jobs of eight lines each fit. Reading one takes up to forty times as much memory, and a larger
/// file is refused unread.
pub(super) const FILE_BYTES: usize = 16 << 20;
/// Longest name, in characters: names stand in tables, certificates and file names.
pub(super) const NAME_CHARS: usize = 64;
/// Most regions: links grow with the square.
pub(super) const REGIONS: usize = 1_000;
/// Most jobs: a job's index has 32 bits, and every job is looked at in every decision.
pub(super) const JOBS: usize = 1_000_000;
/// Most entries of one price or carbon series, or of one trace: ten years in steps of five minutes.
pub(super) const SERIES_STEPS: usize = 1_100_000;

/// Most changes of directed links, the steps of traces among them: one trace of the greatest length in both directions.
pub(super) const LINK_CHANGES: usize = 2 * SERIES_STEPS;

/// GPUs of a region; the largest data centres have fewer.
pub(super) const GPUS: RangeInclusive<i64> = 0..=1_000_000;
/// Layers of a model; a stage split takes a time that grows with them.
pub(super) const LAYERS: RangeInclusive<i64> = 1..=4_096;
/// Hidden width of a model.
pub(super) const HIDDEN: RangeInclusive<i64> = 1..=1 << 20;
/// Attention heads; with [`HEAD_SIZE`] the attention's width stays below 2^28.
pub(super) const HEADS: RangeInclusive<i64> = 1..=1 << 14;
/// Elements of an attention head.
pub(super) const HEAD_SIZE: RangeInclusive<i64> = 1..=1 << 14;
/// Feed-forward width.
pub(super) const FEED_FORWARD: RangeInclusive<i64> = 1..=1 << 22;
/// Token ids.
pub(super) const VOCABULARY: RangeInclusive<i64> = 1..=1 << 24;
/// Iterations; at a second each, thirty years.
pub(super) const ITERATIONS: RangeInclusive<i64> = 1..=1_000_000_000;
/// Micro-batches of an iteration: each is listed six times in a stage's program, which travels in one control message.
pub(super) const MICRO_BATCHES: RangeInclusive<i64> = 1..=1 << 16;
/// Bytes of an element on the wire: up to an fp64. Training for real knows bf16 and fp32 alone.
pub(super) const BYTES_PER_ELEMENT: RangeInclusive<i64> = 1..=8;
/// Sequences of a micro-batch; with sequence and width, bytes over a boundary stay below 2^62.
pub(super) const MICRO_BATCH: RangeInclusive<i64> = 1..=1 << 16;
/// Tokens of a sequence.
pub(super) const SEQUENCE: RangeInclusive<i64> = 1..=1 << 24;

/// Times of arrivals, changes and steps, seconds: some thirty years.
pub(super) const SECONDS: Range = Range::from_zero(1e9);
/// One-way delays, milliseconds: a day.
pub(super) const DELAY_MS: Range = Range::from_zero(86_400_000.0);
/// Capacities, Mbit/s: 1 Pbit/s; 0 is a link that is down.
pub(super) const BANDWIDTH_MBPS: Range = Range::from_zero(1e9);
/// Emulated seconds in a second of the machine.
pub(super) const TIME_SCALE: Range = Range::between(TimeScale::LEAST, TimeScale::MOST);
/// Workers that compute on one device at a time: more than any machine has cores.
pub(super) const LEASE: RangeInclusive<i64> = 1..=4_096;
/// Jitter, milliseconds: a minute.
pub(super) const JITTER_MS: Range = Range::from_zero(60_000.0);
/// Shares of lost datagrams: where more than half are lost nothing that retransmits gets far.
pub(super) const LOSS: Range = Range::from_zero(0.5);
/// Burst credits, 10^6 bytes: 1 PB.
pub(super) const BURST_MB: Range = Range::above_zero(1e9);
/// Rates at which burst credits fill, Mbit/s: 1 Pbit/s.
pub(super) const SUSTAINED_MBPS: Range = Range::above_zero(1e9);
/// Queues of links, 10^3 bytes: from one full datagram up to 1 TB.
pub(super) const QUEUE_KB: Range = Range {
    least: 1.5,
    open: false,
    most: 1e9,
};
/// Fabric rates, Gbit/s: 1 Pbit/s.
pub(super) const FABRIC_GBPS: Range = Range::from_zero(1e6);
/// Peak of a GPU, Tflop/s.
pub(super) const TFLOPS: Range = Range::above_zero(1e9);
/// Shares of a whole that cannot be nothing.
pub(super) const SHARE: Range = Range::above_zero(1.0);
/// Device memory, GB.
pub(super) const MEMORY_GB: Range = Range::above_zero(1e6);
/// Power of a GPU, W.
pub(super) const WATTS: Range = Range::from_zero(1e6);
/// Prices, $/kWh, and carbon intensities, gCO2/kWh.
pub(super) const PER_KWH: Range = Range::from_zero(1e6);
/// Power usage effectiveness.
pub(super) const PUE: Range = Range {
    least: 1.0,
    open: false,
    most: 100.0,
};
/// Step sizes of the optimizer; beyond 10 nothing trains.
pub(super) const LEARNING_RATE: Range = Range::above_zero(10.0);
/// `time_slack` and `aging_per_hour`.
pub(super) const KNOB: Range = Range::from_zero(1e6);

/// Real numbers from `least` (excluded if `open`) to `most`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub least: f64,
    pub open: bool,
    pub most: f64,
}

impl Range {
    const fn from_zero(most: f64) -> Self {
        Self {
            least: 0.0,
            open: false,
            most,
        }
    }

    const fn between(least: f64, most: f64) -> Self {
        Self {
            least,
            open: false,
            most,
        }
    }

    const fn above_zero(most: f64) -> Self {
        Self {
            least: 0.0,
            open: true,
            most,
        }
    }

    pub fn contains(&self, value: f64) -> bool {
        let enough = if self.open {
            value > self.least
        } else {
            value >= self.least
        };
        enough && value <= self.most
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = if self.open { "above" } else { "from" };
        write!(f, "a number {word} {} up to {}", self.least, self.most)
    }
}
