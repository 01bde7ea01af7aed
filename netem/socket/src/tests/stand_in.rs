//! Small messages that links carry as large ones.

use bace_netem::{LinkSpec, chunk_bytes, jain_index};
use bytes::Bytes;

use super::support::*;
use crate::{
    CellTable, LinkCell, LinkSender, NetThread, OutgoingMessage, Profile, Received, SenderConfig,
    Shaper, now_ns,
};

/// Comparisons of shares until one is fair: a machine that keeps a job from its core for several turns says nothing of links.
const ATTEMPTS: usize = 4;

/// Sends `count` messages of `own` bytes that stand for `carried` each; when each is delivered, ns after all were ready.
async fn delivered(cell: LinkCell, spec: &LinkSpec, own: usize, carried: u64) -> Vec<u64> {
    let pair = pair(Profile::data()).await;
    let mut received = receive(&pair.server, MAX_BYTES.into());
    let config = SenderConfig {
        carried_bytes: Some(carried),
        ..SenderConfig::default()
    };
    let (sender, task) =
        LinkSender::spawn(&pair.client, Shaper::Clock(cell), spec, config).unwrap();
    let ready_ns = now_ns();
    for _ in 0..3 {
        let outgoing = OutgoingMessage {
            header: Bytes::new(),
            payload: pattern(own),
            ready_ns,
        };
        sender.send(outgoing).await.unwrap();
    }
    drop(sender);
    let mut at_ns = Vec::new();
    for _ in 0..3 {
        let message = next_message(&mut received).await;
        assert_eq!(message.payload, pattern(own));
        assert!(message.timing.delivered_ns >= message.timing.deliver_at_ns);
        at_ns.push(message.timing.deliver_at_ns - ready_ns);
    }
    // What was sent is what was given.
    assert_eq!(task.finish().await.unwrap().bytes, 3 * own as u64);
    at_ns
}

#[tokio::test]
async fn a_message_takes_the_time_of_the_one_it_stands_for() {
    let spec = spec(500.0, 5.0);
    let chunk = u64::from(chunk_bytes(spec.rate));
    // Down to less than a byte a chunk, and to none at all; the last stands for a smaller one.
    for (own, carried) in [
        (100_000, 3_000_000),
        (7, 3_000_001),
        (0, 1 << 20),
        (300_000, 4_096),
    ] {
        let (table, _path) = CellTable::create(1).unwrap();
        let shared = table.cell(0).unwrap();
        shared.set((&spec).into(), now_ns());
        for cell in [shared.clone(), LinkCell::private(&spec)] {
            let at_ns = delivered(cell.clone(), &spec, own, carried).await;
            for (at_ns, messages) in at_ns.into_iter().zip(1..) {
                let ideal_ns = (spec.ideal_seconds(messages * carried) * 1e9) as u64;
                // Each chunk is rounded by half a nanosecond.
                assert!(
                    at_ns.abs_diff(ideal_ns) <= 150,
                    "{own}: {at_ns}, {ideal_ns}"
                );
            }
            assert_eq!(cell.counters().charged_bytes, 3 * carried);
        }
        // Others could have taken turns with each chunk of the large message.
        assert_eq!(shared.counters().reservations, 3 * carried.div_ceil(chunk));
    }
}

/// A job with its own network thread that sends as many messages as fit into its queue, each carried as `carried` bytes; their
/// times of delivery.
fn one_job(path: &std::path::Path, spec: LinkSpec, own: usize, carried: u64) -> Vec<u64> {
    const MESSAGES: usize = 12;
    let cell = CellTable::open(path).unwrap().cell(0).unwrap();
    let net = NetThread::start("job").unwrap();
    let (_pair, sender, mut received) = net
        .run(async move {
            let pair = pair(Profile::data()).await;
            let received = receive(&pair.server, MAX_BYTES.into());
            let config = SenderConfig {
                carried_bytes: (own as u64 != carried).then_some(carried),
                ..SenderConfig::default()
            };
            let shaper = Shaper::Clock(cell);
            let (sender, _task) = LinkSender::spawn(&pair.client, shaper, &spec, config).unwrap();
            (pair, sender, received)
        })
        .unwrap();
    for _ in 0..MESSAGES {
        sender.blocking_send(message(pattern(own))).unwrap();
    }
    (0..MESSAGES)
        .map(|_| match received.blocking_recv() {
            Some(Received::Message(message)) => message.timing.deliver_at_ns,
            other => panic!("a message was expected, not {other:?}"),
        })
        .collect()
}

#[test]
fn jobs_of_different_factors_share_a_link_equally_in_what_it_carries() {
    // A chunk takes 21 ms; each message is four of them. The first job stands for itself.
    let spec = spec(25.0, 2.0);
    let carried = 4 * u64::from(chunk_bytes(spec.rate));
    let own = [carried as usize, 20_000, 50];
    let mut fairest: f64 = 0.0;
    for _ in 0..ATTEMPTS {
        let (table, path) = CellTable::create(1).unwrap();
        table.cell(0).unwrap().set((&spec).into(), now_ns());
        let deliveries: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let path = &path;
            let jobs = own.map(|own| scope.spawn(move || one_job(path, spec, own, carried)));
            jobs.into_iter().map(|job| job.join().unwrap()).collect()
        });
        // While all three have messages to send.
        let begun_ns = deliveries.iter().map(|job| job[0]).max().unwrap();
        let ended_ns = deliveries.iter().map(|job| job[11]).min().unwrap();
        let shares: Vec<f64> = deliveries
            .iter()
            .map(|job| {
                job.iter()
                    .filter(|&&at| at >= begun_ns && at <= ended_ns)
                    .count() as f64
            })
            .collect();
        fairest = fairest.max(jain_index(&shares).unwrap_or_default());
        if fairest >= 0.98 {
            return;
        }
    }
    panic!("the fairest of {ATTEMPTS} comparisons had a Jain index of {fairest}");
}
