//! A made-up ledger with a known answer for every cause.

use bace_ledger::Cause;
use serde_json::{Value, json};

use crate::made_up::{MadeUp, assert_sums, link, receive, slow, span, unclocked};

/// A stage of one forward, one backward and a step from 1 s to 5 s, whose GPU is free at 7 s.
fn alone(spans: Vec<Value>) -> MadeUp {
    MadeUp::new(&["x"], 7.0).iteration(0, 0, [1.0, 5.0], spans)
}

#[test]
fn a_stage_alone_computes_starts_up_and_is_released() {
    let times = alone(vec![
        span("F0", 1.0, 2.0),
        span("B0", 2.0, 4.5),
        span("S", 4.5, 5.0),
    ])
    .times();
    assert_eq!((times.from_s, times.to_s), (0.0, 7.0));
    assert_eq!((times.cut, times.unknown_s), (None, Some(0.0)));
    assert_sums(
        &times.stages[0].sums,
        &[
            (Cause::StartUp, 1.0),
            (Cause::Forward, 1.0),
            (Cause::Backward, 2.5),
            (Cause::Step, 0.5),
            (Cause::HostOverhead, 2.0),
        ],
    );
}

#[test]
fn an_excess_is_the_wait_for_the_device_and_then_the_host() {
    let times = alone(vec![
        slow("F0", [1.0, 2.5], 0.3, 0.5),
        slow("B0", [2.5, 4.5], 0.8, 0.5),
        // The emulated GPU would have taken as long.
        slow("S", [4.5, 5.0], 0.2, -1.0),
    ])
    .times();
    assert_sums(
        &times.stages[0].sums,
        &[
            (Cause::StartUp, 1.0),
            (Cause::Forward, 1.0),
            (Cause::Backward, 1.5),
            (Cause::Step, 0.5),
            (Cause::LeaseWait, 0.8),
            (Cause::HostOverhead, 2.2),
        ],
    );
}

#[test]
fn what_a_step_waited_for_its_device_is_lease_wait_of_all_who_wait_for_its_stage() {
    // The step takes no time of its own: for half a second of the forward behind it, its stage still waited for the device.
    let first = vec![span("B0", 0.0, 2.0), span("S", 2.0, 2.0)];
    let next = vec![slow("F0", [2.0, 3.75], 0.5, 0.75), span("SA0", 3.75, 3.75)];
    let received = receive("RA0", [2.0, 4.0], [3.75, 4.0, 0.0, 4.0]);
    let times = MadeUp::new(&["x", "y"], 4.0)
        .iteration(0, 0, [0.0, 2.0], first)
        .iteration(0, 1, [2.0, 3.75], next)
        .iteration(1, 0, [0.0, 2.0], vec![span("B0", 0.0, 2.0)])
        .iteration(1, 1, [2.0, 4.0], vec![received])
        .times();
    let held_up = [(Cause::LeaseWait, 0.5), (Cause::HostOverhead, 0.25)];
    let own = [
        (Cause::Backward, 2.0),
        (Cause::Forward, 1.0),
        (Cause::Bubble, 0.25),
    ];
    assert_sums(&times.stages[0].sums, &[&own[..], &held_up].concat());
    let behind = [
        (Cause::Backward, 2.0),
        (Cause::Bubble, 1.0),
        (Cause::LinkSerialisation, 0.25),
    ];
    assert_sums(&times.stages[1].sums, &[&behind[..], &held_up].concat());
}

#[test]
fn natively_a_wait_for_the_device_is_part_of_the_action_and_gaps_are_the_hosts() {
    let times = alone(vec![
        slow("F0", [1.25, 2.5], 0.25, -1.0),
        slow("B0", [3.0, 4.5], 0.5, -1.0),
        span("S", 4.5, 4.75),
    ])
    .header("compute", json!("native"))
    .times();
    assert_sums(
        &times.stages[0].sums,
        &[
            (Cause::StartUp, 1.0),
            (Cause::Forward, 1.0),
            (Cause::Backward, 1.0),
            (Cause::Step, 0.25),
            (Cause::LeaseWait, 0.75),
            (Cause::HostOverhead, 0.25 + 0.5 + 0.25 + 2.0),
        ],
    );
}

