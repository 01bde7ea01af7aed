//! A flow on a link's clock, with a clock that the test sets.

use proptest::prelude::*;

use super::*;
use crate::{Accounting, BitRate, LinkClock, LinkId, Loss, LossModel, RegionId, chunk_bytes};

fn spec(mbps: f64, delay_ms: f64) -> LinkSpec {
    LinkSpec::new(
        BitRate::from_bps(mbps * 1e6).unwrap(),
        Delay::from_seconds(delay_ms / 1e3).unwrap(),
    )
}

fn key(job: u32) -> FlowKey {
    FlowKey {
        seed: 11,
        link: LinkId::new(RegionId::new(0), RegionId::new(1)),
        job,
        from_stage: 0,
        to_stage: 1,
    }
}

/// Sends a whole message at once; slot and delivery of each chunk.
fn send(flow: &mut Flow, clock: &mut LinkClock, bytes: u64, ready_ns: u64) -> Vec<(Slot, u64)> {
    let size = u64::from(chunk_bytes(flow.spec.rate));
    let mut message = flow.message(bytes, ready_ns);
    let mut sent = Vec::new();
    loop {
        let chunk = flow.next_chunk(&mut message, size, clock.state());
        let slot = clock.reserve(chunk.charged_bytes, chunk.ready_ns).unwrap();
        sent.push((
            slot,
            flow.delivered_ns(&mut message, chunk, slot, clock.state()),
        ));
        if message.left_bytes() == 0 {
            return sent;
        }
    }
}

/// When each of `messages` of these sizes, ready at 0, is whole at the other end of an idle link.
fn completions(spec: &LinkSpec, messages: &[u64]) -> Vec<u64> {
    let mut flow = Flow::new(spec, key(0));
    let mut clock = LinkClock::new(spec.into());
    let mut whole = |&bytes| send(&mut flow, &mut clock, bytes, 0).last().unwrap().1;
    messages.iter().map(&mut whole).collect()
}

#[test]
fn without_impairments_a_chunk_arrives_a_delay_after_its_slot() {
    let spec = spec(1_000.0, 20.0);
    let mut clock = LinkClock::new((&spec).into());
    let sent = send(&mut Flow::new(&spec, key(0)), &mut clock, 150_000, 1_000);
    let ends = [525_288, 1_049_576, 1_201_000];
    assert_eq!(
        sent.iter().map(|(slot, _)| slot.end_ns).collect::<Vec<_>>(),
        ends
    );
    for (slot, delivered_ns) in sent {
        assert_eq!(delivered_ns, slot.end_ns + 20_000_000);
    }
}

#[test]
fn a_message_queues_behind_others_and_not_behind_its_own_job() {
    // A byte a microsecond, in chunks of 16 KiB.
    let spec = spec(8.0, 20.0);
    let mut clock = LinkClock::new((&spec).into());
    let mut flow = Flow::new(&spec, key(0));
    let size = u64::from(chunk_bytes(spec.rate));
    let mut departures = Vec::new();
    for (bytes, ready_ns) in [(size, 0), (2 * size, 0), (10, 0), (10, 900_000_000)] {
        let mut message = flow.message(bytes, ready_ns);
        while message.left_bytes() > 0 {
            let chunk = flow.next_chunk(&mut message, size, clock.state());
            let slot = clock.reserve(chunk.charged_bytes, chunk.ready_ns).unwrap();
            flow.delivered_ns(&mut message, chunk, slot, clock.state());
            // Another job has a chunk behind each.
            clock.reserve(1_000, 0).unwrap();
        }
        departures.push(message.departure());
    }
    let departure = |left_us: u64, queued_us: u64| Departure {
        left_ns: 1_000 * left_us,
        queued_ns: 1_000 * queued_us,
    };
    assert_eq!(
        departures,
        [
            departure(size, 0),
            departure(3 * size + 2_000, 2_000),
            departure(3 * size + 3_010, 1_000),
            departure(900_010, 0),
        ]
    );
}

#[test]
fn headers_are_charged_once_a_datagram_however_a_message_is_cut() {
    let ethernet = LinkSpec {
        accounting: Accounting::Ethernet,
        ..spec(8.0, 0.0)
    };
    // A byte a microsecond; 100 full datagrams of 1494 bytes.
    assert_eq!(completions(&ethernet, &[142_100]), [149_400_000]);
}

