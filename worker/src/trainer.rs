//! The compute thread: loads stages and trains them, one at a time.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::Receiver;

use anyhow::Context;
use bace_api::{ComputeRung, FromWorker, Prepare, told};
use bace_torch::Device;
use tokio::sync::{mpsc, oneshot};

use crate::cli::CheckArgs;
use crate::compute::{self, Text};
use crate::neighbour::Neighbour;
use crate::session::{Begin, Never, Order, StageOrder};
use crate::stage::{Neighbours, StageError, StageRun};

/// Checks device and text for `bace-worker check` and says what was found, as JSON.
pub fn check(args: &CheckArgs) -> anyhow::Result<serde_json::Value> {
    let device = prepare_device(args.device);
    let text = load_text(args.data.as_deref())?;
    text.check(args.sequence)?;
    text.warm_up(args.device)?;
    let mut found = serde_json::json!({
        "device": device,
        "cuda_devices": bace_torch::cuda_devices(),
        "text_hash": text.hash(),
        "text_bytes": text.bytes(),
    });
    if args.speed {
        found["operations_per_s"] = text.speed(args.device)?.into();
        found["memory_bytes"] = own_memory_bytes()?.into();
    }
    Ok(found)
}

/// Memory that this process has held at most, libraries included.
fn own_memory_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let peak = status.lines().find_map(|line| {
        let kib = line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?;
        kib.parse::<u64>().ok()
    });
    let kib = peak.context("find VmHWM in /proc/self/status")?;
    Ok(kib << 10)
}

/// Sets libtorch up for one emulated GPU and describes what it computes on.
pub fn prepare_device(device: Device) -> String {
    // One thread: results do not depend on the machine's cores, and workers do not fight over them.
    bace_torch::use_threads(1);
    device.to_string()
}

/// Trains what it is told to until the session ends.
pub fn run(device: Device, mut orders: mpsc::Receiver<Order>, outbox: &mpsc::Sender<FromWorker>) {
    let mut text = None;
    while let Some(order) = orders.blocking_recv() {
        let said = match order {
            Order::Begin(begin) => match begin_run(device, &begin) {
                Ok(loaded) => {
                    text = loaded;
                    let text_hash = text.as_ref().map(Text::hash);
                    outbox
                        .blocking_send(FromWorker::Ready { text_hash })
                        .is_ok()
                }
                Err(error) => {
                    let reason = told(error.as_ref());
                    outbox.blocking_send(FromWorker::Unfit { reason }).is_ok()
                }
            },
            Order::Train(order) => train(device, text.as_ref(), *order, outbox),
        };
        if !said {
            return;
        }
    }
}

/// Does before the run what would otherwise delay its first iteration.
fn begin_run(device: Device, begin: &Begin) -> anyhow::Result<Option<Text>> {
    if begin.compute == ComputeRung::Modelled {
        return Ok(None);
    }
    let text = load_text(begin.text.as_deref())?;
    text.warm_up(device)?;
    Ok(Some(text))
}

fn load_text(path: Option<&Path>) -> anyhow::Result<Text> {
    let default = compute::default_text();
    let path = path.or(default.as_deref()).context(
        "find text to train on: libtorch's sources are not there; name some with --data",
    )?;
    Ok(Text::load(path)?)
}

/// Trains one stage and waits until the job is over for all stages; false once nobody listens.
fn train(
    device: Device,
    text: Option<&Text>,
    order: StageOrder,
    outbox: &mpsc::Sender<FromWorker>,
) -> bool {
    let (job, attempt, stage) = (order.prepare.id, order.prepare.attempt, order.prepare.stage);
    let release = order.release;
    let run = StageOrderRun {
        device,
        text,
        prepare: order.prepare,
        neighbours: order.neighbours,
        start: order.start,
    };
    // libtorch's binding panics where libtorch throws, for one when memory is short.
    let outcome = catch_unwind(AssertUnwindSafe(|| run.run(&release, outbox)));
    let outcome = outcome.unwrap_or_else(|panic| Err(StageError::Libtorch(panic_message(&*panic))));
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
    device: Device,
    text: Option<&'a Text>,
    prepare: Prepare,
    neighbours: Neighbours,
    start: oneshot::Receiver<()>,
}

impl StageOrderRun<'_> {
    /// Returns the hashes of the final weights.
    fn run(
        self,
        release: &Receiver<Never>,
        outbox: &mpsc::Sender<FromWorker>,
    ) -> Result<Vec<(String, String)>, StageError> {
        let tell = |message| {
            outbox
                .blocking_send(message)
                .map_err(|_| StageError::CoordinatorGone)
        };
        let mut compute = compute::load(self.device, self.text, &self.prepare)?;
        tell(FromWorker::Prepared {
            job: self.prepare.id,
            attempt: self.prepare.attempt,
            parameters: compute.parameters(),
            next_clock: self.neighbours.next.as_ref().and_then(Neighbour::clock),
        })?;
        if self.start.blocking_recv().is_err() {
            return Err(StageError::Cancelled);
        }
        let stage = StageRun::begin(&self.prepare, &mut *compute, self.neighbours, release)?;
        let finished = stage.train(|report| tell(FromWorker::Iteration(report)).is_ok())?;
        tell(FromWorker::Finished(Box::new(finished)))?;
        // Until then a neighbour may still need what this stage has sent.
        let _ = release.recv();
        Ok(compute.weights())
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    // libtorch appends its own stack; the first line says what happened.
    let first = text.and_then(|text| text.lines().next());
    first.unwrap_or("it did not say why").to_owned()
}
