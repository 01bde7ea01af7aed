//! The compute thread: loads stages and trains them, one at a time.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;

use bace_api::{FromWorker, Prepare, SetUpReport, told};
use bace_lease::Seat;
use bace_socket::now_ns;
use tokio::sync::{mpsc, oneshot};

use crate::compute::{ComputeError, Computer, StageCompute};
use crate::memory::{OutOfMemory, lack_of_memory};
use crate::neighbour::Neighbour;
use crate::session::{Never, Order, StageOrder};
use crate::stage::{Neighbours, StageError, StageRun};
use crate::timeline::{modelled_end, seconds, seconds_since};

/// Trains what it is told to until the session ends.
pub fn run(
    computer: &mut dyn Computer,
    mut orders: mpsc::Receiver<Order>,
    outbox: &mpsc::Sender<FromWorker>,
) {
    let mut seat = None;
    while let Some(order) = orders.blocking_recv() {
        let said = match order {
            Order::Begin(begin, of_device) => {
                seat = of_device;
                let begun = catch_unwind(AssertUnwindSafe(|| computer.begin(&begin)));
                let answer = match begun {
                    Ok(Ok(text_hash)) => FromWorker::Ready { text_hash },
                    Ok(Err(error)) => FromWorker::Unfit {
                        reason: told(&error),
                    },
                    Err(panic) => FromWorker::Unfit {
                        reason: format!(
                            "try the device: libtorch gave up: {}",
                            first_line(&*panic)
                        ),
                    },
                };
                outbox.blocking_send(answer).is_ok()
            }
            Order::Train(order) => train(computer, *order, seat.as_mut(), outbox),
        };
        if !said {
            return;
        }
    }
}

/// Trains one stage and waits until the job is over for all stages; false once nobody listens.
fn train(
    computer: &dyn Computer,
    order: StageOrder,
    seat: Option<&mut Seat>,
    outbox: &mpsc::Sender<FromWorker>,
) -> bool {
    let (job, attempt, stage) = (order.prepare.id, order.prepare.attempt, order.prepare.stage);
    let release = order.release;
    let run = StageOrderRun {
        computer,
        prepare: order.prepare,
        neighbours: order.neighbours,
        connect_s: order.connect_s,
        start: order.start,
        seat,
    };
    // libtorch's binding panics where libtorch throws, for one when memory is short.
    let prepare = run.prepare.clone();
    let outcome = catch_unwind(AssertUnwindSafe(|| run.run(&release, outbox)));
    let outcome = outcome.unwrap_or_else(|panic| Err(gave_up(&prepare, computer, &*panic)));
    let weights = match outcome {
        Ok(weights) => weights,
        Err(StageError::CoordinatorGone) => return false,
        Err(StageError::Cancelled) => Vec::new(),
        Err(error) => {
            let failed = FromWorker::Failed {
                job,
                attempt,
                reason: format!("stage {stage} failed to {error}"),
            };
            if outbox.blocking_send(failed).is_err() {
                return false;
            }
            // Nothing is ever sent: the error is the release, which follows once all stages have been told.
            let _ = release.recv();
            Vec::new()
        }
    };
    outbox
        .blocking_send(FromWorker::Released {
            job,
            attempt,
            weights,
        })
        .is_ok()
}

/// A stage from loading to release.
struct StageOrderRun<'a> {
    computer: &'a dyn Computer,
    prepare: Prepare,
    neighbours: Neighbours,
    connect_s: f64,
    start: oneshot::Receiver<()>,
    seat: Option<&'a mut Seat>,
}

impl<'a> StageOrderRun<'a> {
    /// Returns the hashes of the final weights.
    fn run(
        mut self,
        release: &Receiver<Never>,
        outbox: &mpsc::Sender<FromWorker>,
    ) -> Result<Vec<(String, String)>, StageError> {
        let tell = |message| {
            outbox
                .blocking_send(message)
                .map_err(|_| StageError::CoordinatorGone)
        };
        let (mut compute, set_up) = self.set_up()?;
        tell(FromWorker::Prepared {
            job: self.prepare.id,
            attempt: self.prepare.attempt,
            parameters: compute.parameters(),
            set_up,
            next_clock: self.neighbours.next.as_ref().and_then(Neighbour::clock),
        })?;
        if self.start.blocking_recv().is_err() {
            return Err(StageError::Cancelled);
        }
        let stage = StageRun::begin(
            &self.prepare,
            &mut *compute,
            self.neighbours,
            release,
            self.seat,
        )?;
        let finished = stage.train(|report| tell(FromWorker::Iteration(report)).is_ok())?;
        tell(FromWorker::Finished(Box::new(finished)))?;
        // Until then a neighbour may still need what this stage has sent.
        let _ = release.recv();
        Ok(compute.weights())
    }

    /// Loads the stage and rehearses it.
    fn set_up(&mut self) -> Result<(Box<dyn StageCompute + 'a>, SetUpReport), ComputeError> {
        let load_ns = now_ns();
        let mut compute = self.computer.load(&self.prepare)?;
        let load_s = seconds_since(load_ns);
        // In turn, as a micro-batch: other jobs may be in the middle of their iterations.
        let plan = self.prepare.compute;
        let due_ns = modelled_end(plan, now_ns(), plan.forward_s + plan.backward_s);
        let seat = self.seat.as_deref_mut();
        let lease = seat.map(|seat| seat.acquire(due_ns)).transpose()?;
        let lease_wait_s = lease.as_ref().map(|lease| seconds(lease.waited_ns()));
        let rehearse_ns = now_ns();
        compute.rehearse()?;
        let rehearse_s = seconds_since(rehearse_ns);
        drop(lease);
        let set_up = SetUpReport {
            connect_s: self.connect_s,
            load_s,
            lease_wait_s,
            rehearse_s,
        };
        Ok((compute, set_up))
    }
}

/// What a panic of libtorch's binding says.
fn gave_up(prepare: &Prepare, computer: &dyn Computer, panic: &(dyn Any + Send)) -> StageError {
    let beyond = computer.beyond_bytes_per_parameter();
    match OutOfMemory::of(prepare, beyond, panic_message(panic)) {
        Some(short) => StageError::OutOfMemory(short),
        None => StageError::Libtorch(first_line(panic)),
    }
}

/// What a panic of libtorch's binding says outside of a run, as what failed.
pub fn words_of_panic(panic: &(dyn Any + Send)) -> String {
    match lack_of_memory(panic_message(panic)) {
        Some(short) => format!("find memory: {short}"),
        None => format!("compute: libtorch gave up: {}", first_line(panic)),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it did not say why")
}

/// libtorch appends its own stack; the first line says what happened.
fn first_line(panic: &(dyn Any + Send)) -> String {
    let text = panic_message(panic);
    let line = text.lines().next().unwrap_or(text);
    line.split("\\n").next().unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_told_as_what_failed() {
        let told = |text: &str| words_of_panic(&text.to_owned());
        assert_eq!(
            told(
                "Torch(\"CUDA out of memory. Tried to allocate 20.00 MiB. 1.00 GiB allowed; If reserved\\nframe"
            ),
            "find memory: libtorch could not get 20.00 MiB: 1.00 GiB allowed"
        );
        assert_eq!(
            told("Torch(\"an illegal memory access\\nframe #0"),
            "compute: libtorch gave up: Torch(\"an illegal memory access"
        );
        assert_eq!(
            words_of_panic(&7),
            "compute: libtorch gave up: it did not say why"
        );
    }
}
