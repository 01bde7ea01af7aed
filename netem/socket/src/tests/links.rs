//! Messages over shaped links.

use std::time::Duration;

use bace_netem::{BitRate, Delay, Departure, LinkSpec};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::support::*;
use crate::frame::{ChunkTimes, encode_head, put_chunk_frame};
use crate::{
    BufferPool, CellTable, FrameError, LinkCell, LinkSender, NetThread, OutgoingMessage, Profile,
    Received, ReceiverConfig, ReceiverTask, SenderConfig, Shaper, SocketError, now_ns,
};

#[tokio::test]
async fn messages_arrive_whole_in_order_and_never_early() {
    let pair = pair(Profile::data()).await;
    let spec = spec(500.0, 5.0);
    let mut received = receive(&pair.server, 4 << 20);
    let (sender, task) = send(&pair.client, LinkCell::private(&spec), &spec);
    let payloads = [0, 1, 65_535, 65_536, 65_537, 3 << 20, 0, 200_000].map(pattern);
    let ready_ns = now_ns();
    for (i, payload) in payloads.iter().enumerate() {
        let outgoing = OutgoingMessage {
            header: Bytes::copy_from_slice(&[i as u8]),
            payload: payload.clone(),
            ready_ns,
        };
        sender.send(outgoing).await.unwrap();
    }
    drop(sender);
    let mut messages = Vec::new();
    for _ in &payloads {
        messages.push(next_message(&mut received).await);
    }
    let mut carried = 0;
    for (i, (message, payload)) in messages.iter().zip(&payloads).enumerate() {
        assert_eq!(message.header[..], [i as u8]);
        assert_eq!(message.payload, payload);
        assert_eq!(&*message.peer, "w0.run.local");
        carried += payload.len() as u64;
        let timing = message.timing;
        // Slots follow each other: a message ends with all bytes before it. Each of its chunks is
        // rounded by half a nanosecond.
        let ideal_ns = ready_ns + (spec.ideal_seconds(carried) * 1e9) as u64;
        assert!(
            timing.deliver_at_ns.abs_diff(ideal_ns) <= 100,
            "{timing:?}, {ideal_ns}"
        );
        assert!(timing.delivered_ns >= timing.deliver_at_ns.max(timing.arrived_ns));
        assert_eq!(timing.ready_ns, ready_ns);
    }
    let report = task.finish().await.unwrap();
    assert_eq!(
        (report.messages, report.bytes),
        (payloads.len() as u64, carried)
    );
}

/// The longest takes a second or two and 0.6 GB of memory.
#[tokio::test]
async fn messages_of_one_byte_and_of_more_than_a_window_arrive() {
    // More than QUIC's window of a stream, and little enough for a host that runs other tests beside.
    const LONG: usize = 300_000_000;
    let pair = pair(Profile::data()).await;
    let mut received = receive(&pair.server, LONG as u64);
    let spec = spec(1.0, 0.0);
    let config = SenderConfig::default();
    let (sender, task) = LinkSender::spawn(&pair.client, Shaper::Below, &spec, config).unwrap();
    // Repeats itself, and nowhere where buffers or chunks do.
    let mut long = pattern(999_983).to_vec();
    while long.len() < LONG {
        long.extend_from_within(..long.len().min(LONG - long.len()));
    }
    let payloads = [pattern(1), Bytes::from(long), pattern(1)];
    for payload in &payloads {
        sender.send(message(payload.clone())).await.unwrap();
    }
    drop(sender);
    for payload in &payloads {
        assert!(next_message(&mut received).await.payload == payload);
    }
    let report = task.finish().await.unwrap();
    assert_eq!((report.messages, report.bytes), (3, LONG as u64 + 2));
}

const OVERDUE: ChunkTimes = ChunkTimes {
    deliver_at_ns: 1,
    ..ChunkTimes::UNTIMED
};

/// A whole message that was due long ago, as it is on its stream.
fn overdue(header: &[u8], payload: &[u8]) -> Bytes {
    let mut bytes = encode_head(header, payload.len() as u64, 0);
    put_chunk_frame(&mut bytes, payload.len() as u32, OVERDUE);
    bytes.extend_from_slice(payload);
    bytes.freeze()
}

/// A message that is begun and lacks its last byte, which comes second, and whole ones behind it;
/// returns once the receiver has read the whole ones.
async fn overtaken_message(pair: &Pair, task: &ReceiverTask) -> (quinn::SendStream, Bytes) {
    let mut begun = overdue(b"0", &pattern(900_000));
    let last = begun.split_off(begun.len() - 1);
    let mut stream = pair.client.quinn().open_uni().await.unwrap();
    stream.write_chunk(begun).await.unwrap();
    for header in [b"1", b"2"] {
        let mut small = pair.client.quinn().open_uni().await.unwrap();
        small.write_chunk(overdue(header, b"!")).await.unwrap();
        small.finish().unwrap();
    }
    while task.stats().messages < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (stream, last)
}

