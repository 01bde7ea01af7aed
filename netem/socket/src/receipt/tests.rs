use bace_netem::{
    Allowance, Delay, LinkClock, LinkId, LinkState, Loss, Miss, Quantity, RegionId, TimeScale,
};

use super::*;

const ALLOWANCE: Allowance = Allowance {
    share: 0.02,
    seconds: 0.001,
};

fn spec(mbps: f64, delay_ms: f64) -> LinkSpec {
    LinkSpec::new(
        BitRate::from_bps(mbps * 1e6).unwrap(),
        Delay::from_seconds(delay_ms / 1e3).unwrap(),
    )
}

fn promise(spec: &LinkSpec) -> Promise<'_> {
    Promise {
        spec,
        shaping: Shaping::Clocked,
        allowance: ALLOWANCE,
        ahead_s: 0.0,
    }
}

/// What a receiver tells of scripts that `links` carry, each chunk of the two in turn, on a path without time of its own.
fn carried(scripts: &[&Script], link: &LinkSpec) -> Vec<Vec<Timing>> {
    let chunk = u64::from(chunk_bytes(link.rate));
    let mut clock = LinkClock::new(LinkState::from(link));
    let mut timings = vec![Vec::new(); scripts.len()];
    let mut left: Vec<u64> = scripts
        .iter()
        .map(|script| script.messages[0].bytes)
        .collect();
    while let Some(turn) = (0..scripts.len())
        .filter(|&turn| timings[turn].len() < scripts[turn].len())
        .min_by_key(|&turn| {
            (
                scripts[turn].messages[timings[turn].len()].ready_ns,
                timings[turn].len(),
                std::cmp::Reverse(left[turn]),
            )
        })
    {
        let planned = scripts[turn].messages[timings[turn].len()];
        let bytes = left[turn].min(chunk);
        let slot = clock.reserve(bytes, planned.ready_ns).unwrap();
        left[turn] -= bytes;
        if left[turn] > 0 {
            continue;
        }
        let delivered_ns = slot.end_ns + link.delay.nanos();
        timings[turn].push(Timing {
            departure: None,
            ready_ns: planned.ready_ns,
            deliver_at_ns: delivered_ns,
            arrived_ns: planned.ready_ns,
            delivered_ns,
        });
        let next = scripts[turn].messages.get(timings[turn].len());
        left[turn] = next.map_or(0, |planned| planned.bytes);
    }
    timings
}

#[test]
fn a_message_that_holds_up_those_behind_it_makes_no_link_faster() {
    let spec = spec(100.0, 20.0);
    let script = Script::alone(&spec, Shaping::Datagrams);
    let mut timings = carried(&[&script], &spec).remove(0);
    let last_ns = timings[timings.len() - 1].delivered_ns;
    for place in script.of_part(Part::BackToBack) {
        timings[place].delivered_ns = last_ns;
    }
    let promise = Promise {
        shaping: Shaping::Datagrams,
        ..promise(&spec)
    };
    let rate = alone(&script, &promise, &timings).unwrap()[0];
    assert_eq!(rate.quantity, Quantity::Rate);
    assert!((rate.measured / 100e6 - 1.0).abs() < 1e-3, "{rate:?}");
}

#[test]
fn a_script_is_bounded_in_time_and_bytes_at_every_rate() {
    for mbps in [
        0.01, 0.1, 1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 400_000.0,
    ] {
        for delay_ms in [0.0, 40.0] {
            let spec = spec(mbps, delay_ms);
            let scripts = [
                Script::alone(&spec, Shaping::Clocked),
                Script::together(&spec, Shaping::Clocked),
            ];
            for script in scripts {
                assert!(
                    script.seconds() < 1.7 + delay_ms / 1e3,
                    "{mbps}: {}",
                    script.seconds()
                );
                assert!(script.largest_bytes() <= MOST_BYTES);
                assert!(script.largest_bytes() > 0);
            }
        }
    }
    let seconds = |mbps| Script::alone(&spec(mbps, 0.0), Shaping::Clocked).seconds();
    assert!((0.4..0.6).contains(&seconds(10.0)), "{}", seconds(10.0));
    assert!((0.4..0.6).contains(&seconds(1_000.0)));
    // Several chunks wherever that takes no longer than the longest message.
    for mbps in [2.0, 10.0, 25.0, 1_000.0] {
        let script = Script::alone(&spec(mbps, 0.0), Shaping::Clocked);
        let chunk = u64::from(chunk_bytes(spec(mbps, 0.0).rate));
        assert!(script.largest_bytes() >= 2 * chunk, "{mbps}");
    }
}

