//! A run whose links the kernel shapes: a network of namespaces of its own, gone when the run is.

use std::net::SocketAddr;

use anyhow::Context;
use bace_api::{KernelShaping, Record, ShapedBy};
use bace_engine::Scenario;
use bace_netem::{BitRate, Delay, Jitter, LinkId, LinkSpec, NetworkName, Owner, Place, RegionId};
use bace_socket::kernel::{self, Inside, KernelNetwork, Privilege};

use crate::cli::RunArgs;
use crate::netem::{plan_of, remove_of_the_dead};
use crate::wrong_input::WrongInput;

/// What a scenario's links are made of, and as whom.
#[derive(Debug)]
pub struct RunNetwork {
    network: KernelNetwork,
    privilege: Privilege,
}

impl RunNetwork {
    /// Refuses what this rung cannot do and makes sure that this process may make namespaces: where it may not, the
    /// program is started anew in a user namespace, and this does not return. To be called before anything is made.
    pub fn prepare(args: &RunArgs) -> anyhow::Result<Privilege> {
        if !args.listen.ip().is_loopback() {
            return Err(WrongInput::error(format!(
                "listen at {} with --network kernel: the coordinator is in a namespace of its own, which has another address; give a port alone, 127.0.0.1:PORT",
                args.listen
            )));
        }
        let privilege = kernel::obtain_privilege()?;
        if args.await_workers && privilege == Privilege::OwnUserNamespace {
            return Err(WrongInput::error(
                "await workers with --network kernel and without root: other terminals cannot enter the run's user namespace; run it as root",
            ));
        }
        Ok(privilege)
    }

    /// Puts up the network of `scenario`, and takes away what earlier runs of it have left behind that were killed.
    pub fn up(scenario: &Scenario, privilege: Privilege) -> anyhow::Result<Self> {
        remove_of_the_dead(scenario).context("remove what a run has left behind")?;
        let owner = Owner::Run(std::process::id());
        let name = NetworkName::new(&scenario.name, owner);
        let qdiscs = kernel::probe(&name)?.qdiscs()?;
        let scale = scenario.compute.time_scale;
        let plan = plan_of(scenario, scale, owner, qdiscs)?;
        for remark in plan.remarks() {
            eprintln!("{remark}");
        }
        Ok(Self {
            network: KernelNetwork::up(plan, || None)?,
            privilege,
        })
    }

    /// Moves the calling thread to where the coordinator belongs.
    pub fn enter_hub(&self) -> anyhow::Result<Inside> {
        Ok(self.network.enter(Place::Hub)?)
    }

    /// Moves the calling thread to where the workers of a region belong; processes that it starts stay there.
    pub fn enter(&self, region: RegionId) -> anyhow::Result<Inside> {
        Ok(self.network.enter(Place::Region(region))?)
    }

    /// Where workers join, given where they would without namespaces.
    pub fn listen(&self, asked: SocketAddr) -> SocketAddr {
        let hub = self.network.plan().address(Place::Hub);
        SocketAddr::from((hub, asked.port()))
    }

    /// What a person puts before the command of a worker of `region`.
    pub fn command_prefix(&self, region: RegionId) -> String {
        let namespace = self.network.plan().namespace(Place::Region(region));
        format!("ip netns exec {namespace} ")
    }

    /// Gives a link another rate and delay, in wall seconds, from now on.
    pub fn change(&mut self, link: LinkId, rate: BitRate, delay: Delay) -> anyhow::Result<()> {
        let Some(present) = self.network.plan().link(link) else {
            return Ok(());
        };
        let mut spec = *present;
        (spec.rate, spec.delay) = (rate, delay);
        Ok(self.network.change(link, spec)?)
    }

    /// Whether the kernel delays; else receivers have to.
    pub fn delays(&self) -> bool {
        self.network.plan().qdiscs().netem
    }

    /// Who gives the links of `scenario` what.
    pub fn record(&self, scenario: &Scenario) -> Record {
        let qdiscs = self.network.plan().qdiscs();
        let any = |has: fn(&LinkSpec) -> bool| scenario.links.values().any(has);
        let by = |asked: bool, without_netem: ShapedBy| match (asked, qdiscs.netem) {
            (false, _) => ShapedBy::NotAsked,
            (true, true) => ShapedBy::Kernel,
            (true, false) => without_netem,
        };
        Record::Network {
            at_s: 0.0,
            shaping: KernelShaping {
                qdisc: qdiscs.rate.name().to_owned(),
                netem: qdiscs.netem,
                delay: by(any(|link| link.delay > Delay::ZERO), ShapedBy::Receiver),
                jitter: by(any(|link| link.jitter != Jitter::None), ShapedBy::Nobody),
                loss: by(any(|link| link.loss.share > 0.0), ShapedBy::Nobody),
                user_namespace: self.privilege == Privilege::OwnUserNamespace,
            },
        }
    }
}
