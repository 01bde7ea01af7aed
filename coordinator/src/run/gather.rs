//! Workers on their way into a fleet: from joining to being ready.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow, bail};
use bace_api::{DeviceLease, FromWorker, HEADER_LIMIT, HostMemory, ToWorker, WorkerId};
use bace_socket::{Connection, PeerClock, SocketError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::fleet::{Assembly, Event, READY_TIMEOUT, Worker};
use super::hosts::{HostIndex, Hosts};
use super::join::Joined;

/// What happens while workers gather.
enum Happening {
    Joined(Box<Joined>),
    Event(Event),
    Clock(WorkerId, Result<PeerClock, SocketError>),
}

/// Workers that have joined, and what each has still to do before all are ready.
pub struct Gathering<'a, W> {
    assembly: &'a Assembly,
    hosts: &'a mut Hosts,
    /// What a worker is told that is part of the run.
    welcome: W,
    workers: BTreeMap<WorkerId, Worker>,
    devices: BTreeMap<WorkerId, String>,
    /// Hashes of the text, of those that are ready.
    hashes: BTreeMap<WorkerId, Option<String>>,
    /// Seconds from the start of a process to its being ready, of those that this program has started.
    ready_after_s: BTreeMap<WorkerId, f64>,
    /// Clocks on other hosts that are being probed.
    probing: JoinSet<(WorkerId, Result<PeerClock, SocketError>)>,
}

/// All workers of a run, ready.
pub struct Gathered {
    /// In the order of their ids.
    pub workers: Vec<Worker>,
    /// What each computes on, in words.
    pub devices: Vec<String>,
    /// How long the process of each took to be ready, seconds; absent where people started it.
    pub ready_after_s: Vec<Option<f64>>,
    /// Hash of the training text, the same for all; absent where nothing is computed.
    pub text_hash: Option<String>,
}

impl<'a, W: Fn(WorkerId, HostMemory, DeviceLease, bool) -> ToWorker> Gathering<'a, W> {
    /// Nobody yet. `welcome` makes the welcome of a worker from its host's memory, its device and whether its clock is probed.
    pub fn new(assembly: &'a Assembly, hosts: &'a mut Hosts, welcome: W) -> Self {
        Self {
            assembly,
            hosts,
            welcome,
            workers: BTreeMap::new(),
            devices: BTreeMap::new(),
            hashes: BTreeMap::new(),
            ready_after_s: BTreeMap::new(),
            probing: JoinSet::new(),
        }
    }

    /// Waits until every seat is filled and ready.
    pub async fn all_ready(
        mut self,
        joined: &mut mpsc::Receiver<Joined>,
        events: &mut mpsc::Receiver<Event>,
        deadline: Option<Instant>,
    ) -> anyhow::Result<Gathered> {
        while !self.are_all_ready() {
            let next = async {
                tokio::select! {
                    Some(joined) = joined.recv() => Happening::Joined(Box::new(joined)),
                    Some(event) = events.recv() => Happening::Event(event),
                    Some(probed) = self.probing.join_next() => {
                        let (worker, clock) = probed.expect("probing neither panics nor is aborted");
                        Happening::Clock(worker, clock)
                    }
                }
            };
            let next = match deadline {
                Some(deadline) => timeout_at(deadline, next).await.map_err(|_| {
                    let (ready, all) = (self.hashes.len(), self.assembly.seats.len());
                    anyhow!(
                        "start the workers: only {ready} of {all} were ready after {} s",
                        READY_TIMEOUT.as_secs()
                    )
                })?,
                None => next.await,
            };
            match next {
                Happening::Joined(one) => self.join(*one),
                Happening::Event(Event::Said(worker, said)) => self.said(worker, *said)?,
                Happening::Event(Event::Lost(worker, reason)) => {
                    bail!("use worker {}: {reason}", worker.certificate_name())
                }
                Happening::Clock(worker, clock) => self.probed(worker, clock)?,
            }
        }
        self.hosts.check_shares()?;
        Ok(Gathered {
            text_hash: same_text(&self.hashes)?,
            ready_after_s: self
                .workers
                .keys()
                .map(|worker| self.ready_after_s.get(worker).copied())
                .collect(),
            workers: self.workers.into_values().collect(),
            devices: self.devices.into_values().collect(),
        })
    }

    fn are_all_ready(&self) -> bool {
        self.hashes.len() == self.assembly.seats.len() && self.probing.is_empty()
    }

    fn join(&mut self, one: Joined) {
        let refused = if self.workers.contains_key(&one.worker) {
            Err(format!(
                "{} has joined already",
                one.worker.certificate_name()
            ))
        } else {
            let seat = &self.assembly.seats[one.worker.index()];
            self.hosts
                .admit(seat, &one.host_id, one.address, &one.device)
        };
        match refused {
            Err(reason) => {
                tokio::spawn(async move { one.refuse(&reason).await });
            }
            Ok(host) => {
                self.devices.insert(one.worker, one.device.words.clone());
                let (id, worker) = self.assembly.seat(one);
                if host != HostIndex::OWN {
                    let connection = worker.connection.clone();
                    self.probing
                        .spawn(async move { (id, probe(connection).await) });
                }
                self.workers.insert(id, worker);
                self.welcome_all();
            }
        }
    }

    /// Welcomes those whose host's memory is known.
    fn welcome_all(&mut self) {
        for (id, memory) in self.hosts.take_welcomes() {
            let is_elsewhere = self.hosts.of(id) != HostIndex::OWN;
            let lease = self.hosts.lease_of(id);
            self.workers[&id].tell((self.welcome)(id, memory, lease, is_elsewhere));
        }
    }

    fn said(&mut self, worker: WorkerId, said: FromWorker) -> anyhow::Result<()> {
        let name = worker.certificate_name();
        match said {
            FromWorker::Ready { text_hash } => {
                self.hashes.insert(worker, text_hash);
                if let Some(process) = self.assembly.processes.get(&worker) {
                    let after_s = process.started.elapsed().as_secs_f64();
                    self.ready_after_s.insert(worker, after_s);
                }
            }
            FromWorker::HostMemoryMade { path } if self.hosts.memory_made(worker, path.clone()) => {
                self.welcome_all();
            }
            FromWorker::Unfit { reason } => bail!("use worker {name}: failed to {reason}"),
            other => bail!("understand {name}: it said {other:?} before it was ready"),
        }
        Ok(())
    }

    fn probed(
        &mut self,
        worker: WorkerId,
        clock: Result<PeerClock, SocketError>,
    ) -> anyhow::Result<()> {
        let clock =
            clock.with_context(|| format!("probe the clock of {}", worker.certificate_name()))?;
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.clock = Some(clock);
        }
        Ok(())
    }
}

/// What the clock of a worker on another host shows; it answers once it is welcome.
async fn probe(connection: Connection) -> Result<PeerClock, SocketError> {
    let (writer, reader) = connection.open_messages(HEADER_LIMIT as u32).await?;
    PeerClock::ask(writer, reader).await
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