#[test]
fn between_iterations_it_is_the_host() {
    let made_up = MadeUp::new(&["x"], 6.0)
        .iteration(0, 4, [0.0, 2.0], vec![span("F0", 0.0, 2.0)])
        .iteration(0, 5, [2.5, 6.0], vec![span("F0", 2.5, 6.0)]);
    assert_sums(
        &made_up.times().stages[0].sums,
        &[(Cause::Forward, 5.5), (Cause::HostOverhead, 0.5)],
    );
}

/// Two stages: the first computes from 0 s to 2 s, the other receives from 0 s on and computes for 1 s.
fn two(network: &str, received: Value) -> MadeUp {
    let to_s = received["to_s"].as_f64().expect("a number");
    MadeUp::new(&["x", "y"], to_s + 1.0)
        .header("network", json!(network))
        .iteration(
            0,
            0,
            [0.0, 2.0],
            vec![span("F0", 0.0, 2.0), span("SA0", 2.0, 2.0)],
        )
        .iteration(
            1,
            0,
            [0.0, to_s + 1.0],
            vec![received, span("F0", to_s, to_s + 1.0)],
        )
}

#[test]
fn a_message_is_made_carried_shared_brought_and_late() {
    let mut received = receive("RA0", [0.0, 8.0], [2.0, 5.0, 1.0, 7.0]);
    received["message"]["late_until_s"] = json!(7.75);
    let times = two("shaped", received).times();
    let sums = &times.stages[1].sums;
    assert_sums(
        sums,
        &[
            (Cause::Bubble, 2.0),
            (Cause::LinkSerialisation, 2.0),
            (Cause::Queued, 1.0),
            (Cause::Propagation, 2.0),
            (Cause::ReceiveLate, 0.75),
            (Cause::HostOverhead, 0.25),
            (Cause::Forward, 1.0),
        ],
    );
    let over = link("x", "y");
    assert_eq!(sums.links().collect::<Vec<_>>(), [&over]);
    let at_link = Cause::OF_LINKS.map(|cause| sums.link_seconds(&over, cause));
    assert_eq!(at_link, [2.0, 2.0, 1.0, 0.75]);
    // The first stage waits for the other's last step.
    assert_sums(
        &times.stages[0].sums,
        &[(Cause::Forward, 2.0), (Cause::Bubble, 7.0)],
    );
}

#[test]
fn a_wait_for_a_part_of_a_transfer_takes_that_part_of_the_queueing() {
    // Of 4 s on the link, 1 s was others'; the stage computed for the first 3 s of it.
    let received = receive("RA0", [5.0, 6.0], [2.0, 6.0, 1.0, 6.0]);
    let times = MadeUp::new(&["x", "y"], 6.0)
        .iteration(0, 0, [0.0, 6.0], vec![span("F0", 0.0, 6.0)])
        .iteration(1, 0, [0.0, 6.0], vec![span("B7", 0.0, 5.0), received])
        .times();
    assert_sums(
        &times.stages[1].sums,
        &[
            (Cause::Backward, 5.0),
            (Cause::LinkSerialisation, 0.75),
            (Cause::Queued, 0.25),
        ],
    );
}

#[test]
fn a_message_behind_another_waits_for_the_link_that_carries_it() {
    // The first was on the link until 4 s, half of the time behind another job; the second had the link to itself.
    let spans = vec![
        receive("RA0", [0.0, 1.0], [0.0, 4.0, 2.0, 1.0]),
        receive("RA1", [1.0, 5.0], [0.5, 5.0, 0.0, 5.0]),
    ];
    let made_up = MadeUp::new(&["x", "y"], 5.0)
        .iteration(0, 0, [0.0, 5.0], vec![span("F0", 0.0, 5.0)])
        .iteration(1, 0, [0.0, 5.0], spans);
    assert_sums(
        &made_up.times().stages[1].sums,
        &[(Cause::LinkSerialisation, 3.0), (Cause::Queued, 2.0)],
    );
}

