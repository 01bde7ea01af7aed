//! The workers of a run: started or awaited, welcomed, supervised, ended.

mod assembly;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bace_api::{
    COORDINATOR_NAME, ComputeRung, DeviceLease, FromWorker, LinkChange, MemoryPhase, NetworkRung,
    Record, ToWorker, WorkerId,
};
use bace_engine::Scenario;
use bace_lease::LeaseTable;
use bace_netem::{BitRate, ClockEstimate, Delay, LinkId, LinkSpec, LinkState, RegionId, TimeScale};
use bace_socket::{Connection, Endpoint, PeerClock, Profile, RunAuthority, host_id, now_ns};
use bace_stage::HostTables;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::devices::WorkerDevice;
use super::gather::{Gathered, Gathering};
use super::hosts::{HostIndex, Hosts};
use super::interrupts::Interrupts;
use super::join::admit;
use super::kernel::RunNetwork;
use super::memory;
use super::process;
use super::recorder::Recorder;

pub use assembly::Assembly;

/// What workers may have said without the driver having looked: some seconds of the fastest iterations.
const EVENTS: usize = 4096;
/// Longest wait for started workers to join and to load libtorch and the text, all on one slow disk.
pub const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// What the ledger calls the coordinator's clock.
const AGAINST_COORDINATOR: &str = "coordinator";
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
    /// Devices, used in turn; none where nothing is computed.
    pub devices: Vec<WorkerDevice>,
    /// Who takes the time of compute.
    pub compute: ComputeRung,
    /// Who takes the time of transfers.
    pub network: NetworkRung,
    /// The namespaces that workers belong in, where the kernel shapes their links.
    pub kernel: Option<RunNetwork>,
    /// Training text; absent for the workers' default.
    pub text: Option<PathBuf>,
    /// Workers that may compute on one device at a time; absent for each device's own number.
    pub lease: Option<u32>,
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
    /// Its clock, where that is another than the coordinator's.
    pub clock: Option<PeerClock>,
    commands: mpsc::Sender<ToWorker>,
    pub(super) connection: Connection,
}

/// What happens to a worker.
#[derive(Debug)]
pub enum Event {
    /// It said something.
    Said(WorkerId, Box<FromWorker>),
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
    hosts: Hosts,
    /// What the coordinator's host shares.
    tables: HostTables,
    clock_of: BTreeMap<LinkId, u32>,
    scale: TimeScale,
    /// Rates and delays at which links run now, in wall seconds.
    states: BTreeMap<LinkId, (BitRate, Delay)>,
    kernel: Option<RunNetwork>,
    /// Closing it turns late workers away.
    endpoint: Arc<Endpoint>,
    supervisors: JoinSet<()>,
    /// Those that this program has started.
    processes: BTreeMap<WorkerId, process::StartedProcess>,
    kill: process::KillSwitch,
}

impl Worker {
    /// Turns readings of the worker's clock into the coordinator's that are equally far apart: all by the offset that is known
    /// now.
    pub fn to_own(&self) -> impl Fn(u64) -> u64 + use<> {
        let estimate = self.clock.as_ref().map(PeerClock::estimate);
        move |their_ns| estimate.map_or(their_ns, |estimate| estimate.to_own(their_ns))
    }

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
        let links = plan.scenario.links.keys().copied();
        let (tables, memory) = HostTables::create(links.len(), seats.len())?;
        let (joined_tx, mut joined) = mpsc::channel(seats.len().max(1));
        tokio::spawn(admit(
            Arc::clone(&endpoint),
            seats.clone().into(),
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
            assembly.write_credentials(&plan, address)?;
        } else {
            assembly.start_processes(&plan, address)?;
        }
        let mut fleet = Self {
            workers: Vec::new(),
            events,
            text_hash: None,
            hosts: Hosts::new(Arc::clone(&plan.scenario), host_id()?, memory, plan.lease),
            tables,
            clock_of: links.zip(0..).collect(),
            scale: plan.scenario.compute.time_scale,
            states: BTreeMap::new(),
            kernel: plan.kernel,
            endpoint,
            supervisors: JoinSet::new(),
            processes: BTreeMap::new(),
            kill,
        };
        let receivers_hold = fleet.receivers_hold();
        let computes = plan.compute != ComputeRung::Modelled;
        let welcome = |worker, memory, lease, is_clock_probed| ToWorker::Welcome {
            worker,
            memory,
            lease: computes.then_some(lease),
            is_clock_probed,
            compute: plan.compute,
            network: plan.network,
            congestion: plan.scenario.network.congestion,
            receivers_hold,
            text: plan.text.clone(),
        };
        let deadline = (!plan.await_workers).then(|| Instant::now() + READY_TIMEOUT);
        let gathering = Gathering::new(&assembly, &mut fleet.hosts, welcome);
        let gathered = tokio::select! {
            gathered = gathering.all_ready(&mut joined, &mut fleet.events, deadline) => gathered,
            signal = interrupts.next() => Err(anyhow!("start the workers: {signal}")),
        };
        fleet.supervisors = assembly.supervisors;
        fleet.processes = assembly.processes;
        let begun = gathered.and_then(|gathered| fleet.begin(gathered, &plan.scenario, recorder));
        match begun {
            Ok(()) => Ok(fleet),
            Err(error) => {
                fleet.shut_down().await;
                Err(error)
            }
        }
    }

