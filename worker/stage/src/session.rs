//! The worker's side of the run: joins the coordinator, finds neighbours, hands stages to the compute thread.

mod neighbours;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use bace_api::{
    Attempt, CONTROL_LIMIT, COORDINATOR_NAME, ComputeRung, DeviceLease, FromWorker, HEADER_LIMIT,
    HostMemory, JobId, LinkChange, Measure, MeasurementId, PROTOCOL_VERSION, Prepare, Purpose,
    StageIndex, ToWorker, WorkerDevice, WorkerId, decode, encode, told,
};
use bace_lease::{LeaseTable, Seat, SeatDevice};
use bace_netem::LinkState;
use bace_socket::{
    Connection, Credentials, Endpoint, MessageReader, MessageWriter, PeerClock, Profile, now_ns,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::measure::{Measurements, Tools};
use crate::meeting::Awaited;
use crate::neighbour::LinkAccess;
use crate::peers::{Arrival, Door, EarlyPeers, accept_peers};
use crate::stage::Neighbours;
use crate::tables::HostTables;
use crate::timeline::seconds_since;

use neighbours::{Meeting, close_once_released};

/// Tells the meeting of a job's neighbours that the job was dropped.
type CancelFlag = Arc<AtomicBool>;

/// Longest wait for a farewell to reach the others; with the control connection's idle timeout it stays below the
/// 5 s in which a worker has to follow a coordinator that was killed.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(250);
/// Members of the run that may have connected before the coordinator's word about them arrived; a pipeline has one.
const EARLY_PEERS: usize = 16;
/// What stages that never began and measurements have to say and the coordinator was not yet told: a failure and a
/// release of the job given up and of the one after it. Who finds it full waits; nothing else waits for them.
const ASIDE: usize = 4;

/// What the compute thread is told.
#[derive(Debug)]
pub enum Order {
    /// What holds for the whole run, and the seat in which this worker waits for its device, where it computes: the first
    /// order.
    Begin(Begin, Option<Seat>),
    /// A stage to train.
    Train(Box<StageOrder>),
}

/// What holds for the whole run.
#[derive(Debug)]
pub struct Begin {
    /// Who takes the time of compute.
    pub compute: bace_api::ComputeRung,
    /// Training text; absent for the default.
    pub text: Option<std::path::PathBuf>,
}

/// A stage whose neighbours are connected.
#[derive(Debug)]
pub struct StageOrder {
    /// What to load.
    pub prepare: Prepare,
    /// The links.
    pub neighbours: Neighbours,
    /// From the order to prepare the stage until they were there, seconds.
    pub connect_s: f64,
    /// Fires when training begins; closes if the job ends before.
    pub start: oneshot::Receiver<()>,
    /// Closes when everything of the job is to be dropped.
    pub release: std::sync::mpsc::Receiver<Never>,
}

/// What is never sent: a channel of it only tells that its other end was dropped.
#[derive(Debug)]
pub enum Never {}

/// The threads' ends of the channels between network and compute.
#[derive(Debug)]
pub struct Channels {
    /// Orders for the compute thread.
    pub orders: mpsc::Sender<Order>,
    /// What the compute thread has to say.
    pub outbox: mpsc::Receiver<FromWorker>,
}

/// Who this worker is.
#[derive(Debug)]
pub struct Identity {
    /// The coordinator's address.
    pub join: SocketAddr,
    /// The region it stands for.
    pub region: String,
    /// What it proves itself with.
    pub credentials: Credentials,
    /// What it computes on.
    pub device: WorkerDevice,
}

/// Serves the run until the coordinator ends it or is gone.
pub async fn serve(identity: Identity, channels: Channels) -> anyhow::Result<()> {
    let own_ip = local_ip_towards(identity.join)?;
    let control = Endpoint::bind(
        SocketAddr::new(own_ip, 0),
        &identity.credentials,
        Profile::control(),
    )?;
    let data = Arc::new(Endpoint::bind(
        SocketAddr::new(own_ip, 0),
        &identity.credentials,
        Profile::data(),
    )?);
    let ended = take_part(&control, &data, &identity, channels).await;
    // What a worker on another host writes to its log nobody sees who looks at the run.
    let farewell = match &ended {
        Ok(()) => "the worker ends".to_owned(),
        Err(error) => format!("it failed to {}", told(error.as_ref())),
    };
    // The others see a silent peer as lost after some seconds anyway.
    let _ = timeout(FAREWELL_TIMEOUT, async {
        data.close(&farewell).await;
        control.close(&farewell).await;
    })
    .await;
    ended
}

async fn take_part(
    control: &Endpoint,
    data: &Arc<Endpoint>,
    identity: &Identity,
    channels: Channels,
) -> anyhow::Result<()> {
    let (welcome, joined) = join(control, identity, data.local_addr()?).await?;
    let Joined {
        connection,
        mut writer,
        reader,
    } = joined;
    let ToWorker::Welcome {
        worker,
        memory,
        lease,
        is_clock_probed,
        compute,
        network,
        congestion,
        receivers_hold,
        text,
    } = welcome
    else {
        bail!("join the run: the coordinator answered {welcome:?}");
    };
    tracing::info!(%worker, region = identity.region, "joined");
    if is_clock_probed {
        tokio::spawn(tell_time(connection));
    }
    let tables = host_tables(memory, &mut writer).await?;
    let seat = lease
        .map(|lease| take_seat(&tables.leases, worker, lease))
        .transpose()?;
    channels
        .orders
        .send(Order::Begin(Begin { compute, text }, seat))
        .await
        .ok()
        .context("reach the compute thread")?;
    let (peers, arrivals) = mpsc::channel(EARLY_PEERS);
    let door = Door {
        endpoint: Arc::clone(data),
        takes_datagrams: network.shapes_datagrams(),
    };
    tokio::spawn(accept_peers(door, peers));
    let session = Session {
        writer,
        data: Arc::clone(data),
        links: LinkAccess {
            network,
            congestion,
            receivers_hold,
            keeps_payloads: compute != ComputeRung::Modelled,
            clocks: tables.clocks,
        },
        orders: channels.orders,
        job: None,
        early: EarlyPeers::new(EARLY_PEERS),
        measurements: Measurements::default(),
    };
    session.run(reader, channels.outbox, arrivals).await
}

/// Lets the coordinator probe this host's clock as long as the connection lasts.
async fn tell_time(connection: Connection) {
    let answered = async {
        let (writer, reader) = connection.accept_messages(HEADER_LIMIT as u32).await?;
        PeerClock::answer(writer, reader).await
    };
    match answered.await {
        // Dropped, it would answer no more.
        Ok(_clock) => drop(connection.closed().await),
        // The coordinator knows it as well.
        Err(error) => {
            tracing::warn!("the coordinator could not probe the clock: failed to {error}")
        }
    }
}

/// What the processes of this host share, made where nobody has.
async fn host_tables(memory: HostMemory, writer: &mut MessageWriter) -> anyhow::Result<HostTables> {
    match memory {
        HostMemory::At(path) => Ok(HostTables::open(&path)?),
        HostMemory::Make { links, seats } => {
            let (tables, path) = HostTables::create(links as usize, seats as usize)?;
            tell(writer, &FromWorker::HostMemoryMade { path }).await?;
            Ok(tables)
        }
    }
}

/// This worker's place among those that compute on its device.
fn take_seat(leases: &LeaseTable, worker: WorkerId, lease: DeviceLease) -> anyhow::Result<Seat> {
    let device = SeatDevice {
        index: lease.device as usize,
        name: lease.name,
        slots: lease.slots,
    };
    Ok(leases.take(worker.index(), &device)?)
}

async fn tell(writer: &mut MessageWriter, message: &FromWorker) -> anyhow::Result<()> {
    let message = encode::<CONTROL_LIMIT>(message)?;
    writer
        .send(&message)
        .await
        .context("report to the coordinator")
}

/// The way to and from the coordinator.
struct Joined {
    connection: Connection,
    writer: MessageWriter,
    reader: MessageReader,
}

async fn join(
    control: &Endpoint,
    identity: &Identity,
    address: SocketAddr,
) -> anyhow::Result<(ToWorker, Joined)> {
    let connection = control.connect(identity.join, COORDINATOR_NAME).await?;
    let hello = encode::<CONTROL_LIMIT>(&FromWorker::Hello {
        protocol: PROTOCOL_VERSION,
        region: identity.region.clone(),
        address,
        host_id: bace_socket::host_id()?,
        pid: std::process::id(),
        device: identity.device.clone(),
    })?;
    let (answer, writer, reader) = connection.hello(&hello, CONTROL_LIMIT as u32).await?;
    let answer = decode::<CONTROL_LIMIT, ToWorker>(&answer)?;
    if let ToWorker::Refused(reason) = answer {
        bail!("join the run: the coordinator refused: {reason}");
    }
    let joined = Joined {
        connection,
        writer,
        reader,
    };
    Ok((answer, joined))
}

/// The address of this host that the coordinator can reach.
fn local_ip_towards(coordinator: SocketAddr) -> anyhow::Result<std::net::IpAddr> {
    let any: std::net::IpAddr = match coordinator {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connecting a UDP socket sends nothing; it only asks for a route.
    let socket = UdpSocket::bind((any, 0)).context("find a route to the coordinator")?;
    socket
        .connect(coordinator)
        .with_context(|| format!("find a route to the coordinator at {coordinator}"))?;
    Ok(socket
        .local_addr()
        .context("find a route to the coordinator")?
        .ip())
}

struct Session {
    writer: MessageWriter,
    data: Arc<Endpoint>,
    links: LinkAccess,
    orders: mpsc::Sender<Order>,
    job: Option<CurrentJob>,
    early: EarlyPeers<Arrival>,
    measurements: Measurements,
}

/// The network's hold on the stage that is being prepared or trained.
struct CurrentJob {
    id: JobId,
    attempt: Attempt,
    cancelled: CancelFlag,
    start: Option<oneshot::Sender<()>>,
    /// Dropped to release the stage from the compute thread.
    _release: std::sync::mpsc::SyncSender<Never>,
    /// Dropped to close the connections to both neighbours.
    _connections: oneshot::Sender<Never>,
    /// Where the stage before is handed over once it has arrived.
    previous: Option<Awaited>,
}

impl Session {
    async fn run(
        mut self,
        mut reader: MessageReader,
        mut outbox: mpsc::Receiver<FromWorker>,
        mut arrivals: mpsc::Receiver<Arrival>,
    ) -> anyhow::Result<()> {
        let (aside_tx, mut aside) = mpsc::channel::<FromWorker>(ASIDE);
        loop {
            tokio::select! {
                message = reader.receive() => {
                    let message = message.context("stay in the run")?.context("stay in the run: the coordinator is gone")?;
                    match decode::<CONTROL_LIMIT, ToWorker>(&message)? {
                        ToWorker::Prepare(prepare) => self.prepare(*prepare, aside_tx.clone()),
                        ToWorker::Start(job, attempt) => self.start(job, attempt),
                        ToWorker::Release(job, attempt) => self.release(job, attempt),
                        ToWorker::SetLinks(changes) => self.set_links(&changes)?,
                        ToWorker::Measure(order) => self.measure(*order, aside_tx.clone()),
                        ToWorker::StartMeasuring(id) => self.measurements.start(id),
                        ToWorker::EndMeasuring(id) => self.end_measuring(id),
                        ToWorker::Shutdown => return Ok(()),
                        other => bail!("understand the coordinator: it said {other:?}"),
                    }
                }
                Some(message) = outbox.recv() => tell(&mut self.writer, &message).await?,
                Some(message) = aside.recv() => tell(&mut self.writer, &message).await?,
                Some(arrival) = arrivals.recv() => self.arrived(arrival),
            }
        }
    }

    /// Gives links other rates and delays for all who send over them from this host.
    fn set_links(&self, changes: &[LinkChange]) -> anyhow::Result<()> {
        for change in changes {
            let state = LinkState {
                bits_per_second: change.rate.whole_bps(),
                delay_ns: change.delay.nanos(),
            };
            let clocks = &self.links.clocks;
            clocks.cell(change.clock as usize)?.set(state, now_ns());
        }
        Ok(())
    }

    fn measure(&mut self, order: Measure, says: mpsc::Sender<FromWorker>) {
        let tools = Tools {
            data: Arc::clone(&self.data),
            // Every message of a measurement is checked.
            links: LinkAccess {
                keeps_payloads: true,
                ..self.links.clone()
            },
            says,
        };
        self.measurements.begin(order, tools, &mut self.early);
    }

    fn end_measuring(&mut self, id: MeasurementId) {
        self.measurements.end(id);
        self.early
            .forget(|purpose| purpose == Purpose::Measurement(id));
    }

    fn prepare(&mut self, prepare: Prepare, failed: mpsc::Sender<FromWorker>) {
        let ordered_ns = now_ns();
        let (id, attempt) = (prepare.id, prepare.attempt);
        let (start_tx, start) = oneshot::channel();
        let (release_tx, release) = std::sync::mpsc::sync_channel(1);
        let (connections, mut closed) = oneshot::channel();
        let cancelled = CancelFlag::default();
        let (found, previous) = oneshot::channel();
        let awaited = prepare.previous.as_ref().map(|previous| Awaited {
            purpose: stage_purpose(&prepare, StageIndex(prepare.stage.0 - 1)),
            name: previous.worker.certificate_name(),
            found,
        });
        let early = awaited
            .as_ref()
            .and_then(|awaited| self.early.take(&awaited.name, awaited.purpose));
        self.job = Some(CurrentJob {
            id,
            attempt,
            cancelled: Arc::clone(&cancelled),
            start: Some(start_tx),
            _release: release_tx,
            _connections: connections,
            previous: awaited,
        });
        if let Some(arrival) = early {
            self.arrived(arrival);
        }
        let (data, links, orders) = (
            Arc::clone(&self.data),
            self.links.clone(),
            self.orders.clone(),
        );
        tokio::spawn(async move {
            let meeting = Meeting {
                data: &data,
                links: &links,
                prepare: &prepare,
            };
            match meeting.meet(previous, &mut closed).await {
                Ok(neighbours) => {
                    close_once_released(&neighbours, closed);
                    let order = Order::Train(Box::new(StageOrder {
                        prepare,
                        neighbours,
                        connect_s: seconds_since(ordered_ns),
                        start,
                        release,
                    }));
                    // Without a compute thread the process is about to end.
                    let _ = orders.send(order).await;
                }
                Err(_) if cancelled.load(Ordering::Relaxed) => {
                    let _ = failed.send(released(id, attempt)).await;
                }
                Err(error) => {
                    let reason = format!(
                        "stage {} cannot reach its neighbours: {}",
                        prepare.stage,
                        told(error.as_ref())
                    );
                    let _ = failed
                        .send(FromWorker::Failed {
                            job: id,
                            attempt,
                            reason,
                        })
                        .await;
                    // The release follows once the coordinator has told all stages.
                    let _ = closed.await;
                    let _ = failed.send(released(id, attempt)).await;
                }
            }
        });
    }

    fn arrived(&mut self, arrival: Arrival) {
        let Some(arrival) = self.measurements.arrived(arrival) else {
            return;
        };
        let purpose = arrival.hello.purpose;
        let name = arrival.connection.peer_name().to_owned();
        let expected = |awaited: &mut Awaited| awaited.purpose == purpose && awaited.name == name;
        let job = self.job.as_mut();
        if let Some(awaited) = job.and_then(|job| job.previous.take_if(expected)) {
            // The meeting may have been given up meanwhile.
            let _ = awaited.found.send(arrival);
        } else if let Some(oldest) = self.early.keep(&name, purpose, arrival) {
            tracing::warn!(
                "{oldest} was turned away: {EARLY_PEERS} others have connected early since"
            );
        }
    }

    fn start(&mut self, id: JobId, attempt: Attempt) {
        let job = self
            .job
            .as_mut()
            .filter(|job| (job.id, job.attempt) == (id, attempt));
        if let Some(start) = job.and_then(|job| job.start.take()) {
            // A stage that failed meanwhile has said so itself.
            let _ = start.send(());
        }
    }

    fn release(&mut self, id: JobId, attempt: Attempt) {
        if let Some(job) = self
            .job
            .take_if(|job| (job.id, job.attempt) == (id, attempt))
        {
            job.cancelled.store(true, Ordering::Relaxed);
        }
        self.early.forget(|purpose| {
            matches!(purpose, Purpose::Stage { job, attempt: of, .. } if (job, of) == (id, attempt))
        });
    }
}

/// What a stage of the prepared one's job says it is there for.
fn stage_purpose(prepare: &Prepare, stage: StageIndex) -> Purpose {
    Purpose::Stage {
        job: prepare.id,
        attempt: prepare.attempt,
        stage,
    }
}

fn released(job: JobId, attempt: Attempt) -> FromWorker {
    FromWorker::Released {
        job,
        attempt,
        weights: Vec::new(),
    }
}
