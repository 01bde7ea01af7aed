//! When a stage's actions begin and end.
//!
//! On the paced and modelled rungs an action's end is its begin plus the emulated GPU's time, both on one
//! timeline that host overhead does not move: a timer that fires late, a copy or an optimizer step eats into
//! the slack of the next action instead of pushing everything behind it. Only an action whose real work is
//! not done in time, the wait for its device included, moves the timeline, and that is counted as an overrun.
//!
//! An action is waited for where the next one begins, and not where it ends: what it sends is queued as soon as
//! the real work is done, to leave at its modelled end, and so does not depend on how late this thread wakes up.
//!
//! Whatever computes does so under the lease of its device, which is held for the real work alone. Where several wait for it, who
//! is to be done first goes first: a paced action at its end on the timeline, a native one as soon as it asks.
//!
//! A paced step takes no time of its own. How long it waited for its device is told of the action whose slack that took: the next
//! one that computes.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use bace_api::{ComputePlan, ComputeRung};
use bace_lease::Seat;
use bace_netem::LATE_TOLERANCE_NS;
use bace_socket::now_ns;

use crate::compute::ComputeError;
use crate::session::Never;

const NANOS_PER_SECOND: f64 = 1e9;

/// What became of paced actions.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pacing {
    /// How many there were.
    pub actions: u32,
    /// Those that took longer than the emulated GPU would have.
    pub overruns: u32,
    /// Longest excess, seconds.
    pub worst_overrun_s: f64,
    /// All excesses together, seconds.
    pub overrun_s: f64,
    /// The largest time scale, as a multiple of the present one, at which none would have been an overrun: modelled times are
    /// divided by it. Absent where any would do.
    pub scale_without_overrun: Option<f64>,
}

/// When an action began and ended, on the host's monotonic clock, and what of the time between was not its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Its begin, ns.
    pub from_ns: u64,
    /// Its end, ns; it may be to come.
    pub to_ns: u64,
    /// Part of it in which it, or the step before it, waited for its turn on the device, ns.
    pub lease_wait_ns: u64,
    /// Part of it that the emulated GPU would not have taken, ns.
    pub excess_ns: u64,
}

impl Spent {
    /// From begin to end, seconds.
    pub fn seconds(&self) -> f64 {
        seconds(self.to_ns - self.from_ns)
    }
}

/// Time on the device, as its lease tells it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DeviceTimes {
    /// Under the lease, seconds.
    pub device_s: f64,
    /// Waiting for it, seconds.
    pub lease_wait_s: f64,
}

/// A wait for the device, on the host's monotonic clock.
#[derive(Debug, Clone, Copy, Default)]
struct Wait {
    from_ns: u64,
    to_ns: u64,
}

impl Wait {
    /// The part of it from `from_ns` on, ns.
    fn since(self, from_ns: u64) -> u64 {
        self.to_ns.saturating_sub(self.from_ns.max(from_ns))
    }
}

/// The timeline of one stage.
#[derive(Debug)]
pub struct Timeline<'a> {
    plan: ComputePlan,
    /// Closes when the job is dropped: no action is waited for any more.
    release: &'a Receiver<Never>,
    /// Where this worker waits for its device; absent where nothing is computed.
    seat: Option<&'a mut Seat>,
    cursor_ns: u64,
    pacing: Pacing,
    device: DeviceTimes,
    /// The last step's wait, until an action that computes has been charged with what it took of its time.
    step_wait: Wait,
}

impl<'a> Timeline<'a> {
    /// A timeline that begins at this instant.
    pub fn begin(
        plan: ComputePlan,
        release: &'a Receiver<Never>,
        seat: Option<&'a mut Seat>,
    ) -> Self {
        Self {
            plan,
            release,
            seat,
            cursor_ns: now_ns(),
            pacing: Pacing::default(),
            device: DeviceTimes::default(),
            step_wait: Wait::default(),
        }
    }

    /// The instant up to which the stage's time is spent, on the host's monotonic clock; it may be to come.
    pub fn now_ns(&mut self) -> u64 {
        if self.plan.rung == ComputeRung::Native {
            self.cursor_ns = self.cursor_ns.max(now_ns());
        }
        self.cursor_ns
    }

    /// A forward that `work` computes.
    pub fn forward<T>(
        &mut self,
        work: impl FnOnce() -> Result<T, ComputeError>,
    ) -> Result<(T, Spent), ComputeError> {
        self.spend(self.plan.forward_s, work)
    }

    /// A backward that `work` computes.
    pub fn backward<T>(
        &mut self,
        work: impl FnOnce() -> Result<T, ComputeError>,
    ) -> Result<(T, Spent), ComputeError> {
        self.spend(self.plan.backward_s, work)
    }