#[test]
fn a_send_that_lasts_is_the_links_while_it_carries_and_the_hosts_else() {
    // The link carried the first message until 3 s, a third of it behind another job.
    let first = vec![
        span("F0", 0.0, 0.0),
        span("SA0", 0.0, 0.0),
        span("SA1", 0.0, 4.0),
        span("F1", 4.0, 5.0),
    ];
    let second = vec![
        receive("RA0", [0.0, 3.0], [0.0, 3.0, 1.0, 3.0]),
        receive("RA1", [3.0, 5.0], [4.0, 5.0, 0.0, 5.0]),
    ];
    let times = MadeUp::new(&["x", "y"], 5.0)
        .iteration(0, 0, [0.0, 5.0], first)
        .iteration(1, 0, [0.0, 5.0], second)
        .times();
    // From 3 s to 4 s the link had nothing to carry: the host held the first stage up, and through it the other.
    assert_sums(
        &times.stages[0].sums,
        &[
            (Cause::LinkSerialisation, 2.0),
            (Cause::Queued, 1.0),
            (Cause::HostOverhead, 1.0),
            (Cause::Forward, 1.0),
        ],
    );
    assert_sums(
        &times.stages[1].sums,
        &[
            (Cause::LinkSerialisation, 3.0),
            (Cause::Queued, 1.0),
            (Cause::HostOverhead, 1.0),
        ],
    );
    assert_eq!(
        times.stages[1]
            .sums
            .link_seconds(&link("x", "y"), Cause::LinkSerialisation),
        3.0
    );
}

#[test]
fn a_stage_that_waits_for_one_that_waits_for_a_link_waits_for_that_link() {
    // Gradients go z → y → x: the last stage computes until 2 s, the link z → y takes 3 s and 1 s, y computes for 1 s, and the link
    // y → x takes 2 s.
    let times = MadeUp::new(&["x", "y", "z"], 9.0)
        .iteration(
            0,
            0,
            [0.0, 9.0],
            vec![receive("RG0", [0.0, 9.0], [7.0, 9.0, 0.0, 9.0])],
        )
        .iteration(
            1,
            0,
            [0.0, 7.0],
            vec![
                receive("RG0", [0.0, 6.0], [2.0, 5.0, 1.0, 6.0]),
                span("B0", 6.0, 7.0),
            ],
        )
        .iteration(2, 0, [0.0, 2.0], vec![span("B0", 0.0, 2.0)])
        .times();
    let sums = &times.stages[0].sums;
    assert_sums(
        sums,
        &[
            (Cause::Bubble, 2.0 + 1.0),
            (Cause::LinkSerialisation, 2.0 + 2.0),
            (Cause::Queued, 1.0),
            (Cause::Propagation, 1.0),
        ],
    );
    let far = link("z", "y");
    assert_eq!(sums.link_seconds(&far, Cause::LinkSerialisation), 2.0);
    assert_eq!(sums.link_seconds(&far, Cause::Queued), 1.0);
    assert_eq!(sums.link_seconds(&far, Cause::Propagation), 1.0);
    let near = link("y", "x");
    assert_eq!(sums.link_seconds(&near, Cause::LinkSerialisation), 2.0);
}

#[test]
fn what_holds_the_sender_up_holds_up_who_waits_for_it() {
    // The first stage starts at 1 s, waits for its device until 3.5 s and lets its host idle until 4 s.
    let first = vec![slow("F0", [1.0, 3.5], 1.5, 1.5), span("S", 4.0, 4.0)];
    let times = MadeUp::new(&["x", "y"], 5.0)
        .iteration(0, 0, [1.0, 4.0], first)
        .iteration(
            1,
            0,
            [0.0, 5.0],
            vec![receive("RA0", [0.0, 5.0], [4.0, 5.0, 0.0, 5.0])],
        )
        .times();
    assert_sums(
        &times.stages[1].sums,
        &[
            (Cause::StartUp, 1.0),
            (Cause::Bubble, 1.0),
            (Cause::LeaseWait, 1.5),
            (Cause::HostOverhead, 0.5),
            (Cause::LinkSerialisation, 1.0),
        ],
    );
}

