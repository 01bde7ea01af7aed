//! The loop that drives an engine in virtual time, whoever executes the stages.
//!
//! Events less than 1e-12 (relative) apart are one instant. At an instant come what the executor has to report (finishes among it), then
//! changes of links and GPUs, then arrivals, and then the engine places what it can.

use std::iter::Peekable;

use bace_api::{Attempt, JobId, Record};
use bace_engine::{Command, DEAD_LINK, Engine, Input, Rates, Scheduled, Start, agenda};
use bace_netem::{BitRate, Delay, LinkId};

/// Events this close (relative) are one instant.
const SAME_INSTANT: f64 = 1e-12;

/// A moment of virtual time that gathers all that happens as good as then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Instant {
    at_s: f64,
}

impl Instant {
    /// The instant that begins at `at_s`.
    pub fn new(at_s: f64) -> Self {
        Self { at_s }
    }

    /// Seconds from the start of the run.
    pub fn at_s(self) -> f64 {
        self.at_s
    }

    /// Whether `at_s` is as good as this instant.
    pub fn is_at(self, at_s: f64) -> bool {
        self.includes(at_s) && Self::new(at_s).includes(self.at_s)
    }

    /// Whether an event at `at_s`, or one before it, belongs to this instant.
    pub fn includes(self, at_s: f64) -> bool {
        at_s <= self.at_s * (1.0 + SAME_INSTANT)
    }
}

/// What an executor has to tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reports {
    /// For the engine, in this order.
    pub inputs: Vec<Input>,
    /// For the ledger alone, such as iterations and transfers; they come before the inputs' records.
    pub records: Vec<Record>,
}

/// Trains jobs in virtual time.
pub trait Executor {
    /// Begins to train a job.
    fn start(&mut self, now: Instant, start: &Start);

    /// A running job's shares of its links changed.
    fn rates(&mut self, now: Instant, rates: &Rates);

    /// Drops a job; it has been reported on up to now.
    fn cancel(&mut self, now: Instant, job: JobId, attempt: Attempt);

    /// A link gives this capacity and delay from now on.
    fn link_changed(&mut self, now: Instant, link: LinkId, rate: BitRate, delay: Delay);

    /// When something happens next inside, of interest to the engine or not; `None` if nothing ever will.
    fn next_s(&mut self) -> Option<f64>;

    /// Lets everything happen that `now` includes. A job's last input is `Finished`, after all its `Usage`.
    fn advance(&mut self, now: Instant, reports: &mut Reports);

    /// Brings `Usage` and `Progress` of all running jobs up to `now`: some may lose their GPUs at this instant.
    fn report(&mut self, now: Instant, reports: &mut Reports);
}

/// Runs `engine`'s scenario to its end; `sink` gets every record in order, `RunEnded` last.
///
/// A job whose stages can make no progress any more, because its link carries nothing and no change is to come, fails. What
/// the scenario says happens behind the last job's end does not.
pub fn drive(mut engine: Engine, executor: &mut impl Executor, mut sink: impl FnMut(Record)) {
    let scenario = engine.scenario().clone();
    let mut agenda = agenda(&scenario).into_iter().peekable();
    let mut arrivals = scenario.jobs.len();
    let mut reports = Reports::default();
    let mut now = Instant::new(0.0);
    loop {
        let scheduled = agenda.peek().map(|scheduled| scheduled.at_s);
        let inside_s = executor.next_s();
        if inside_s.is_none() && is_over(&engine, arrivals) {
            break;
        }
        let next_s = [inside_s, scheduled].into_iter().flatten().reduce(f64::min);
        let settle = match next_s {
            Some(next_s) => {
                now = Instant::new(next_s.max(now.at_s()));
                executor.advance(now, &mut reports);
                let reported = hand_in(&mut engine, now, &mut reports, &mut sink);
                let due = take_due(&mut agenda, now);
                let submitted = |input: &&Input| matches!(input, Input::Submitted(_));
                arrivals -= due.iter().filter(submitted).count();
                hand_in_due(&mut engine, executor, due, now, &mut sink) || reported
            }
            None => fail_stuck(&mut engine, executor, now, &mut sink),
        };
        if settle {
            engine.settle(now.at_s());
            carry_out(&mut engine, executor, now);
            drain(&mut engine, &mut sink);
        } else if next_s.is_none() {
            break;
        }
    }
    engine.tell_waiting(now.at_s());
    drain(&mut engine, &mut sink);
    let waiting = engine.waiting();
    sink(Record::RunEnded {
        at_s: now.at_s(),
        waiting: waiting
            .map(|job| scenario.jobs[job.index()].name.clone())
            .collect(),
        stopped: None,
    });
}

