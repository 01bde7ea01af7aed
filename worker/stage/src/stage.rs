//! Walks a stage's action list: computes, sends, receives, and reports every iteration.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, TryRecvError};

use bace_api::{
    Action, ActionReport, Element, HEADER_LIMIT, Iteration, IterationReport, MicroBatch, Prepare,
    StageFinished, StageTimes, StageWalk, TensorHeader, TensorId, TensorKind, decode, encode,
};
use bace_lease::Seat;
use bace_netem::Timing;
use bytes::Bytes;

use crate::compute::{ComputeError, Forwarded, StageCompute, element_of};
use crate::memory::OutOfMemory;
use crate::neighbour::{Neighbour, NeighbourError};
use crate::session::Never;
use crate::timeline::{Spent, Timeline};

/// The links of a stage.
#[derive(Debug, Default)]
pub struct Neighbours {
    /// To and from the stage before; absent at stage 0.
    pub previous: Option<Neighbour>,
    /// To and from the stage behind; absent at the last stage.
    pub next: Option<Neighbour>,
}

/// Why a stage did not finish.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The job was cancelled; nobody needs to be told why.
    #[error("finish: the job was cancelled")]
    Cancelled,
    /// It cannot be computed.
    #[error("compute: {0}")]
    Compute(#[from] ComputeError),
    /// The device's memory does not suffice.
    #[error("{0}")]
    OutOfMemory(OutOfMemory),
    /// libtorch gave up for another reason.
    #[error("compute: libtorch gave up: {0}")]
    Libtorch(String),
    /// A neighbour is gone or talks nonsense.
    #[error("exchange tensors: {0}")]
    Neighbour(#[from] NeighbourError),
    /// The coordinator is gone.
    #[error("report: the coordinator is gone")]
    CoordinatorGone,
}

/// A stage at work.
pub struct StageRun<'a> {
    prepare: &'a Prepare,
    compute: &'a mut dyn StageCompute,
    neighbours: Neighbours,
    /// Closes when the job is dropped.
    release: &'a Receiver<Never>,
    element: Element,
    timeline: Timeline<'a>,
    times: StageTimes,
    /// The iteration's actions so far; none where nobody wants to know.
    actions: Vec<ActionReport>,
    /// Sum and number of the iteration's losses.
    losses: (f64, u32),
    /// Inputs of forwards and backwards that were received and outputs that are to be sent, by micro-batch.
    held: BTreeMap<(Slot, MicroBatch), Bytes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    InputActivation,
    OutputActivation,
    OutputGradient,
    InputGradient,
}

impl<'a> StageRun<'a> {
    /// A stage that begins now, and computes when it is the turn of `seat`.
    pub fn begin(
        prepare: &'a Prepare,
        compute: &'a mut dyn StageCompute,
        neighbours: Neighbours,
        release: &'a Receiver<Never>,
        seat: Option<&'a mut Seat>,
    ) -> Result<Self, StageError> {
        Ok(Self {
            element: element_of(prepare)?,
            timeline: Timeline::begin(prepare.compute, release, seat),
            prepare,
            compute,
            neighbours,
            release,
            times: StageTimes::default(),
            actions: Vec::new(),
            losses: (0.0, 0),
            held: BTreeMap::new(),
        })
    }

    /// Trains for all of the job's iterations; `report` takes each iteration and is false once nobody listens.
    pub fn train(
        mut self,
        mut report: impl FnMut(IterationReport) -> bool,
    ) -> Result<StageFinished, StageError> {
        let mut walk = StageWalk::new(self.prepare.program.clone(), self.prepare.job.iterations);
        let mut begin_ns = self.timeline.now_ns();
        while let Some(action) = walk.action() {
            if is_dropped(self.release) {
                return Err(StageError::Cancelled);
            }
            let iteration = walk.iteration();
            self.act(&walk, action)?;
            walk.advance();
            if walk.position() == 0 {
                self.timeline.catch_up();
                if !report(self.iteration_report(iteration, begin_ns)) {
                    return Err(StageError::CoordinatorGone);
                }
                begin_ns = self.timeline.now_ns();
            }
        }
        Ok(StageFinished {
            job: self.prepare.id,
            attempt: self.prepare.attempt,
            stage: self.prepare.stage,
            previous: self.neighbours.previous.as_ref().map(Neighbour::transfers),
            next: self.neighbours.next.as_ref().map(Neighbour::transfers),
            previous_datagrams: self
                .neighbours
                .previous
                .as_ref()
                .and_then(Neighbour::datagrams),
            next_datagrams: self.neighbours.next.as_ref().and_then(Neighbour::datagrams),
            next_clock: self.neighbours.next.as_ref().and_then(Neighbour::clock),
        })
    }