    /// An optimizer step: the emulated GPU does it in no time, as the scheduler assumes.
    pub fn step<T>(
        &mut self,
        work: impl FnOnce() -> Result<T, ComputeError>,
    ) -> Result<(T, Spent), ComputeError> {
        let from_ns = self.now_ns();
        // What it eats into is the slack of the forward behind it.
        let due_ns = modelled_end(self.plan, from_ns, self.plan.forward_s);
        let (done, waited) = self.on_device(due_ns, work)?;
        self.step_wait = waited;
        Ok((done, self.spent(from_ns, waited.since(from_ns), 0)))
    }

    /// A message that was waited for since `from_ns` could be used from `usable_ns` on. How long this thread took to wake up is
    /// no part of that.
    pub fn received(&mut self, from_ns: u64, usable_ns: u64) -> Spent {
        self.cursor_ns = self.cursor_ns.max(from_ns).max(usable_ns);
        Spent {
            from_ns,
            to_ns: self.cursor_ns,
            ..Spent::default()
        }
    }

    /// A message was handed over, which began at `from_ns`; where the queue was full, it had room at `room_ns`. The emulated stage
    /// waits for that as it waits for a message.
    pub fn sent(&mut self, from_ns: u64, room_ns: Option<u64>) -> Spent {
        self.cursor_ns = self.cursor_ns.max(room_ns.unwrap_or(from_ns));
        self.spent(from_ns, 0, 0)
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

    /// What became of paced actions since the last call; absent where actions take as long as they take.
    pub fn take_pacing(&mut self) -> Option<Pacing> {
        let pacing = std::mem::take(&mut self.pacing);
        (self.plan.rung != ComputeRung::Native).then_some(pacing)
    }

    /// Time on the device since the last call; absent where nothing is computed.
    pub fn take_device_times(&mut self) -> Option<DeviceTimes> {
        let times = std::mem::take(&mut self.device);
        self.seat.is_some().then_some(times)
    }

    fn spend<T>(
        &mut self,
        modelled_s: f64,
        work: impl FnOnce() -> Result<T, ComputeError>,
    ) -> Result<(T, Spent), ComputeError> {
        self.catch_up();
        let from_ns = self.now_ns();
        let end_ns = modelled_end(self.plan, from_ns, modelled_s);
        let (done, waited) = self.on_device(end_ns, work)?;
        let step_wait = std::mem::take(&mut self.step_wait);
        let waited_ns = step_wait.since(from_ns) + waited.since(from_ns);
        let excess_ns = if self.plan.rung == ComputeRung::Native {
            0
        } else {
            self.end(from_ns, end_ns)
        };
        Ok((done, self.spent(from_ns, waited_ns, excess_ns)))
    }

    /// What an action that began at `from_ns` and ends now has taken.
    fn spent(&mut self, from_ns: u64, waited_ns: u64, excess_ns: u64) -> Spent {
        let to_ns = self.now_ns();
        Spent {
            from_ns,
            to_ns,
            // What a paced action had to spare was not lost to it by waiting.
            lease_wait_ns: waited_ns.min(to_ns - from_ns),
            excess_ns,
        }
    }

    /// Does real work, which is to be done at `due_ns`, when it is this worker's turn on the device; when it waited for that.
    fn on_device<T>(
        &mut self,
        due_ns: u64,
        work: impl FnOnce() -> Result<T, ComputeError>,
    ) -> Result<(T, Wait), ComputeError> {
        let Some(seat) = self.seat.as_deref_mut() else {
            return Ok((work()?, Wait::default()));
        };
        let lease = seat.acquire(due_ns)?;
        let to_ns = now_ns();
        let waited = Wait {
            from_ns: to_ns.saturating_sub(lease.waited_ns()),
            to_ns,
        };
        let done = work();
        self.device.lease_wait_s += seconds(lease.waited_ns());
        self.device.device_s += seconds(lease.release());
        Ok((done?, waited))
    }

    /// Ends a paced action whose real work is done; by how much it is an overrun, ns.
    fn end(&mut self, begin_ns: u64, end_ns: u64) -> u64 {
        let now_ns = now_ns();
        let late_ns = now_ns.saturating_sub(end_ns);
        let pacing = &mut self.pacing;
        pacing.actions += 1;
        let needed_ns = now_ns.saturating_sub(begin_ns);
        let needed_ns = needed_ns.saturating_sub(LATE_TOLERANCE_NS);
        if needed_ns > 0 {
            let scale = (end_ns - begin_ns) as f64 / needed_ns as f64;
            let least = pacing.scale_without_overrun.unwrap_or(f64::INFINITY);
            pacing.scale_without_overrun = Some(least.min(scale));
        }
        if late_ns <= LATE_TOLERANCE_NS {
            self.cursor_ns = end_ns;
            0
        } else {
            pacing.overruns += 1;
            pacing.worst_overrun_s = pacing.worst_overrun_s.max(seconds(late_ns));
            pacing.overrun_s += seconds(late_ns);
            self.cursor_ns = now_ns;
            late_ns
        }
    }
}

/// When what begins at `from_ns` and takes the emulated GPU `modelled_s` is to be done; on the native rung at once, since nobody
/// knows how long it takes.
pub fn modelled_end(plan: ComputePlan, from_ns: u64, modelled_s: f64) -> u64 {
    if plan.rung == ComputeRung::Native {
        from_ns
    } else {
        from_ns.saturating_add((modelled_s * NANOS_PER_SECOND).round() as u64)
    }
}

/// Seconds that have passed since an instant of the host's monotonic clock.
pub fn seconds_since(from_ns: u64) -> f64 {
    seconds(now_ns() - from_ns)
}

/// Nanoseconds as seconds.
pub fn seconds(nanos: u64) -> f64 {
    nanos as f64 / NANOS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use bace_lease::SeatDevice;

    use super::*;
    use crate::tables::HostTables;

    fn plan(rung: ComputeRung) -> ComputePlan {
        ComputePlan {
            rung,
            forward_s: 0.004,
            backward_s: 0.008,
        }
    }

    fn work(duration_ms: u64) -> impl FnOnce() -> Result<(), ComputeError> {
        move || {
            std::thread::sleep(Duration::from_millis(duration_ms));
            Ok(())
        }
    }

    #[test]
    fn paced_actions_follow_each_other_without_gaps() {
        let (_held, release) = sync_channel(1);
        let mut line = Timeline::begin(plan(ComputeRung::Modelled), &release, None);
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
        let mut line = Timeline::begin(plan(ComputeRung::Paced), &release, None);
        let (_, spent) = line.forward(work(30)).unwrap();
        assert!(spent.seconds() >= 0.030);
        assert_eq!(spent.to_ns - spent.from_ns, 4_000_000 + spent.excess_ns);
        assert_eq!(spent.lease_wait_ns, 0);
        let pacing = line.take_pacing().unwrap();
        assert_eq!((pacing.actions, pacing.overruns), (1, 1));
        assert!(pacing.worst_overrun_s >= 0.026);
        assert_eq!(pacing.overrun_s, pacing.worst_overrun_s);
        // 4 ms are modelled, and 29 are needed.
        let scale = pacing.scale_without_overrun.unwrap();
        assert!(scale <= 4.0 / 29.0, "{scale}");
        assert_eq!(line.take_pacing(), Some(Pacing::default()));
    }

    #[test]
    fn native_takes_as_long_as_it_takes() {
        let (_held, release) = sync_channel(1);
        let mut line = Timeline::begin(plan(ComputeRung::Native), &release, None);
        let (_, spent) = line.backward(work(1)).unwrap();
        assert!(spent.seconds() >= 0.001);
        assert_eq!(spent.excess_ns, 0);
        assert_eq!(line.take_pacing(), None);
        assert_eq!(line.take_device_times(), None);
    }

    #[test]
    fn waiting_counts_from_the_end_of_the_last_action() {
        let (_held, release) = sync_channel(1);
        let mut line = Timeline::begin(plan(ComputeRung::Modelled), &release, None);
        let begin_ns = line.now_ns();
        let waited_ns = |spent: Spent| {
            assert_eq!(spent.from_ns, begin_ns);
            spent.to_ns - begin_ns
        };
        assert_eq!(waited_ns(line.received(begin_ns, begin_ns - 5)), 0);
        assert_eq!(waited_ns(line.sent(begin_ns, None)), 0);
        let usable_ns = begin_ns + 2_000_000;
        assert_eq!(waited_ns(line.received(begin_ns, usable_ns)), 2_000_000);
        assert_eq!(line.now_ns(), begin_ns + 2_000_000);
    }

    #[test]
    fn a_send_lasts_until_its_queue_has_room_and_no_action_is_charged_with_that() {
        let (_held, release) = sync_channel(1);
        let mut line = Timeline::begin(plan(ComputeRung::Modelled), &release, None);
        let begin_ns = line.now_ns();
        // There was room before the timeline had come so far.
        assert_eq!(line.sent(begin_ns, Some(begin_ns - 5)).seconds(), 0.0);
        std::thread::sleep(Duration::from_millis(20));
        let room_ns = now_ns();
        let sent = line.sent(begin_ns, Some(room_ns));
        assert_eq!((sent.from_ns, sent.to_ns), (begin_ns, room_ns));
        assert_eq!((sent.lease_wait_ns, sent.excess_ns), (0, 0));
        let (_, spent) = line.forward(work(0)).unwrap();
        assert_eq!(spent.from_ns, room_ns);
        assert_eq!(spent.to_ns - room_ns, 4_000_000 + spent.excess_ns);
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
            None,
        );
        line.forward(work(0)).unwrap();
        assert!(line.now_ns() > now_ns());
        drop(held);
        line.catch_up();
        assert!(line.now_ns() <= now_ns());
        assert_eq!(line.take_pacing().unwrap().overruns, 0);
    }

