//! The pure model of a link and the shaped socket, by one body of tests: the same messages get the same times of delivery, to
//! the nanosecond, since these are arithmetic of when messages were ready.

use bace_netem::{
    Accounting, BitRate, BurstCredit, CreditBucket, Delay, Departure, Flow, Jitter, LinkClock,
    LinkSpec, LinkState, LossModel, Sharing, chunk_bytes,
};

use super::support::*;
use crate::{LinkCell, OutgoingMessage, Profile, SenderConfig, now_ns};

/// A message: payload bytes, and when it is ready, ns from the first one's.
type Planned = (usize, u64);

/// Messages that queue, pause, cross chunk sizes and fall behind.
const MESSAGES: [Planned; 9] = [
    (200_000, 0),
    (0, 0),
    (1, 0),
    (65_536, 1_000_000),
    (65_537, 30_000_000),
    (300_000, 30_000_000),
    (1_421, 60_000_000),
    (14_210, 90_000_000),
    (131_072, 90_000_001),
];

/// When a link of `spec` delivers each message, and how each leaves it, by arithmetic alone.
fn modelled(spec: &LinkSpec, messages: &[Planned], origin_ns: u64) -> Vec<(u64, Departure)> {
    let mut clock = LinkClock::new(spec.into());
    let mut credit = spec
        .burst
        .map(|burst| CreditBucket::new(burst, spec.credit_depth_bytes().unwrap()));
    let mut flow = Flow::new(spec, SenderConfig::default().flow);
    let size = chunk_bytes(spec.rate).into();
    let mut deliver = |&(bytes, after_ns): &Planned| {
        let mut message = flow.message(bytes as u64, origin_ns + after_ns);
        loop {
            let mut chunk = flow.next_chunk(&mut message, size, clock.state());
            if let Some(credit) = &mut credit {
                chunk.ready_ns = credit.take(chunk.charged_bytes, chunk.ready_ns).unwrap();
            }
            let slot = clock.reserve(chunk.charged_bytes, chunk.ready_ns).unwrap();
            let at_ns = flow.delivered_ns(&mut message, chunk, slot, clock.state());
            if message.left_bytes() == 0 {
                return (at_ns, message.departure());
            }
        }
    };
    messages.iter().map(&mut deliver).collect()
}

/// When the shaped socket says that its link delivers each message, and how each has left it.
async fn shaped(spec: &LinkSpec, messages: &[Planned], origin_ns: u64) -> Vec<(u64, Departure)> {
    let pair = pair(Profile::data()).await;
    let mut received = receive(&pair.server, MAX_BYTES.into());
    let (sender, task) = send(&pair.client, LinkCell::private(spec), spec);
    for &(bytes, after_ns) in messages {
        let outgoing = OutgoingMessage {
            ready_ns: origin_ns + after_ns,
            ..message(pattern(bytes))
        };
        sender.send(outgoing).await.unwrap();
    }
    drop(sender);
    let mut stamps = Vec::new();
    for &(bytes, _) in messages {
        let message = next_message(&mut received).await;
        assert_eq!(message.payload, pattern(bytes));
        assert!(message.timing.delivered_ns >= message.timing.deliver_at_ns);
        let departure = message.timing.departure.unwrap();
        stamps.push((message.timing.deliver_at_ns, departure));
    }
    assert_eq!(task.finish().await.unwrap().messages, messages.len() as u64);
    stamps
}

async fn agree_on(spec: LinkSpec, messages: &[Planned]) -> Vec<u64> {
    let origin_ns = now_ns();
    let modelled = modelled(&spec, messages, origin_ns);
    let shaped = shaped(&spec, messages, origin_ns).await;
    assert_eq!(shaped, modelled, "{spec:?}");
    let mut earlier = (0, 0);
    for (&(at_ns, departure), &(bytes, after_ns)) in shaped.iter().zip(messages) {
        let Departure { left_ns, queued_ns } = departure;
        assert!((at_ns, left_ns) >= earlier);
        earlier = (at_ns, left_ns);
        // Nobody else is there.
        assert_eq!(queued_ns, 0, "{spec:?}");
        assert!(left_ns >= origin_ns + after_ns && left_ns + spec.delay.nanos() <= at_ns);
        if spec.burst.is_none() {
            let least_ns = (spec.ideal_seconds(bytes as u64) * 1e9) as u64;
            assert!(at_ns + 100 >= origin_ns + after_ns + least_ns);
        }
    }
    shaped.iter().map(|(at_ns, _)| at_ns - origin_ns).collect()
}

