//! Which host each worker runs on, where the memory is that its workers share, and who keeps the link clocks in it.
//!
//! Senders on one directed link share its clock in memory, and so all workers of a region have to be on one host: which one
//! follows from where they join. A region may be spread over hosts if the scenario splits its links into stated shares,
//! `host_shares`: each host then has clocks of its own at its share of the rates.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use bace_api::{DeviceLease, HostMemory, WorkerDevice, WorkerId};
use bace_engine::Scenario;
use bace_netem::RegionId;

use super::fleet::Seat;

/// A host of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostIndex(usize);

impl HostIndex {
    /// The coordinator's.
    pub const OWN: Self = Self(0);

    /// How people number it; the coordinator's is 0.
    pub fn number(self) -> u32 {
        u32::try_from(self.0).expect("there are at most as many hosts as workers")
    }
}

/// The hosts on which a run's workers are.
#[derive(Debug)]
pub struct Hosts {
    scenario: Arc<Scenario>,
    hosts: Vec<Host>,
    places: BTreeMap<WorkerId, Place>,
    /// Those that were not yet told where their host's memory is.
    unwelcomed: BTreeSet<WorkerId>,
    /// Workers of the run.
    seats: u32,
    /// Workers that may compute on one device at a time; absent for each device's own number.
    slots: Option<u32>,
}

#[derive(Debug)]
struct Host {
    id: String,
    memory: Memory,
    /// What its workers compute on, in the order in which they told.
    devices: Vec<WorkerDevice>,
    /// Workers whose process is not known to be gone.
    alive: BTreeSet<WorkerId>,
}

/// Where the memory is that a host's workers share.
#[derive(Debug)]
enum Memory {
    /// No worker was asked yet to make it.
    Missing,
    /// A worker was asked to make it.
    Ordered(WorkerId),
    /// Here.
    At(PathBuf),
}

/// Where one worker is.
#[derive(Debug, Clone)]
struct Place {
    host: HostIndex,
    region: RegionId,
    address: SocketAddr,
    /// Index of its device among the host's.
    device: usize,
}

impl Hosts {
    /// The coordinator's host alone, whose memory is at `own_memory`. `slots` workers may compute on one device at a time, or
    /// as many as the device serves.
    pub fn new(
        scenario: Arc<Scenario>,
        own_id: String,
        own_memory: PathBuf,
        slots: Option<u32>,
    ) -> Self {
        let own = Host {
            id: own_id,
            memory: Memory::At(own_memory),
            devices: Vec::new(),
            alive: BTreeSet::new(),
        };
        let seats = scenario.regions.iter().map(|region| region.gpus).sum();
        Self {
            scenario,
            hosts: vec![own],
            places: BTreeMap::new(),
            unwelcomed: BTreeSet::new(),
            seats,
            slots,
        }
    }

    /// Takes a worker in that joined from the host of this id, listens at `address` and computes on `device`; the error says
    /// why it cannot take part from there.
    pub fn admit(
        &mut self,
        seat: &Seat,
        id: &str,
        address: SocketAddr,
        device: &WorkerDevice,
    ) -> Result<HostIndex, String> {
        let known = self.hosts.iter().position(|host| host.id == id);
        let host = HostIndex(known.unwrap_or(self.hosts.len()));
        self.check_region(seat, host)?;
        self.check_reach(host, address)?;
        if known.is_none() {
            self.hosts.push(Host {
                id: id.to_owned(),
                memory: Memory::Missing,
                devices: Vec::new(),
                alive: BTreeSet::new(),
            });
        }
        let of = &mut self.hosts[host.0];
        of.alive.insert(seat.worker);
        let same = |known: &WorkerDevice| known.name == device.name;
        let device = of.devices.iter().position(same).unwrap_or_else(|| {
            of.devices.push(device.clone());
            of.devices.len() - 1
        });
        self.unwelcomed.insert(seat.worker);
        let region = seat.region;
        self.places.insert(
            seat.worker,
            Place {
                host,
                region,
                address,
                device,
            },
        );
        Ok(host)
    }

    /// A region has no more hosts than shares.
    fn check_region(&self, seat: &Seat, host: HostIndex) -> Result<(), String> {
        let hosts = self.hosts_of(seat.region);
        let region = &self.scenario.regions[seat.region.index()];
        if hosts.contains(&host) || hosts.len() < region.host_shares.len().max(1) {
            return Ok(());
        }
        let name = &region.name;
        Err(if region.host_shares.is_empty() {
            let first = self
                .places
                .iter()
                .find(|(_, place)| place.region == seat.region);
            let first = first.map(|(worker, place)| {
                format!(" ({} at {})", worker.certificate_name(), place.address.ip())
            });
            format!(
                "the workers of region {name} are on another host{}: all of a region have to be on one, since they share the clocks of its links; start it there, or split the links with `host_shares` in the scenario's region",
                first.unwrap_or_default()
            )
        } else {
            format!(
                "region {name} is on {} hosts already, as many as it has `host_shares`; start it on one of them",
                hosts.len()
            )
        })
    }

