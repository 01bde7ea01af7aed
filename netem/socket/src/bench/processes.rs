//! Other processes that take part in a measurement, as their parent sees them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::peer::{PeerReport, PeerTask};
use crate::SocketError;

/// How long an answer may take: many times what the slowest measurement takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// How to start a process that reads a [`PeerTask`] from standard input, does it, and ends when its input closes.
#[derive(Debug, Clone)]
pub struct PeerProgram {
    /// The program.
    pub program: PathBuf,
    /// What makes it read a task.
    pub arguments: Vec<OsString>,
}

/// A process at work. It is killed when dropped, and ends by itself when this process does.
#[derive(Debug)]
pub(super) struct Peer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    input: ChildStdin,
}

impl Peer {
    /// Starts a process on `task`; within a tokio runtime.
    pub async fn start(program: &PeerProgram, task: &PeerTask) -> Result<Self, SocketError> {
        let mut child = Command::new(&program.program)
            .args(&program.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(SocketError::system("start a process to measure with"))?;
        let mut input = child.stdin.take().expect("standard input is a pipe");
        let output = child.stdout.take().expect("standard output is a pipe");
        let mut line = serde_json::to_vec(task).expect("a task is plain data");
        line.push(b'\n');
        // A process that cannot read its task has ended, and its silence is told below.
        let _ = input.write_all(&line).await;
        Ok(Self {
            child,
            lines: BufReader::new(output).lines(),
            input,
        })
    }

    /// Dismisses it and waits until it is gone.
    pub async fn end(self) -> Result<(), SocketError> {
        let Self {
            mut child, input, ..
        } = self;
        drop(input);
        let waited = tokio::time::timeout(PATIENCE, child.wait()).await;
        let reason = match waited {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => format!("it cannot be waited for: {error}"),
            Err(_) => "it does not end".to_owned(),
        };
        Err(SocketError::Peer { reason })
    }

    /// Its next answer.
    pub async fn report(&mut self) -> Result<PeerReport, SocketError> {
        let failed = |reason: String| SocketError::Peer { reason };
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line())
            .await
            .map_err(|_| failed(format!("it said nothing for {} s", PATIENCE.as_secs())))?
            .map_err(SocketError::system("read what a process says"))?;
        let Some(line) = line else {
            let status = self
                .child
                .wait()
                .await
                .map_err(SocketError::system("wait for a process"))?;
            return Err(failed(format!("it ended early with {status}")));
        };
        match serde_json::from_str(&line) {
            Ok(PeerReport::Failed { reason }) => Err(failed(format!("it failed to {reason}"))),
            Ok(report) => Ok(report),
            Err(_) => Err(failed(format!("it said `{line}`"))),
        }
    }
}

/// The error of an answer that belongs to another task.
pub(super) fn unexpected(report: &PeerReport) -> SocketError {
    SocketError::Peer {
        reason: format!("it said {report:?}"),
    }
}
