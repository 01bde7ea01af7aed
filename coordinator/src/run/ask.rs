//! Questions to the worker's program, which answers each as one JSON object and ends.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use bace_api::{DeviceCheck, ProfileReply, ProfileRequest};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::devices::WorkerDevice;
use super::program::WorkerProgram;
use crate::wrong_input::WrongInput;

/// Runs `bace-worker check`, which loads libtorch, the device and the text as a worker would; sequences of `sequence` tokens
/// have to be cut from the text.
pub fn check(
    device: &WorkerDevice,
    sequence: u32,
    data: Option<&Path>,
) -> anyhow::Result<DeviceCheck> {
    let sequence = sequence.to_string();
    let mut arguments = ["check", "--sequence", &sequence].map(OsStr::new).to_vec();
    arguments.extend(device.arguments().into_iter().map(OsStr::new));
    if let Some(data) = data {
        arguments.extend([OsStr::new("--data"), data.as_os_str()]);
    }
    ask(&arguments, &[])
}

/// Runs `bace-worker check --speed` on the CPU: what a worker says of its own speed and memory.
pub fn ask_worker_for_speed() -> anyhow::Result<DeviceCheck> {
    // A model of that size is cut from the text by sequences of 64 tokens.
    let arguments = ["check", "--device", "cpu", "--sequence", "64", "--speed"];
    ask(&arguments.map(OsStr::new), &[])
}

/// Runs `bace-worker parity`: how a device compares with the CPU.
pub fn parity(device: &str, data: Option<&Path>) -> anyhow::Result<Value> {
    let mut arguments = ["parity", "--device", device].map(OsStr::new).to_vec();
    if let Some(data) = data {
        arguments.extend([OsStr::new("--data"), data.as_os_str()]);
    }
    ask(&arguments, &[])
}

/// Runs `bace-worker profile`.
pub fn profile(request: &ProfileRequest) -> anyhow::Result<ProfileReply> {
    let request = serde_json::to_vec(request).context("write the request")?;
    ask(&[OsStr::new("profile")], &request)
}

/// Runs the worker's program to its end on `input`; what it answers.
fn ask<T: DeserializeOwned>(arguments: &[&OsStr], input: &[u8]) -> anyhow::Result<T> {
    let worker = WorkerProgram::with_libtorch()?.path;
    let mut process = Command::new(&worker)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("BACE_LOG", "error")
        .spawn()
        .with_context(|| format!("start {}", worker.display()))?;
    // A program that ends without reading says why itself.
    let given = process.stdin.take().map(|mut stdin| stdin.write_all(input));
    let output = process
        .wait_with_output()
        .with_context(|| format!("wait for {}", worker.display()))?;
    if output.status.success() {
        given
            .transpose()
            .with_context(|| format!("ask {}", worker.display()))?;
        let found = String::from_utf8_lossy(&output.stdout);
        return serde_json::from_str(&found)
            .with_context(|| format!("understand bace-worker, which said {found}"));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    if said.contains("error while loading shared libraries") {
        bail!("load libtorch: {said}; run scripts/libtorch and build again");
    }
    match said.strip_prefix("bace-worker: failed to ") {
        Some(reason) => Err(WrongInput::error(reason)),
        None => bail!(
            "use {}: it ended with {} and said `{said}`",
            worker.display(),
            output.status
        ),
    }
}