#[tokio::test]
async fn late_messages_do_not_overtake_each_other() {
    let pair = pair(Profile::data()).await;
    let (task, mut received) = receiver(&pair.server, MAX_BYTES.into());
    let (mut stream, last) = overtaken_message(&pair, &task).await;
    assert!(received.try_recv().is_err());
    stream.write_chunk(last).await.unwrap();
    stream.finish().unwrap();
    for header in ["0", "1", "2"] {
        assert_eq!(next_message(&mut received).await.header, header);
    }
}

#[tokio::test]
async fn a_message_given_up_holds_back_nobody() {
    let pair = pair(Profile::data()).await;
    let (task, mut received) = receiver(&pair.server, MAX_BYTES.into());
    let (mut stream, _last) = overtaken_message(&pair, &task).await;
    stream.reset(1u32.into()).unwrap();
    let error = next_failure(&mut received).await.to_string();
    assert!(error.contains("reset"), "{error}");
    for header in ["1", "2"] {
        assert_eq!(next_message(&mut received).await.header, header);
    }
}

#[tokio::test]
async fn a_message_under_way_when_the_connection_ends_holds_back_nobody() {
    let pair = pair(Profile::data()).await;
    let (task, mut received) = receiver(&pair.server, MAX_BYTES.into());
    let (_stream, _last) = overtaken_message(&pair, &task).await;
    pair.client.close("crash");
    next_failure(&mut received).await;
    for header in ["1", "2"] {
        assert_eq!(next_message(&mut received).await.header, header);
    }
    assert!(matches!(
        received.recv().await,
        Some(Received::Ended { .. })
    ));
}

#[test]
fn senders_on_two_threads_share_one_link_and_never_exceed_it() {
    const MESSAGES: usize = 8;
    const BYTES: usize = 150_000;
    let spec = spec(200.0, 1.0);
    let (table, path) = CellTable::create(1).unwrap();
    let cell = table.cell(0).unwrap();
    let started_ns = now_ns();
    cell.set((&spec).into(), started_ns);

    let mut deliveries: Vec<(u64, usize)> = std::thread::scope(|scope| {
        let jobs = [(); 2].map(|()| scope.spawn(|| one_job(&path, spec, MESSAGES, BYTES)));
        jobs.into_iter()
            .flat_map(|job| job.join().unwrap())
            .collect()
    });
    deliveries.sort_unstable();
    assert_eq!(deliveries.len(), 2 * MESSAGES);
    let mut carried = 0;
    for (deliver_at_ns, bytes) in deliveries {
        carried += bytes as u64;
        let earliest_ns = started_ns + (spec.ideal_seconds(carried) * 1e9) as u64;
        assert!(deliver_at_ns + 100 >= earliest_ns);
    }
    let counters = cell.counters();
    assert_eq!(counters.charged_bytes, (2 * MESSAGES * BYTES) as u64);
    assert_eq!(
        counters.reservations,
        (2 * MESSAGES * BYTES.div_ceil(65_536)) as u64
    );
}

/// A job with its own network thread and connection; delivery times and sizes of its messages.
fn one_job(
    path: &std::path::Path,
    spec: LinkSpec,
    messages: usize,
    bytes: usize,
) -> Vec<(u64, usize)> {
    let cell = CellTable::open(path).unwrap().cell(0).unwrap();
    let net = NetThread::start("job").unwrap();
    let (_pair, sender, mut received) = net
        .run(async move {
            let pair = pair(Profile::data()).await;
            let received = receive(&pair.server, 1 << 20);
            let (sender, _task) = send(&pair.client, cell, &spec);
            (pair, sender, received)
        })
        .unwrap();
    for _ in 0..messages {
        sender.blocking_send(message(pattern(bytes))).unwrap();
    }
    (0..messages)
        .map(|_| match received.blocking_recv() {
            Some(Received::Message(message)) => {
                (message.timing.deliver_at_ns, message.payload.len())
            }
            other => panic!("a message was expected, not {other:?}"),
        })
        .collect()
}

#[tokio::test]
async fn a_link_that_is_down_keeps_its_messages_until_it_is_up() {
    let pair = pair(Profile::data()).await;
    let cell = LinkCell::private(&spec(0.0, 0.0));
    let spec = spec(100.0, 0.0);
    let mut received = receive(&pair.server, MAX_BYTES.into());
    let (sender, _task) = send(&pair.client, cell.clone(), &spec);
    sender.send(message(pattern(1_000))).await.unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(30), received.recv()).await;
    assert!(waited.is_err());
    let up_ns = now_ns();
    cell.set((&spec).into(), up_ns);
    let message = next_message(&mut received).await;
    assert_eq!(message.timing.deliver_at_ns, up_ns + 80_000);
    // Nobody else had the link meanwhile.
    let departure = Departure {
        left_ns: up_ns + 80_000,
        queued_ns: 0,
    };
    assert_eq!(message.timing.departure, Some(departure));
}

