//! Laws that hold for any ledger.

use bace_ledger::{Cause, attribute};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::made_up::{MadeUp, slow};

/// A span with any times, in order or not.
fn any_span(stage: usize, stages: usize) -> impl Strategy<Value = Value> {
    let actions: Vec<&str> = [
        ("F0", true),
        ("B0", true),
        ("S", true),
        ("SA0", stage + 1 < stages),
        ("RG0", stage + 1 < stages),
        ("SG0", stage > 0),
        ("RA0", stage > 0),
    ]
    .into_iter()
    .filter_map(|(action, is_there)| is_there.then_some(action))
    .collect();
    let time = || -1.0f64..25.0;
    (
        prop::sample::select(actions),
        time(),
        0.0f64..4.0,
        prop::option::of(-1.0f64..3.0),
        prop::option::of(-1.0f64..3.0),
        [time(), time(), 0.0..3.0, time(), time()],
        prop::array::uniform3(any::<bool>()),
    )
        .prop_map(|(action, from_s, length_s, lease, excess, message, has)| {
            let absent = |value: Option<f64>| value.unwrap_or(-1.0);
            let ends = [from_s, from_s + length_s];
            let mut span = slow(action, ends, absent(lease), absent(excess));
            if action.starts_with('R') {
                let [ready_s, left_s, queued_s, due_s, late_s] = message;
                span["message"] = json!({"ready_s": ready_s, "due_s": due_s});
                for (key, value, has) in [
                    ("left_s", left_s, has[0]),
                    ("queued_s", queued_s, has[1]),
                    ("late_until_s", late_s, has[2]),
                ] {
                    if has {
                        span["message"][key] = value.into();
                    }
                }
            }
            span
        })
}

/// Ledgers of up to five stages and three iterations, mostly impossible ones.
fn any_ledger() -> impl Strategy<Value = MadeUp> {
    (1usize..=5, 1u32..=3, 0.0f64..30.0)
        .prop_flat_map(|(stages, iterations, released_s)| {
            let iteration = move |stage: usize| {
                let spans = prop::collection::vec(any_span(stage, stages), 1..12);
                ([-1.0f64..25.0, -1.0f64..25.0], spans)
            };
            let stage = (0..stages).map(|stage| {
                prop::collection::vec(iteration(stage), iterations as usize)
            });
            let compute = prop::sample::select(vec!["modelled", "paced", "native"]);
            let network = prop::sample::select(vec!["shaped", "packet", "none"]);
            (
                stage.collect::<Vec<_>>(),
                Just(released_s),
                compute,
                network,
                any::<bool>(),
            )
        })
        .prop_map(|(stages, released_s, compute, network, has_failed)| {
            let regions: Vec<&str> = ["x", "y", "y", "z", "x"]
                .into_iter()
                .take(stages.len())
                .collect();
            let mut made_up = MadeUp::new(&regions, released_s)
                .header("compute", json!(compute))
                .header("network", json!(network));
            for (stage, iterations) in stages.into_iter().enumerate() {
                for (iteration, (ends, spans)) in (0..).zip(iterations) {
                    made_up = made_up.iteration(stage, iteration, ends, spans);
                }
            }
            for (from, to) in [(0, 1), (1, 0), (2, 3)] {
                made_up = made_up.record(json!({
                    "kind": "transfer", "at_s": 9.0, "job": "a", "attempt": 0, "from_stage": from, "to_stage": to,
                    "from": "x", "to": "y", "messages": 3, "bytes": 4000, "late_arrivals": 0, "worst_late_s": 0.0,
                }));
            }
            if has_failed { made_up.failed() } else { made_up }
        })
}

proptest! {
    #[test]
    fn every_stage_second_goes_to_one_cause_however_damaged_a_ledger_is(made_up in any_ledger()) {
        let attribution = made_up.attribution();
        let times = attribution.jobs[0].attempts[0].times.known();
        let times = times.expect("every iteration has its spans");
        prop_assert!(times.to_s >= times.from_s);
        let mut all_s = 0.0;
        for stage in &times.stages {
            let sums = &stage.sums;
            for cause in Cause::ALL {
                prop_assert!(sums.seconds(cause) >= 0.0, "{sums:?}");
                let at_links: f64 = sums.links().map(|link| sums.link_seconds(link, cause)).sum();
                let of_links = Cause::OF_LINKS.contains(&cause);
                let expected = if of_links { sums.seconds(cause) } else { 0.0 };
                prop_assert!((at_links - expected).abs() < 1e-9, "{sums:?}");
            }
            all_s += sums.total_s();
        }
        let expected_s = times.stages.len() as f64 * (times.to_s - times.from_s);
        prop_assert!((all_s - expected_s).abs() <= 1e-9 * expected_s, "{all_s} {expected_s}");
    }
}

/// A long pipeline over many iterations, in which everybody waits for the first stage.
#[test]
fn long_chains_of_waits_over_many_iterations_come_to_their_end() {
    const STAGES: usize = 64;
    const ITERATIONS: u32 = 200;
    let mut made_up = MadeUp::new(&["x"; STAGES], f64::from(ITERATIONS));
    for iteration in 0..ITERATIONS {
        let ends = [f64::from(iteration), f64::from(iteration) + 1.0];
        made_up = made_up.iteration(0, iteration, ends, vec![slow("F0", ends, -1.0, 0.25)]);
        for stage in 1..STAGES {
            let received = crate::made_up::receive("RA0", ends, [ends[1], ends[1], 0.0, ends[1]]);
            made_up = made_up.iteration(stage, iteration, ends, vec![received]);
        }
    }
    let attribution = attribute(&made_up.log());
    let times = attribution.jobs[0].attempts[0].times.known().unwrap();
    let all_s = f64::from(ITERATIONS);
    for stage in &times.stages[1..] {
        assert!((stage.sums.seconds(Cause::Bubble) - 0.75 * all_s).abs() < 1e-9);
        assert!((stage.sums.seconds(Cause::HostOverhead) - 0.25 * all_s).abs() < 1e-9);
    }
}