/// Whether no job runs or waits and none is to come.
fn is_over(engine: &Engine, arrivals: usize) -> bool {
    arrivals == 0 && engine.running().next().is_none() && engine.waiting().next().is_none()
}

/// What the scenario says happens by now.
fn take_due(agenda: &mut Peekable<impl Iterator<Item = Scheduled>>, now: Instant) -> Vec<Input> {
    let mut due = Vec::new();
    while let Some(scheduled) = agenda.next_if(|scheduled| now.includes(scheduled.at_s)) {
        due.push(scheduled.input);
    }
    due
}

/// Hands everything of this instant in; says whether there was anything.
fn hand_in_due(
    engine: &mut Engine,
    executor: &mut impl Executor,
    due: Vec<Input>,
    now: Instant,
    sink: &mut impl FnMut(Record),
) -> bool {
    let taken = !due.is_empty();
    let loses_gpus = |input: &Input| matches!(input, Input::GpusChanged { .. });
    if due.iter().any(loses_gpus) {
        let mut reports = Reports::default();
        executor.report(now, &mut reports);
        hand_in(engine, now, &mut reports, sink);
    }
    for input in due {
        if let Input::LinkChanged { link, rate, delay } = input {
            executor.link_changed(now, link, rate, delay);
        }
        engine.handle(now.at_s(), input);
    }
    taken
}

/// Hands in what an executor reported; says whether there was any input.
fn hand_in(
    engine: &mut Engine,
    now: Instant,
    reports: &mut Reports,
    sink: &mut impl FnMut(Record),
) -> bool {
    let any = !reports.inputs.is_empty();
    reports.records.drain(..).for_each(&mut *sink);
    for input in reports.inputs.drain(..) {
        engine.handle(now.at_s(), input);
    }
    drain(engine, sink);
    any
}

fn carry_out(engine: &mut Engine, executor: &mut impl Executor, now: Instant) {
    while let Some(command) = engine.poll_command() {
        match command {
            Command::Start(start) => executor.start(now, &start),
            Command::Rates(rates) => executor.rates(now, &rates),
            Command::Cancel { job, attempt, .. } => executor.cancel(now, job, attempt),
        }
    }
}

fn drain(engine: &mut Engine, sink: &mut impl FnMut(Record)) {
    while let Some(record) = engine.poll_record() {
        sink(record);
    }
}

/// Ends jobs that run and never will end; says whether there were any.
fn fail_stuck(
    engine: &mut Engine,
    executor: &mut impl Executor,
    now: Instant,
    sink: &mut impl FnMut(Record),
) -> bool {
    let stuck: Vec<JobId> = engine.running().collect();
    if stuck.is_empty() {
        return false;
    }
    let mut reports = Reports::default();
    executor.report(now, &mut reports);
    hand_in(engine, now, &mut reports, sink);
    for job in stuck {
        if let Some(attempt) = engine.attempt(job) {
            executor.cancel(now, job, attempt);
        }
        let reason = DEAD_LINK.to_owned();
        engine.handle(now.at_s(), Input::Failed { job, reason });
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_gathers_what_rounding_has_parted() {
        let now = Instant::new(1000.0);
        assert!(now.includes(1000.0 + 1e-10));
        assert!(!now.includes(1000.0 + 1e-8));
        assert!(Instant::new(0.0).includes(0.0));
        assert!(now.is_at(1000.0 - 1e-10) && now.is_at(1000.0 + 1e-10));
        assert!(!now.is_at(1000.0 - 1e-8) && !now.is_at(1000.0 + 1e-8));
    }
}
