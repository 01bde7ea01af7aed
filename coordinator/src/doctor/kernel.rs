//! What the kernel offers the `kernel` back end: namespaces and queueing disciplines.
//!
//! Everything is tried inside a network namespace that ends with the command that tries it, so that nothing is left
//! behind and the host's own interfaces are never touched.

use std::process::{Command, Stdio};

use super::finding::{Finding, State};

/// Queueing disciplines and what tries them on the namespace's own loopback interface.
const QDISCS: [(&str, &str); 3] = [
    ("tbf", "tbf rate 1mbit burst 3028 limit 10000"),
    ("htb", "htb default 1"),
    ("netem", "netem delay 1ms"),
];
/// In a user namespace of its own.
const AS_ANYBODY: &[&str] = &["--user", "--map-root-user", "--net"];
/// As root, where user namespaces are forbidden.
const AS_ROOT: &[&str] = &["--net"];

/// Namespaces and disciplines; no run but one with `--network kernel` needs them.
pub fn look() -> Vec<Finding> {
    let users = user_namespaces();
    let as_anybody = users.state == State::Present;
    let mut findings = vec![users];
    let how = if as_anybody { AS_ANYBODY } else { AS_ROOT };
    if let Err(reason) = inside(how, &["true"]) {
        findings.push(Finding::absent(
            "qdiscs",
            format!("cannot be tried without a network namespace: {reason}"),
            "run as root, or allow user namespaces; --network virtual and packet need neither",
        ));
        return findings;
    }
    findings.extend(QDISCS.map(|(name, words)| qdisc(how, name, words)));
    findings
}

fn user_namespaces() -> Finding {
    match inside(AS_ANYBODY, &["true"]) {
        Ok(()) => Finding::present("user namespaces", "allowed, with a network of their own"),
        Err(reason) => Finding::absent(
            "user namespaces",
            reason,
            "allow them (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0), or run as root; only --network kernel needs them",
        ),
    }
}

fn qdisc(how: &[&str], name: &'static str, words: &str) -> Finding {
    let mut command = vec!["tc", "qdisc", "add", "dev", "lo", "root"];
    command.extend(words.split(' '));
    match inside(how, &command) {
        Ok(()) => Finding::present(label(name), "works in a namespace"),
        Err(reason) => Finding::absent(label(name), reason, advice(name)),
    }
}

fn label(qdisc: &str) -> &'static str {
    match qdisc {
        "tbf" => "qdisc tbf",
        "htb" => "qdisc htb",
        _ => "qdisc netem",
    }
}

fn advice(qdisc: &str) -> String {
    let instead = match qdisc {
        "netem" => {
            "without it --network kernel has no jitter and no loss, and receivers hold what arrives for the delay"
        }
        _ => "--network kernel needs tbf or htb",
    };
    format!("modprobe sch_{qdisc}, with iproute2 installed; {instead}")
}

/// Runs a command in namespaces that end with it.
fn inside(how: &[&str], command: &[&str]) -> Result<(), String> {
    let output = Command::new("unshare")
        .args(how)
        .arg("--")
        .args(command)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("unshare does not start: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    match said.trim().lines().next() {
        Some(line) => Err(line.trim_end_matches('.').to_owned()),
        None => Err(format!("unshare ended with {}", output.status)),
    }
}