    /// A device of one slot and the seats of two workers at it.
    fn two_seats() -> (Seat, Seat) {
        let (tables, _path) = HostTables::create(0, 2).unwrap();
        let device = SeatDevice {
            index: 0,
            name: "cpu".to_owned(),
            slots: 1,
        };
        let take = |seat| tables.leases.take(seat, &device).unwrap();
        (take(0), take(1))
    }

    #[test]
    fn work_is_done_under_the_lease_and_waiting_for_it_can_be_an_overrun() {
        let (_held, release) = sync_channel(1);
        let (mut own, mut other) = two_seats();
        let mut line = Timeline::begin(plan(ComputeRung::Paced), &release, Some(&mut own));
        line.forward(work(2)).unwrap();
        line.step(work(2)).unwrap();
        let times = line.take_device_times().unwrap();
        assert!(times.device_s >= 0.004, "{times:?}");
        line.take_pacing();
        while_held(&mut other, || {
            let (_, spent) = line.forward(work(1)).unwrap();
            assert!(spent.lease_wait_ns >= 20_000_000, "{spent:?}");
            assert_eq!(spent.to_ns - spent.from_ns, 4_000_000 + spent.excess_ns);
        });
        let times = line.take_device_times().unwrap();
        assert!(times.device_s >= 0.001, "{times:?}");
        assert!(times.lease_wait_s >= 0.020, "{times:?}");
        assert_eq!(line.take_pacing().unwrap().overruns, 1);
    }

