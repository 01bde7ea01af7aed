//! Programs that are run to their end.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use bace_netem::TcCommand;

use super::KernelError;

/// Runs `argv` to its end; what it printed.
pub(super) fn run(argv: &[String], about: &str) -> Result<String, KernelError> {
    let program = &argv[0];
    let output = Command::new(program)
        .args(&argv[1..])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        // Ctrl-C is for this process, which takes back what it has made.
        .process_group(0)
        .output()
        .map_err(|source| start_error(program, source))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = stderr.lines().map(str::trim).collect();
    Err(KernelError::Command {
        line: TcCommand::shell_line(argv),
        about: about.to_owned(),
        said: if stderr.trim().is_empty() {
            output.status.to_string()
        } else {
            said.join(" / ")
        },
    })
}

/// Runs words that are separated by spaces.
pub(super) fn run_words(words: &str, about: &str) -> Result<String, KernelError> {
    let argv: Vec<String> = words.split(' ').map(str::to_owned).collect();
    run(&argv, about)
}

/// Why `program` did not start.
pub(super) fn start_error(program: &str, source: io::Error) -> KernelError {
    let program = program.to_owned();
    if source.kind() != io::ErrorKind::NotFound {
        return KernelError::Start { program, source };
    }
    let package = match program.as_str() {
        "unshare" => "util-linux",
        _ => "iproute2",
    };
    KernelError::NoProgram { program, package }
}