#[test]
fn a_link_that_is_as_specified_is_found_so() {
    for (mbps, delay_ms) in [(0.1, 5.0), (10.0, 0.0), (500.0, 38.0), (10_000.0, 120.0)] {
        let spec = spec(mbps, delay_ms);
        let script = Script::alone(&spec, Shaping::Clocked);
        let timings = carried(&[&script], &spec).remove(0);
        for finding in alone(&script, &promise(&spec), &timings).unwrap() {
            assert_eq!(finding.miss(), None, "{mbps} Mbit/s: {finding:?}");
            assert!(finding.is_judged());
            let relative = finding.error().abs() / finding.configured.max(1e-3);
            assert!(relative < 1e-3, "{mbps} Mbit/s: {finding:?}");
        }
    }
}

#[test]
fn a_slower_rate_or_a_longer_delay_is_found() {
    let specified = spec(100.0, 20.0);
    let script = Script::alone(&specified, Shaping::Clocked);
    let misses = |real: &LinkSpec| {
        let timings = carried(&[&script], real).remove(0);
        let findings = alone(&script, &promise(&specified), &timings).unwrap();
        findings
            .into_iter()
            .filter_map(|finding| Some((finding.quantity, finding.miss()?)))
            .collect::<Vec<_>>()
    };
    assert_eq!(misses(&specified), []);
    let slow = [Quantity::Rate, Quantity::Completion].map(|quantity| (quantity, Miss::Short));
    assert_eq!(misses(&spec(95.0, 20.0)), slow);
    let far = [Quantity::Completion, Quantity::Delay].map(|quantity| (quantity, Miss::Short));
    assert_eq!(misses(&spec(100.0, 25.0)), far);
    let near = far.map(|(quantity, _)| (quantity, Miss::Over));
    assert_eq!(misses(&spec(100.0, 0.0)), near);
}

#[test]
fn one_late_message_does_not_bend_a_link() {
    let spec = spec(100.0, 20.0);
    let script = Script::alone(&spec, Shaping::Clocked);
    let ideal = carried(&[&script], &spec).remove(0);
    for late in 0..ideal.len() {
        let mut timings = ideal.clone();
        timings[late].delivered_ns += 30_000_000;
        let findings = alone(&script, &promise(&spec), &timings).unwrap();
        assert!(
            findings.iter().all(|finding| finding.miss().is_none()),
            "{late}: {findings:?}"
        );
    }
}

#[test]
fn two_senders_share_a_link_equally_and_get_no_more_than_it_has() {
    for mbps in [10.0, 100.0, 2_000.0] {
        let spec = spec(mbps, 15.0);
        let script = Script::together(&spec, Shaping::Clocked);
        let timings = carried(&[&script, &script], &spec);
        let both = [&timings[0][..], &timings[1][..]];
        let [rate, jain] = together(&script, &promise(&spec), both).unwrap()[..] else {
            panic!("two findings");
        };
        assert!((rate.error() / rate.configured).abs() < 1e-3, "{rate:?}");
        assert!(jain.measured > 0.995, "{mbps}: {jain:?}");
        assert_eq!((rate.miss(), jain.miss()), (None, None));
    }
}

#[test]
fn two_senders_that_each_get_the_whole_link_are_found_out() {
    let spec = spec(100.0, 15.0);
    let script = Script::together(&spec, Shaping::Clocked);
    let own = carried(&[&script], &spec).remove(0);
    let findings = together(&script, &promise(&spec), [&own, &own]).unwrap();
    assert_eq!(findings[0].quantity, Quantity::SharedRate);
    assert_eq!(findings[0].miss(), Some(Miss::Over));
    assert!(
        (findings[0].measured - 2.0 * findings[0].configured).abs() < 1e-3 * findings[0].configured
    );
}

