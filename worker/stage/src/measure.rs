//! This worker's part in measuring links: it sends what a receipt's script says, or tells when it came.
//!
//! All of it runs on the network's thread, through the same endpoint, link clocks, sender and receiver as tensors.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail};
use bace_api::{FromWorker, Measure, MeasureRole, MeasurementId, Probe, Purpose, told};
use bace_netem::{FlowKey, Timing};
use bace_socket::receipt::Script;
use bace_socket::{Connection, Endpoint, Received};
use tokio::sync::{mpsc, oneshot};

use crate::meeting::{Awaited, Words, be_found, find};
use crate::neighbour::LinkAccess;
use crate::peers::{Arrival, EarlyPeers};
use crate::session::Never;

/// Stands for a job in the draws of a measurement: no scenario has so many.
const NO_JOB: u32 = u32::MAX;

/// What measurements need of the session.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Where neighbours connect.
    pub data: Arc<Endpoint>,
    /// The run's links.
    pub links: LinkAccess,
    /// What is said to the coordinator.
    pub says: mpsc::Sender<FromWorker>,
}

/// Measurements that have not been ended.
#[derive(Debug, Default)]
pub struct Measurements(BTreeMap<MeasurementId, Hold>);

/// The session's hold on a measurement.
#[derive(Debug)]
struct Hold {
    /// Where the sender is handed over once it has arrived.
    awaited: Option<Awaited>,
    start: Option<oneshot::Sender<()>>,
    /// Dropped to end it.
    _end: oneshot::Sender<Never>,
}

/// A measurement under way.
struct Task {
    order: Measure,
    script: Script,
    tools: Tools,
    arrival: oneshot::Receiver<Arrival>,
    start: oneshot::Receiver<()>,
}

impl Measurements {
    /// Begins to meet the other worker.
    pub fn begin(&mut self, order: Measure, tools: Tools, early: &mut EarlyPeers<Arrival>) {
        let id = order.id;
        let purpose = Purpose::Measurement(id);
        let (found, arrival) = oneshot::channel();
        let (start_tx, start) = oneshot::channel();
        let (end, mut ended) = oneshot::channel::<Never>();
        let name = order.peer.worker.certificate_name();
        let mut awaited = None;
        if order.role == MeasureRole::Receive {
            match early.take(&name, purpose) {
                // The task that holds the other end begins below.
                Some(arrival) => drop(found.send(arrival)),
                None => {
                    awaited = Some(Awaited {
                        purpose,
                        name,
                        found,
                    });
                }
            }
        }
        let hold = Hold {
            awaited,
            start: Some(start_tx),
            _end: end,
        };
        self.0.insert(id, hold);
        let shaping = tools.links.shaping();
        let measured = match order.role {
            MeasureRole::Send => &order.peer.link,
            MeasureRole::Receive => &order.peer.back,
        };
        let task = Task {
            script: match order.probe {
                Probe::Alone => Script::alone(measured, shaping),
                Probe::Together => Script::together(measured, shaping),
            },
            order,
            tools,
            arrival,
            start,
        };
        tokio::spawn(async move {
            let says = task.tools.says.clone();
            let failed = tokio::select! {
                biased;
                _ = &mut ended => return,
                failed = task.run() => failed,
            };
            if let Err(error) = failed {
                let reason = told(error.as_ref());
                // Without a session the process is about to end.
                let _ = says.send(FromWorker::MeasuringFailed { id, reason }).await;
            }
        });
    }

    /// Lets this worker send.
    pub fn start(&mut self, id: MeasurementId) {
        let hold = self.0.get_mut(&id);
        if let Some(start) = hold.and_then(|hold| hold.start.take()) {
            // A measurement that failed meanwhile has said so itself.
            let _ = start.send(());
        }
    }

    /// Drops a measurement with its connection.
    pub fn end(&mut self, id: MeasurementId) {
        self.0.remove(&id);
    }

    /// Hands over a worker that has connected, if a measurement awaits it; else gives it back.
    pub fn arrived(&mut self, arrival: Arrival) -> Option<Arrival> {
        let (purpose, name) = (arrival.hello.purpose, arrival.connection.peer_name());
        let expected = |awaited: &mut Awaited| awaited.purpose == purpose && awaited.name == name;
        let awaited = self
            .0
            .values_mut()
            .find_map(|hold| hold.awaited.take_if(expected));
        match awaited {
            Some(awaited) => awaited.found.send(arrival).err(),
            None => Some(arrival),
        }
    }
}

/// A connection that ends with the measurement, however that ends.
struct Closing(Connection);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close("the link is measured");
    }
}

impl Task {
    /// Until the measurement is ended; an error if it cannot go on.
    async fn run(self) -> anyhow::Result<()> {
        let Self {
            order,
            script,
            tools,
            arrival,
            start,
        } = self;
        let words = Words {
            own: Purpose::Measurement(order.id),
            theirs: Purpose::Measurement(order.id),
        };
        let who = order.peer.worker.certificate_name();
        let flow = FlowKey {
            seed: order.seed,
            link: order.peer.link_id,
            job: NO_JOB,
            from_stage: order.id.0,
            to_stage: order.id.0,
        };
        let mut towards = tools
            .links
            .lay(&tools.data, &order.peer, flow, order.id.0.into())?;
        match order.role {
            MeasureRole::Send => {
                let connection =
                    Closing(find(&tools.data, &tools.links, &mut towards, words, &who).await?);
                let sender = |messages| tools.links.sender(&connection.0, &towards, messages, None);
                let (warming, sending) = (sender(1)?, sender(script.len())?);
                tell(&tools, FromWorker::ReadyToMeasure { id: order.id }).await?;
                start.await.context("the measurement was dropped")?;
                script.send(warming, sending).await?;
                std::future::pending().await
            }
            MeasureRole::Receive => {
                let connection =
                    Closing(be_found(arrival, &tools.links, &mut towards, words, &who).await?);
                let (count, bytes) = (script.len(), script.largest_bytes());
                let (_receiver, inbox) =
                    tools
                        .links
                        .receiver(&connection.0, &towards, count, bytes)?;
                tell(&tools, FromWorker::ReadyToMeasure { id: order.id }).await?;
                let timings = receive(&script, inbox).await?;
                let id = order.id;
                tell(&tools, FromWorker::Measured { id, timings }).await?;
                // The sender ends once it is told to.
                std::future::pending().await
            }
        }
    }
}

async fn tell(tools: &Tools, message: FromWorker) -> anyhow::Result<()> {
    let told = tools.says.send(message).await;
    told.ok().context("report to the coordinator")
}

/// Receives the script; the times of its messages.
async fn receive(
    script: &Script,
    mut inbox: mpsc::Receiver<Received>,
) -> anyhow::Result<Vec<Timing>> {
    let mut timings = Vec::with_capacity(script.len());
    while timings.len() < script.len() {
        match inbox
            .recv()
            .await
            .context("receive: the link's task has ended")?
        {
            Received::Message(message) => {
                script.check(timings.len(), &message)?;
                timings.push(message.timing);
            }
            Received::Failed { error, .. } | Received::Ended { error, .. } => bail!(error),
        }
    }
    Ok(timings)
}