    /// Takes over workers that are ready, and gives the links their rates.
    fn begin(
        &mut self,
        gathered: Gathered,
        scenario: &Scenario,
        recorder: &mut Recorder,
    ) -> anyhow::Result<()> {
        self.workers = gathered.workers;
        self.text_hash = gathered.text_hash;
        let joined = gathered.devices.into_iter().zip(gathered.ready_after_s);
        for (worker, (device, ready_after_s)) in self.workers.iter().zip(joined) {
            let host = self.hosts.of(worker.seat.worker);
            recorder.add(Record::WorkerJoined {
                at_s: 0.0,
                worker: worker.seat.worker.certificate_name(),
                region: worker.seat.region_name.clone(),
                device,
                host: self.hosts.are_several().then(|| host.number()),
                ready_after_s,
            })?;
        }
        for record in self.memory(0.0, MemoryPhase::Ready) {
            recorder.add(record)?;
        }
        for record in self.clock_offsets(0.0) {
            recorder.add(record)?;
        }
        let links = scenario.links.iter();
        self.set_links(links.map(|(&link, spec)| (link, spec.rate, spec.delay)))
    }

    /// How the workers' clocks compare with the coordinator's where they are others.
    pub fn clock_offsets(&self, at_s: f64) -> Vec<Record> {
        let probed = self.workers.iter().filter_map(|worker| {
            let estimate = worker.clock.as_ref()?.estimate();
            let name = worker.seat.worker.certificate_name();
            Some(clock_record(
                at_s,
                name,
                AGAINST_COORDINATOR.to_owned(),
                estimate,
            ))
        });
        probed.collect()
    }

    /// The device of a worker on its host, and how many may compute on it at a time.
    pub fn lease_of(&self, worker: WorkerId) -> DeviceLease {
        self.hosts.lease_of(worker)
    }

    /// Leases of the coordinator's host, by worker.
    pub fn leases(&self) -> &LeaseTable {
        &self.tables.leases
    }

    /// Whether a worker is on the coordinator's host.
    pub fn is_here(&self, worker: WorkerId) -> bool {
        self.hosts.of(worker) == HostIndex::OWN
    }

    /// Numbers of the hosts that workers are on, the coordinator's left out.
    pub fn other_hosts(&self) -> BTreeSet<u32> {
        let hosts = self.workers.iter();
        let hosts = hosts.map(|worker| self.hosts.of(worker.seat.worker));
        hosts
            .filter(|host| *host != HostIndex::OWN)
            .map(HostIndex::number)
            .collect()
    }

    /// What the processes that this program has started hold in memory.
    pub fn memory(&self, at_s: f64, phase: MemoryPhase) -> Vec<Record> {
        let processes = self.processes.iter();
        processes
            .map(|(&worker, process)| memory::record(worker, process.id, (at_s, phase)))
            .collect()
    }

    /// Whether two workers are on different hosts.
    pub fn are_apart(&self, one: WorkerId, other: WorkerId) -> bool {
        self.hosts.of(one) != self.hosts.of(other)
    }

    /// What part of the rate of links from `region` is that of the host of `worker`, which stands for a GPU there.
    pub fn share_of(&self, worker: WorkerId, region: RegionId) -> f64 {
        self.hosts.share_of(worker, region)
    }

