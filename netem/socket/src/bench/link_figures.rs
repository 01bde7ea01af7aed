//! How true links are on this host, figure by figure.

use std::time::Duration;

use bace_netem::{BitRate, DATAGRAM_BYTES, Delay, LinkSpec, SEGMENT_BYTES};
use bytes::Bytes;

use super::figure::{Bound, Figure};
use super::link::{Link, Way};
use super::peer::PeerTask;
use super::processes::{Peer, PeerProgram};
use super::shared::measure_shares;
use super::stats::percentile;
use crate::SocketError;
use crate::runtime::NetThread;

const BITS_PER_MEGABIT: f64 = 1e6;
const MS_PER_S: f64 = 1e3;
/// From this rate on a link may be off by a hundredth instead of half of one.
const FAST_MBPS: f64 = 2_000.0;
/// Messages in a row take at least this long, so that a constant error of a tenth of a millisecond hardly counts, s.
const ROW_S: f64 = 1.0;
/// Fewest messages in a row.
const FEWEST_IN_A_ROW: u32 = 2;
/// Isolated messages, bytes.
const ISOLATED_BYTES: [usize; 4] = [64 << 10, 1 << 20, 16 << 20, 64 << 20];
/// Messages that take a link longer are left out: the error is one of the receiver's wake-up, whatever a message's length.
const ISOLATED_MOST_S: f64 = 6.0;
/// How long a link idles before an isolated message.
const IDLE: Duration = Duration::from_millis(50);
/// Messages by which the one-way delay is measured, their size, and how far apart they are, ns.
const DELAY_MESSAGES: u32 = 400;
const DELAY_MESSAGE_BYTES: usize = 1_000;
const DELAY_GAP_NS: u64 = 5_000_000;
/// The link on which delays, shares and hogs are measured.
const PLAIN_MBPS: f64 = 1_000.0;
/// Links of the `packet` back end: Mbit/s and one-way delay in ms.
const PACKET_LINKS: [(f64, f64); 2] = [(100.0, 20.0), (1_000.0, 20.0)];
/// Processes on a shared link.
const SHARERS: [u32; 3] = [2, 4, 8];
/// How long a shared link is watched.
const SHARE_WINDOW: Duration = Duration::from_secs(3);
/// Processes that compute beside a link.
const HOGS: u32 = 2;
/// How long a hog spins at most, s: longer than the row beside it, and bounded should nobody end it.
const HOG_S: f64 = 20.0;
/// Hogs are at full speed then.
const HOGS_START: Duration = Duration::from_millis(300);

/// A part of the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkPart {
    /// Messages back to back: achieved over configured rate.
    Rate,
    /// One message after idling: completion error.
    Isolated,
    /// Small messages: error of the one-way delay.
    Delay,
    /// 2, 4 and 8 processes on one link.
    Shared,
    /// A link beside processes that compute.
    Hogs,
    /// The `packet` back end without loss: goodput over what the rate leaves to payload.
    Packet,
}

/// What is measured.
#[derive(Debug, Clone)]
pub struct LinkPlan {
    /// Times that every figure is measured, one after the other.
    pub rounds: u32,
    /// Message of the back-to-back rate, bytes.
    pub message_bytes: usize,
    /// Rates for [`LinkPart::Rate`] and [`LinkPart::Isolated`].
    pub rates: Vec<BitRate>,
    /// Delays for [`LinkPart::Isolated`] and [`LinkPart::Delay`].
    pub delays: Vec<Delay>,
    /// How to start processes that share links or compute.
    pub program: PeerProgram,
}

/// Measures a part; calls `each` with what comes next.
///
/// # Errors
/// When loopback does not work or a process cannot be started.
///
/// # Panics
/// Within a tokio runtime: it blocks.
pub fn measure_part(
    part: LinkPart,
    plan: &LinkPlan,
    each: &mut dyn FnMut(&str),
) -> Result<Vec<Figure>, SocketError> {
    let rows = match part {
        LinkPart::Rate => rates(plan),
        LinkPart::Isolated => isolated(plan),
        LinkPart::Delay => delays(plan),
        LinkPart::Shared => shares(plan),
        LinkPart::Hogs => hogs(plan),
        LinkPart::Packet => packets(plan),
    };
    let mut samples = vec![Vec::new(); rows.iter().map(|row| row.figures.len()).sum()];
    for round in 1..=plan.rounds {
        let mut place = 0;
        for row in &rows {
            each(&format!("{} ({round} of {})", row.name, plan.rounds));
            for value in (row.measure)()? {
                samples[place].push(value);
                place += 1;
            }
        }
    }
    let wanted = rows.into_iter().flat_map(|row| row.figures);
    let figures = wanted.zip(samples);
    Ok(figures
        .filter_map(|(wanted, samples)| {
            Figure::new(wanted.name, wanted.unit, samples, wanted.bounds)
        })
        .collect())
}

