//! Monotonic time and deadlines that are met to some 50 us.
//!
//! tokio's own timer wheel is a millisecond late on average; no deadline of a link rests on it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::SocketError;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Nanoseconds of `CLOCK_MONOTONIC`: one time for all processes of a host, and for no other.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * NANOS_PER_SECOND + now.tv_nsec as u64
}

/// Waits for points of the monotonic clock; one waiter at a time.
#[derive(Debug)]
pub struct DeadlineTimer {
    fd: AsyncFd<OwnedFd>,
}

impl DeadlineTimer {
    /// A timer of the current tokio runtime.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new() -> Result<Self, SocketError> {
        let fd = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )
        .map_err(|error| SocketError::system("create a timer")(error.into()))?;
        #[expect(
            deprecated,
            reason = "an OwnedFd keeps its descriptor, which is all that the unsafe successor asks"
        )]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE)
            .map_err(SocketError::system("watch a timer"))?;
        Ok(Self { fd })
    }

    /// Returns once `now_ns() >= deadline_ns`, at once if that is so already. Cancel-safe.
    ///
    /// # Errors
    /// When the system refuses the timer.
    pub async fn wait_until(&mut self, deadline_ns: u64) -> Result<(), SocketError> {
        if now_ns() >= deadline_ns {
            return Ok(());
        }
        self.arm(deadline_ns)?;
        loop {
            let mut ready = self
                .fd
                .readable()
                .await
                .map_err(SocketError::system("wait for a timer"))?;
            if now_ns() >= deadline_ns {
                // The expiry stays unread: setting the timer anew clears it.
                ready.clear_ready();
                return Ok(());
            }
            // Readiness left over from an earlier deadline.
            ready.clear_ready();
            self.arm(deadline_ns)?;
        }
    }

    fn arm(&self, deadline_ns: u64) -> Result<(), SocketError> {
        set_deadline(&self.fd, deadline_ns)
    }
}

/// Sets a timer's one absolute deadline, which also forgets an earlier expiry; one that is past expires at once.
pub(crate) fn set_deadline(timer: impl AsFd, deadline_ns: u64) -> Result<(), SocketError> {
    let zero = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // A deadline of 0 would disarm it.
    let deadline_ns = deadline_ns.max(1);
    let deadline = Itimerspec {
        it_interval: zero,
        it_value: Timespec {
            tv_sec: (deadline_ns / NANOS_PER_SECOND) as i64,
            tv_nsec: (deadline_ns % NANOS_PER_SECOND) as i64,
        },
    };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &deadline)
        .map_err(|error| SocketError::system("set a timer")(error.into()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_never_returns_early() {
        let mut timer = DeadlineTimer::new().unwrap();
        for microseconds in [0, 10, 900, 3_000, 50] {
            let deadline_ns = now_ns() + microseconds * 1_000;
            timer.wait_until(deadline_ns).await.unwrap();
            assert!(now_ns() >= deadline_ns);
        }
        timer.wait_until(0).await.unwrap();
    }

    #[tokio::test]
    async fn a_wait_given_up_leaves_the_timer_usable() {
        let mut timer = DeadlineTimer::new().unwrap();
        let far_ns = now_ns() + 3_600 * NANOS_PER_SECOND;
        let mut near = DeadlineTimer::new().unwrap();
        tokio::select! {
            result = timer.wait_until(far_ns) => panic!("an hour has passed: {result:?}"),
            result = near.wait_until(now_ns() + 2_000_000) => result.unwrap(),
        }
        let deadline_ns = now_ns() + 2_000_000;
        timer.wait_until(deadline_ns).await.unwrap();
        assert!(now_ns() >= deadline_ns);
    }
}
