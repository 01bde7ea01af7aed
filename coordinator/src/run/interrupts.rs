//! Signals that end what a command does, in order.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

/// Long enough for the runtime to look for signals.
const LOOK: Duration = Duration::from_millis(1);

/// Ctrl-C, a polite kill, and the end of the terminal.
pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    /// Absent where the process is to outlive its terminal, as `nohup` has it.
    hang_up: Option<Signal>,
}

impl Interrupts {
    /// Begins to listen; the process no longer ends by itself. Within a tokio runtime only.
    pub fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listen for signals");
        let hang_up = SignalKind::hangup();
        let hang_up = (!is_ignored(hang_up)?).then(|| listen(hang_up));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: hang_up.transpose()?,
        })
    }

    /// Waits for one; says which. Cancel-safe.
    pub async fn next(&mut self) -> &'static str {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted by Ctrl-C",
            _ = self.terminate.recv() => "terminated",
            _ = hang_up => "ended with its terminal",
        }
    }

    /// Which one has come since it was last asked, if any.
    pub async fn heard(&mut self) -> Option<&'static str> {
        timeout(LOOK, self.next()).await.ok()
    }
}

/// Whether this process was started with `kind` ignored.
fn is_ignored(kind: SignalKind) -> anyhow::Result<bool> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let mask = mask.context("find the ignored signals in /proc/self/status")?;
    Ok(mask & (1 << (kind.as_raw_value() - 1)) != 0)
}
