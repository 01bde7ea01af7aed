//! A link's receipt over real sockets.

use bace_netem::{Allowance, Promise, Shaping};

use super::support::{next_message, pair, receive, send, spec};
use crate::receipt::{Script, alone};
use crate::{LinkCell, Profile, now_ns};

#[tokio::test]
async fn a_real_link_is_measured_as_its_clock_gives_it() {
    let spec = spec(200.0, 10.0);
    let script = Script::alone(&spec, Shaping::Clocked);
    let pair = pair(Profile::data()).await;
    let mut received = receive(&pair.server, script.largest_bytes());
    let (sender, task) = send(&pair.client, LinkCell::private(&spec), &spec);
    for message in script.outgoing(now_ns()) {
        sender.send(message).await.unwrap();
    }
    let mut timings = Vec::new();
    for place in 0..script.len() {
        let message = next_message(&mut received).await;
        script.check(place, &message).unwrap();
        assert!(script.check(place + 1, &message).is_err());
        timings.push(message.timing);
    }
    drop(sender);
    task.finish().await.unwrap();
    // The host may be as busy as it likes; a clock gives nothing early.
    let busy = Promise {
        spec: &spec,
        shaping: Shaping::Clocked,
        allowance: Allowance {
            share: 2.0,
            seconds: 0.2,
        },
    };
    let findings = alone(&script, &busy, &timings).unwrap();
    assert!(
        findings.iter().all(|finding| finding.miss().is_none()),
        "{findings:?}"
    );
    for timing in timings {
        assert!(timing.transit_s() >= spec.delay.seconds(), "{timing:?}");
    }
}
