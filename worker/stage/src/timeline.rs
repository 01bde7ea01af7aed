//! When a stage's actions begin and end.
//!
//! On the paced and modelled rungs an action's end is its begin plus the emulated GPU's time, both on one
//! timeline that host overhead does not move: a timer that fires late, a copy or an optimizer step eats into
//! the slack of the next action instead of pushing everything behind it. Only an action whose real work is
//! not done in time moves the timeline, and that is counted as an overrun.
//!
//! An action is waited for where the next one begins, and not where it ends: what it sends is queued as soon as
//! the real work is done, to leave at its modelled end, and so does not depend on how late this thread wakes up.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use bace_api::{ComputePlan, ComputeRung};
use bace_socket::now_ns;

use crate::session::Never;

/// Real work may end this much after its modelled end before it counts as an overrun: the lateness of a
/// timer on a busy machine.
const OVERRUN_TOLERANCE_NS: u64 = 1_000_000;

const NANOS_PER_SECOND: f64 = 1e9;

/// Paced actions that took longer than the emulated GPU would have.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Overruns {
    /// How many.
    pub count: u32,
    /// Longest excess, seconds.
    pub worst_s: f64,
}

/// The timeline of one stage.
#[derive(Debug)]
pub struct Timeline<'a> {
    plan: ComputePlan,
    /// Closes when the job is dropped: no action is waited for any more.
    release: &'a Receiver<Never>,
    cursor_ns: u64,
    overruns: Overruns,
}

impl<'a> Timeline<'a> {
    /// A timeline that begins at this instant.
    pub fn begin(plan: ComputePlan, release: &'a Receiver<Never>) -> Self {
        Self {
            plan,
            release,
            cursor_ns: now_ns(),
            overruns: Overruns::default(),
        }
    }

    /// The instant up to which the stage's time is spent, on the host's monotonic clock; it may be to come.
    pub fn now_ns(&mut self) -> u64 {
        if self.plan.rung == ComputeRung::Native {
            self.cursor_ns = self.cursor_ns.max(now_ns());
        }
        self.cursor_ns
    }

    /// A forward that `work` computes; returns its seconds.
    pub fn forward<T, E>(&mut self, work: impl FnOnce() -> Result<T, E>) -> Result<(T, f64), E> {
        self.spend(self.plan.forward_s, work)
    }

    /// A backward that `work` computes; returns its seconds.
    pub fn backward<T, E>(&mut self, work: impl FnOnce() -> Result<T, E>) -> Result<(T, f64), E> {
        self.spend(self.plan.backward_s, work)
    }

    /// An optimizer step: the emulated GPU does it in no time, as the scheduler assumes.
    pub fn step<T, E>(&mut self, work: impl FnOnce() -> Result<T, E>) -> Result<(T, f64), E> {
        let begin_ns = self.now_ns();
        let done = work()?;
        Ok((done, seconds(self.now_ns() - begin_ns)))
    }

    /// A message was handed over at `delivered_ns`; returns the seconds the stage has waited for it.
    pub fn received(&mut self, delivered_ns: u64) -> f64 {
        let begin_ns = self.cursor_ns;
        self.cursor_ns = begin_ns.max(delivered_ns);
        seconds(self.now_ns() - begin_ns)
    }

    /// Waits until the instant up to which the stage's time is spent, unless the job is dropped before.
    pub fn catch_up(&mut self) {
        let left_ns = self.now_ns().saturating_sub(now_ns());
        if left_ns > 0
            && let Err(RecvTimeoutError::Disconnected) =
                self.release.recv_timeout(Duration::from_nanos(left_ns))
        {
            self.cursor_ns = now_ns();
        }
    }

    /// Overruns since the last call.
    pub fn take_overruns(&mut self) -> Overruns {
        std::mem::take(&mut self.overruns)
    }

    fn spend<T, E>(
        &mut self,
        modelled_s: f64,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<(T, f64), E> {
        self.catch_up();
        let begin_ns = self.now_ns();
        let done = work()?;
        if self.plan.rung != ComputeRung::Native {
            let modelled_ns = (modelled_s * NANOS_PER_SECOND).round() as u64;
            let end_ns = begin_ns.saturating_add(modelled_ns);
            self.end_at(end_ns);
        }
        Ok((done, seconds(self.now_ns() - begin_ns)))
    }

    fn end_at(&mut self, end_ns: u64) {
        let late_ns = now_ns().saturating_sub(end_ns);
        if late_ns <= OVERRUN_TOLERANCE_NS {
            self.cursor_ns = end_ns;
        } else {
            self.overruns.count += 1;
            self.overruns.worst_s = self.overruns.worst_s.max(seconds(late_ns));
            self.cursor_ns = end_ns + late_ns;
        }
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / NANOS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    fn plan(rung: ComputeRung) -> ComputePlan {
        ComputePlan {
            rung,
            forward_s: 0.004,
            backward_s: 0.008,
        }
    }

    fn work(duration_ms: u64) -> impl FnOnce() -> Result<(), std::convert::Infallible> {
        move || {
            std::thread::sleep(Duration::from_millis(duration_ms));
            Ok(())
        }
    }

    #[test]
    fn paced_actions_follow_each_other_without_gaps() {
        let (_held, release) = sync_channel(1);
        let mut line = Timeline::begin(plan(ComputeRung::Modelled), &release);
        let begin_ns = line.now_ns();
        for _ in 0..5 {
            line.forward(work(0)).unwrap();
            line.step(work(0)).unwrap();
            line.backward(work(0)).unwrap();
        }
        assert_eq!(line.now_ns() - begin_ns, 5 * 12_000_000);
        line.catch_up();
        assert!(now_ns() >= line.now_ns(), "an action never ends early");
    }

    #[test]
    fn slow_work_is_an_overrun_and_moves_the_timeline() {
        let (_held, release) = sync_channel(1);
        let mut line = Timeline::begin(plan(ComputeRung::Paced), &release);
        let (_, took_s) = line.forward(work(30)).unwrap();
        assert!(took_s >= 0.030);
        let overruns = line.take_overruns();
        assert_eq!(overruns.count, 1);
        assert!(overruns.worst_s >= 0.026);
        assert_eq!(line.take_overruns(), Overruns::default());
    }

    #[test]
    fn native_takes_as_long_as_it_takes() {
        let (_held, release) = sync_channel(1);
        let mut line = Timeline::begin(plan(ComputeRung::Native), &release);
        let (_, took_s) = line.backward(work(1)).unwrap();
        assert!(took_s >= 0.001);
        assert_eq!(line.take_overruns(), Overruns::default());
    }

    #[test]
    fn waiting_counts_from_the_end_of_the_last_action() {
        let (_held, release) = sync_channel(1);
        let mut line = Timeline::begin(plan(ComputeRung::Modelled), &release);
        let begin_ns = line.now_ns();
        assert_eq!(line.received(begin_ns - 5), 0.0);
        assert_eq!(line.received(begin_ns + 2_000_000), 0.002);
        assert_eq!(line.now_ns(), begin_ns + 2_000_000);
    }

    #[test]
    fn nobody_waits_for_the_action_of_a_dropped_job() {
        let (held, release) = sync_channel(1);
        let mut line = Timeline::begin(
            ComputePlan {
                forward_s: 3600.0,
                ..plan(ComputeRung::Modelled)
            },
            &release,
        );
        line.forward(work(0)).unwrap();
        assert!(line.now_ns() > now_ns());
        drop(held);
        line.catch_up();
        assert!(line.now_ns() <= now_ns());
        assert_eq!(line.take_overruns(), Overruns::default());
    }
}
