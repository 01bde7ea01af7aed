//! How late timers wake up on this host.

use std::time::Duration;

use super::stats::percentile;
use crate::SocketError;
use crate::runtime::NetThread;
use crate::timer::{DeadlineTimer, now_ns};

/// The shortest wait, ns.
const SHORTEST_NS: u64 = 300_000;
/// The longest wait, ns.
const LONGEST_NS: u64 = 5_000_000;
/// Steps around the spread of waits by the golden section, so that they are spread evenly and in no order.
const STEP: f64 = 0.618_033_988_749_895;

/// What wakes a task up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TimerKind {
    /// A timerfd with an absolute deadline: what links use.
    Timerfd,
    /// tokio's own timer, beneath which QUIC paces and detects losses.
    Tokio,
}

/// Lateness of wake-ups, us.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Lateness {
    /// On average.
    pub mean_us: f64,
    /// Of the worst in a hundred.
    pub p99_us: f64,
    /// Of the worst.
    pub worst_us: f64,
}

/// Waits `waits` times between 0.3 and 5 ms on a network thread; 2.7 ms each on average.
///
/// # Errors
/// When the system gives no timer, or `waits` is 0.
///
/// # Panics
/// Within a tokio runtime: it blocks.
pub fn timer_lateness(kind: TimerKind, waits: u32) -> Result<Lateness, SocketError> {
    let thread = NetThread::start("timers")?;
    let late_us = thread.run(async move {
        let mut timer = DeadlineTimer::new()?;
        let mut late_us = Vec::with_capacity(waits as usize);
        for number in 0..waits {
            let share = (f64::from(number) * STEP).fract();
            let wait_ns = SHORTEST_NS + (share * (LONGEST_NS - SHORTEST_NS) as f64) as u64;
            let deadline_ns = now_ns() + wait_ns;
            match kind {
                TimerKind::Timerfd => timer.wait_until(deadline_ns).await?,
                TimerKind::Tokio => tokio::time::sleep(Duration::from_nanos(wait_ns)).await,
            }
            late_us.push(now_ns().saturating_sub(deadline_ns) as f64 / 1e3);
        }
        Ok::<_, SocketError>(late_us)
    })??;
    let of = |share| percentile(&late_us, share).ok_or(SocketError::NothingCarried);
    Ok(Lateness {
        mean_us: late_us.iter().sum::<f64>() / late_us.len() as f64,
        p99_us: of(0.99)?,
        worst_us: of(1.0)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_in_order() {
        for kind in [TimerKind::Timerfd, TimerKind::Tokio] {
            let late = timer_lateness(kind, 8).unwrap();
            assert!(0.0 < late.mean_us && late.mean_us <= late.worst_us);
            assert!(late.p99_us <= late.worst_us);
        }
        assert!(timer_lateness(TimerKind::Timerfd, 0).is_err());
    }
}
