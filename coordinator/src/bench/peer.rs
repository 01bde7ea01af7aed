//! The other process of a measurement.

use std::io::{BufRead, Read, Write};

use anyhow::Context;
use bace_socket::bench::{PeerProgram, PeerReport, PeerTask, serve_peer};

/// What makes this program take part in a measurement.
const ARGUMENTS: [&str; 2] = ["bench", "peer"];

/// This program as the other process of a measurement.
pub fn program() -> anyhow::Result<PeerProgram> {
    let program = std::env::current_exe().context("find this program: it has no path")?;
    Ok(PeerProgram {
        program,
        arguments: ARGUMENTS.map(Into::into).to_vec(),
    })
}

/// Does the task on standard input's first line. The process ends when its standard input does, whatever it is doing:
/// whoever started it is gone, or needs it no longer.
pub fn peer() -> anyhow::Result<bool> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .context("read a task from standard input")?;
    let task: PeerTask = serde_json::from_str(&line)
        .context("understand the task: this command is one that `bace bench` starts by itself")?;
    std::thread::Builder::new()
        .name("parent-watch".to_owned())
        .spawn(end_with_input)
        .context("watch standard input")?;
    let dismissed = || {
        loop {
            std::thread::park();
        }
    };
    if let Err(error) = serve_peer(task, &mut report, dismissed) {
        report(PeerReport::Failed {
            reason: bace_api::told(&error),
        });
        return Ok(false);
    }
    Ok(true)
}

fn report(report: PeerReport) {
    let line = serde_json::to_string(&report).expect("a report is plain data");
    let mut output = std::io::stdout().lock();
    // A parent that does not read has ended, and so does this process.
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

fn end_with_input() {
    let mut rest = [0; 64];
    let mut input = std::io::stdin().lock();
    while matches!(input.read(&mut rest), Ok(1..)) {}
    std::process::exit(0);
}