#[test]
fn senders_one_after_the_other_share_nothing() {
    let spec = spec(100.0, 15.0);
    let script = Script::together(&spec, Shaping::Clocked);
    let first = carried(&[&script], &spec).remove(0);
    let mut second = first.clone();
    for timing in &mut second {
        timing.ready_ns += 10_000_000_000;
        timing.delivered_ns += 10_000_000_000;
    }
    let found = together(&script, &promise(&spec), [&first, &second]);
    assert_eq!(found, Err(ReceiptError::NotTogether));
    let found = together(&script, &promise(&spec), [&first, &second[1..]]);
    assert!(matches!(
        found,
        Err(ReceiptError::OtherMessages {
            received: 4,
            planned: 5
        })
    ));
}

#[test]
fn reasons_name_figure_and_cause() {
    let spec = spec(100.0, 20.0);
    let script = Script::alone(&spec, Shaping::Clocked);
    let told_at = |scale: TimeScale,
                   (real, emulator): (&LinkSpec, Emulator),
                   ceiling_mbps: f64,
                   late_ns: u64| {
        let mut timings = carried(&[&script], real).remove(0);
        for timing in &mut timings {
            timing.arrived_ns = timing.delivered_ns;
            timing.deliver_at_ns = timing.arrived_ns - late_ns;
        }
        let promise = Promise {
            shaping: emulator.shaping(),
            ..promise(&spec)
        };
        let findings = alone(&script, &promise, &timings).unwrap();
        let circumstances = Circumstances {
            spec: &spec,
            emulator,
            arrivals: Arrivals::of(&timings),
            ceiling: BitRate::from_bps(ceiling_mbps * 1e6),
            links: BitRate::from_bps(30e9).unwrap(),
            scale,
        };
        reason(&findings, &circumstances).unwrap_or_default()
    };
    let told = |real: &LinkSpec, emulator: Emulator, ceiling_mbps: f64, late_ns: u64| {
        told_at(TimeScale::ONE, (real, emulator), ceiling_mbps, late_ns)
    };
    let slow = self::spec(80.0, 20.0);
    let has = |told: String, words: &[&str]| {
        for word in words {
            assert!(told.contains(word), "no `{word}` in: {told}");
        }
    };
    assert_eq!(told(&spec, Emulator::Clocks, 20_000.0, 0), "");
    has(
        told(&slow, Emulator::Clocks, 20_000.0, 3_000_000),
        &[
            "it carried 80.0 Mbit/s instead of 100.0 (-20.0 %)",
            "15 of 15 messages came late, the worst by 3.00 ms",
            "30000 Mbit/s, two workers exchange 20000",
        ],
    );
    has(
        told(&slow, Emulator::Clocks, 70.0, 0),
        &["this machine carries only 70 Mbit/s between two workers"],
    );
    let twice = |ceiling_mbps: f64| {
        let scale = TimeScale::new(2.0).unwrap();
        told_at(scale, (&slow, Emulator::Clocks), ceiling_mbps, 3_000_000)
    };
    has(
        twice(20_000.0),
        &[
            "it carried 40.0 Mbit/s instead of 50.0 (-20.0 %)",
            "the worst by 3.00 ms on this machine's clock",
            "30000 Mbit/s on this machine's clock, two workers exchange 20000",
        ],
    );
    has(
        twice(70.0),
        &["only 70 Mbit/s between two workers: at time_scale 2 the link needs 100 of them"],
    );
    let far = self::spec(100.0, 50.0);
    has(
        told(&far, Emulator::Clocks, 40_000.0, 30_000_000),
        &[
            "its delay was 50.00 ms instead of 20.00 ms",
            "even the fastest message was 50.00 ms under way",
        ],
    );
    let near = self::spec(100.0, 0.0);
    has(
        told(&near, Emulator::Kernel, 40_000.0, 0),
        &[" ms instead of 20.00 ms", "may lack netem"],
    );
    has(
        told(&near, Emulator::Clocks, 40_000.0, 0),
        &["the clocks of the two workers disagree"],
    );
    assert_eq!(told(&near, Emulator::Nobody, 40_000.0, 0), "");
    assert!(unjudged(Emulator::Nobody, &spec).is_some());
    assert_eq!(unjudged(Emulator::Clocks, &spec), None);
}

