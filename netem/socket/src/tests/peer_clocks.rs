//! Messages between hosts whose clocks differ.

use std::time::Duration;

use super::support::*;
use crate::frame::{encode_head, put_chunk_frame};
use crate::{BufferPool, PeerClock, Profile, ReceiverConfig, ReceiverTask, now_ns};

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
    put_chunk_frame(&mut bytes, 1, due_ns + AHEAD_NS);
    bytes.extend_from_slice(b"!");
    stream.write_chunk(bytes.freeze()).await.unwrap();
    stream.finish().unwrap();
    let timing = next_message(&mut received).await.timing;
    assert_eq!((timing.ready_ns, timing.deliver_at_ns), (ready_ns, due_ns));
    assert!(timing.delivered_ns >= due_ns, "{timing:?}");
}