    /// A worker is gone. It computes no longer, whether or not somebody waits for its device. If it kept its host's link
    /// clocks, another does from now on, and is told what the first may have missed.
    pub fn lost(&mut self, worker: WorkerId) -> anyhow::Result<()> {
        if self.is_here(worker) {
            self.tables.leases.vacate_if_gone(worker.index());
        }
        if let Some(host) = self.hosts.lost(worker) {
            let mut elsewhere = BTreeMap::new();
            for (&link, &(rate, delay)) in &self.states {
                let shares = self.hosts.shares(link.from);
                if let Some((_, share)) = shares.into_iter().find(|(of, _)| *of == host) {
                    self.set_link_on(
                        host,
                        link,
                        share_of_rate(rate, share),
                        delay,
                        &mut elsewhere,
                    )?;
                }
            }
            self.tell_hosts(elsewhere);
        }
        Ok(())
    }

    /// The clock of a link in shared memory.
    pub fn clock_of(&self, link: LinkId) -> Option<u32> {
        self.clock_of.get(&link).copied()
    }

    /// Whether receivers hold what arrives for a link's delay, since the kernel shapes links and cannot delay.
    fn receivers_hold(&self) -> bool {
        let kernel = self.kernel.as_ref();
        kernel.is_some_and(|kernel| !kernel.delays())
    }

    /// Gives links other rates and delays, in emulated seconds, from now on, to each host that sends over one its share; what is under way keeps
    /// those it was sent with. A host is told of all in one message, however many there are.
    pub fn set_links(
        &mut self,
        changes: impl IntoIterator<Item = (LinkId, BitRate, Delay)>,
    ) -> anyhow::Result<()> {
        let mut elsewhere = BTreeMap::new();
        for (link, rate, delay) in changes {
            let (rate, delay) = (self.scale.wall_rate(rate), self.scale.wall_delay(delay));
            self.states.insert(link, (rate, delay));
            if let Some(kernel) = &mut self.kernel {
                kernel.change(link, rate, delay)?;
            }
            for (host, share) in self.hosts.shares(link.from) {
                self.set_link_on(
                    host,
                    link,
                    share_of_rate(rate, share),
                    delay,
                    &mut elsewhere,
                )?;
            }
        }
        self.tell_hosts(elsewhere);
        Ok(())
    }

    fn tell_hosts(&self, elsewhere: ChangesElsewhere) {
        for (host, changes) in elsewhere {
            if let Some(keeper) = self.hosts.keeper(host) {
                self.workers[keeper.index()].tell(ToWorker::SetLinks(changes));
            }
        }
    }

    /// Changes a clock of the own host at once; what another has to change is added to `elsewhere`.
    fn set_link_on(
        &self,
        host: HostIndex,
        link: LinkId,
        rate: BitRate,
        delay: Delay,
        elsewhere: &mut ChangesElsewhere,
    ) -> anyhow::Result<()> {
        let Some(clock) = self.clock_of(link) else {
            return Ok(());
        };
        if host == HostIndex::OWN {
            let state = LinkState {
                bits_per_second: rate.whole_bps(),
                delay_ns: delay.nanos(),
            };
            let cell = self.tables.clocks.cell(clock as usize)?;
            cell.set(state, now_ns());
        } else {
            let change = LinkChange { clock, rate, delay };
            elsewhere.entry(host).or_default().push(change);
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

/// What each other host has to change.
type ChangesElsewhere = BTreeMap<HostIndex, Vec<LinkChange>>;

/// A link as a host has it that sends over a share of its rate.
pub fn part_of(mut spec: LinkSpec, share: f64) -> LinkSpec {
    spec.rate = share_of_rate(spec.rate, share);
    spec
}

fn share_of_rate(rate: BitRate, share: f64) -> BitRate {
    BitRate::from_bps(rate.bps() * share).expect("a share of a rate is a rate")
}

/// How the clock of `worker` compares with that of `against`, for the ledger.
pub fn clock_record(at_s: f64, worker: String, against: String, estimate: ClockEstimate) -> Record {
    Record::ClockOffset {
        at_s,
        worker,
        against,
        offset_s: estimate.offset_ns as f64 / 1e9,
        uncertainty_s: estimate.uncertainty_ns as f64 / 1e9,
        latency_s: estimate.latency_ns as f64 / 1e9,
    }
}
