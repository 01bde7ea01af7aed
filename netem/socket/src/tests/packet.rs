//! Messages over links that take datagrams: the `packet` back end.

use std::net::SocketAddr;
use std::time::Duration;

use bace_netem::{
    Congestion, Delay, FlowKey, Jitter, LinkId, LinkSpec, LinkState, RegionId, Route,
};
use tokio::sync::mpsc;

use super::support::*;
use crate::{
    CellTable, Connection, DatagramCounters, Endpoint, LinkCell, LinkSender, OutgoingMessage,
    PacketLink, Profile, Received, RunAuthority, SenderConfig, Shaper, now_ns,
};

/// Two members on both sides of a link.
struct Far {
    client: Connection,
    server: Connection,
    /// The cell of the link from client to server.
    cell: LinkCell,
    there: DatagramCounters,
    back: DatagramCounters,
    endpoints: [Endpoint; 2],
}

fn link(cell: LinkCell, there: LinkSpec, back: LinkSpec, congestion: Congestion) -> PacketLink {
    let key = FlowKey {
        seed: 5,
        link: LinkId::new(RegionId::new(0), RegionId::new(1)),
        job: 0,
        from_stage: 0,
        to_stage: 1,
    };
    PacketLink {
        cell,
        route: Route { there, back },
        congestion,
        draws: key.chunk(0, 0),
    }
}

async fn far(spec: LinkSpec, congestion: Congestion) -> Far {
    far_over(LinkCell::private(&spec), spec, congestion).await
}

/// Members whose handshake takes the link already.
async fn far_over(cell: LinkCell, spec: LinkSpec, congestion: Congestion) -> Far {
    let authority = RunAuthority::new().unwrap();
    let bind = |name| {
        let credentials = authority.issue(name).unwrap();
        Endpoint::bind(loopback(), &credentials, Profile::data()).unwrap()
    };
    let (w0, w1) = (bind("w0.run.local"), bind("w1.run.local"));
    let (a0, a1) = (w0.local_addr().unwrap(), w1.local_addr().unwrap());
    let way_back = LinkCell::private(&spec);
    let there = w0
        .shape(a1, link(cell.clone(), spec, spec, congestion))
        .unwrap();
    let (client, server) = tokio::join!(w0.connect(a1, "w1.run.local"), async {
        let pending = w1.accept().await.unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(20), pending.named()).await;
        assert!(waited.is_err(), "nobody has named {a0}");
        let back = w1
            .shape(a0, link(way_back, spec, spec, congestion))
            .unwrap();
        pending.named().await;
        (pending.establish().await, back)
    });
    let (server, back) = server;
    Far {
        client: client.unwrap(),
        server: server.unwrap(),
        cell,
        there,
        back,
        endpoints: [w0, w1],
    }
}

fn send_unclocked(connection: &Connection, spec: &LinkSpec) -> LinkSender {
    let config = SenderConfig::default();
    LinkSender::spawn(connection, Shaper::Below, spec, config)
        .unwrap()
        .0
}

/// Sends `count` messages of `bytes` one behind the other; when each was there, s after the first was ready.
async fn carry(
    sender: &LinkSender,
    received: &mut mpsc::Receiver<Received>,
    bytes: usize,
    count: usize,
) -> Vec<f64> {
    let payload = pattern(bytes);
    let ready_ns = now_ns();
    for _ in 0..count {
        let outgoing = OutgoingMessage {
            ready_ns,
            ..message(payload.clone())
        };
        sender.send(outgoing).await.unwrap();
    }
    let mut arrivals = Vec::new();
    for _ in 0..count {
        let message = next_message(received).await;
        assert_eq!(message.payload, payload);
        arrivals.push((message.timing.arrived_ns - ready_ns) as f64 / 1e9);
    }
    arrivals
}

#[tokio::test]
async fn warm_goodput_is_the_rate_less_what_quic_needs() {
    for congestion in [Congestion::Fixed, Congestion::Bbr] {
        let spec = spec(100.0, 10.0);
        let far = far(spec, congestion).await;
        let sender = send_unclocked(&far.client, &spec);
        let mut received = receive(&far.server, 8 << 20);
        carry(&sender, &mut received, 1 << 20, 2).await;
        let arrivals = carry(&sender, &mut received, 1 << 20, 4).await;
        // Of all four, since one that lacks a datagram may be the last to be whole.
        let last_s = arrivals.into_iter().fold(0.0, f64::max);
        let busy_s = last_s - spec.delay.seconds();
        let share = spec.rate.seconds_for(4 << 20) / busy_s;
        // 1421 of 1452 bytes are a tensor's.
        assert!(share < 0.979, "{congestion:?}: {share}");
        // A host that is busy makes BBR see a narrower path.
        let least = if congestion == Congestion::Fixed {
            0.2
        } else {
            0.0
        };
        assert!(share > least, "{congestion:?}: {share}");
        let counts = far.there.counts();
        assert_eq!((counts.lost, counts.refused), (0, 0), "{counts:?}");
        assert!(counts.bytes > 6 << 20);
        assert!(far.back.counts().sent > 0);
    }
}