#[test]
fn nothing_is_measured_before_a_connection_is_warm() {
    let spec = spec(100.0, 5.0);
    for shaping in [Shaping::Clocked, Shaping::Datagrams] {
        let script = Script::alone(&spec, shaping);
        let first_ns = script.messages[1].ready_ns;
        // As soon as the link gives it: as planned.
        assert_eq!(script.start_after(1, 7_000, 7_000), 7_000);
        // However long it took: the link idles before the first that counts.
        let late_ns = 3_000_000_000;
        let start_ns = script.start_after(1, 7_000, late_ns);
        assert_eq!(start_ns + first_ns, late_ns + 10_000_000);
        let rest: Vec<_> = script.outgoing(1..script.len(), start_ns).collect();
        assert_eq!(rest.len(), script.len() - 1);
        assert_eq!(rest[0].ready_ns, late_ns + 10_000_000);
        assert_eq!(rest[0].header, 1u32.to_le_bytes()[..]);
    }
    // What has no warm-up begins at once.
    let script = Script::together(&spec, Shaping::Datagrams);
    assert_eq!(script.start_after(0, 7_000, 9_000_000_000), 7_000);
}

#[test]
fn a_script_for_held_flows_is_as_long_as_those_of_other_links() {
    let mut spec = spec(1_000.0, 50.0);
    spec.loss = Loss {
        share: 0.01,
        model: LossModel::Mathis,
    };
    // 1.22 x 1421 x 8 / (0.1 x 0.1) = 1.39 Mbit/s: not the 5 MB of a link of its own.
    let script = Script::alone(&spec, Shaping::Clocked);
    assert!(
        script.largest_bytes() < 30_000,
        "{}",
        script.largest_bytes()
    );
    assert!(script.seconds() < 3.0, "{}", script.seconds());
    let datagrams = Script::alone(&spec, Shaping::Datagrams);
    assert_eq!(datagrams.largest_bytes(), 5_000_000);
}

#[test]
fn a_tiny_message_is_a_whole_datagram() {
    // 68 bytes at 0.1 Mbit/s take 5.44 ms.
    let spec = spec(0.1, 5.0);
    let script = Script::alone(&spec, Shaping::Datagrams);
    let mut timings = carried(&[&script], &spec).remove(0);
    for place in script.of_part(Part::Tiny) {
        timings[place].delivered_ns = timings[place].ready_ns + 5_000_000 + 5_440_000;
    }
    let promise = Promise {
        shaping: Shaping::Datagrams,
        ..promise(&spec)
    };
    let delay = alone(&script, &promise, &timings).unwrap()[2];
    assert_eq!(delay.quantity, Quantity::Delay);
    assert!((delay.measured - 0.005).abs() < 1e-9, "{delay:?}");
}

#[test]
fn a_repeated_message_that_holds_up_others_makes_no_link_faster() {
    let mut spec = spec(100.0, 20.0);
    spec.loss = Loss {
        share: 1e-4,
        model: LossModel::Goodput,
    };
    let script = Script::alone(&spec, Shaping::Clocked);
    let mut timings = carried(&[&script], &spec).remove(0);
    // All but the last are held up by the first one's recovery, and come with the last but one.
    let places: Vec<usize> = script.of_part(Part::BackToBack).collect();
    let held_ns = timings[places[4]].delivered_ns;
    for &place in &places[..4] {
        timings[place].delivered_ns = held_ns;
    }
    let rate = alone(&script, &promise(&spec), &timings).unwrap()[0];
    assert_eq!(rate.miss(), None, "{rate:?}");
}

#[test]
fn a_link_cannot_be_measured_while_what_it_needs_is_down() {
    let (up, down) = (spec(10.0, 5.0), spec(0.0, 5.0));
    for emulator in [Emulator::Packets, Emulator::Kernel] {
        assert_eq!(emulator.obstacle(&up, &up), None);
        assert_eq!(emulator.obstacle(&up, &down), Some("the link back is down"));
        assert_eq!(emulator.obstacle(&down, &down), Some("it is down"));
    }
    assert_eq!(Emulator::Clocks.obstacle(&up, &down), None);
    assert_eq!(Emulator::Clocks.obstacle(&down, &up), Some("it is down"));
}

#[test]
fn both_directions_are_measured_at_once_only_where_neither_takes_the_other() {
    let [a, b, c] = [0, 1, 2].map(RegionId::new);
    let link = LinkId::new(a, b);
    for emulator in [Emulator::Clocks, Emulator::Packets, Emulator::Kernel] {
        assert!(emulator.disturbs(link, link));
        assert!(!emulator.disturbs(link, LinkId::new(b, c)));
        let is_clocked = emulator == Emulator::Clocks;
        assert_eq!(emulator.disturbs(link, link.reversed()), !is_clocked);
    }
}