    /// Does the action at which `walk` stands, and books what it took.
    fn act(&mut self, walk: &StageWalk, action: Action) -> Result<(), StageError> {
        let (spent, message) = match action {
            Action::Forward(m) => (self.forward(walk.iteration(), m)?, None),
            Action::Backward(m) => (self.backward(m)?, None),
            Action::SendActivation(_) | Action::SendGradient(_) => {
                let tensor = walk.handed_over().expect("a send hands a tensor over");
                (self.send(tensor)?, None)
            }
            Action::ReceiveActivation(_) | Action::ReceiveGradient(_) => {
                let tensor = walk.awaited().expect("a receive awaits a tensor");
                let (spent, timing) = self.receive(tensor)?;
                (spent, Some(timing))
            }
            Action::Step => (self.timeline.step(|| self.compute.step())?.1, None),
        };
        let times = &mut self.times;
        let booked = match action {
            Action::Forward(_) => &mut times.forward_s,
            Action::Backward(_) => &mut times.backward_s,
            Action::SendActivation(_) | Action::SendGradient(_) => &mut times.send_wait_s,
            Action::ReceiveActivation(_) | Action::ReceiveGradient(_) => &mut times.stall_s,
            Action::Step => &mut times.step_s,
        };
        *booked += spent.seconds();
        if self.prepare.tells_actions {
            self.actions.push(report(action, spent, message));
        }
        Ok(())
    }

    fn forward(&mut self, iteration: Iteration, m: MicroBatch) -> Result<Spent, StageError> {
        let input = self.held.remove(&(Slot::InputActivation, m));
        let (output, spent) = self
            .timeline
            .forward(|| self.compute.forward(iteration, m, input))?;
        match output {
            Forwarded::Activation(bytes) => {
                self.held.insert((Slot::OutputActivation, m), bytes);
            }
            Forwarded::Loss(Some(loss)) => {
                self.losses.0 += loss;
                self.losses.1 += 1;
            }
            Forwarded::Loss(None) => {}
        }
        Ok(spent)
    }

    fn backward(&mut self, m: MicroBatch) -> Result<Spent, StageError> {
        let gradient = self.held.remove(&(Slot::OutputGradient, m));
        let (gradient, spent) = self
            .timeline
            .backward(|| self.compute.backward(m, gradient))?;
        if let Some(bytes) = gradient {
            self.held.insert((Slot::InputGradient, m), bytes);
        }
        Ok(spent)
    }

    fn send(&mut self, tensor: TensorId) -> Result<Spent, StageError> {
        let (slot, neighbour) = match tensor.kind {
            TensorKind::Activation => (Slot::OutputActivation, &mut self.neighbours.next),
            TensorKind::Gradient => (Slot::InputGradient, &mut self.neighbours.previous),
        };
        let payload = self.held.remove(&(slot, tensor.micro_batch));
        let payload = payload.expect("a checked program sends what it has made");
        let neighbour = neighbour
            .as_mut()
            .expect("a checked program sends to stages that exist");
        let header = TensorHeader {
            tensor,
            shape: [
                self.prepare.job.shape.sequences,
                self.prepare.job.shape.sequence,
                self.prepare.job.model.hidden,
            ],
            element: self.element,
        };
        let header =
            encode::<HEADER_LIMIT>(&header).expect("a tensor's header is a few dozen bytes");
        let ready_ns = self.timeline.now_ns();
        let room_ns = neighbour.send(header, payload, ready_ns)?;
        Ok(self.timeline.sent(ready_ns, room_ns))
    }

