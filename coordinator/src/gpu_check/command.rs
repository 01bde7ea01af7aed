//! From the command line to the report.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use bace_cuda::Driver;
use serde_json::{Value, json};

use crate::bench::table;
use crate::cli::{DeviceChoice, GpuCheckArgs};
use crate::doctor::Gpus;
use crate::output::say;
use crate::run::ask_worker_for_parity;

use super::energy::MeteredRun;
use super::judge;
use super::verdict::{Check, Verdict};

/// Stages of the pipelines whose throughput is measured, as the script has them unless it is told otherwise.
const BENCH_STAGES: usize = 2;

/// Checks devices and runs on them, and writes the report; whether nothing failed.
pub fn gpu_check(args: &GpuCheckArgs) -> anyhow::Result<bool> {
    let devices = devices(&args.device)?;
    fs::create_dir_all(&args.out).with_context(|| format!("create {}", args.out.display()))?;
    let mut checks = Vec::new();
    for device in &devices {
        eprintln!("gpu-check: comparing {device} with the CPU");
        checks.extend(compared(device, args));
    }
    let boards = boards(&args.device)?;
    let all = devices_word(&args.device);
    checks.extend(metered_run("native run", "native", &all, &boards, args));
    checks.extend(metered_run(
        "paced run, several workers on one device",
        "paced",
        &devices[0],
        &boards[..boards.len().min(1)],
        args,
    ));
    checks.push(throughput(&all, devices.len(), args));
    report(args, &devices, &checks)
}

/// The devices, or at once the reason for which there are none.
fn devices(asked: &DeviceChoice) -> anyhow::Result<Vec<String>> {
    let DeviceChoice::Cuda(indices) = asked else {
        return Ok(vec!["cpu".to_owned()]);
    };
    let driver = Driver::load()?;
    let all = driver.devices()?;
    for &index in indices {
        driver.device(index)?;
    }
    let indices = match indices.as_slice() {
        [] => all.iter().map(|device| device.index).collect(),
        some => some.to_vec(),
    };
    Ok(indices
        .iter()
        .map(|index| format!("cuda:{index}"))
        .collect())
}

/// UUIDs of the devices, in their order; none on the CPU.
fn boards(asked: &DeviceChoice) -> anyhow::Result<Vec<String>> {
    let DeviceChoice::Cuda(indices) = asked else {
        return Ok(Vec::new());
    };
    let driver = Driver::load()?;
    let found = match indices.as_slice() {
        [] => driver.devices()?,
        some => {
            let some = some.iter().map(|&index| driver.device(index));
            some.collect::<Result<_, _>>()?
        }
    };
    Ok(found.into_iter().map(|info| info.uuid).collect())
}

/// As `bace run --device` takes them.
fn devices_word(asked: &DeviceChoice) -> String {
    match asked {
        DeviceChoice::Cpu => "cpu".to_owned(),
        DeviceChoice::Cuda(indices) if indices.is_empty() => "cuda".to_owned(),
        DeviceChoice::Cuda(indices) => {
            let indices: Vec<_> = indices.iter().map(u32::to_string).collect();
            format!("cuda:{}", indices.join(","))
        }
    }
}

fn compared(device: &str, args: &GpuCheckArgs) -> Vec<Check> {
    match ask_worker_for_parity(device, args.data.as_deref()) {
        Ok(found) => {
            let words = found["device"].as_str().unwrap_or(device).to_owned();
            let mut checks = vec![Check::is(format!("{device}: found"), true, words)];
            checks.extend(judge::compared(device, &found));
            checks
        }
        Err(error) => {
            let reason = format!("failed to {}", bace_api::told(error.as_ref()));
            vec![Check::is(format!("{device}: compared"), false, reason)]
        }
    }
}

