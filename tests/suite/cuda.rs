//! GPUs as people meet them, with a driver that needs none.

use std::process::Command;

use bace_fake_cuda::{FakeCuda, Kind};

use crate::harness::{Ended, Place, scenario, start};

/// `bace run` on `device`, where the driver is `kind` and `settings` change it; a run that never begins.
fn refused(kind: Kind, device: &str, settings: impl FnOnce(&mut Command)) -> Ended {
    let place = Place::new(&scenario("two-regions"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fake = FakeCuda::build(folder.path(), kind);
    let mut command = place.command(&["run", "s.toml", "--out", "out", "--device", device]);
    settings(fake.give(&mut command, 1));
    let ended = start(command).end().code(2);
    assert!(!place.path("out").exists());
    ended
}

#[test]
fn a_run_says_why_it_cannot_use_gpus() {
    refused(Kind::Broken, "cuda", |_| {}).complains(&[
        "no library of the NVIDIA driver can be loaded",
        "--device cpu",
    ]);
    refused(Kind::WithoutEventTiming, "cuda", |_| {}).complains(&["cuEventElapsedTime_v2"]);
    refused(Kind::Whole, "cuda", |command| {
        command.env("FAKE_CUDA_DEVICES", "0");
    })
    .complains(&["the NVIDIA driver is there and shows none"]);
    refused(Kind::Whole, "cuda:0,2", |_| {}).complains(&["cuda:2", "there is one CUDA device"]);
    refused(Kind::Whole, "cuda", |command| {
        command.env("FAKE_CUDA_VERSION", "12080");
    })
    .complains(&["supports CUDA 12.8", "needs CUDA 13.0"]);
}

/// Whether the workers beside this test are linked to a libtorch that would try to compute on a fake.
fn workers_have_cuda(place: &Place) -> bool {
    let text = place.path("text");
    let text = text.to_str().expect("the path is text");
    let ended = start(place.worker(&["check", "--data", text]))
        .end()
        .code(0);
    ended.json()["has_cuda"] == true
}

#[test]
fn a_libtorch_for_cpus_is_no_use_with_gpus() {
    if workers_have_cuda(&Place::new("")) {
        eprintln!("not tested: these workers' libtorch has CUDA");
        return;
    }
    refused(Kind::Whole, "cuda", |_| {}).complains(&[
        "cuda:0",
        "a libtorch without CUDA",
        "scripts/libtorch --cuda",
    ]);
}

#[test]
fn the_doctor_lists_gpus_and_says_why_there_are_none() {
    let place = Place::new("");
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeCuda::build(folder.path(), Kind::Whole);
    for devices in [2u32, 0] {
        let mut command = place.command(&["doctor", "--json"]);
        fake.give(&mut command, devices);
        let found = start(command).end().json();
        let cuda = &found["cuda"];
        let uuids = cuda["devices"].as_array().expect("a list");
        assert_eq!(uuids.len(), devices as usize, "{cuda}");
        let findings = found["findings"].as_array().expect("a list").iter();
        let gpus = findings.filter(|finding| finding["name"] == "GPU").count();
        assert_eq!(gpus, devices as usize);
        if devices == 0 {
            let reason = cuda["reason"].as_str().expect("a reason");
            assert!(reason.contains("shows none"), "{reason}");
        } else {
            assert_eq!(cuda["cuda_version"], "13.0");
            assert_eq!(uuids[1]["uuid"], "GPU-10111213-1415-1617-1819-1a1b1c1d1e1f");
            assert_eq!(uuids[1]["free_memory_bytes"], 6_000_000_000u64);
        }
    }
}

#[test]
fn the_gpu_check_says_in_one_line_that_there_is_no_gpu() {
    let place = Place::new("");
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeCuda::build(folder.path(), Kind::Whole);
    let mut command = place.command(&["gpu-check"]);
    fake.give(&mut command, 0);
    let ended = start(command).end().code(1);
    ended.complains(&["the NVIDIA driver is there and shows none"]);
    assert!(!place.path("gpu-check").exists());
}

/// All that it does on a GPU, on the CPU.
#[test]
fn the_gpu_check_is_complete() {
    let place = Place::new(&scenario("two-regions"));
    let ended = place.bace(&[
        "gpu-check",
        "--device",
        "cpu",
        "--scenario",
        "s.toml",
        "--data",
        "text",
    ]);
    let ended = ended.code(0);
    let report = std::fs::read_to_string(place.path("gpu-check/gpu-check.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["passed"], true);
    let verdict = |name: &str| {
        let checks = report["checks"].as_array().expect("a list");
        let check = checks.iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("no `{name}` in {report:#}"))["verdict"].clone()
    };
    for name in [
        "cpu: found",
        "cpu: fp32 as on the CPU",
        "cpu: fp32 pipeline as one process",
        "cpu: bf16 pipeline as one process",
        "cpu: tensors to the device and back",
        "cpu: short memory is told",
        "native run",
        "paced run, several workers on one device",
    ] {
        assert_eq!(verdict(name), "passed", "{name}");
        assert!(ended.stdout.contains(name), "{}", ended.stdout);
    }
    let throughput = "throughput beside torch.distributed.pipelining";
    assert_eq!(verdict(throughput), "left out");
    assert!(place.path("gpu-check/native-run/ledger.jsonl").exists());
}