    fn receive(&mut self, tensor: TensorId) -> Result<(Spent, Timing), StageError> {
        let from_ns = self.timeline.now_ns();
        let (slot, neighbour) = match tensor.kind {
            TensorKind::Activation => (Slot::InputActivation, &mut self.neighbours.previous),
            TensorKind::Gradient => (Slot::OutputGradient, &mut self.neighbours.next),
        };
        let neighbour = neighbour
            .as_mut()
            .expect("a checked program receives from stages that exist");
        let received = match neighbour.receive() {
            Err(_) if is_dropped(self.release) => return Err(StageError::Cancelled),
            received => received?,
        };
        let header: TensorHeader =
            decode::<HEADER_LIMIT, _>(&received.header).map_err(NeighbourError::Header)?;
        if header.tensor != tensor {
            return Err(StageError::Neighbour(NeighbourError::OutOfOrder {
                expected: tensor,
                received: header.tensor,
            }));
        }
        // What came late could not have been used before it was here.
        let timing = received.timing;
        let usable_ns = timing.deliver_at_ns.max(timing.arrived_ns);
        self.held
            .insert((slot, tensor.micro_batch), received.payload);
        Ok((self.timeline.received(from_ns, usable_ns), timing))
    }

    fn iteration_report(&mut self, iteration: Iteration, begin_ns: u64) -> IterationReport {
        let pacing = self.timeline.take_pacing();
        let device = self.timeline.take_device_times();
        let by_device = self.compute.take_device_s();
        let (sum, count) = std::mem::take(&mut self.losses);
        let room = Vec::with_capacity(self.actions.len());
        IterationReport {
            job: self.prepare.id,
            attempt: self.prepare.attempt,
            stage: self.prepare.stage,
            is_last_stage: self.prepare.next.is_none(),
            iteration,
            begin_ns,
            end_ns: self.timeline.now_ns(),
            times: std::mem::take(&mut self.times),
            spans: std::mem::replace(&mut self.actions, room),
            loss: (count > 0).then(|| sum / f64::from(count)),
            device_s: by_device.or(device.map(|device| device.device_s)),
            lease_wait_s: device.map(|device| device.lease_wait_s),
            actions: pacing.map(|pacing| pacing.actions),
            overruns: pacing.map_or(0, |pacing| pacing.overruns),
            worst_overrun_s: pacing.map_or(0.0, |pacing| pacing.worst_overrun_s),
            overrun_s: pacing.map_or(0.0, |pacing| pacing.overrun_s),
            scale_without_overrun: pacing.and_then(|pacing| pacing.scale_without_overrun),
        }
    }
}

/// What is told of an action.
fn report(action: Action, spent: Spent, message: Option<Timing>) -> ActionReport {
    let some = |ns: u64| (ns > 0).then_some(ns);
    ActionReport {
        action,
        from_ns: spent.from_ns,
        to_ns: spent.to_ns,
        lease_wait_ns: some(spent.lease_wait_ns),
        excess_ns: some(spent.excess_ns),
        message,
    }
}