    /// Does something while another worker has the device for 40 ms.
    fn while_held(other: &mut Seat, does: impl FnOnce()) {
        let (holds, held) = sync_channel(0);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let _lease = other.acquire(0).unwrap();
                holds.send(()).unwrap();
                std::thread::sleep(Duration::from_millis(40));
            });
            held.recv().unwrap();
            does();
        });
    }

    #[test]
    fn a_steps_wait_for_the_device_is_told_of_the_action_whose_slack_it_took() {
        let (_held, release) = sync_channel(1);
        let (mut own, mut other) = two_seats();
        let mut line = Timeline::begin(plan(ComputeRung::Paced), &release, Some(&mut own));
        let begin_ns = line.now_ns();
        while_held(&mut other, || {
            let (_, step) = line.step(work(0)).unwrap();
            assert_eq!((step.seconds(), step.lease_wait_ns), (0.0, 0));
        });
        let (_, spent) = line.forward(work(0)).unwrap();
        assert_eq!(spent.from_ns, begin_ns);
        assert!(spent.lease_wait_ns >= 20_000_000, "{spent:?}");
        // All of it but the forward's own time, and what else came late.
        assert!(
            spent.excess_ns + 4_000_000 >= spent.lease_wait_ns,
            "{spent:?}"
        );
        let (_, spent) = line.forward(work(0)).unwrap();
        assert_eq!(spent.lease_wait_ns, 0, "it is told once");
    }

    #[test]
    fn a_steps_wait_that_was_over_before_a_message_came_is_nobodys() {
        let (_held, release) = sync_channel(1);
        let (mut own, mut other) = two_seats();
        let mut line = Timeline::begin(plan(ComputeRung::Paced), &release, Some(&mut own));
        while_held(&mut other, || {
            line.step(work(0)).unwrap();
        });
        let from_ns = line.now_ns();
        line.received(from_ns, now_ns());
        let (_, spent) = line.forward(work(0)).unwrap();
        assert_eq!(spent.lease_wait_ns, 0, "{spent:?}");
    }

    #[test]
    fn work_that_fails_gives_the_lease_back() {
        let (_held, release) = sync_channel(1);
        let (mut own, mut other) = two_seats();
        let mut line = Timeline::begin(plan(ComputeRung::Native), &release, Some(&mut own));
        let failed = line.forward(|| Err::<(), _>(ComputeError::Computer("no memory".into())));
        assert_eq!(failed.unwrap_err().to_string(), "no memory");
        assert!(other.acquire(0).unwrap().waited_ns() < 1_000_000_000);
    }
}