/// What is measured at once, and the figures it gives.
struct Row<'a> {
    name: String,
    figures: Vec<Wanted>,
    /// A sample of each figure.
    measure: Box<dyn Fn() -> Result<Vec<f64>, SocketError> + 'a>,
}

struct Wanted {
    name: String,
    unit: &'static str,
    /// Goal and aim.
    bounds: [Bound; 2],
}

impl<'a> Row<'a> {
    /// A row of one figure.
    fn single(
        name: String,
        unit: &'static str,
        bounds: [Bound; 2],
        measure: impl Fn() -> Result<f64, SocketError> + 'a,
    ) -> Self {
        Self {
            name: name.clone(),
            figures: vec![Wanted { name, unit, bounds }],
            measure: Box::new(move || Ok(vec![measure()?])),
        }
    }
}

fn rates(plan: &LinkPlan) -> Vec<Row<'_>> {
    let rows = plan.rates.iter().map(|&rate| {
        let name = format!(
            "rate, {} MiB back to back, {} Mbit/s",
            plan.message_bytes >> 20,
            mbps(rate)
        );
        let goal = if mbps(rate) < FAST_MBPS {
            Bound::Within(0.995, 1.005)
        } else {
            Bound::Within(0.99, 1.01)
        };
        let bounds = [goal, Bound::Within(0.999, 1.001)];
        Row::single(name, "of the rate", bounds, move || {
            back_to_back(rate, plan.message_bytes)
        })
    });
    rows.collect()
}

fn back_to_back(rate: BitRate, message_bytes: usize) -> Result<f64, SocketError> {
    let mut link = Link::alone(&LinkSpec::new(rate, Delay::ZERO), message_bytes)?;
    let payload = payload(message_bytes);
    // Buffers, windows and caches are warm on a link that is in use.
    link.carry(payload.slice(..message_bytes.min(1 << 20)))?;
    link.carry_back_to_back(&payload, messages_in_a_row(rate, message_bytes))
}

fn isolated(plan: &LinkPlan) -> Vec<Row<'_>> {
    let specs = plan.rates.iter().flat_map(|&rate| {
        let delays = plan.delays.iter();
        delays.map(move |&delay| LinkSpec::new(rate, delay))
    });
    specs
        .flat_map(|spec| ISOLATED_BYTES.map(|bytes| (spec, bytes)))
        .filter(|(spec, bytes)| spec.ideal_seconds(*bytes as u64) <= ISOLATED_MOST_S)
        .map(|(spec, bytes)| {
            let name = format!("error of one message after idling, {}", on(&spec, bytes));
            let goal_ms = (0.02 * spec.ideal_seconds(bytes as u64) * MS_PER_S).max(0.5);
            let bounds = [Bound::AtMost(three_decimals(goal_ms)), Bound::AtMost(0.2)];
            Row::single(name, "ms", bounds, move || {
                let mut link = Link::alone(&spec, bytes)?;
                std::thread::sleep(IDLE);
                Ok(link.carry(payload(bytes))?.error_s().abs() * MS_PER_S)
            })
        })
        .collect()
}

fn delays(plan: &LinkPlan) -> Vec<Row<'_>> {
    let rows = plan.delays.iter().map(|&delay| {
        let ms = delay.seconds() * MS_PER_S;
        let name = format!("error of the one-way delay, p99 of {DELAY_MESSAGES}, {ms} ms");
        let goal_ms = (0.01 * ms).max(0.5);
        let bounds = [Bound::AtMost(goal_ms), Bound::AtMost(0.2)];
        Row::single(name, "ms", bounds, move || {
            let mut link = Link::alone(&LinkSpec::new(plain(), delay), DELAY_MESSAGE_BYTES)?;
            let payload = payload(DELAY_MESSAGE_BYTES);
            let errors = link.delay_errors(&payload, DELAY_MESSAGES, DELAY_GAP_NS)?;
            let sizes: Vec<f64> = errors.iter().map(|error| error.abs() * MS_PER_S).collect();
            percentile(&sizes, 0.99).ok_or(SocketError::NothingCarried)
        })
    });
    rows.collect()
}