#[tokio::test]
async fn nothing_arrives_before_the_link_delivers_it() {
    let spec = spec(20.0, 30.0);
    let far = far(spec, Congestion::Fixed).await;
    let sender = send_unclocked(&far.client, &spec);
    let mut received = receive(&far.server, 1 << 20);
    for bytes in [1, 50_000, 200_000] {
        let arrivals = carry(&sender, &mut received, bytes, 1).await;
        let ideal_s = spec.ideal_seconds(bytes as u64);
        assert!(
            arrivals[0] >= ideal_s,
            "{bytes}: {} < {ideal_s}",
            arrivals[0]
        );
        assert!(arrivals[0] < ideal_s + 0.5, "{bytes}: {}", arrivals[0]);
    }
    // Both delays, the handshake's included.
    assert!(far.client.quinn().rtt() >= Duration::from_millis(60));
}

#[tokio::test]
async fn what_is_lost_is_sent_again() {
    let mut spec = spec(200.0, 5.0);
    spec.loss.share = 0.02;
    let far = far(spec, Congestion::Bbr).await;
    let sender = send_unclocked(&far.client, &spec);
    let mut received = receive(&far.server, 4 << 20);
    carry(&sender, &mut received, 1 << 20, 3).await;
    let counts = far.there.counts();
    assert!(counts.lost > 10, "{counts:?}");
    let share = counts.lost as f64 / (counts.lost + counts.sent + counts.dropped) as f64;
    assert!((0.01..0.03).contains(&share), "{counts:?}");
    assert!(far.client.lost_packets() >= counts.lost / 2);
}

#[tokio::test]
async fn what_an_older_message_lacks_is_not_sent_behind_all_newer_ones() {
    let mut spec = spec(20.0, 10.0);
    spec.loss.share = 0.02;
    let far = far(spec, Congestion::Fixed).await;
    let sender = send_unclocked(&far.client, &spec);
    let mut received = receive(&far.server, 1 << 20);
    let arrivals = carry(&sender, &mut received, 256 << 10, 8).await;
    assert!(far.there.counts().lost > 10);
    let last_s = arrivals.iter().copied().fold(0.0, f64::max);
    // Without a loss, after an eighth of the time.
    assert!(arrivals[0] < last_s / 2.0, "{arrivals:?}");
}

#[tokio::test]
async fn a_full_queue_drops_its_end_and_stays_bounded() {
    let mut spec = spec(50.0, 5.0);
    spec.queue_bytes = Some(100_000);
    let far = far(spec, Congestion::Cubic).await;
    let sender = send_unclocked(&far.client, &spec);
    let mut received = receive(&far.server, 8 << 20);
    let cell = far.cell.clone();
    let watch = tokio::spawn(async move {
        let mut longest_ns = 0;
        loop {
            longest_ns = longest_ns.max(cell.free_at_ns().saturating_sub(now_ns()));
            if cell.counters().charged_bytes > 3 << 20 {
                return longest_ns;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    carry(&sender, &mut received, 1 << 20, 4).await;
    let longest_ns = watch.await.unwrap();
    // 100 kB at 50 Mbit/s take 16 ms.
    assert!(
        (8_000_000..=16_000_000).contains(&longest_ns),
        "{longest_ns}"
    );
    let counts = far.there.counts();
    assert!(counts.dropped > 0, "{counts:?}");
}

#[test]
fn two_members_on_one_link_never_exceed_it() {
    let spec = spec(100.0, 2.0);
    let (table, path) = CellTable::create(1).unwrap();
    let cell = table.cell(0).unwrap();
    let started_ns = now_ns();
    cell.set((&spec).into(), started_ns);
    let arrivals: Vec<u64> = std::thread::scope(|scope| {
        let members = [(); 2].map(|()| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let cell = CellTable::open(&path).unwrap().cell(0).unwrap();
                    let far = far_over(cell, spec, Congestion::Fixed).await;
                    let sender = send_unclocked(&far.client, &spec);
                    let mut received = receive(&far.server, 1 << 20);
                    carry(&sender, &mut received, 500_000, 4).await;
                    now_ns()
                })
            })
        });
        members
            .into_iter()
            .map(|member| member.join().unwrap())
            .collect()
    });
    let carried = 2 * 4 * 500_000;
    let earliest_ns = started_ns + (spec.ideal_seconds(carried) * 1e9) as u64;
    assert!(*arrivals.iter().max().unwrap() >= earliest_ns);
    let counters = cell.counters();
    assert!(counters.charged_bytes > carried, "{counters:?}");
    // All that both sent had its slots one behind the other.
    let busy_ns = (spec.rate.seconds_for(counters.charged_bytes) * 1e9) as u64;
    assert!(cell.free_at_ns() + counters.reservations >= started_ns + busy_ns);
}