    /// A neighbour on another host cannot reach a loopback address.
    fn check_reach(&self, host: HostIndex, address: SocketAddr) -> Result<(), String> {
        let is_local = |address: SocketAddr| address.ip().to_canonical().is_loopback();
        let mut elsewhere = self.places.iter().filter(|(_, place)| place.host != host);
        let unreachable = elsewhere.find(|(_, place)| is_local(place.address) || is_local(address));
        match unreachable {
            None => Ok(()),
            Some((worker, place)) => Err(format!(
                "it listens at {} and {} on another host at {}: workers of several hosts need addresses that all of them reach, so --listen and --join have to name one that is no loopback",
                address.ip(),
                worker.certificate_name(),
                place.address.ip()
            )),
        }
    }

    /// Workers that can be welcomed now, and what they are told of their host's memory.
    pub fn take_welcomes(&mut self) -> Vec<(WorkerId, HostMemory)> {
        let seats = self.seats;
        let links = u32::try_from(self.scenario.links.len()).expect("links are counted in 32 bits");
        let mut welcomes = Vec::new();
        for worker in std::mem::take(&mut self.unwelcomed) {
            let host = &mut self.hosts[self.places[&worker].host.0];
            match &host.memory {
                Memory::At(path) => welcomes.push((worker, HostMemory::At(path.clone()))),
                Memory::Missing => {
                    host.memory = Memory::Ordered(worker);
                    welcomes.push((worker, HostMemory::Make { links, seats }));
                }
                Memory::Ordered(_) => {
                    self.unwelcomed.insert(worker);
                }
            }
        }
        welcomes
    }

    /// The device of a worker, in whose order it waits for its turn.
    pub fn lease_of(&self, worker: WorkerId) -> DeviceLease {
        let place = &self.places[&worker];
        let device = &self.hosts[place.host.0].devices[place.device];
        DeviceLease {
            device: u32::try_from(place.device).expect("there are at most as many as workers"),
            name: device.name.clone(),
            slots: self.slots.unwrap_or(device.slots).max(1),
        }
    }

    /// A worker has made its host's memory; whether it was asked to.
    pub fn memory_made(&mut self, worker: WorkerId, path: PathBuf) -> bool {
        let Some(place) = self.places.get(&worker) else {
            return false;
        };
        let host = &mut self.hosts[place.host.0];
        let is_asked = matches!(host.memory, Memory::Ordered(maker) if maker == worker);
        if is_asked {
            host.memory = Memory::At(path);
        }
        is_asked
    }

    /// Whether all shares of every region that is spread over hosts have found a host, once all workers are here.
    pub fn check_shares(&self) -> anyhow::Result<()> {
        for (region, index) in self.scenario.regions.iter().zip((0..).map(RegionId::new)) {
            let hosts = self.hosts_of(index).len();
            let shares = region.host_shares.len();
            if hosts > 1 && hosts != shares {
                bail!(
                    "split the links of region {}: its workers are on {hosts} hosts and its `host_shares` are {shares}; give as many as there are hosts",
                    region.name
                );
            }
        }
        Ok(())
    }

    /// The host of a worker.
    pub fn of(&self, worker: WorkerId) -> HostIndex {
        self.places[&worker].host
    }

    /// Whether workers are on more hosts than the coordinator's.
    pub fn are_several(&self) -> bool {
        self.hosts.len() > 1
    }

    /// The hosts of a region and what part of the rate of each of its links is theirs. The first share goes to the host of
    /// the region's first worker, and so on.
    pub fn shares(&self, region: RegionId) -> Vec<(HostIndex, f64)> {
        let hosts = self.hosts_of(region);
        let shares = &self.scenario.regions[region.index()].host_shares;
        match hosts.as_slice() {
            [host] => vec![(*host, 1.0)],
            _ => hosts.into_iter().zip(shares.iter().copied()).collect(),
        }
    }

    /// What part of a link's rate `worker` and those on its host have when they send from `region`.
    pub fn share_of(&self, worker: WorkerId, region: RegionId) -> f64 {
        let host = self.of(worker);
        let shares = self.shares(region);
        let own = shares.iter().find(|(of, _)| *of == host);
        own.expect("a worker's host is one of its region's").1
    }

    /// Who changes the link clocks on another host: the first that is alive there.
    pub fn keeper(&self, host: HostIndex) -> Option<WorkerId> {
        self.hosts[host.0].alive.first().copied()
    }

