//! The workers of a run: started or awaited, welcomed, supervised, ended.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bace_api::{
    COORDINATOR_NAME, ComputeRung, FromWorker, NetworkRung, Record, ToWorker, WorkerId,
};
use bace_engine::Scenario;
use bace_netem::{BitRate, Delay, LinkId, LinkState, RegionId};
use bace_socket::{CellTable, Connection, Endpoint, Profile, RunAuthority, host_id, now_ns};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::driver::Interrupts;
use super::join::{Joined, admit};
use super::process::{self, WorkerProcess};
use super::recorder::Recorder;
use super::wire;

/// What workers may have said without the driver having looked: some seconds of the fastest iterations.
const EVENTS: usize = 4096;
/// Longest wait for started workers to join and to load libtorch and the text, all on one slow disk.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest wait for workers to end by themselves.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// What to assemble.
#[derive(Debug)]
pub struct FleetPlan {
    /// One worker for each of its GPUs.
    pub scenario: Arc<Scenario>,
    /// The run's folder.
    pub dir: PathBuf,
    /// Whether people start the workers.
    pub await_workers: bool,
    /// Devices, used in turn.
    pub devices: Vec<String>,
    /// Who takes the time of compute.
    pub compute: ComputeRung,
    /// Who takes the time of transfers.
    pub network: NetworkRung,
    /// Training text; absent for the workers' default.
    pub text: Option<PathBuf>,
}

/// Where workers join.
#[derive(Debug)]
pub struct Door {
    authority: RunAuthority,
    /// Closing it turns late workers away.
    endpoint: Arc<Endpoint>,
}

impl Door {
    /// Listens at `address` for workers with this run's credentials. Within a tokio runtime only.
    pub fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let authority = RunAuthority::new()?;
        let credentials = authority.issue(COORDINATOR_NAME)?;
        let endpoint = Endpoint::bind(address, &credentials, Profile::control())
            .context("listen for workers")?;
        Ok(Self {
            authority,
            endpoint: Arc::new(endpoint),
        })
    }
}

/// A place that one worker fills.
#[derive(Debug, Clone)]
pub struct Seat {
    /// The worker.
    pub worker: WorkerId,
    /// Where its emulated GPU stands.
    pub region: RegionId,
    /// The region's name.
    pub region_name: String,
}

/// A worker that has joined.
#[derive(Debug)]
pub struct Worker {
    /// Its place.
    pub seat: Seat,
    /// Where it listens for neighbours.
    pub address: SocketAddr,
    commands: mpsc::Sender<ToWorker>,
    connection: Connection,
}

/// What happens to a worker.
#[derive(Debug)]
pub enum Event {
    /// It said something.
    Said(WorkerId, FromWorker),
    /// It is gone, and why.
    Lost(WorkerId, String),
}

/// All workers of a run, ready to be given stages.
#[derive(Debug)]
pub struct Fleet {
    /// By [`WorkerId`].
    pub workers: Vec<Worker>,
    /// What they say.
    pub events: mpsc::Receiver<Event>,
    /// Hash of the training text, the same for all; absent where nothing is computed.
    pub text_hash: Option<String>,
    clocks: Option<CellTable>,
    clock_of: BTreeMap<LinkId, u32>,
    /// Closing it turns late workers away.
    endpoint: Arc<Endpoint>,
    supervisors: JoinSet<()>,
    kill: process::KillSwitch,
}

impl Worker {
    /// Says `command`; a worker that is gone is told of by its event.
    pub fn tell(&self, command: ToWorker) {
        if let Err(mpsc::error::TrySendError::Full(command)) = self.commands.try_send(command) {
            // A worker is told a handful of things a job; a full queue means that it reads nothing any more. Its loss is
            // told of as any other.
            tracing::warn!(
                "{} does not read; given up at {command:?}",
                self.seat.worker.certificate_name()
            );
            self.connection.close("it does not read");
        }
    }
}