/// Whether the coordinator has ended the job.
fn is_dropped(release: &Receiver<Never>) -> bool {
    matches!(release.try_recv(), Err(TryRecvError::Disconnected))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    use bace_api::{Attempt, ComputePlan, ComputeRung, Job, JobId, Schedule, StageIndex};
    use bace_models::{MicroBatchShape, catalogue};

    use super::*;

    const FORWARD_NS: u64 = 10_000_000;
    const BACKWARD_NS: u64 = 20_000_000;

    /// A stage alone whose second backward takes this long, and whose step takes a while.
    struct Slow {
        second_backward: Duration,
    }

    impl StageCompute for Slow {
        fn rehearse(&mut self) -> Result<(), ComputeError> {
            Ok(())
        }

        fn forward(
            &mut self,
            _: Iteration,
            _: MicroBatch,
            _: Option<Bytes>,
        ) -> Result<Forwarded, ComputeError> {
            Ok(Forwarded::Loss(Some(1.5)))
        }

        fn backward(
            &mut self,
            m: MicroBatch,
            _: Option<Bytes>,
        ) -> Result<Option<Bytes>, ComputeError> {
            if m.0 == 1 {
                std::thread::sleep(self.second_backward);
            }
            Ok(None)
        }

        fn step(&mut self) -> Result<(), ComputeError> {
            std::thread::sleep(Duration::from_millis(2));
            Ok(())
        }

        fn parameters(&self) -> u64 {
            0
        }

        fn weights(&self) -> Vec<(String, String)> {
            Vec::new()
        }
    }

    fn prepare(rung: ComputeRung, tells_actions: bool) -> Prepare {
        let (f, b) = (Action::Forward, Action::Backward);
        let [first, second] = [0, 1].map(MicroBatch);
        Prepare {
            id: JobId(0),
            attempt: Attempt(0),
            job: Job {
                name: "alone".to_owned(),
                model_name: "qwen2.5-14b".to_owned(),
                model: catalogue::model("qwen2.5-14b").unwrap(),
                arrival_s: 0.0,
                iterations: 3,
                micro_batches: 2,
                shape: MicroBatchShape {
                    sequences: 1,
                    sequence: 1,
                    bytes_per_element: 4,
                },
                schedule: Schedule::OneFOneB,
                learning_rate: 1e-3,
                scale_model: None,
            },
            boundary_stands_for_bytes: None,
            seed: 0,
            stage: StageIndex(0),
            stages: 1,
            layers: 0..48,
            program: vec![f(first), b(first), f(second), b(second), Action::Step],
            previous: None,
            next: None,
            compute: ComputePlan {
                rung,
                forward_s: FORWARD_NS as f64 / 1e9,
                backward_s: BACKWARD_NS as f64 / 1e9,
            },
            tells_actions,
        }
    }

    fn reports(prepare: &Prepare, second_backward: Duration) -> Vec<IterationReport> {
        let (_held, release) = sync_channel(1);
        let mut compute = Slow { second_backward };
        let neighbours = Neighbours::default();
        let stage = StageRun::begin(prepare, &mut compute, neighbours, &release, None).unwrap();
        let mut reports = Vec::new();
        stage
            .train(|report| {
                reports.push(report);
                true
            })
            .unwrap();
        reports
    }

    /// Sums by kind, which are those of the iteration's times.
    fn assert_sums(report: &IterationReport) {
        let mut sums = StageTimes::default();
        for span in &report.spans {
            let sum = match span.action {
                Action::Forward(_) => &mut sums.forward_s,
                Action::Backward(_) => &mut sums.backward_s,
                Action::Step => &mut sums.step_s,
                other => panic!("a stage alone has no {other}"),
            };
            *sum += (span.to_ns - span.from_ns) as f64 / 1e9;
        }
        assert_eq!(sums, report.times);
    }

    #[test]
    fn paced_actions_are_told_one_behind_the_other() {
        let prepare = prepare(ComputeRung::Modelled, true);
        let reports = reports(&prepare, Duration::from_millis(50));
        assert_eq!(reports.len(), 3);
        let mut end_ns = reports[0].begin_ns;
        for report in &reports {
            assert_eq!(report.begin_ns, end_ns);
            let told = report.spans.iter().map(|span| span.action);
            assert!(told.eq(prepare.program.iter().copied()));
            let mut excess_ns = 0;
            for span in &report.spans {
                assert_eq!(span.from_ns, end_ns);
                end_ns = span.to_ns;
                let modelled_ns = match span.action {
                    Action::Forward(_) => FORWARD_NS,
                    Action::Backward(_) => BACKWARD_NS,
                    // The emulated GPU does it in no time.
                    _ => 0,
                };
                let excess = span.excess_ns.unwrap_or(0);
                assert_eq!(span.to_ns - span.from_ns, modelled_ns + excess);
                assert_eq!((span.lease_wait_ns, span.message), (None, None));
                excess_ns += excess;
            }
            let second = &report.spans[3];
            assert!(second.excess_ns >= Some(30_000_000), "{second:?}");
            assert!((excess_ns as f64 / 1e9 - report.overrun_s).abs() < 1e-12);
            assert_eq!(report.end_ns, end_ns);
            assert_sums(report);
        }
    }

    #[test]
    fn native_actions_take_as_long_as_they_take_and_leave_gaps_to_the_host() {
        let prepare = prepare(ComputeRung::Native, true);
        for report in reports(&prepare, Duration::from_millis(5)) {
            let mut end_ns = report.begin_ns;
            for span in &report.spans {
                assert!(span.from_ns >= end_ns && span.to_ns >= span.from_ns);
                assert_eq!(span.excess_ns, None);
                end_ns = span.to_ns;
            }
            assert!(report.end_ns >= end_ns);
            assert!(report.times.backward_s >= 0.005 && report.times.step_s >= 0.002);
            assert_sums(&report);
        }
    }

    #[test]
    fn nothing_is_told_where_nobody_wants_to_know() {
        let prepare = prepare(ComputeRung::Modelled, false);
        let reports = reports(&prepare, Duration::ZERO);
        assert!(reports.iter().all(|report| report.spans.is_empty()));
        assert!(reports[0].times.forward_s > 0.0);
    }
}
