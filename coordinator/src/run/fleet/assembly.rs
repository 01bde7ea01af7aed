//! Workers on their way into a fleet: their processes or credentials, and their streams once they have joined.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use bace_api::WorkerId;
use bace_netem::shell_word;
use bace_socket::RunAuthority;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Event, FleetPlan, Seat, Worker};
use crate::run::join::Joined;
use crate::run::process::{self, WorkerProcess};
use crate::run::program::WorkerProgram;
use crate::run::wire;

/// Workers on their way into a fleet.
pub struct Assembly {
    /// By [`WorkerId`].
    pub seats: Vec<Seat>,
    pub(super) authority: RunAuthority,
    pub(super) events_tx: mpsc::Sender<Event>,
    pub(super) supervisors: JoinSet<()>,
    /// Those that this program has started.
    pub processes: BTreeMap<WorkerId, process::StartedProcess>,
    pub(super) kill: process::KillSwitch,
}

impl Assembly {
    pub(super) fn start_processes(
        &mut self,
        plan: &FleetPlan,
        address: SocketAddr,
    ) -> anyhow::Result<()> {
        let program = WorkerProgram::for_rung(plan.compute)?;
        let logs = plan.dir.join("workers");
        std::fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
        let mut devices = plan.devices.iter().cycle();
        for seat in &self.seats {
            let name = seat.worker.certificate_name();
            let process = WorkerProcess {
                program: &program,
                coordinator: address,
                region: &seat.region_name,
                device: devices.next(),
                credentials: serde_json::to_string(&self.authority.issue(&name)?)
                    .context("write a worker's credentials")?,
                log: logs.join(format!("w{}.log", seat.worker)),
            };
            let inside = plan.kernel.as_ref();
            let inside = inside.map(|kernel| kernel.enter(seat.region)).transpose()?;
            let (started, supervisor) = process.start(&self.kill)?;
            drop(inside);
            self.processes.insert(seat.worker, started);
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
    pub(super) fn write_credentials(
        &self,
        plan: &FleetPlan,
        address: SocketAddr,
    ) -> anyhow::Result<()> {
        let folder = std::path::absolute(plan.dir.join("credentials"))
            .with_context(|| format!("find {}", plan.dir.display()))?;
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        // People may bring a program of their own.
        let program = WorkerProgram::for_rung(plan.compute)
            .map_or_else(|_| "bace-worker".to_owned(), |program| program.as_command());
        let mut commands = String::new();
        for seat in &self.seats {
            let credentials = self.authority.issue(&seat.worker.certificate_name())?;
            let path = folder.join(format!("w{}.json", seat.worker));
            process::write_secret(
                &path,
                &serde_json::to_string(&credentials).context("write credentials")?,
            )?;
            let kernel = plan.kernel.as_ref();
            writeln!(
                commands,
                "  {}{} --join {address} --region={} --credentials {}",
                kernel.map_or_else(String::new, |kernel| kernel.command_prefix(seat.region)),
                program,
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
    pub fn seat(&self, joined: Joined) -> (WorkerId, Worker) {
        let id = joined.worker;
        let seat = self.seats[id.index()].clone();
        let process = self.processes.get(&id);
        let connection_ended = process.map(|process| Arc::clone(&process.connection_ended));
        let (events, connection) = (self.events_tx.clone(), joined.connection);
        let kept = connection.clone();
        let reader = joined.reader;
        tokio::spawn(async move {
            let reason = wire::read(id, reader, &connection, &events).await;
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
                clock: None,
                commands,
                connection: kept,
            },
        )
    }
}