impl Fleet {
    /// Starts or awaits a worker for each emulated GPU until all are ready.
    pub async fn assemble(
        plan: FleetPlan,
        door: Door,
        recorder: &mut Recorder,
        interrupts: &mut Interrupts,
    ) -> anyhow::Result<Self> {
        let seats = seats(&plan.scenario);
        let Door {
            authority,
            endpoint,
        } = door;
        let (clocks, clocks_path, clock_of) = link_clocks(&plan.scenario)?;
        let (joined_tx, mut joined) = mpsc::channel(seats.len().max(1));
        tokio::spawn(admit(
            Arc::clone(&endpoint),
            seats.clone().into(),
            host_id()?.into(),
            joined_tx,
        ));
        let (events_tx, events) = mpsc::channel(EVENTS);
        let kill = process::KillSwitch::default();
        let mut assembly = Assembly {
            seats,
            authority,
            events_tx,
            supervisors: JoinSet::new(),
            processes: BTreeMap::new(),
            kill: kill.clone(),
        };
        let address = endpoint.local_addr()?;
        if plan.await_workers {
            assembly.write_credentials(&plan.dir, address)?;
        } else {
            assembly.start_processes(&plan, address)?;
        }
        let mut fleet = Self {
            workers: Vec::new(),
            events,
            text_hash: None,
            clocks,
            clock_of,
            endpoint,
            supervisors: JoinSet::new(),
            kill,
        };
        let welcome = |worker| ToWorker::Welcome {
            worker,
            link_clocks: clocks_path.clone(),
            compute: plan.compute,
            network: plan.network,
            congestion: plan.scenario.network.congestion,
            text: plan.text.clone(),
        };
        let deadline = (!plan.await_workers).then(|| Instant::now() + READY_TIMEOUT);
        let gathered = tokio::select! {
            gathered = fleet.gather(&mut assembly, &mut joined, welcome, deadline) => gathered,
            signal = interrupts.next() => Err(anyhow!("start the workers: {signal}")),
        };
        fleet.supervisors = assembly.supervisors;
        match gathered {
            Ok(devices) => {
                for (worker, device) in fleet.workers.iter().zip(devices) {
                    recorder.add(Record::WorkerJoined {
                        at_s: 0.0,
                        worker: worker.seat.worker.certificate_name(),
                        region: worker.seat.region_name.clone(),
                        device,
                    })?;
                }
                Ok(fleet)
            }
            Err(error) => {
                fleet.shut_down().await;
                Err(error)
            }
        }
    }

    /// Waits until every seat is filled and ready; the devices in worker order.
    async fn gather(
        &mut self,
        assembly: &mut Assembly,
        joined: &mut mpsc::Receiver<Joined>,
        welcome: impl Fn(WorkerId) -> ToWorker,
        deadline: Option<Instant>,
    ) -> anyhow::Result<Vec<String>> {
        let mut devices = BTreeMap::new();
        let mut workers = BTreeMap::new();
        let mut hashes = BTreeMap::new();
        while hashes.len() < assembly.seats.len() {
            let next = async {
                tokio::select! {
                    Some(joined) = joined.recv() => Ok(joined),
                    Some(event) = self.events.recv() => Err(event),
                }
            };
            let next = match deadline {
                Some(deadline) => timeout_at(deadline, next).await.map_err(|_| {
                    let (ready, all) = (hashes.len(), assembly.seats.len());
                    anyhow!(
                        "start the workers: only {ready} of {all} were ready after {} s",
                        READY_TIMEOUT.as_secs()
                    )
                })?,
                None => next.await,
            };
            match next {
                Ok(one) if workers.contains_key(&one.worker) => {
                    let reason = format!("{} has joined already", one.worker.certificate_name());
                    tokio::spawn(async move { one.refuse(&reason).await });
                }
                Ok(one) => {
                    devices.insert(one.worker, one.device.clone());
                    let (id, worker) = assembly.seat(one);
                    worker.tell(welcome(id));
                    workers.insert(id, worker);
                }
                Err(Event::Said(worker, FromWorker::Ready { text_hash })) => {
                    hashes.insert(worker, text_hash);
                }
                Err(Event::Said(worker, FromWorker::Unfit { reason })) => {
                    bail!(
                        "use worker {}: failed to {reason}",
                        worker.certificate_name()
                    );
                }
                Err(Event::Said(worker, other)) => {
                    bail!(
                        "understand {}: it said {other:?} before it was ready",
                        worker.certificate_name()
                    );
                }
                Err(Event::Lost(worker, reason)) => {
                    bail!("use worker {}: {reason}", worker.certificate_name())
                }
            }
        }
        self.text_hash = same_text(&hashes)?;
        self.workers = workers.into_values().collect();
        Ok(devices.into_values().collect())
    }

