//! What loopback and timers are worth.

use std::time::Duration;

use bace_netem::BitRate;
use bace_socket::bench::{
    Lateness, LoopbackCeiling, TimerKind, loopback_ceiling, message_cost_s, tcp_ceiling,
    timer_lateness,
};
use serde_json::{Value, json};

use super::finding::Finding;

/// How long each rate is measured.
const WINDOW: Duration = Duration::from_secs(1);
/// Messages whose cost is measured; 3 ms each.
const MESSAGES: u32 = 300;
/// Waits of each kind of timer; 2.7 ms each on average.
const WAITS: u32 = 300;
/// A link's timer that is later than this in one case of a hundred breaks the goal of 0.5 ms, us.
const LATE_P99_US: f64 = 500.0;

/// What was measured; absent where it could not be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measured {
    /// TCP, one connection.
    pub tcp: Option<BitRate>,
    /// QUIC, the way tensors go.
    pub quic: Option<LoopbackCeiling>,
    /// Processor time of a message beside its bytes, both ends together, s.
    pub message_cost_s: Option<f64>,
    /// What links wait with.
    pub timerfd: Option<Lateness>,
    /// What QUIC paces with.
    pub tokio: Option<Lateness>,
}

impl Measured {
    /// Measures everything; what could not be measured is told.
    pub fn take(mut each: impl FnMut(&str)) -> (Self, Vec<Finding>) {
        let mut measured = Self::default();
        let mut findings = Vec::new();
        each("TCP over loopback");
        findings.push(kept(
            "loopback, TCP",
            tcp_ceiling(WINDOW),
            &mut measured.tcp,
            |rate| gbps_in_words(*rate),
        ));
        each("QUIC over loopback");
        findings.push(
            kept(
                "loopback, QUIC",
                loopback_ceiling(WINDOW),
                &mut measured.quic,
                |ceiling| format!("{} into pooled buffers", gbps_in_words(ceiling.quic)),
            )
            .needed(),
        );
        each("messages over loopback");
        findings.push(kept(
            "messages",
            message_cost_s(MESSAGES),
            &mut measured.message_cost_s,
            |cost_s| {
                format!(
                    "each takes {:.0} us of a core beside its bytes",
                    cost_s * 1e6
                )
            },
        ));
        each("timers");
        findings.push(timer_finding(&mut measured.timerfd).needed());
        findings.push(kept(
            "timer, tokio",
            timer_lateness(TimerKind::Tokio, WAITS),
            &mut measured.tokio,
            late_in_words,
        ));
        (measured, findings)
    }

    /// As `bace doctor --json` prints it; what is absent is null.
    pub fn json(&self) -> Value {
        json!({
            "loopback_tcp_gbps": self.tcp.map(gbps),
            "loopback_quic_gbps": self.quic.map(|ceiling| gbps(ceiling.quic)),
            "message_cost_s": self.message_cost_s,
            "timerfd": self.timerfd,
            "tokio": self.tokio,
        })
    }
}

/// 10^9 bit/s.
pub fn gbps(rate: BitRate) -> f64 {
    rate.bps() / 1e9
}

fn timer_finding(kept_in: &mut Option<Lateness>) -> Finding {
    let name = "timer, timerfd";
    let found = kept(
        name,
        timer_lateness(TimerKind::Timerfd, WAITS),
        kept_in,
        late_in_words,
    );
    match *kept_in {
        Some(late) if late.p99_us > LATE_P99_US => Finding::limited(
            name,
            found.found,
            "links are off by as much: let nothing else run beside, or use a machine that wakes up sooner",
        ),
        _ => found,
    }
}

/// Keeps a measurement, and says what it found.
fn kept<T>(
    name: &'static str,
    measurement: Result<T, bace_socket::SocketError>,
    kept_in: &mut Option<T>,
    words: impl Fn(&T) -> String,
) -> Finding {
    match measurement {
        Ok(value) => Finding::present(name, words(kept_in.insert(value))),
        Err(error) => Finding::absent(
            name,
            format!("failed to {}", bace_api::told(&error)),
            "a run sends its tensors over loopback: allow UDP and TCP on 127.0.0.1",
        ),
    }
}

fn gbps_in_words(rate: BitRate) -> String {
    format!("{:.1} Gbit/s", gbps(rate))
}

fn late_in_words(late: &Lateness) -> String {
    format!(
        "late by {:.0} us on average, {:.0} us in one case of a hundred",
        late.mean_us, late.p99_us
    )
}