#[tokio::test]
async fn a_sender_ends_with_its_connection_though_its_link_carries_nothing() {
    // Down; taken by others for hours; slow, so that a second chunk has hours to wait.
    for (bps, taken_bytes) in [(0.0, 0), (1.0, 10_000), (10.0, 0)] {
        let pair = pair(Profile::data()).await;
        let spec = spec(bps / 1e6, 0.0);
        let cell = LinkCell::private(&spec);
        if taken_bytes > 0 {
            cell.reserve(taken_bytes, now_ns()).unwrap();
        }
        let (sender, task) = send(&pair.client, cell, &spec);
        sender.send(message(pattern(100_000))).await.unwrap();
        let queued = pattern(10);
        sender.send(message(queued.clone())).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        pair.client.close("the job has ended");
        let ended = tokio::time::timeout(Duration::from_secs(10), task.finish()).await;
        let error = ended.expect("the sender noticed").unwrap_err().to_string();
        assert!(error.starts_with("keep the connection"), "{error}");
        assert!(queued.is_unique());
        let refused = sender.send(message(Bytes::new())).await;
        assert!(matches!(refused, Err(SocketError::TaskEnded)));
    }
}

#[tokio::test]
async fn late_messages_are_counted() {
    let pair = pair(Profile::data()).await;
    let spec = spec(1_000.0, 0.0);
    let cell = LinkCell::private(&spec);
    let (out, mut received) = mpsc::channel(4);
    let config = ReceiverConfig {
        cell: Some(cell.clone()),
        ..ReceiverConfig::default()
    };
    let task =
        ReceiverTask::spawn::<Received>(&pair.server, &BufferPool::default(), config, out).unwrap();
    let (sender, _task) = send(&pair.client, cell.clone(), &spec);
    let outgoing = OutgoingMessage {
        ready_ns: now_ns() - 50_000_000,
        ..message(pattern(10))
    };
    sender.send(outgoing).await.unwrap();
    next_message(&mut received).await;
    let stats = task.stats();
    assert_eq!(
        (stats.messages, stats.bytes, stats.late_arrivals),
        (1, 10, 1)
    );
    assert!(stats.late_max_us > 49_000);
    assert_eq!(cell.counters().late_arrivals, 1);
}

#[tokio::test]
async fn a_cancelled_message_fails_at_the_receiver_and_others_follow() {
    let pair = pair(Profile::data()).await;
    let slow = spec(1.0, 0.0);
    let fast = spec(1_000.0, 0.0);
    let mut received = receive(&pair.server, MAX_BYTES.into());
    let (sender, task) = send(&pair.client, LinkCell::private(&slow), &slow);
    sender.send(message(pattern(500_000))).await.unwrap();
    first_bytes(&pair.server).await;
    task.cancel();
    let error = next_failure(&mut received).await.to_string();
    assert!(
        error.contains("w0.run.local") && error.contains("reset"),
        "{error}"
    );
    assert!(matches!(task.finish().await, Err(SocketError::TaskEnded)));
    let refused = sender.send(message(Bytes::new())).await;
    assert!(matches!(refused, Err(SocketError::TaskEnded)));

    let (sender, _task) = send(&pair.client, LinkCell::private(&fast), &fast);
    sender.send(message(pattern(10))).await.unwrap();
    assert_eq!(next_message(&mut received).await.payload, pattern(10));
}

#[tokio::test]
async fn a_lost_connection_fails_what_is_under_way_and_ends() {
    let pair = pair(Profile::data()).await;
    let slow = spec(1.0, 0.0);
    let mut received = receive(&pair.server, MAX_BYTES.into());
    let (sender, task) = send(&pair.client, LinkCell::private(&slow), &slow);
    sender.send(message(pattern(500_000))).await.unwrap();
    first_bytes(&pair.server).await;
    pair.client.close("crash");
    let error = next_failure(&mut received).await.to_string();
    assert!(
        error.starts_with("keep the connection to w0.run.local"),
        "{error}"
    );
    match received.recv().await {
        Some(Received::Ended { error, .. }) => assert!(error.to_string().contains("crash")),
        other => panic!("the end was expected, not {other:?}"),
    }
    assert!(received.recv().await.is_none());
    drop(sender);
    assert!(task.finish().await.is_err());
}