    /// The clock of a link in shared memory.
    pub fn clock_of(&self, link: LinkId) -> Option<u32> {
        self.clock_of.get(&link).copied()
    }

    /// Gives a link another rate and delay from now on; what is under way keeps those it was sent with.
    pub fn set_link(&self, link: LinkId, rate: BitRate, delay: Delay) -> anyhow::Result<()> {
        if let (Some(clocks), Some(index)) = (&self.clocks, self.clock_of(link)) {
            let state = LinkState {
                bits_per_second: rate.whole_bps(),
                delay_ns: delay.nanos(),
            };
            clocks.cell(index as usize)?.set(state, now_ns());
        }
        Ok(())
    }

    /// Ends all workers and waits until their processes are gone.
    pub async fn shut_down(mut self) {
        for worker in &self.workers {
            worker.tell(ToWorker::Shutdown);
        }
        if self.workers.is_empty() || timeout(SHUTDOWN_TIMEOUT, self.all_gone()).await.is_err() {
            self.kill.throw();
            // Nobody waits for a place in the queue any more.
            self.events.close();
        }
        while self.supervisors.join_next().await.is_some() {}
        // The others notice a silent coordinator by themselves.
        let _ = timeout(SHUTDOWN_TIMEOUT, self.endpoint.close("the run has ended")).await;
    }

    /// Waits until all connections and processes have ended; what workers still say matters no more.
    async fn all_gone(&mut self) {
        while self.events.recv().await.is_some() {}
    }
}

/// A word as a shell reads it.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    if text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// One seat for each emulated GPU, region by region.
fn seats(scenario: &Scenario) -> Vec<Seat> {
    let regions = (0..).map(RegionId::new).zip(&scenario.regions);
    regions
        .flat_map(|(id, region)| std::iter::repeat_n((id, region), region.gpus as usize))
        .zip((0..).map(WorkerId))
        .map(|((region_id, region), worker)| Seat {
            worker,
            region: region_id,
            region_name: region.name.clone(),
        })
        .collect()
}

type LinkClocks = (Option<CellTable>, Option<PathBuf>, BTreeMap<LinkId, u32>);

/// One clock for each directed link between regions, running at the link's rate.
fn link_clocks(scenario: &Scenario) -> anyhow::Result<LinkClocks> {
    if scenario.links.is_empty() {
        return Ok((None, None, BTreeMap::new()));
    }
    let (clocks, path) = CellTable::create(scenario.links.len())?;
    let mut clock_of = BTreeMap::new();
    for ((&link, spec), index) in scenario.links.iter().zip(0u32..) {
        clocks.cell(index as usize)?.set(spec.into(), now_ns());
        clock_of.insert(link, index);
    }
    Ok((Some(clocks), Some(path), clock_of))
}