#[tokio::test]
async fn jitter_delays_and_reorders_nothing() {
    // Slow enough for a busy host: a late sender's timers would count as loss.
    let mut spec = spec(20.0, 5.0);
    spec.jitter = Jitter::Uniform(Delay::from_seconds(0.01).unwrap());
    let far = far(spec, Congestion::Fixed).await;
    let sender = send_unclocked(&far.client, &spec);
    let mut received = receive(&far.server, 4 << 20);
    carry(&sender, &mut received, 1 << 20, 2).await;
    // QUIC takes three packets that overtake another for its loss.
    let counts = far.there.counts();
    assert_eq!((counts.lost, counts.dropped), (0, 0), "{counts:?}");
    assert_eq!(far.client.lost_packets(), 0);
}

#[tokio::test]
async fn a_link_that_is_down_keeps_its_connection_and_goes_on_when_up() {
    let spec = spec(100.0, 5.0);
    let far = far(spec, Congestion::Bbr).await;
    let sender = send_unclocked(&far.client, &spec);
    let mut received = receive(&far.server, 4 << 20);
    carry(&sender, &mut received, 100_000, 1).await;
    far.cell.set(LinkState::default(), now_ns());
    sender.send(message(pattern(1 << 20))).await.unwrap();
    // What had departed arrives, and then nothing for longer than any timer of QUIC waits for its first probes.
    let waited = tokio::time::timeout(Duration::from_secs(3), received.recv()).await;
    assert!(waited.is_err());
    let up_ns = now_ns();
    far.cell.set((&spec).into(), up_ns);
    let message = tokio::time::timeout(Duration::from_secs(20), next_message(&mut received));
    let message = message.await.expect("the link is up again");
    assert_eq!(message.payload, pattern(1 << 20));
    let after_s = (message.timing.arrived_ns - up_ns) as f64 / 1e9;
    assert!(after_s < 10.0, "{after_s}");
}

#[tokio::test]
async fn a_changed_rate_holds_for_datagrams_to_come() {
    let spec = spec(100.0, 2.0);
    let far = far(spec, Congestion::Fixed).await;
    let sender = send_unclocked(&far.client, &spec);
    let mut received = receive(&far.server, 4 << 20);
    carry(&sender, &mut received, 250_000, 1).await;
    let slower = LinkState {
        bits_per_second: 10_000_000,
        ..far.cell.state()
    };
    far.cell.set(slower, now_ns());
    let arrivals = carry(&sender, &mut received, 250_000, 1).await;
    assert!(arrivals[0] >= 0.2, "{arrivals:?}");
}

#[tokio::test]
async fn who_is_not_behind_a_link_passes_unshaped() {
    let slow = spec(0.01, 1_000.0);
    let authority = RunAuthority::new().unwrap();
    let bind = |name| {
        let credentials = authority.issue(name).unwrap();
        Endpoint::bind(loopback(), &credentials, Profile::data()).unwrap()
    };
    let (w0, w1) = (bind("w0.run.local"), bind("w1.run.local"));
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let cell = LinkCell::private(&slow);
    let counters = w0
        .shape(nobody, link(cell, slow, slow, Congestion::Bbr))
        .unwrap();
    let a0 = w0.local_addr().unwrap();
    w1.pass(a0);
    let (client, server) = tokio::join!(
        w0.connect(w1.local_addr().unwrap(), "w1.run.local"),
        async {
            let pending = w1.accept().await.unwrap();
            pending.named().await;
            pending.establish().await
        }
    );
    let (client, server) = (client.unwrap(), server.unwrap());
    let mut received = receive(&server, 4 << 20);
    let sender = send_unclocked(&client, &slow);
    sender.send(message(pattern(1 << 20))).await.unwrap();
    assert_eq!(next_message(&mut received).await.payload, pattern(1 << 20));
    assert_eq!(counters.counts().sent, 0);
}

#[tokio::test]
async fn a_close_takes_the_link_too_and_ends_both_sides() {
    let spec = spec(100.0, 40.0);
    let far = far(spec, Congestion::Bbr).await;
    let closed_ns = now_ns();
    let server = far.server.clone();
    let ended = tokio::spawn(async move { (server.closed().await, now_ns()) });
    let Far {
        endpoints: [w0, _w1],
        ..
    } = far;
    w0.close("the job has ended").await;
    let (error, ended_ns) = ended.await.unwrap();
    assert!(error.to_string().contains("the job has ended"), "{error}");
    assert!(ended_ns >= closed_ns + 40_000_000);
}