#[tokio::test]
async fn what_has_arrived_is_handed_up_after_an_orderly_close() {
    let pair = pair(Profile::data()).await;
    let far = spec(1_000.0, 80.0);
    let mut received = receive(&pair.server, MAX_BYTES.into());
    let (sender, task) = send(&pair.client, LinkCell::private(&far), &far);
    sender.send(message(pattern(1_000))).await.unwrap();
    drop(sender);
    assert_eq!(task.finish().await.unwrap().messages, 1);
    pair.client.close("done");
    let message = next_message(&mut received).await;
    assert!(message.timing.delivered_ns >= message.timing.ready_ns + 80_000_000);
    assert!(matches!(
        received.recv().await,
        Some(Received::Ended { .. })
    ));
}

#[tokio::test]
async fn a_receiver_that_has_all_may_close() {
    for size in [0, 10, 100_000] {
        let pair = pair(Profile::data()).await;
        let spec = spec(1_000.0, 0.0);
        let mut received = receive(&pair.server, MAX_BYTES.into());
        let (sender, task) = send(&pair.client, LinkCell::private(&spec), &spec);
        sender.send(message(pattern(size))).await.unwrap();
        drop(sender);
        next_message(&mut received).await;
        pair.server.close("done");
        assert_eq!(task.finish().await.unwrap().messages, 1);
    }
}

#[tokio::test]
async fn malformed_messages_fail_and_the_connection_lives() {
    let pair = pair(Profile::data()).await;
    let mut received = receive(&pair.server, 1_000);
    let whole = |announced: u64, chunk: &[u8]| {
        let mut bytes = encode_head(b"h", announced, 0);
        put_chunk_frame(&mut bytes, chunk.len() as u32, ChunkTimes::UNTIMED);
        bytes.extend_from_slice(chunk);
        bytes
    };
    let too_long = FrameError::PayloadTooLong {
        announced: u64::MAX,
        limit: 1_000,
    };
    for (bytes, expected) in [
        (whole(u64::MAX, b""), too_long),
        (
            whole(3, b"four"),
            FrameError::ChunkTooLong { chunk: 4, left: 3 },
        ),
        (whole(9, b"four"), FrameError::Truncated),
    ] {
        let mut stream = pair.client.quinn().open_uni().await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        // Refused early, the stream may be stopped by now.
        let _ = stream.finish();
        match next_failure(&mut received).await {
            SocketError::Frame { source, .. } => assert_eq!(source, expected),
            other => panic!("a frame error was expected, not {other}"),
        }
    }
    let spec = spec(1_000.0, 0.0);
    let (sender, _task) = send(&pair.client, LinkCell::private(&spec), &spec);
    sender.send(message(pattern(10))).await.unwrap();
    assert_eq!(next_message(&mut received).await.payload, pattern(10));
}

#[tokio::test]
async fn limits_hold_before_anything_is_sent() {
    let pair = pair(Profile::data()).await;
    let vast = spec(1e9, 10_000.0);
    let refused = LinkSender::spawn(
        &pair.client,
        Shaper::Clock(LinkCell::private(&vast)),
        &vast,
        SenderConfig::default(),
    );
    assert!(matches!(refused, Err(SocketError::TooMuchInFlight { .. })));

    let config = SenderConfig {
        queue_messages: 2,
        ..SenderConfig::default()
    };
    let down = LinkCell::private(&spec(0.0, 0.0));
    let (sender, _task) =
        LinkSender::spawn(&pair.client, Shaper::Clock(down), &spec(1.0, 0.0), config).unwrap();
    let long_header = OutgoingMessage {
        header: pattern(4_097),
        ..message(Bytes::new())
    };
    let refused = sender.try_send(long_header).unwrap_err().to_string();
    assert_eq!(refused, "send a header of 4097 bytes: the limit is 4096");
    sender.try_send(message(Bytes::new())).unwrap();
    sender.try_send(message(Bytes::new())).unwrap();
    let full = sender
        .try_send(message(Bytes::new()))
        .unwrap_err()
        .to_string();
    assert_eq!(full, "queue a message: 2 are waiting already");
}

#[test]
fn a_measured_link_says_what_it_should_have_been() {
    let spec = spec(100.0, 0.0);
    let mut seen = 0;
    let measured = crate::bench::measure_link(&spec, 100_000, 2, |_| seen += 1).unwrap();
    assert_eq!((measured.len(), seen), (2, 2));
    for one in measured {
        assert_eq!((one.spec, one.message_bytes), (spec, 100_000));
        assert_eq!(one.ideal_s, 0.008);
        assert!(one.error_s() > -1e-6);
    }
    let down = LinkSpec::new(BitRate::ZERO, Delay::ZERO);
    assert!(crate::bench::measure_link(&down, 1, 1, |_| ()).is_err());
}
