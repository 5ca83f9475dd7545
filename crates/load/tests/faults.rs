//! A driver or GPU that fails while files are loaded to it: the right error or the right digests, never a hang, and nothing stays.
//!
//! Each case runs in a process of its own, over an emulated driver (`crates/cuda/tests/driver`) that is told how to fail.

mod common;

use std::env;
use std::process::{Command, Output};

use common::{Failure, Job, expected, file, pattern, request};
use sentry_cuda::Gpu;
use sentry_hash::{Algorithm, HashError};
use sentry_load::{Landing, Loader, Region, Room};

/// Several units, and nodes to be joined.
const LENGTH: usize = 3_000_001;

/// What the child does, and prints: the error's code, or whether the digests are right.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child() {
    let bytes = pattern(LENGTH);
    let file = file(&bytes);
    println!("\nanswer: {}", load(&file, &bytes));
}

fn load(file: &tempfile::NamedTempFile, bytes: &[u8]) -> String {
    let size = bytes.len() as u64;
    let requests = vec![request(0..2_000_000, Algorithm::Blake3), request(2_000_000..size, Algorithm::Blake3)];
    let gpu = match Gpu::open(0) {
        Ok(gpu) => gpu,
        Err(error) => return error.code().to_owned(),
    };
    let mut memory = match gpu.allocate(size) {
        Ok(memory) => memory,
        Err(error) => return error.code().to_owned(),
    };
    let landing = Landing::new(vec![Region { range: 0..size, room: Room::Device(memory.room(gpu)) }]).unwrap();
    let jobs = [Job::new(file, requests.clone(), landing)];
    let loader = Loader { threads: Some(2), ..Loader::default() };
    let loaded = loader.load(&jobs, &|job| &job.landing, &|_| ());
    if loaded.is_ok() {
        // So that no call of the driver comes after the verdict but those that give something back.
        jobs.into_iter().for_each(|job| job.landing.keep());
    }
    match loaded {
        Ok(loaded) if loaded.outputs == [expected(bytes, &requests)] => "right".to_owned(),
        Ok(_) => "other digests".to_owned(),
        Err(Failure::Hash(HashError::Device { code, .. })) => code.to_owned(),
        Err(other) => format!("{other:?}"),
    }
}

/// Runs the child over the emulated driver with these settings.
fn run(settings: &str) -> String {
    let mut command = Command::new(env::current_exe().unwrap());
    command.env("SENTRY_EMULATED_CUDA", settings).args(["--exact", "child", "--include-ignored", "--nocapture"]);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let output = String::from_utf8(stdout).unwrap();
    if status.code().is_none() && settings.starts_with("skip=") {
        // A kernel that was given a table that never arrived: a GPU says so, and the emulated one falls.
        return "killed".to_owned();
    }
    assert!(status.success(), "{settings}: {output}\n{}", String::from_utf8_lossy(&stderr));
    let answer = output.lines().find_map(|line| line.strip_prefix("answer: "));
    answer.unwrap_or_else(|| panic!("{settings}: {output}")).to_owned()
}

/// How often the child calls each function of the driver when nothing fails.
fn calls() -> Vec<(String, usize)> {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    assert_eq!(run(&format!("log={}", log.display())), "right");
    let mut calls: Vec<(String, usize)> = Vec::new();
    for name in std::fs::read_to_string(log).unwrap().lines() {
        match calls.iter_mut().find(|(known, _)| known == name) {
            Some((_, count)) => *count += 1,
            None => calls.push((name.to_owned(), 1)),
        }
    }
    calls
}

/// Calls whose failure hurts nobody: they give something back, or something else is tried then.
const HARMLESS: [&str; 7] = [
    "cuMemFree_v2",
    "cuMemFreeHost",
    "cuMemHostUnregister",
    "cuStreamDestroy_v2",
    "cuEventDestroy_v2",
    "cuCtxPopCurrent_v2",
    "cuMemHostRegister_v2",
];

#[test]
fn every_call_that_fails_is_an_error() {
    for (name, count) in calls() {
        for number in 1..=count {
            // CUDA_ERROR_LAUNCH_FAILED.
            let answer = run(&format!("fail={name}:{number}:719"));
            if HARMLESS.contains(&name.as_str()) {
                assert!(answer == "right" || answer == "gpu_failed", "{name} {number}: {answer}");
            } else if name != "cuCtxPushCurrent_v2" {
                assert_eq!(answer, "gpu_failed", "{name} {number}");
            } else {
                // It comes before calls of both kinds.
                assert!(answer == "gpu_failed" || answer == "right", "{name} {number}: {answer}");
            }
        }
    }
}

#[test]
fn work_that_fails_later_is_an_error() {
    for (name, count) in calls() {
        if ["cuLaunchKernel", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuMemsetD8Async"].contains(&name.as_str()) {
            for number in 1..=count {
                // CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_ECC_UNCORRECTABLE.
                assert_eq!(run(&format!("async={name}:{number}:700")), "gpu_failed", "{name} {number}");
                assert_eq!(run(&format!("async={name}:{number}:214")), "gpu_lost", "{name} {number}");
            }
        }
    }
}

#[test]
fn work_that_is_left_out_gives_no_verdict_on_bytes_that_are_not_there() {
    for (name, count) in calls() {
        if ["cuLaunchKernel", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2"].contains(&name.as_str()) {
            for number in 1..=count {
                let answer = run(&format!("skip={name}:{number}"));
                assert_ne!(answer, "right", "{name} {number}");
            }
        }
    }
}

#[test]
fn memory_that_runs_out() {
    for bytes in [1000, 3_000_000, 3_100_000, 3_200_000] {
        let answer = run(&format!("memory={bytes}"));
        assert!(answer == "gpu_out_of_memory" || (answer == "right" && bytes > 3_050_000), "{bytes}: {answer}");
    }
}

#[test]
fn a_gpu_that_is_lost_at_any_moment() {
    let total: usize = calls().into_iter().map(|(_, count)| count).sum();
    for first in (1..=total).step_by(7) {
        let answer = run(&format!("lost={first}"));
        assert!(answer == "gpu_lost" || (answer == "right" && first + 60 > total), "{first} of {total}: {answer}");
    }
}