/// Trains the scenario: what came of it, and of the joules of the boards that it was to compute on.
fn metered_run(
    name: &str,
    rung: &str,
    device: &str,
    boards: &[String],
    args: &GpuCheckArgs,
) -> Vec<Check> {
    eprintln!("gpu-check: {name} of {} on {device}", args.scenario);
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Check::is(name, false, format!("failed to {}", bace_api::told(error)))
    };
    let summary = match summary(rung, device, args) {
        Ok(summary) => summary,
        Err(error) => return vec![failed(error.as_ref())],
    };
    let mut checks = vec![judge::run(name, rung == "paced", &summary)];
    match bace_ledger::read(&run_folder(rung, args)) {
        Ok(ledger) => {
            let run = MeteredRun {
                name,
                records: &ledger.records,
                boards,
                all_compute: boards.len() == 1,
            };
            checks.extend(run.checks());
        }
        Err(error) => checks.push(failed(&error)),
    }
    checks
}

fn run_folder(rung: &str, args: &GpuCheckArgs) -> PathBuf {
    args.out.join(format!("{rung}-run"))
}

fn summary(rung: &str, device: &str, args: &GpuCheckArgs) -> anyhow::Result<Value> {
    let own = std::env::current_exe().context("find this program")?;
    let out = run_folder(rung, args);
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("remove {}", out.display()))?;
    }
    let mut command = Command::new(own);
    command
        .args(["run", &args.scenario, "--json", "--receipts", "off"])
        .args(["--device", device, "--compute", rung, "--out"])
        .arg(&out);
    if let Some(data) = &args.data {
        command.arg("--data").arg(data);
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .context("start a run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("run {}: {}", args.scenario, said.trim()))
}

/// Tokens a second beside torch.distributed.pipelining, as its script prints and judges them.
fn throughput(device: &str, devices: usize, args: &GpuCheckArgs) -> Check {
    const NAME: &str = "throughput beside torch.distributed.pipelining";
    let Some(script) = &args.bench_torch else {
        return Check::left_out(NAME, "--bench-torch names no script that sets it up");
    };
    // NCCL refuses two ranks on one GPU.
    if device != "cpu" && devices < BENCH_STAGES {
        return Check::left_out(
            NAME,
            format!("its peer needs a GPU for each of {BENCH_STAGES} stages, and {device} is one"),
        );
    }
    eprintln!("gpu-check: {NAME}");
    match bench(script, device) {
        Ok((works, said)) => Check::is(NAME, works, said),
        Err(error) => Check::is(
            NAME,
            false,
            format!("failed to {}", bace_api::told(error.as_ref())),
        ),
    }
}

fn bench(script: &Path, device: &str) -> anyhow::Result<(bool, String)> {
    let measured = Command::new(script)
        .args(["--models", "small,medium", "--rounds", "5"])
        .args(["--device", device])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", script.display()))?;
    let said = String::from_utf8_lossy(&measured.stdout).trim().to_owned();
    Ok((measured.status.success(), said))
}

/// Writes the report and prints it; whether nothing failed.
fn report(args: &GpuCheckArgs, devices: &[String], checks: &[Check]) -> anyhow::Result<bool> {
    let failed = checks
        .iter()
        .filter(|check| check.verdict == Verdict::Failed)
        .count();
    let json = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "machine": crate::machine::describe(),
        "cuda": Gpus::look().json(),
        "devices": devices,
        "scenario": args.scenario,
        "checks": checks.iter().map(Check::json).collect::<Vec<_>>(),
        "passed": failed == 0,
    });
    let mut table = table(&["what", "", "found"], 3);
    for check in checks {
        table.add_row([&check.name, check.verdict.word(), &check.found]);
    }
    let text = format!(
        "bace {} on {}\n{}\n\n{table}\n{failed} of {} checks failed\n",
        env!("CARGO_PKG_VERSION"),
        crate::machine::describe(),
        devices.join(", "),
        checks.len()
    );
    for (name, text) in [
        ("gpu-check.txt", &text),
        ("gpu-check.json", &format!("{json:#}\n")),
    ] {
        let path = args.out.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    say!("{}", text.trim_end());
    say!("report    {}", args.out.join("gpu-check.txt").display());
    Ok(failed == 0)
}