#[test]
fn a_held_flow_leaves_the_rest_of_the_link_to_others() {
    // 1.22 x 1421 x 8 / (0.08 x 0.1) = 1.733 62 Mbit/s of 100.
    let mathis = LinkSpec {
        loss: Loss {
            share: 0.01,
            model: LossModel::Mathis,
        },
        ..spec(100.0, 40.0)
    };
    let whole = completions(&mathis, &[866_810, 866_810]);
    for (whole, ideal_ns) in whole.into_iter().zip([4_040_000_000u64, 8_040_000_000]) {
        assert!(whole.abs_diff(ideal_ns) <= 30, "{whole}");
    }
    let mut clock = LinkClock::new((&mathis).into());
    let mut flows = [0, 1].map(|job| Flow::new(&mathis, key(job)));
    let mut messages = [0, 1].map(|i: usize| flows[i].message(866_810, 0));
    let mut last = [0; 2];
    for _ in 0..14 {
        for i in [0, 1] {
            let chunk = flows[i].next_chunk(&mut messages[i], 65_536, clock.state());
            let slot = clock.reserve(chunk.charged_bytes, chunk.ready_ns).unwrap();
            last[i] = flows[i].delivered_ns(&mut messages[i], chunk, slot, clock.state());
        }
    }
    // Both at once take as long as one alone: the link has room for fifty.
    for last in last {
        assert!(last.abs_diff(4_040_000_000) <= 30, "{last}");
    }
}

#[test]
fn flows_of_their_own_are_held_one_by_one() {
    let mathis = LinkSpec {
        loss: Loss {
            share: 0.01,
            model: LossModel::Mathis,
        },
        sharing: Sharing::PerFlow,
        ..spec(100.0, 40.0)
    };
    let mut flow = Flow::new(&mathis, key(0));
    let state = (&mathis).into();
    let mut messages = [(); 2].map(|()| flow.message(65_536, 5));
    for message in &mut messages {
        assert_eq!(flow.next_chunk(message, 65_536, state).ready_ns, 5);
    }
}

#[test]
fn a_delay_that_shrinks_reorders_nothing() {
    let spec = spec(8_000.0, 10.0);
    let mut flow = Flow::new(&spec, key(0));
    let mut clock = LinkClock::new((&spec).into());
    let before = send(&mut flow, &mut clock, 1_000, 0)[0].1;
    assert_eq!(before, 10_001_000);
    let near = LinkState {
        delay_ns: 1_000_000,
        ..clock.state()
    };
    clock.set(near, 0);
    assert_eq!(send(&mut flow, &mut clock, 1_000, 0)[0].1, 10_001_000);
    assert_eq!(
        send(&mut flow, &mut clock, 1_000, 9_500_000)[0].1,
        10_501_000
    );
}

#[test]
fn a_loss_near_the_end_costs_a_round_trip() {
    let lossy = LinkSpec {
        loss: Loss {
            share: 0.001,
            model: LossModel::Goodput,
        },
        ..spec(100.0, 10.0)
    };
    // 100 Mbit/s x 20 ms hold 176 datagrams: one message in six is hit.
    const MESSAGES: u64 = 4_000;
    let mut flow = Flow::new(&lossy, key(0));
    let mut clock = LinkClock::new((&lossy).into());
    let mut hit = 0;
    for i in 0..MESSAGES {
        let ready_ns = i * 1_000_000_000;
        let (slot, whole_ns) = *send(&mut flow, &mut clock, 300_000, ready_ns)
            .last()
            .unwrap();
        assert!((slot.end_ns - ready_ns).abs_diff(24_024_024) <= 100);
        match whole_ns - slot.end_ns {
            10_000_000 => {}
            30_000_000 => hit += 1,
            other => panic!("neither without nor with a round trip: {other}"),
        }
    }
    let expected = 1.0 - 0.999f64.powi(176);
    assert!(
        (f64::from(hit) / MESSAGES as f64 - expected).abs() < 0.02,
        "{hit}"
    );
}

#[test]
fn jitter_has_its_mean_where_chunks_are_far_apart() {
    let far_apart = |jitter| {
        let link = LinkSpec {
            jitter,
            ..spec(1_000.0, 1.0)
        };
        let mut flow = Flow::new(&link, key(0));
        let mut clock = LinkClock::new((&link).into());
        let extra = (0..4_000u64).map(|i| {
            let (slot, delivered_ns) = send(&mut flow, &mut clock, 1_000, i * 1_000_000_000)[0];
            (delivered_ns - slot.end_ns - 1_000_000) as f64
        });
        extra.sum::<f64>() / 4_000.0 / 1e6
    };
    let ms = Delay::from_seconds(5e-3).unwrap();
    assert!((far_apart(Jitter::Uniform(ms)) - 2.5).abs() < 0.1);
    let half_normal_mean = 5.0 * (2.0 / std::f64::consts::PI).sqrt();
    assert!((far_apart(Jitter::Normal(ms)) - half_normal_mean).abs() < 0.2);
}

