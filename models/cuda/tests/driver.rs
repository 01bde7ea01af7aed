//! The driver's calls against a driver without a GPU: what is there, what is missing, and copies in order.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::process::Command;
use std::sync::Arc;

use bace_cuda::{CudaError, DeviceRange, Driver, Pool};
use bace_fake_cuda::{Kind, is_outer};

fn refusal() -> String {
    let looked = Driver::load().and_then(Driver::devices);
    looked.unwrap_err().to_string()
}

#[test]
fn a_device_is_described() {
    if is_outer("a_device_is_described", Kind::Whole, |_| {}) {
        return;
    }
    let driver = Driver::load().unwrap();
    let devices: Vec<_> = driver.devices().unwrap();
    let words: Vec<_> = devices.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "cuda:0 Fake GPU 0, 8.0 GB, compute capability 9.0, 100 multiprocessors at up to 1500 MHz, \
          GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"
        ]
    );
    assert_eq!(devices[0].memory_clock_mhz, None);
    let memory = driver.context(0).unwrap().memory().unwrap();
    assert_eq!(memory.free_bytes, 6_000_000_000);
    assert_eq!(
        driver.context(1).unwrap_err().to_string(),
        "use the device cuda:1: there is one CUDA device, cuda:0"
    );
}

#[test]
fn two_devices_are_two() {
    let two = |command: &mut Command| {
        command
            .env("FAKE_CUDA_DEVICES", "2")
            .env("CUDA_VISIBLE_DEVICES", "1,3");
    };
    if is_outer("two_devices_are_two", Kind::Whole, two) {
        return;
    }
    let driver = Driver::load().unwrap();
    let uuids: Vec<_> = driver
        .devices()
        .unwrap()
        .into_iter()
        .map(|device| (device.index, device.uuid))
        .collect();
    assert_eq!(uuids[1].0, 1);
    assert_ne!(uuids[0].1, uuids[1].1);
    assert_eq!(
        driver.device(2).unwrap_err().to_string(),
        "use the device cuda:2: there are 2 CUDA devices, cuda:0 to cuda:1, with CUDA_VISIBLE_DEVICES=1,3"
    );
}

#[test]
fn a_driver_without_devices_says_so() {
    let none = |command: &mut Command| {
        command
            .env("FAKE_CUDA_DEVICES", "0")
            .env("CUDA_VISIBLE_DEVICES", "-1");
    };
    if is_outer("a_driver_without_devices_says_so", Kind::Whole, none) {
        return;
    }
    assert_eq!(
        refusal(),
        "find a CUDA device: the NVIDIA driver is there and shows none; CUDA_VISIBLE_DEVICES=-1 says which may be seen"
    );
}

#[test]
fn a_driver_that_does_not_start_is_quoted() {
    let broken = |command: &mut Command| {
        command.env("FAKE_CUDA_INIT", "999");
    };
    if is_outer(
        "a_driver_that_does_not_start_is_quoted",
        Kind::Whole,
        broken,
    ) {
        return;
    }
    assert_eq!(
        refusal(),
        "start the NVIDIA driver: CUDA_ERROR_UNKNOWN: unknown error (error 999); often /dev/nvidia-uvm is missing: modprobe nvidia-uvm"
    );
}

#[test]
fn an_old_driver_is_told_which_one_to_install() {
    let old = |command: &mut Command| {
        command.env("FAKE_CUDA_VERSION", "12040");
    };
    if is_outer(
        "an_old_driver_is_told_which_one_to_install",
        Kind::Whole,
        old,
    ) {
        return;
    }
    assert_eq!(
        refusal(),
        "use CUDA: the NVIDIA driver supports CUDA 12.4, and libtorch needs CUDA 13.0; install driver 580 or later"
    );
}

#[test]
fn a_missing_symbol_is_named() {
    if is_outer(
        "a_missing_symbol_is_named",
        Kind::WithoutEventTiming,
        |_| {},
    ) {
        return;
    }
    assert_eq!(
        refusal(),
        "use CUDA: the NVIDIA driver's library lacks cuEventElapsedTime_v2; install the driver anew, version 580 or later"
    );
}

#[test]
fn a_file_that_is_no_library_is_quoted() {
    if is_outer("a_file_that_is_no_library_is_quoted", Kind::Broken, |_| {}) {
        return;
    }
    let said = refusal();
    assert!(
        said.starts_with("find a CUDA device: no library of the NVIDIA driver can be loaded ("),
        "{said}"
    );
    assert!(said.contains("libcuda.so"), "{said}");
    assert!(
        said.contains("file too short") || said.contains("invalid ELF header"),
        "{said}"
    );
}