    /// A worker is gone; its host, if it has kept the link clocks there and another does now.
    pub fn lost(&mut self, worker: WorkerId) -> Option<HostIndex> {
        let host = self.of(worker);
        let was_keeper = self.keeper(host) == Some(worker);
        self.hosts[host.0].alive.remove(&worker);
        (was_keeper && host != HostIndex::OWN && self.keeper(host).is_some()).then_some(host)
    }

    /// The hosts of a region, in the order of its workers.
    fn hosts_of(&self, region: RegionId) -> Vec<HostIndex> {
        let mut hosts = Vec::new();
        for place in self.places.values().filter(|place| place.region == region) {
            if !hosts.contains(&place.host) {
                hosts.push(place.host);
            }
        }
        hosts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(host_shares: &str) -> Arc<Scenario> {
        let text = format!(
            r#"
name = "hosts"
[[region]]
name = "east"
gpus = 4
gpu = "a6000"
price_usd_per_kwh = 0.1
{host_shares}
[[region]]
name = "west"
gpus = 1
gpu = "a6000"
price_usd_per_kwh = 0.1
[[link]]
between = ["east", "west"]
bandwidth_mbps = 100
one_way_delay_ms = 10
[[job]]
name = "only"
model = "gpt2"
arrival_s = 0
iterations = 1
micro_batches = 2
micro_batch = 1
sequence = 32
"#
        );
        let parsed = Scenario::parse(&text, "hosts", &|_| unreachable!("no file named"));
        Arc::new(parsed.unwrap())
    }

    fn seat(worker: u32) -> Seat {
        let region = u16::from(worker == 4);
        Seat {
            worker: WorkerId(worker),
            region: RegionId::new(region),
            region_name: ["east", "west"][usize::from(region)].to_owned(),
        }
    }

    fn hosts(host_shares: &str) -> Hosts {
        let path = PathBuf::from("own");
        Hosts::new(scenario(host_shares), "a".to_owned(), path, None)
    }

    /// Lets a worker join from the host `id`, whose address follows from it.
    fn join(hosts: &mut Hosts, worker: u32, id: &str) -> Result<HostIndex, String> {
        let last = id.as_bytes()[0];
        let address = SocketAddr::from(([10, 0, 0, last], 9));
        hosts.admit(&seat(worker), id, address, &cpu())
    }

    fn cpu() -> WorkerDevice {
        WorkerDevice {
            name: "cpu".to_owned(),
            words: "cpu".to_owned(),
            slots: 4,
        }
    }

    #[test]
    fn a_region_spread_over_hosts_is_refused_unless_its_links_are_split() {
        let mut hosts = self::hosts("");
        assert_eq!(join(&mut hosts, 0, "a"), Ok(HostIndex::OWN));
        assert_eq!(join(&mut hosts, 4, "b"), Ok(HostIndex(1)));
        let refused = join(&mut hosts, 1, "b").unwrap_err();
        assert!(
            refused.contains("region east are on another host (w0.run.local at 10.0.0.97)"),
            "{refused}"
        );
        assert!(refused.contains("`host_shares`"), "{refused}");
        assert_eq!(join(&mut hosts, 1, "a"), Ok(HostIndex::OWN));
        assert_eq!(hosts.shares(RegionId::new(0)), [(HostIndex::OWN, 1.0)]);
        assert_eq!(hosts.shares(RegionId::new(1)), [(HostIndex(1), 1.0)]);
        hosts.check_shares().unwrap();
    }

    #[test]
    fn shares_go_to_hosts_in_the_order_of_the_regions_workers() {
        let mut hosts = self::hosts("host_shares = [0.75, 0.25]");
        assert_eq!(join(&mut hosts, 2, "c"), Ok(HostIndex(1)));
        assert_eq!(join(&mut hosts, 0, "b"), Ok(HostIndex(2)));
        let refused = join(&mut hosts, 1, "a").unwrap_err();
        assert!(refused.contains("is on 2 hosts already"), "{refused}");
        assert_eq!(join(&mut hosts, 3, "c"), Ok(HostIndex(1)));
        let east = RegionId::new(0);
        assert_eq!(
            hosts.shares(east),
            [(HostIndex(2), 0.75), (HostIndex(1), 0.25)]
        );
        assert_eq!(hosts.share_of(WorkerId(0), east), 0.75);
        assert_eq!(hosts.share_of(WorkerId(3), east), 0.25);
        hosts.check_shares().unwrap();
    }

    #[test]
    fn shares_without_a_host_are_told() {
        let mut hosts = self::hosts("host_shares = [0.5, 0.25, 0.25]");
        join(&mut hosts, 0, "a").unwrap();
        hosts.check_shares().unwrap();
        assert_eq!(hosts.share_of(WorkerId(0), RegionId::new(0)), 1.0);
        join(&mut hosts, 1, "b").unwrap();
        let error = hosts.check_shares().unwrap_err().to_string();
        assert!(
            error.contains("on 2 hosts and its `host_shares` are 3"),
            "{error}"
        );
    }

    #[test]
    fn the_first_on_another_host_makes_its_memory_and_the_others_wait_for_it() {
        let mut hosts = self::hosts("host_shares = [0.5, 0.5]");
        join(&mut hosts, 0, "a").unwrap();
        join(&mut hosts, 2, "b").unwrap();
        join(&mut hosts, 1, "b").unwrap();
        let own = HostMemory::At("own".into());
        assert_eq!(
            hosts.take_welcomes(),
            [
                (WorkerId(0), own),
                (WorkerId(1), HostMemory::Make { links: 2, seats: 5 })
            ]
        );
        assert_eq!(hosts.take_welcomes(), []);
        assert!(!hosts.memory_made(WorkerId(2), "elsewhere".into()));
        assert!(hosts.memory_made(WorkerId(1), "theirs".into()));
        assert!(!hosts.memory_made(WorkerId(1), "again".into()));
        join(&mut hosts, 4, "b").unwrap();
        let theirs = HostMemory::At("theirs".into());
        assert_eq!(
            hosts.take_welcomes(),
            [(WorkerId(2), theirs.clone()), (WorkerId(4), theirs)]
        );
    }

    #[test]
    fn workers_of_a_host_that_name_the_same_device_take_turns_on_it() {
        let address = SocketAddr::from(([10, 0, 0, 1], 9));
        let gpu = |index: u32| WorkerDevice {
            name: format!("GPU-{index}"),
            words: "one of many".to_owned(),
            slots: 1,
        };
        let shares = "host_shares = [0.5, 0.5]";
        for (slots, expected) in [(None, [1, 1, 4, 1]), (Some(3), [3; 4])] {
            let path = PathBuf::from("own");
            let mut hosts = Hosts::new(scenario(shares), "a".to_owned(), path, slots);
            let mut admit = |worker, id, device: &WorkerDevice| {
                hosts.admit(&seat(worker), id, address, device).unwrap();
            };
            admit(0, "a", &gpu(7));
            admit(1, "a", &gpu(8));
            admit(2, "a", &cpu());
            admit(3, "b", &gpu(8));
            let leases = [0, 1, 2, 3].map(|worker| hosts.lease_of(WorkerId(worker)));
            assert_eq!(leases.each_ref().map(|lease| lease.device), [0, 1, 2, 0]);
            assert_eq!(leases.each_ref().map(|lease| lease.slots), expected);
            assert_eq!(leases[3].name, "GPU-8");
            hosts.admit(&seat(4), "b", address, &gpu(8)).unwrap();
            assert_eq!(hosts.lease_of(WorkerId(4)), leases[3]);
        }
    }

    #[test]
    fn another_on_the_host_keeps_the_clocks_of_one_that_is_gone() {
        let mut hosts = self::hosts("host_shares = [0.5, 0.5]");
        for (worker, id) in [(0, "a"), (1, "b"), (2, "b"), (4, "b")] {
            join(&mut hosts, worker, id).unwrap();
        }
        let there = HostIndex(1);
        assert_eq!(hosts.keeper(there), Some(WorkerId(1)));
        assert_eq!(hosts.lost(WorkerId(2)), None);
        assert_eq!(hosts.lost(WorkerId(1)), Some(there));
        assert_eq!(hosts.keeper(there), Some(WorkerId(4)));
        assert_eq!(hosts.lost(WorkerId(4)), None);
        assert_eq!(hosts.keeper(there), None);
        // The coordinator keeps its own.
        assert_eq!(hosts.lost(WorkerId(0)), None);
        // Shares stay with the hosts that had them.
        assert_eq!(hosts.share_of(WorkerId(2), RegionId::new(0)), 0.5);
    }

    #[test]
    fn workers_of_several_hosts_do_not_listen_on_loopback() {
        let mut hosts = self::hosts("");
        let local = SocketAddr::from(([127, 0, 0, 1], 9));
        hosts.admit(&seat(0), "a", local, &cpu()).unwrap();
        hosts.admit(&seat(1), "a", local, &cpu()).unwrap();
        let refused = join(&mut hosts, 4, "b").unwrap_err();
        assert!(
            refused.contains("w0.run.local on another host at 127.0.0.1"),
            "{refused}"
        );
        let mut hosts = self::hosts("");
        join(&mut hosts, 4, "b").unwrap();
        let refused = hosts.admit(&seat(0), "a", local, &cpu()).unwrap_err();
        assert!(refused.contains("listens at 127.0.0.1"), "{refused}");
        assert!(!hosts.are_several() || hosts.of(WorkerId(4)) != HostIndex::OWN);
    }
}
