//! Messages between hosts whose clocks differ.

use std::time::Duration;

use bace_netem::Departure;

use super::support::*;
use crate::frame::{ChunkTimes, encode_head, put_chunk_frame};
use crate::{
    BufferPool, LinkCell, LinkSender, OutgoingMessage, PeerClock, Profile, ReceiverConfig,
    ReceiverTask, SenderConfig, Shaper, now_ns,
};

const AHEAD_NS: u64 = 1_000_000_000_000;

#[tokio::test]
async fn times_of_the_senders_clock_are_translated() {
    let pair = pair(Profile::data()).await;
    let config = ReceiverConfig {
        peer_clock: Some(PeerClock::guessed(AHEAD_NS as i64, 0)),
        ..ReceiverConfig::default()
    };
    let (out, mut received) = tokio::sync::mpsc::channel(1);
    ReceiverTask::spawn(&pair.server, &BufferPool::default(), config, out).unwrap();
    let ready_ns = now_ns();
    let due_ns = ready_ns + Duration::from_millis(30).as_nanos() as u64;
    let mut stream = pair.client.quinn().open_uni().await.unwrap();
    let mut bytes = encode_head(b"header", 1, ready_ns + AHEAD_NS);
    let left_ns = ready_ns + 10_000_000;
    let departure = |left_ns| Departure {
        left_ns,
        queued_ns: 7_000,
    };
    let times = ChunkTimes {
        deliver_at_ns: due_ns + AHEAD_NS,
        departure: departure(left_ns + AHEAD_NS),
    };
    put_chunk_frame(&mut bytes, 1, times);
    bytes.extend_from_slice(b"!");
    stream.write_chunk(bytes.freeze()).await.unwrap();
    stream.finish().unwrap();
    let timing = next_message(&mut received).await.timing;
    assert_eq!((timing.ready_ns, timing.deliver_at_ns), (ready_ns, due_ns));
    assert_eq!(timing.departure, Some(departure(left_ns)));
    assert!(timing.delivered_ns >= due_ns, "{timing:?}");
}

/// A clock of which nothing is known but its distance: the sender holds what is sent to it, chunk by chunk, and the link
/// stays busy meanwhile.
#[tokio::test]
async fn messages_to_a_clock_that_is_not_known_well_are_held_by_their_sender() {
    const LATENCY_MS: u64 = 10;
    let pair = pair(Profile::data()).await;
    let spec = spec(400.0, 100.0);
    let mut received = receive(&pair.server, 4 << 20);
    let clock = PeerClock::guessed(0, LATENCY_MS * 1_000_000);
    let shaper = Shaper::ClockAcross(LinkCell::private(&spec), clock);
    let (sender, task) =
        LinkSender::spawn(&pair.client, shaper, &spec, SenderConfig::default()).unwrap();
    let payloads = [2_000_000, 0, 1_000_000, 1].map(pattern);
    let ready_ns = now_ns();
    for payload in &payloads {
        let outgoing = OutgoingMessage {
            ready_ns,
            ..message(payload.clone())
        };
        sender.send(outgoing).await.unwrap();
    }
    drop(sender);
    let mut carried = 0;
    for payload in &payloads {
        let message = next_message(&mut received).await;
        assert_eq!(message.payload, payload);
        carried += payload.len() as u64;
        let timing = message.timing;
        assert_eq!(timing.deliver_at_ns, timing.arrived_ns);
        // The link has had it all the same, a delay and less before it came.
        let departure = timing.departure.unwrap();
        let clear_ns = (spec.rate.seconds_for(carried) * 1e9) as u64;
        assert!(departure.left_ns.abs_diff(ready_ns + clear_ns) <= 1_000);
        assert_eq!(departure.queued_ns, 0);
        // The physical network takes next to nothing here.
        let ideal_ms = (spec.ideal_seconds(carried) * 1e3) as u64 - LATENCY_MS;
        let took_ms = (timing.delivered_ns - ready_ns) / 1_000_000;
        assert!(
            (ideal_ms..ideal_ms + 1_000).contains(&took_ms),
            "{took_ms} ms, ideal {ideal_ms} ms"
        );
    }
    let report = task.finish().await.unwrap();
    assert_eq!((report.messages, report.bytes), (4, carried));
}

#[tokio::test]
async fn a_held_message_that_is_given_up_is_reset() {
    let pair = pair(Profile::data()).await;
    let spec = spec(400.0, 50.0);
    let mut received = receive(&pair.server, 8 << 20);
    let clock = PeerClock::guessed(0, 0);
    let shaper = Shaper::ClockAcross(LinkCell::private(&spec), clock);
    let (sender, task) =
        LinkSender::spawn(&pair.client, shaper, &spec, SenderConfig::default()).unwrap();
    sender.send(message(pattern(5_000_000))).await.unwrap();
    first_bytes(&pair.server).await;
    task.cancel();
    let failure = next_failure(&mut received).await.to_string();
    assert!(failure.contains("w0.run.local"), "{failure}");
}

#[tokio::test]
async fn a_sender_that_holds_a_message_ends_with_its_connection() {
    let pair = pair(Profile::data()).await;
    // Due in an hour.
    let spec = spec(400.0, 3_600_000.0);
    let shaper = Shaper::ClockAcross(LinkCell::private(&spec), PeerClock::guessed(0, 0));
    let config = SenderConfig {
        max_in_flight_bytes: u64::MAX,
        ..SenderConfig::default()
    };
    let (sender, task) = LinkSender::spawn(&pair.client, shaper, &spec, config).unwrap();
    sender.send(message(pattern(1_000))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    pair.server.quinn().close(0_u32.into(), b"over");
    let ended = tokio::time::timeout(Duration::from_secs(10), task.finish()).await;
    ended.expect("it ends with its connection").unwrap_err();
}