/// What 2000 bytes over a link of 1000 bytes a second and half a second of delay come to, where no clock timed them.
fn unclocked_sums(network: &str, due_s: f64, sent: Option<Value>) -> bace_ledger::Sums {
    let mut made_up = two(network, unclocked("RA0", [0.0, due_s], 2.0, due_s));
    if let Some(bytes) = sent {
        made_up = made_up.record(json!({
            "kind": "transfer", "at_s": 9.0, "job": "a", "attempt": 0, "from_stage": 0, "to_stage": 1, "from": "x", "to": "y",
            "messages": 1, "bytes": bytes, "late_arrivals": 0, "worst_late_s": 0.0,
        }));
    }
    made_up.times().stages[1].sums.clone()
}

#[test]
fn what_no_clock_timed_is_told_by_rate_and_delay_and_the_rest_is_late() {
    let rest = [(Cause::Bubble, 2.0), (Cause::Forward, 1.0)];
    let sums = |network, due_s| unclocked_sums(network, due_s, Some(json!(2000)));
    let with = |causes: &[(Cause, f64)]| [&rest, causes].concat();
    let late = with(&[
        (Cause::LinkSerialisation, 2.0),
        (Cause::Propagation, 0.5),
        (Cause::ReceiveLate, 1.5),
    ]);
    assert_sums(&sums("packet", 6.0), &late);
    // Faster than the rate, as from a bucket of credit: the delay is kept.
    let fast = with(&[(Cause::LinkSerialisation, 0.5), (Cause::Propagation, 0.5)]);
    assert_sums(&sums("kernel", 3.0), &fast);
    // Nobody gave the link what the scenario says.
    let unshaped = with(&[(Cause::LinkSerialisation, 4.0)]);
    assert_sums(&sums("none", 6.0), &unshaped);
    // Nobody told how much it carried.
    assert_sums(&unclocked_sums("packet", 6.0, None), &unshaped);
}

#[test]
fn a_link_that_changes_under_a_message_carries_the_rest_at_its_new_rate() {
    let made_up = two("packet", unclocked("RA0", [0.0, 9.0], 2.0, 9.0))
        .record(json!({"kind": "transfer", "at_s": 9.0, "job": "a", "attempt": 0, "from_stage": 0, "to_stage": 1, "from": "x",
            "to": "y", "messages": 2, "bytes": 10, "carried_bytes": 4000, "late_arrivals": 0, "worst_late_s": 0.0}))
        .record(json!({"kind": "input", "input": "link_changed", "at_s": 3.0, "from": "x", "to": "y", "bandwidth_bps": 4000.0}))
        .record(json!({"kind": "input", "input": "link_changed", "at_s": 3.0, "from": "y", "to": "x", "bandwidth_bps": 1.0,
            "one_way_delay_s": 5.0}));
    // 1000 bytes in the first second, the others at 500 a second, then the delay.
    assert_sums(
        &made_up.times().stages[1].sums,
        &[
            (Cause::Bubble, 2.0),
            (Cause::LinkSerialisation, 3.0),
            (Cause::Propagation, 0.5),
            (Cause::ReceiveLate, 3.5),
            (Cause::Forward, 1.0),
        ],
    );
}

#[test]
fn a_regions_fabric_has_no_rate_in_the_header() {
    let received = unclocked("RA0", [0.0, 4.0], 1.0, 4.0);
    let times = MadeUp::new(&["x", "x"], 4.0)
        .header("network", json!("kernel"))
        .iteration(0, 0, [0.0, 4.0], vec![span("F0", 0.0, 4.0)])
        .iteration(1, 0, [0.0, 4.0], vec![received])
        .times();
    let sums = &times.stages[1].sums;
    assert_sums(
        sums,
        &[(Cause::Bubble, 1.0), (Cause::LinkSerialisation, 3.0)],
    );
    let fabric = link("x", "x");
    assert_eq!(sums.link_seconds(&fabric, Cause::LinkSerialisation), 3.0);
    assert_eq!(fabric.to_string(), "fabric of x");
}