fn shares(plan: &LinkPlan) -> Vec<Row<'_>> {
    let rows = SHARERS.map(|processes| {
        let on = format!("{processes} processes on {PLAIN_MBPS} Mbit/s");
        let sum = [Bound::Within(0.99, 1.005), Bound::Within(0.999, 1.001)];
        let fair = [Bound::AtLeast(0.99), Bound::AtLeast(0.999)];
        let wanted = |what: &str, unit, bounds| Wanted {
            name: format!("{on}: {what}"),
            unit,
            bounds,
        };
        Row {
            figures: vec![
                wanted("reserved on the clock", "of the rate", sum),
                wanted("handed up", "of the rate", sum),
                wanted("Jain index", "", fair),
            ],
            name: on,
            measure: Box::new(move || {
                let shares = measure_shares(&plan.program, plain(), processes, SHARE_WINDOW)?;
                Ok(vec![shares.reserved, shares.delivered, shares.jain])
            }),
        }
    });
    rows.into()
}

fn hogs(plan: &LinkPlan) -> Vec<Row<'_>> {
    let name = format!(
        "rate, {} MiB back to back, {PLAIN_MBPS} Mbit/s, beside {HOGS} computing processes",
        plan.message_bytes >> 20
    );
    let bounds = [Bound::Within(0.99, 1.01), Bound::Within(0.999, 1.001)];
    vec![Row::single(name, "of the rate", bounds, move || {
        let thread = NetThread::start("hogs")?;
        let program = plan.program.clone();
        let hogs = thread.run(async move {
            let mut hogs = Vec::new();
            for _ in 0..HOGS {
                hogs.push(Peer::start(&program, &PeerTask::Spin { seconds: HOG_S }).await?);
            }
            Ok::<_, SocketError>(hogs)
        })??;
        std::thread::sleep(HOGS_START);
        let rate = back_to_back(plain(), plan.message_bytes);
        thread.run(async move {
            for hog in hogs {
                hog.end().await?;
            }
            Ok::<_, SocketError>(())
        })??;
        rate
    })]
}

fn packets(plan: &LinkPlan) -> Vec<Row<'_>> {
    let rows = PACKET_LINKS.map(|(mbps, delay_ms)| {
        let name = format!(
            "packet back end, warm, {} MiB, {mbps} Mbit/s, {delay_ms} ms",
            plan.message_bytes >> 20
        );
        let bounds = [Bound::AtLeast(0.97), Bound::AtLeast(0.99)];
        Row::single(name, "of rate x payload share", bounds, move || {
            let rate = BitRate::from_bps(mbps * BITS_PER_MEGABIT).expect("a positive rate");
            let delay = Delay::from_seconds(delay_ms / MS_PER_S).expect("a positive delay");
            let spec = LinkSpec::new(rate, delay);
            let mut link = Link::open(&spec, Way::Datagrams, plan.message_bytes)?;
            let payload = payload(plan.message_bytes);
            link.carry(payload.clone())?;
            let messages = 1 + messages_in_a_row(rate, plan.message_bytes);
            let goodput = link.goodput(&payload, messages)?;
            let payload_share = SEGMENT_BYTES as f64 / DATAGRAM_BYTES as f64;
            Ok(goodput.bps() / (rate.bps() * payload_share))
        })
    });
    rows.into()
}

/// How many messages take about [`ROW_S`].
fn messages_in_a_row(rate: BitRate, message_bytes: usize) -> u32 {
    let messages = (ROW_S / rate.seconds_for(message_bytes as u64)).ceil() as u32;
    messages.max(FEWEST_IN_A_ROW)
}

fn payload(bytes: usize) -> Bytes {
    Bytes::from(vec![0x5a; bytes])
}

fn plain() -> BitRate {
    BitRate::from_bps(PLAIN_MBPS * BITS_PER_MEGABIT).expect("a positive rate")
}

fn mbps(rate: BitRate) -> f64 {
    rate.bps() / BITS_PER_MEGABIT
}

/// A message on a link, in words.
fn on(spec: &LinkSpec, bytes: usize) -> String {
    let size = match bytes >> 20 {
        0 => format!("{} KiB", bytes >> 10),
        mib => format!("{mib} MiB"),
    };
    let ms = spec.delay.seconds() * MS_PER_S;
    format!("{size}, {} Mbit/s, {ms} ms", mbps(spec.rate))
}

fn three_decimals(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}