/// When a link of `spec` delivers each message whose origin is 0.
fn deliveries(spec: &LinkSpec, messages: &[Planned]) -> Vec<u64> {
    let modelled = modelled(spec, messages, 0);
    modelled.into_iter().map(|(at_ns, _)| at_ns).collect()
}

#[tokio::test]
async fn a_plain_link() {
    let stamps = agree_on(spec(100.0, 7.0), &MESSAGES).await;
    // 200 000 bytes at 100 Mbit/s take 16 ms.
    assert_eq!(stamps[..3], [23_000_000, 23_000_000, 23_000_080]);
}

#[tokio::test]
async fn a_link_that_counts_headers() {
    let mut spec = spec(100.0, 7.0);
    spec.accounting = Accounting::Ethernet;
    // 10 full datagrams of 1494 bytes.
    let stamps = agree_on(spec, &[(14_210, 0)]).await;
    assert_eq!(stamps, [1_195_200 + 7_000_000]);
    agree_on(spec, &MESSAGES).await;
}

#[tokio::test]
async fn links_with_jitter() {
    for jitter in [Jitter::Uniform, Jitter::Normal] {
        let mut spec = spec(100.0, 7.0);
        spec.jitter = jitter(Delay::from_seconds(0.004).unwrap());
        let jittered = agree_on(spec, &MESSAGES).await;
        spec.jitter = Jitter::None;
        let exact = deliveries(&spec, &MESSAGES);
        assert!(
            jittered
                .iter()
                .zip(&exact)
                .all(|(late, exact)| late >= exact)
        );
        assert_ne!(jittered, exact);
    }
}

#[tokio::test]
async fn links_with_loss() {
    for (model, share) in [
        (LossModel::Goodput, 0.0),
        (LossModel::Goodput, 0.02),
        (LossModel::Mathis, 0.0),
        (LossModel::Mathis, 0.0001),
    ] {
        let mut spec = spec(100.0, 7.0);
        spec.loss.model = model;
        spec.loss.share = share;
        let lossy = agree_on(spec, &MESSAGES).await;
        spec.loss.share = 0.0;
        let exact = deliveries(&spec, &MESSAGES);
        assert_eq!(lossy == exact, share == 0.0, "{model:?} {share}");
    }
}

#[tokio::test]
async fn a_link_with_burst_credit() {
    // 1 KiB flows in every 100 us, and the bucket holds four chunks: whole numbers for governor's cells.
    let mut spec = spec(1_000.0, 7.0);
    spec.burst = Some(BurstCredit {
        bytes: 0,
        sustained: BitRate::from_bps(81.92e6).unwrap(),
    });
    let messages = [
        (4 << 16, 0),
        (1 << 16, 0),
        (10 << 10, 0),
        (1 << 16, 50_000_000),
    ];
    let stamps = agree_on(spec, &messages).await;
    // The first at the link's rate; the next ones when 64 and 10 KiB more have flowed in.
    assert_eq!(stamps[0], 2_097_152 + 7_000_000);
    assert_eq!(stamps[1], 6_400_000 + 524_288 + 7_000_000);
    assert_eq!(stamps[2], 7_400_000 + 81_920 + 7_000_000);
    assert_eq!(stamps[3], 50_000_000 + 524_288 + 7_000_000);
}

