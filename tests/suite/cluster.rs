//! Two "hosts" on one machine: each has its own network with its own loopback, its own processes and so its own shared
//! memory, and the second a monotonic clock of its own. A pair of virtual network devices joins them.

use std::fs;
use std::process::{Child, Command, Stdio};

use crate::harness::{runs, until};

/// By how much the second host's monotonic clock is ahead, seconds.
pub const AHEAD_S: f64 = 5000.0;
/// Addresses of the hosts; nobody else can reach them.
pub const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];

/// Which of the two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    First = 0,
    Second = 1,
}

/// Two hosts. Dropped, they end with all their processes, networks and devices.
pub struct Cluster {
    hosts: Vec<Host>,
    /// What enters the user namespace that owns all others, where this process is not root.
    user: Option<String>,
}

/// Namespaces, and the process that keeps them.
struct Host {
    keeper: Child,
    /// The first process inside.
    first: String,
}

impl Cluster {
    /// Two hosts, or why this machine gives none.
    pub fn start() -> Result<Self, String> {
        let is_root = rustix::process::geteuid().is_root();
        let mut cluster = Self {
            hosts: Vec::new(),
            user: None,
        };
        let own_user: &[&str] = if is_root {
            &[]
        } else {
            &["--user", "--map-root-user"]
        };
        cluster.add(own_user)?;
        if !is_root {
            cluster.user = Some(cluster.hosts[0].first.clone());
        }
        cluster.add(&["--time", "--monotonic", &AHEAD_S.to_string()])?;
        cluster.join_networks()?;
        Ok(cluster)
    }

    /// Adds a host with these namespaces on top of those of network, processes and mounts.
    fn add(&mut self, more: &[&str]) -> Result<(), String> {
        let mut command = match &self.user {
            None => Command::new("unshare"),
            Some(first) => {
                let mut command = Command::new("nsenter");
                command.args([
                    "--target",
                    first,
                    "--user",
                    "--preserve-credentials",
                    "unshare",
                ]);
                command
            }
        };
        command
            .args(["--net", "--pid", "--mount-proc", "--fork", "--kill-child"])
            .args(more)
            // It ends with its standard input at the latest, and so with this process.
            .arg("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut keeper = command
            .spawn()
            .map_err(|error| format!("unshare does not start: {error}"))?;
        let id = keeper.id();
        let children = format!("/proc/{id}/task/{id}/children");
        let mut first = None;
        until("a host", || {
            let ids = fs::read_to_string(&children).unwrap_or_default();
            // A child that is still a copy of its parent is not yet where it is going to be.
            let id = ids
                .split_whitespace()
                .next()
                .filter(|id| is_named(id, "cat"));
            first = id.map(str::to_owned);
            first.is_some() || keeper.try_wait().is_ok_and(|ended| ended.is_some())
        });
        match first {
            Some(first) => {
                self.hosts.push(Host { keeper, first });
                Ok(())
            }
            None => {
                let ended = keeper
                    .wait_with_output()
                    .map_err(|error| error.to_string())?;
                let why = String::from_utf8_lossy(&ended.stderr);
                Err(format!("no namespaces here: {}", why.trim()))
            }
        }
    }

    fn join_networks(&self) -> Result<(), String> {
        let second = &self.hosts[1].first;
        let pair = [
            "link", "add", "bace0", "type", "veth", "peer", "name", "bace1",
        ];
        self.ip(On::First, &pair)?;
        self.ip(On::First, &["link", "set", "bace1", "netns", second])?;
        for (on, device) in [(On::First, "bace0"), (On::Second, "bace1")] {
            let address = format!("{}/24", ADDRESSES[on as usize]);
            self.ip(on, &["address", "add", &address, "dev", device])?;
            self.ip(on, &["link", "set", device, "up"])?;
            self.ip(on, &["link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    fn ip(&self, on: On, arguments: &[&str]) -> Result<(), String> {
        let mut command = Command::new("ip");
        command.args(arguments);
        // The program of the machine, but the network of the host.
        let mut entered = self.enter(on, &["--net"], &command);
        let ended = entered
            .output()
            .map_err(|error| format!("ip does not start: {error}"))?;
        if ended.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&ended.stderr);
        Err(format!("ip {arguments:?}: {}", why.trim()))
    }

    /// `command` as a process of a host.
    pub fn on(&self, on: On, command: &Command) -> Command {
        let spaces: &[&str] = match on {
            On::First => &["--net", "--pid", "--mount"],
            On::Second => &["--net", "--pid", "--mount", "--time"],
        };
        self.enter(on, spaces, command)
    }

    fn enter(&self, on: On, spaces: &[&str], command: &Command) -> Command {
        let mut entered = Command::new("nsenter");
        entered.args(["--target", &self.hosts[on as usize].first]);
        if self.user.is_some() {
            entered.args(["--user", "--preserve-credentials"]);
        }
        entered.args(spaces).args([
            "--",
            "sh",
            "-c",
            "cd \"$0\" && exec setpriv --pdeathsig KILL \"$@\"",
        ]);
        let folder = command.get_current_dir();
        entered.arg(folder.unwrap_or_else(|| std::path::Path::new("/")));
        entered.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => entered.env(name, value),
                None => entered.env_remove(name),
            };
        }
        entered
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        entered
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for host in &mut self.hosts {
            // One that has ended already has taken its namespaces along.
            let _ = host.keeper.kill();
            let _ = host.keeper.wait();
            let first: u32 = host.first.parse().expect("a process id");
            until("a host's end", || !runs(first));
        }
    }
}

fn is_named(id: &str, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|comm| comm.trim() == name)
}