/// Chunks that each of `jobs` greedy jobs gets while all are busy, and every slot: each holds one reservation and makes its
/// next one when that begins.
fn share(spec: &LinkSpec, jobs: usize, chunks: usize) -> (Vec<usize>, Vec<Slot>) {
    let mut clock = LinkClock::new(spec.into());
    let mut flows: Vec<Flow> = (0..jobs as u32)
        .map(|job| Flow::new(spec, key(job)))
        .collect();
    let mut messages: Vec<Message> = flows
        .iter_mut()
        .map(|flow| flow.message(1 << 40, 0))
        .collect();
    let size = u64::from(chunk_bytes(spec.rate));
    let mut begins = vec![0; jobs];
    let mut counts = vec![0; jobs];
    let mut slots = Vec::new();
    for _ in 0..chunks {
        let job = (0..jobs).min_by_key(|&job| begins[job]).unwrap();
        let chunk = flows[job].next_chunk(&mut messages[job], size, clock.state());
        let slot = clock.reserve(chunk.charged_bytes, chunk.ready_ns).unwrap();
        flows[job].delivered_ns(&mut messages[job], chunk, slot, clock.state());
        begins[job] = slot.start_ns;
        counts[job] += 1;
        slots.push(slot);
    }
    (counts, slots)
}

proptest! {
    #[test]
    fn jobs_share_equally_and_fill_the_link(jobs in 1usize..9, mbps in 1.0f64..20_000.0, ethernet: bool) {
        let accounting = if ethernet { Accounting::Ethernet } else { Accounting::Payload };
        let spec = LinkSpec { accounting, ..spec(mbps, 5.0) };
        let (counts, slots) = share(&spec, jobs, 50 * jobs);
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 2, "{counts:?}");
        for pair in slots.windows(2) {
            prop_assert_eq!(pair[0].end_ns, pair[1].start_ns);
        }
    }

    #[test]
    fn nothing_overtakes_and_nothing_is_lost(
        (mbps, delay_ms) in (1.0f64..10_000.0, 0.0f64..200.0),
        jitter_ms in 0.0f64..50.0,
        normal: bool,
        share in prop::sample::select(vec![0.0, 1e-4, 0.05]),
        mathis: bool,
        messages in prop::collection::vec((0u64..2_000_000, 0u64..1_000_000_000), 1..12),
        changes in prop::collection::vec((1u64..10_000_000_000, 0u64..300_000_000), 12),
    ) {
        let jitter_s = Delay::from_seconds(jitter_ms / 1e3).unwrap();
        let jitter = if normal { Jitter::Normal(jitter_s) } else { Jitter::Uniform(jitter_s) };
        let model = if mathis { LossModel::Mathis } else { LossModel::Goodput };
        let spec = LinkSpec { jitter, loss: Loss { share, model }, ..spec(mbps, delay_ms) };
        let mut flow = Flow::new(&spec, key(0));
        let mut clock = LinkClock::new((&spec).into());
        let (mut last_ns, mut last_end) = (0, 0);
        for ((bytes, ready_ns), (bits_per_second, delay_ns)) in messages.into_iter().zip(changes) {
            let mut charged = 0;
            for (slot, delivered_ns) in send(&mut flow, &mut clock, bytes, ready_ns) {
                prop_assert!(slot.start_ns >= last_end && slot.start_ns >= ready_ns);
                let state = clock.state();
                let least = slot.end_ns + state.delay_ns;
                prop_assert!(delivered_ns >= least.max(last_ns));
                charged += u128::from(slot.end_ns - slot.start_ns) * u128::from(state.bits_per_second);
                (last_ns, last_end) = (delivered_ns, slot.end_ns);
            }
            // What the slots hold is what the message costs, to half a nanosecond a chunk.
            let exact = u128::from(spec.charged_bytes(bytes)) * 8_000_000_000;
            let rounding = u128::from(clock.state().bits_per_second) * 130;
            prop_assert!(charged.abs_diff(exact) <= rounding);
            clock.set(LinkState { bits_per_second, delay_ns }, last_end);
        }
    }

    #[test]
    fn an_isolated_message_takes_its_ideal_time(
        (mbps, delay_ms) in (1.0f64..10_000.0, 0.0f64..200.0),
        bytes in 0u64..20_000_000,
        share in prop::sample::select(vec![0.0, 1e-4, 0.05]),
        ethernet: bool,
    ) {
        let accounting = if ethernet { Accounting::Ethernet } else { Accounting::Payload };
        let loss = Loss { share, model: LossModel::Mathis };
        let spec = LinkSpec { accounting, loss, ..spec(mbps, delay_ms) };
        let whole_ns = completions(&spec, &[bytes])[0] as f64;
        let ideal_ns = spec.ideal_seconds(bytes) * 1e9;
        // Rounding of the rate to whole bits, of each chunk to half a nanosecond; a datagram where a flow is held.
        let datagram_ns = if spec.flow_cap().is_some() && ethernet { 1494.0 * 8e3 / mbps } else { 0.0 };
        prop_assert!((whole_ns - ideal_ns).abs() <= ideal_ns * 1e-5 + 1_300.0 + datagram_ns);
    }
}