#[tokio::test]
async fn what_others_have_taken_of_a_link_is_queued_behind() {
    let pair = pair(Profile::data()).await;
    let mut received = receive(&pair.server, MAX_BYTES.into());
    let spec = spec(100.0, 7.0);
    let cell = LinkCell::private(&spec);
    let (sender, _task) = send(&pair.client, cell.clone(), &spec);
    let origin_ns = now_ns();
    // 80 ms for another job, of which the second message sees nothing more.
    cell.reserve(1_000_000, origin_ns).unwrap();
    let expected = [(200_000, 96_000_000, 80_000_000), (65_536, 101_242_880, 0)];
    for (bytes, ..) in expected {
        let outgoing = OutgoingMessage {
            ready_ns: origin_ns,
            ..message(pattern(bytes))
        };
        sender.send(outgoing).await.unwrap();
    }
    for (_, left_ns, queued_ns) in expected {
        let timing = next_message(&mut received).await.timing;
        let departure = Departure {
            left_ns: origin_ns + left_ns,
            queued_ns,
        };
        assert_eq!(timing.departure, Some(departure));
        assert_eq!(timing.deliver_at_ns, departure.left_ns + 7_000_000);
    }
}

#[tokio::test]
async fn flows_of_their_own_where_they_do_not_meet() {
    let mut spec = spec(1_000.0, 7.0);
    spec.sharing = Sharing::PerFlow;
    spec.jitter = Jitter::Uniform(Delay::from_seconds(0.002).unwrap());
    // So far apart that a busy machine does not bring them together.
    let messages = [(500_000, 0), (500_000, 500_000_000), (1, 1_000_000_000)];
    agree_on(spec, &messages).await;
}

#[tokio::test]
async fn messages_under_way_share_a_link_as_flows() {
    const BYTES: usize = 655_360;
    let mut spec = spec(200.0, 1.0);
    spec.sharing = Sharing::PerFlow;
    let pair = pair(Profile::data()).await;
    let mut received = receive(&pair.server, MAX_BYTES.into());
    let cell = LinkCell::private(&spec);
    let (sender, _task) = send(&pair.client, cell.clone(), &spec);
    // All are under way before the first slot begins.
    let origin_ns = now_ns() + 200_000_000;
    for bytes in [BYTES, BYTES, BYTES, 10] {
        let outgoing = OutgoingMessage {
            ready_ns: origin_ns,
            ..message(pattern(bytes))
        };
        sender.send(outgoing).await.unwrap();
    }
    let mut ends = Vec::new();
    for bytes in [BYTES, BYTES, BYTES, 10] {
        let message = next_message(&mut received).await;
        assert_eq!(message.payload, pattern(bytes));
        ends.push(message.timing.deliver_at_ns - origin_ns);
    }
    // One behind the other, the first would be through after a third of the time and the small one last.
    let all_ns = 3 * 26_214_400 + 400 + 1_000_000;
    assert_eq!(*ends[..3].iter().max().unwrap(), all_ns, "{ends:?}");
    assert!(
        ends[..3].iter().all(|&end| end > all_ns - all_ns / 3),
        "{ends:?}"
    );
    assert!(ends[3] < all_ns / 2, "{ends:?}");
    assert_eq!(cell.counters().reservations, 31);
}

#[tokio::test]
async fn a_change_holds_from_the_next_message_on_and_reorders_nothing() {
    let far = spec(100.0, 150.0);
    let pair = pair(Profile::data()).await;
    let mut received = receive(&pair.server, MAX_BYTES.into());
    let cell = LinkCell::private(&far);
    let (sender, _task) = send(&pair.client, cell.clone(), &far);
    let origin_ns = now_ns();
    let at = |after_ns| OutgoingMessage {
        ready_ns: origin_ns + after_ns,
        ..message(pattern(1_000))
    };
    sender.send(at(0)).await.unwrap();
    while cell.counters().reservations < 1 {
        tokio::task::yield_now().await;
    }
    cell.set(
        LinkState {
            bits_per_second: 10_000_000,
            delay_ns: 1_000_000,
        },
        now_ns(),
    );
    for after_ns in [1_000_000, 170_000_000] {
        sender.send(at(after_ns)).await.unwrap();
    }
    let mut stamps = Vec::new();
    for _ in 0..3 {
        let message = next_message(&mut received).await;
        stamps.push(message.timing.deliver_at_ns - origin_ns);
    }
    // The first keeps its delay, the second would overtake it, the third has the link as it is by now.
    assert_eq!(stamps, [150_080_000, 150_080_000, 171_800_000]);
}