/// The fake copies only when somebody waits, so that what is not ordered shows.
#[test]
fn copies_follow_the_work_before_them_and_are_there_once_waited_for() {
    if is_outer(
        "copies_follow_the_work_before_them_and_are_there_once_waited_for",
        Kind::Whole,
        |_| {},
    ) {
        return;
    }
    const BYTES: usize = 1000;
    let context = Driver::load().unwrap().context(0).unwrap();
    let (compute, copies) = (context.legacy_default_stream(), context.stream().unwrap());
    let pool = Pool::new(2);
    let mut source = pool.take(|| context.pinned(BYTES)).unwrap();
    let values = (0..=u8::MAX).cycle();
    let filled = source.iter_mut().zip(values);
    filled.for_each(|(byte, value)| *byte = value);
    let on_device = vec![0u8; BYTES];
    let range = DeviceRange {
        address: on_device.as_ptr() as u64,
        bytes: BYTES,
    };
    // To the device on libtorch's stream, back on the other one.
    let begin = context.event().unwrap();
    compute.record(&begin).unwrap();
    let there = compute
        .copy_to_device(source, (range, Box::new(())))
        .unwrap();
    copies.follow(there.done()).unwrap();
    let back = pool.take(|| context.pinned(BYTES)).unwrap();
    let back = copies.copy_to_host((range, Box::new(())), back).unwrap();
    let seen = std::hint::black_box(&on_device)[1];
    assert_eq!(seen, 0, "nothing is copied before anyone waits");
    let back = back.wait().unwrap();
    assert_eq!(back[..4], [0, 1, 2, 3]);
    assert_eq!(back[BYTES - 1], (BYTES - 1) as u8);
    assert!(begin.seconds_to(there.done()).unwrap() >= 0.0);
    drop((there, back));
    // Both buffers are back.
    let taken = [(); 2].map(|()| pool.take(|| context.pinned(BYTES)).unwrap());
    assert_eq!((taken.len(), pool.made()), (2, 2));
}

/// Begins a copy of `from` whose end cannot be marked; whether the tensor is still held, and what the pool's one buffer
/// holds after that.
fn unmarked(from: &[u8]) -> (bool, Vec<u8>) {
    let context = Driver::load().unwrap().context(0).unwrap();
    let stream = context.stream().unwrap();
    let pool = Pool::new(1);
    let buffer = pool.take(|| context.pinned(from.len())).unwrap();
    let range = DeviceRange {
        address: from.as_ptr() as u64,
        bytes: from.len(),
    };
    let tensor = Arc::new(());
    let refused = stream.copy_to_host((range, Box::new(Arc::clone(&tensor))), buffer);
    let said = refused.unwrap_err().to_string();
    assert!(said.starts_with("record an event on cuda:0"), "{said}");
    let next = pool.take(|| context.pinned(from.len())).unwrap();
    assert_eq!(pool.made(), 1);
    (Arc::strong_count(&tensor) == 2, next.to_vec())
}

#[test]
fn a_copy_whose_end_cannot_be_marked_is_done_before_its_ends_are_used() {
    let name = "a_copy_whose_end_cannot_be_marked_is_done_before_its_ends_are_used";
    let refusing = |command: &mut Command| {
        command.env("FAKE_CUDA_RECORD", "999");
    };
    if is_outer(name, Kind::Whole, refusing) {
        return;
    }
    assert_eq!(unmarked(&[7; 100]), (false, vec![7; 100]));
}

#[test]
fn a_copy_that_nobody_can_wait_for_keeps_its_ends_for_ever() {
    let name = "a_copy_that_nobody_can_wait_for_keeps_its_ends_for_ever";
    let refusing = |command: &mut Command| {
        command
            .env("FAKE_CUDA_RECORD", "999")
            .env("FAKE_CUDA_WAIT", "999");
    };
    if is_outer(name, Kind::Whole, refusing) {
        return;
    }
    // Another buffer has taken the place of the one that the device may still write to.
    assert_eq!(unmarked(&[7; 100]), (true, vec![0; 100]));
}

#[test]
fn host_memory_is_not_taken_for_a_devices() {
    let host = |command: &mut Command| {
        command.env("FAKE_CUDA_HOST", "1");
    };
    if is_outer("host_memory_is_not_taken_for_a_devices", Kind::Whole, host) {
        return;
    }
    let context = Driver::load().unwrap().context(0).unwrap();
    let stream = context.stream().unwrap();
    let pool = Pool::new(1);
    let buffer = pool.take(|| context.pinned(8)).unwrap();
    let range = DeviceRange {
        address: 4096,
        bytes: 8,
    };
    let refused = stream.copy_to_host((range, Box::new(())), buffer);
    assert_eq!(
        refused.unwrap_err(),
        CudaError::NotOnDevice {
            action: "copy to the host from",
            device: 0
        }
    );
}
