//! What the tests share.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bace_netem::{BitRate, Delay, LinkSpec};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    BufferPool, Connection, Endpoint, LinkCell, LinkSender, OutgoingMessage, Profile, Received,
    ReceivedMessage, ReceiverConfig, ReceiverTask, RunAuthority, SenderConfig, SenderTask, Shaper,
    SocketError, now_ns,
};

pub(super) const MAX_BYTES: u32 = 1 << 20;

pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

pub(crate) fn spec(mbps: f64, delay_ms: f64) -> LinkSpec {
    LinkSpec::new(
        BitRate::from_bps(mbps * 1e6).unwrap(),
        Delay::from_seconds(delay_ms / 1e3).unwrap(),
    )
}

pub(super) fn message(payload: Bytes) -> OutgoingMessage {
    OutgoingMessage {
        header: Bytes::from_static(b"header"),
        payload,
        ready_ns: now_ns(),
    }
}

/// Bytes that differ from place to place.
pub(super) fn pattern(len: usize) -> Bytes {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// Two members of one run and a connection between them.
pub(crate) struct Pair {
    pub client: Connection,
    pub server: Connection,
    _endpoints: [Endpoint; 2],
}

pub(crate) async fn pair(profile: Profile) -> Pair {
    let authority = RunAuthority::new().unwrap();
    let bind = |name| Endpoint::bind(loopback(), &authority.issue(name).unwrap(), profile).unwrap();
    let (w0, w1) = (bind("w0.run.local"), bind("w1.run.local"));
    let address = w1.local_addr().unwrap();
    let (client, server) = tokio::join!(w0.connect(address, "w1.run.local"), async {
        w1.accept().await.unwrap().establish().await
    });
    Pair {
        client: client.unwrap(),
        server: server.unwrap(),
        _endpoints: [w0, w1],
    }
}

pub(super) fn receive(connection: &Connection, max_message_bytes: u64) -> mpsc::Receiver<Received> {
    receiver(connection, max_message_bytes).1
}

/// A receiver's task and what it hands up.
pub(super) fn receiver(
    connection: &Connection,
    max_message_bytes: u64,
) -> (ReceiverTask, mpsc::Receiver<Received>) {
    let (out, received) = mpsc::channel(64);
    let config = ReceiverConfig {
        max_message_bytes,
        ..ReceiverConfig::default()
    };
    let task = ReceiverTask::spawn(connection, &BufferPool::default(), config, out).unwrap();
    (task, received)
}

pub(super) fn send(
    connection: &Connection,
    cell: LinkCell,
    spec: &LinkSpec,
) -> (LinkSender, SenderTask) {
    LinkSender::spawn(
        connection,
        Shaper::Clock(cell),
        spec,
        SenderConfig::default(),
    )
    .unwrap()
}

/// Waits until a first part of a message is here.
pub(super) async fn first_bytes(connection: &Connection) {
    while connection.quinn().stats().frame_rx.stream == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub(super) async fn next_message(received: &mut mpsc::Receiver<Received>) -> ReceivedMessage {
    match received.recv().await {
        Some(Received::Message(message)) => message,
        other => panic!("a message was expected, not {other:?}"),
    }
}

pub(super) async fn next_failure(received: &mut mpsc::Receiver<Received>) -> SocketError {
    match received.recv().await {
        Some(Received::Failed { error, .. }) => error,
        other => panic!("a failure was expected, not {other:?}"),
    }
}