/// All workers have to train on the same text.
fn same_text(hashes: &BTreeMap<WorkerId, Option<String>>) -> anyhow::Result<Option<String>> {
    let Some((first, hash)) = hashes.first_key_value() else {
        return Ok(None);
    };
    if let Some((other, _)) = hashes.iter().find(|(_, other)| *other != hash) {
        bail!(
            "train on one text: {} and {} have read different texts; give all workers the same --data",
            first.certificate_name(),
            other.certificate_name()
        );
    }
    Ok(hash.clone())
}

/// Workers on their way into a fleet.
struct Assembly {
    seats: Vec<Seat>,
    authority: RunAuthority,
    events_tx: mpsc::Sender<Event>,
    supervisors: JoinSet<()>,
    /// Tells a started process's supervisor that its connection has ended.
    processes: BTreeMap<WorkerId, process::ConnectionEnded>,
    kill: process::KillSwitch,
}

impl Assembly {
    fn start_processes(&mut self, plan: &FleetPlan, address: SocketAddr) -> anyhow::Result<()> {
        let program = super::preflight::worker_program()?;
        let logs = plan.dir.join("workers");
        std::fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
        for (seat, device) in self.seats.iter().zip(plan.devices.iter().cycle()) {
            let name = seat.worker.certificate_name();
            let process = WorkerProcess {
                program: &program,
                coordinator: address,
                region: &seat.region_name,
                device,
                credentials: serde_json::to_string(&self.authority.issue(&name)?)
                    .context("write a worker's credentials")?,
                log: logs.join(format!("w{}.log", seat.worker)),
            };
            let (connection_ended, supervisor) = process.start(&self.kill)?;
            self.processes.insert(seat.worker, connection_ended);
            let (events, worker) = (self.events_tx.clone(), seat.worker);
            self.supervisors.spawn(async move {
                let reason = supervisor.watch().await;
                // Without a driver nobody needs to know.
                let _ = events.send(Event::Lost(worker, reason)).await;
            });
        }
        Ok(())
    }

    /// Writes what people need to start the workers, and says how.
    fn write_credentials(&self, dir: &Path, address: SocketAddr) -> anyhow::Result<()> {
        let folder = std::path::absolute(dir.join("credentials"))
            .with_context(|| format!("find {}", dir.display()))?;
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        // People may bring a program of their own.
        let program = super::preflight::worker_program().map_or_else(
            |_| "bace-worker".to_owned(),
            |program| program.display().to_string(),
        );
        let mut commands = String::new();
        for seat in &self.seats {
            let credentials = self.authority.issue(&seat.worker.certificate_name())?;
            let path = folder.join(format!("w{}.json", seat.worker));
            process::write_secret(
                &path,
                &serde_json::to_string(&credentials).context("write credentials")?,
            )?;
            writeln!(
                commands,
                "  {} --join {address} --region={} --credentials {}",
                shell_word(&program),
                shell_word(&seat.region_name),
                shell_word(&path.display().to_string())
            )
            .expect("a string takes all that is written");
        }
        eprint!(
            "waiting for {} workers; start each of these:\n{commands}",
            self.seats.len()
        );
        Ok(())
    }

    /// Connects a worker's streams to the fleet.
    fn seat(&self, joined: Joined) -> (WorkerId, Worker) {
        let id = joined.worker;
        let seat = self.seats[id.index()].clone();
        let connection_ended = self.processes.get(&id).cloned();
        let (events, connection) = (self.events_tx.clone(), joined.connection);
        let kept = connection.clone();
        let reader = joined.reader;
        tokio::spawn(async move {
            let reason = wire::read(id, reader, &events).await;
            connection.close("the connection was given up");
            match connection_ended {
                // How the process ended says more; its supervisor tells.
                Some(ended) => ended.notify_one(),
                None => drop(events.send(Event::Lost(id, reason)).await),
            }
        });
        let commands = wire::writer(id, joined.writer, kept.clone());
        (
            id,
            Worker {
                seat,
                address: joined.address,
                commands,
                connection: kept,
            },
        )
    }
}
