//! A link's receipt over real sockets.

use bace_netem::{Allowance, Miss, Promise, Quantity, Shaping};

use super::support::{next_message, pair, receive, send, spec};
use crate::receipt::{Script, alone};
use crate::{LinkCell, Profile};

#[tokio::test]
async fn a_real_link_is_measured_as_its_clock_gives_it() {
    let spec = spec(200.0, 10.0);
    let script = Script::alone(&spec, Shaping::Clocked);
    let pair = pair(Profile::data()).await;
    let mut received = receive(&pair.server, script.largest_bytes());
    let cell = LinkCell::private(&spec);
    let [warming, sending] = [cell.clone(), cell].map(|cell| send(&pair.client, cell, &spec));
    let sent = async { script.send(warming, sending).await.unwrap() };
    let came = async {
        let mut timings = Vec::new();
        for place in 0..script.len() {
            let message = next_message(&mut received).await;
            script.check(place, &message).unwrap();
            assert!(script.check(place + 1, &message).is_err());
            timings.push((message.payload.len() as u64, message.timing));
        }
        timings
    };
    let ((), timings) = tokio::join!(sent, came);
    // The host may be as busy as it likes; a clock gives nothing early.
    for &(bytes, timing) in &timings {
        let transit_s = timing.transit_s();
        assert!(
            transit_s >= spec.ideal_seconds(bytes) - 1e-6,
            "{bytes}: {timing:?}"
        );
    }
    let busy = Promise {
        spec: &spec,
        shaping: Shaping::Clocked,
        allowance: Allowance {
            share: 0.0,
            seconds: 1e-6,
        },
        ahead_s: 0.0,
    };
    let timings: Vec<_> = timings.into_iter().map(|(_, timing)| timing).collect();
    for finding in alone(&script, &busy, &timings).unwrap() {
        // Late messages of a busy host can come close behind one another: only times cannot be early.
        if finding.quantity != Quantity::Rate {
            assert_ne!(finding.miss(), Some(Miss::Over), "{finding:?}");
            assert!(finding.measured < 5.0, "{finding:?}");
        }
    }
}
