//! One worker process: started, watched, killed.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::process::{Child, Command};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::devices::WorkerDevice;
use super::program::WorkerProgram;

/// How long a process may outlive its connection: it is writing why.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// What a worker puts before the reason of its end.
const LAST_WORDS_PREFIX: &str = "bace-worker: ";

/// Bytes of freed memory that a worker's allocator keeps; set by hand, it also applies to large blocks.
const KEEP_MEMORY: &str = "1073741824";

/// Tells a supervisor that its process's connection has ended.
pub type ConnectionEnded = Arc<Notify>;

/// Kills all processes that were started with it.
#[derive(Debug, Clone)]
pub struct KillSwitch(watch::Sender<bool>);

impl Default for KillSwitch {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl KillSwitch {
    /// Kills them.
    pub fn throw(&self) {
        self.0.send_replace(true);
    }
}

/// A worker to start.
#[derive(Debug)]
pub struct WorkerProcess<'a> {
    /// The worker's program.
    pub program: &'a WorkerProgram,
    /// Where it joins.
    pub coordinator: SocketAddr,
    /// The region it stands for.
    pub region: &'a str,
    /// What it computes on; absent where it computes nothing.
    pub device: Option<&'a WorkerDevice>,
    /// What it proves itself with, one line of JSON.
    pub credentials: String,
    /// Where it says what it has to say to people.
    pub log: PathBuf,
}

impl WorkerProcess<'_> {
    /// Starts the process. Its standard input stays open as long as this process lives: when it closes, the
    /// worker ends, however this process ended.
    pub fn start(self, kill: &KillSwitch) -> anyhow::Result<(StartedProcess, Supervisor)> {
        let log =
            File::create(&self.log).with_context(|| format!("create {}", self.log.display()))?;
        let device = self.device.map(WorkerDevice::arguments);
        let (added, removed) = self
            .device
            .map(WorkerDevice::environment)
            .unwrap_or_default();
        let mut command = Command::new(&self.program.path);
        for name in removed {
            command.env_remove(name);
        }
        let started = Instant::now();
        let mut child = command
            .args(self.program.first_arguments)
            .args(["--join", &self.coordinator.to_string()])
            // One word, since a name may begin like an option.
            .arg(format!("--region={}", self.region))
            .args(["--credentials", "-"])
            .args(device.unwrap_or_default())
            .envs(added)
            // Activations come and go: memory given back to the system after each would be faulted in again.
            .env("MALLOC_TRIM_THRESHOLD_", KEEP_MEMORY)
            .env("MALLOC_MMAP_THRESHOLD_", KEEP_MEMORY)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for the coordinator, which ends its workers in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", self.program.path.display()))?;
        let input = child.stdin.take().expect("standard input is a pipe");
        let process = StartedProcess {
            connection_ended: ConnectionEnded::default(),
            id: child.id(),
            started,
        };
        let supervisor = Supervisor {
            child,
            input,
            credentials: self.credentials,
            connection_ended: Arc::clone(&process.connection_ended),
            kill: kill.0.subscribe(),
            log: self.log,
        };
        Ok((process, supervisor))
    }
}

/// What is known of a process besides its supervisor.
#[derive(Debug)]
pub struct StartedProcess {
    /// Tells its supervisor that its connection has ended.
    pub connection_ended: ConnectionEnded,
    /// Its id; absent where it ended at once.
    pub id: Option<u32>,
    /// When it was started.
    pub started: Instant,
}

/// Watches a process to its end.
#[derive(Debug)]
pub struct Supervisor {
    child: Child,
    input: tokio::process::ChildStdin,
    credentials: String,
    connection_ended: ConnectionEnded,
    kill: watch::Receiver<bool>,
    log: PathBuf,
}

impl Supervisor {
    /// Waits for the process; how it ended.
    pub async fn watch(mut self) -> String {
        use tokio::io::AsyncWriteExt;
        let line = format!("{}\n", self.credentials);
        // If it cannot read them it has ended, which the wait tells.
        let _ = self.input.write_all(line.as_bytes()).await;
        let ended = tokio::select! {
            status = self.child.wait() => Some(status),
            () = self.connection_ended.notified() => self.last_words_said().await,
            () = thrown(&mut self.kill) => None,
        };
        let (status, is_own_end) = match ended {
            Some(status) => (status, true),
            None => (self.kill().await, false),
        };
        match status {
            Ok(_) if !is_own_end => {
                "it did not answer any more, and its process was killed".to_owned()
            }
            Ok(status) => self.describe(status),
            Err(error) => format!("it cannot be waited for: {error}"),
        }
    }

    /// How the process ended by itself after its connection had; absent if it has not.
    async fn last_words_said(&mut self) -> Option<std::io::Result<ExitStatus>> {
        tokio::select! {
            status = self.child.wait() => Some(status),
            () = sleep(LAST_WORDS) => None,
            () = thrown(&mut self.kill) => None,
        }
    }

    async fn kill(&mut self) -> std::io::Result<ExitStatus> {
        self.child.kill().await?;
        self.child.wait().await
    }

    fn describe(&self, status: ExitStatus) -> String {
        let end = match (status.code(), status.signal()) {
            (Some(code), _) => format!("its process ended with status {code}"),
            (None, Some(signal)) => format!("its process was killed by signal {signal}"),
            (None, None) => format!("its process ended: {status}"),
        };
        match last_words(&self.log) {
            Some(words) => format!("{end}; it said: {words}"),
            None => end,
        }
    }
}

/// Waits until the switch is thrown, or its owner is gone.
async fn thrown(kill: &mut watch::Receiver<bool>) {
    let _ = kill.wait_for(|&kill| kill).await;
}

/// Why a worker said it ended, from its log.
fn last_words(log: &Path) -> Option<String> {
    let text = std::fs::read_to_string(log).ok()?;
    let words = |line: &str| line.strip_prefix(LAST_WORDS_PREFIX).map(str::to_owned);
    // Before a worker speaks for itself, the loader and the reader of its command line do.
    let others = |line: &&str| line.starts_with("error:") || line.contains(": error while ");
    let mut lines = text.lines().rev();
    lines
        .find_map(words)
        .or_else(|| text.lines().find(others).map(str::to_owned))
}

/// Writes a file that only its owner may read; it must not exist.
pub fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("write {}", path.display()))
}
