//! A driver or GPU that fails while files are loaded to it: the right error or the right digests, never a hang, and nothing stays.
//!
//! Each case runs in a process of its own, over an emulated driver (`crates/cuda/tests/driver`) that is told how to fail.

#![allow(unsafe_code)]

mod common;
#[path = "../../cuda/tests/emulated/mod.rs"]
mod emulated;

use std::env;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::{Failure, Job, expected, file, pattern, request};
use sentry_cuda::{DeviceMemory, Gpu};
use sentry_hash::files::Request;
use sentry_hash::{Algorithm, HashError};
use sentry_load::{Landing, Loader, Reading, Region, Room};

/// Part of what [`requests`] ask for.
const LENGTH: usize = 1_000_000;

/// One message with nodes to be joined, and small ones with gaps between: more units than a thread has buffers.
fn requests() -> Vec<Request> {
    let small = (0..6).map(|number| 610_000 + 60_000 * number).map(|start| request(start..start + 50_001, Algorithm::Blake3));
    small.chain([request(0..600_000, Algorithm::Blake3)]).collect()
}

/// What the child does: some loads, one after the other. It prints what came of each.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child() {
    thread::spawn(|| {
        thread::sleep(Duration::from_secs(120));
        eprintln!("it hangs");
        std::process::abort();
    });
    let number = |name| env::var(name).unwrap().parse::<usize>().unwrap();
    let uses_cufile = number("CUFILE") == 1;
    let reading = if uses_cufile { Reading::Direct } else { Reading::Auto };
    if uses_cufile {
        sentry_load::assume_nvidia_fs();
    }
    let loader = Loader { threads: Some(number("THREADS")), reading, ..Loader::default() };
    let bytes = pattern(LENGTH);
    let file = file(&bytes[..LENGTH - number("MISSING")]);
    for _ in 0..number("LOADS") {
        println!("\nanswer: {}", load(&loader, &file, &bytes, !uses_cufile));
    }
}

/// One load: the error's code, or whether digests and bytes are right; and whether anything stays of a load that fails.
fn load(loader: &Loader<'_>, file: &Arc<std::fs::File>, bytes: &[u8], has_to_receive: bool) -> String {
    let gpu = match Gpu::open(0) {
        Ok(gpu) => gpu,
        Err(error) => return error.code().to_owned(),
    };
    let mut memory = match gpu.allocate(LENGTH as u64) {
        Ok(memory) => memory,
        Err(error) => return error.code().to_owned(),
    };
    let landing = Landing::new(vec![Region { range: 0..LENGTH as u64, room: Room::Device(memory.room(gpu)) }]).unwrap();
    let jobs = [Job { has_to_receive, ..Job::new(file, requests(), landing) }];
    let answer = match loader.load(&jobs, &|job| &job.landing, &|_| ()) {
        Ok(loaded) if loaded.outputs == [expected(bytes, &requests())] => {
            jobs.into_iter().for_each(|job| job.landing.keep());
            let lies_there = there(&memory);
            let is_right = |Request { range, .. }: &Request| {
                let range = range.start as usize..range.end as usize;
                lies_there[range.clone()] == bytes[range]
            };
            let way = if loaded.report.cufile > 0 { " by cuFile" } else { "" };
            return if requests().iter().all(is_right) { format!("right{way}") } else { "wrong bytes".to_owned() };
        }
        Ok(_) => "other digests".to_owned(),
        Err(Failure::Hash(HashError::Device { code, .. })) => code.to_owned(),
        Err(Failure::Read(_, kind)) => format!("{kind:?}"),
        Err(other) => format!("{other:?}"),
    };
    drop(jobs);
    let stays = if there(&memory).iter().all(|&byte| byte == 0) { "wiped" } else { "left" };
    format!("{answer}, {stays}")
}

/// What lies in a GPU's memory, without a call of the driver.
fn there(memory: &DeviceMemory) -> &[u8] {
    let bytes = memory.bytes(0, memory.len());
    // SAFETY: an emulated GPU's memory is this process's, and is as long as that.
    unsafe { std::slice::from_raw_parts(bytes.address() as *const u8, bytes.len() as usize) }
}

/// How the child loads.
#[derive(Debug, Clone, Copy)]
struct Child {
    loads: usize,
    threads: usize,
    uses_cufile: bool,
    /// Bytes that the file lacks.
    missing: usize,
}

/// One thread: calls of the driver have an order.
const CHILD: Child = Child { loads: 3, threads: 1, uses_cufile: false, missing: 0 };

impl Child {
    /// What comes of its loads over the emulated driver with these settings.
    fn run(self, settings: &str) -> Vec<String> {
        let mut command = emulated::child(settings);
        for (name, number) in
            [("LOADS", self.loads), ("THREADS", self.threads), ("CUFILE", self.uses_cufile.into()), ("MISSING", self.missing)]
        {
            command.env(name, number.to_string());
        }
        let ended = command.output().unwrap();
        if ended.status.code().is_none() && settings.starts_with("skip=") && ended.stderr.trim_ascii().is_empty() {
            // A kernel that was given a table that never arrived: a GPU says so, and the emulated one falls.
            return vec!["killed".to_owned()];
        }
        emulated::answers(&ended, self.loads, settings)
    }

    /// How often it calls each function when nothing fails.
    fn calls(self) -> Vec<(String, usize)> {
        emulated::counts(emulated::calls(|settings| {
            let way = if self.uses_cufile { "cufile=direct;" } else { "" };
            for answer in self.run(&format!("{way}{settings}")) {
                assert!(answer.starts_with("right"), "{answer}");
            }
        }))
    }

    /// Each function, and its calls by number: how many are made by the first load, and by both of the first two.
    fn calls_of_two(self) -> Vec<(String, usize, usize)> {
        let (one, two) = (Self { loads: 1, ..self }.calls(), Self { loads: 2, ..self }.calls());
        let in_first = |name: &str| one.iter().find(|(known, _)| known == name).map_or(0, |(_, count)| *count);
        two.into_iter().map(|(name, count)| (in_first(&name), name, count)).map(|(first, name, count)| (name, first, count)).collect()
    }
}

/// A bounded number of calls of a function: the first ones of each load, and some after them.
fn some(first: usize, count: usize) -> Vec<usize> {
    let is_taken =
        |number: &usize| *number <= 2 || (*number > first && *number <= first + 3) || *number == count || number.is_multiple_of(5);
    (1..=count).filter(is_taken).collect()
}

fn has(parts: &[&str], name: &str) -> bool {
    parts.iter().any(|part| name.contains(part))
}

#[test]
fn every_call_that_fails_is_an_error_and_the_next_load_works() {
    for (name, first, count) in CHILD.calls_of_two() {
        // They give something back, or something else is tried then.
        let may_fail = has(&["Free", "Unregister", "Destroy", "PopCurrent", "MemHostRegister"], &name);
        // They are made for such calls as well, or to be sure.
        let may_fail_at_times = has(&["PushCurrent", "StreamSynchronize"], &name);
        let mut failed = 0;
        for number in some(first, count) {
            // CUDA_ERROR_LAUNCH_FAILED.
            let answers = CHILD.run(&format!("fail={name}:{number}:719"));
            let what = format!("{name} {number} of {first}, {count}: {answers:?}");
            assert!(answers.iter().all(|answer| ["right", "gpu_failed", "gpu_failed, wiped"].contains(&answer.as_str())), "{what}");
            if answers.iter().all(|answer| answer == "right") {
                assert!(may_fail || may_fail_at_times, "{what}");
                continue;
            }
            failed += 1;
            if number > first {
                assert!(answers[0] == "right" && answers[1] != "right" && answers[2] == "right", "{what}");
            } else {
                // What a process does once may have failed for good.
                assert_ne!(answers[0], "right", "{what}");
            }
        }
        assert!(may_fail || failed > 0, "{name}");
    }
}

#[test]
fn work_that_fails_later_is_an_error() {
    for (name, first, count) in CHILD.calls_of_two() {
        if has(&["cuLaunchKernel", "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuMemsetD8Async"], &name) {
            for number in some(first, count) {
                // CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_ECC_UNCORRECTABLE.
                for (status, code) in [(700, "gpu_failed"), (214, "gpu_lost")] {
                    let answers = CHILD.run(&format!("async={name}:{number}:{status}"));
                    let (before, after) = answers.split_at(usize::from(number > first));
                    assert!(before.iter().all(|answer| answer == "right"), "{name} {number}: {answers:?}");
                    // The context is of no more use.
                    assert!(after.iter().all(|answer| answer.starts_with(code)), "{name} {number}: {answers:?}");
                }
            }
        }
    }
}

#[test]
fn work_that_is_left_out_gives_no_verdict_on_bytes_that_are_not_there() {
    for (name, first, count) in CHILD.calls_of_two() {
        let is_work = has(&["cuLaunchKernel", "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync"], &name);
        let orders_work = has(&["cuMemsetD8Async", "EventRecord", "EventSynchronize", "StreamSynchronize", "StreamWaitEvent"], &name);
        for number in if is_work { (1..=count).collect() } else { some(first, count) } {
            if !is_work && !orders_work {
                continue;
            }
            let answers = CHILD.run(&format!("skip={name}:{number}"));
            assert!(!answers.iter().any(|answer| answer == "wrong bytes"), "{name} {number}: {answers:?}");
            if number <= first && is_work {
                assert_ne!(answers[0], "right", "{name} {number}: {answers:?}");
            } else if name == "cuLaunchKernel" {
                // What the load before has left on the GPU is right, and is no answer.
                assert_eq!(answers[1], "gpu_digest_unwritten, wiped", "{number}: {answers:?}");
            }
            if number > first && answers[0] != "killed" {
                assert_eq!((&*answers[0], &*answers[2]), ("right", "right"), "{name} {number}: {answers:?}");
            }
        }
    }
}

#[test]
fn memory_that_runs_out() {
    let (name, _, count) = CHILD.calls_of_two().into_iter().find(|(name, ..)| name == "cuMemAlloc_v2").unwrap();
    for number in 1..=count {
        // CUDA_ERROR_OUT_OF_MEMORY.
        let answers = CHILD.run(&format!("fail={name}:{number}:2"));
        let failed = answers.iter().position(|answer| answer != "right").unwrap();
        assert!(["gpu_out_of_memory", "gpu_out_of_memory, wiped"].contains(&&*answers[failed]), "allocation {number}: {answers:?}");
        assert!(answers[failed + 1..].iter().all(|answer| answer == "right"), "allocation {number}: {answers:?}");
    }
    // Not even for a stream to wipe with.
    let one = Child { loads: 1, ..CHILD };
    let calls = |name: &str| one.calls().into_iter().find(|(known, _)| known == name).unwrap().1;
    let (launches, streams) = (calls("cuLaunchKernel"), calls("cuStreamCreate"));
    let answers = one.run(&format!("fail=cuLaunchKernel:{launches}:2;fail=cuStreamCreate:{}:2", streams + 1));
    assert_eq!(answers, ["gpu_out_of_memory, wiped"]);
    // Pinned memory: what is refused to be pinned is asked of the driver, which has none either.
    let (name, _, count) = CHILD.calls_of_two().into_iter().find(|(name, ..)| name == "cuMemHostRegister_v2").unwrap();
    for number in 1..=count {
        let refused = format!("fail={name}:{number}:2");
        assert_eq!(CHILD.run(&refused), ["right"; 3], "allocated instead");
        let asked = CHILD.calls().into_iter().find(|(name, _)| name == "cuMemHostAlloc").map_or(0, |(_, count)| count);
        let answers: Vec<_> = (1..=asked + 1).map(|other| CHILD.run(&format!("{refused};fail=cuMemHostAlloc:{other}:2"))).collect();
        assert!(answers.iter().any(|answers| answers[0] == "gpu_out_of_memory, wiped"), "{number}: {answers:?}");
    }
    // In all, whatever it is for. The emulated GPU has 256 MiB.
    for bytes in [1 << 10, 100_000, LENGTH, LENGTH + 1000, LENGTH + 100_000] {
        let answers = CHILD.run(&format!("memory={bytes}"));
        assert!(answers.iter().all(|answer| answer.starts_with("gpu_out_of_memory") && !answer.ends_with("left")), "{bytes}: {answers:?}");
    }
}

#[test]
fn a_gpu_that_is_lost_at_any_moment() {
    let total: usize = CHILD.calls().into_iter().map(|(_, count)| count).sum();
    let mut lost = 0;
    for first in (1..=total).step_by(11) {
        let answers = CHILD.run(&format!("lost={first}"));
        let gone = answers.iter().position(|answer| answer != "right").unwrap_or(answers.len());
        assert!(answers[gone..].iter().all(|answer| answer.starts_with("gpu_lost")), "{first} of {total}: {answers:?}");
        lost += usize::from(gone < answers.len());
    }
    assert!(lost * 11 > total * 9 / 10, "{lost} of {total} by steps of 11");
}

/// Which thread is hit differs from run to run.
#[test]
fn several_threads_and_a_driver_that_fails() {
    let child = Child { loads: 2, threads: 3, ..CHILD };
    for name in ["cuMemcpyHtoDAsync_v2", "cuEventRecord", "cuEventSynchronize", "cuStreamCreate", "cuEventCreate", "cuStreamSynchronize"] {
        for number in (1..30).step_by(3) {
            let answers = child.run(&format!("fail={name}:{number}:719"));
            let mut faults = answers.iter().filter(|answer| *answer != "right");
            assert!(faults.all(|answer| answer.starts_with("gpu_failed") && !answer.ends_with("left")), "{name} {number}: {answers:?}");
        }
    }
    for first in (100..400).step_by(23) {
        let answers = child.run(&format!("lost={first}"));
        assert!(answers.iter().all(|answer| answer == "right" || answer.starts_with("gpu_lost")), "{first}: {answers:?}");
    }
}

#[test]
fn pinned_memory_is_used_again() {
    let pinned = |loads| {
        let calls = Child { loads, ..CHILD }.calls().into_iter();
        calls.filter(|(name, _)| has(&["cuMemHostAlloc", "cuMemHostRegister"], name)).map(|(_, count)| count).sum::<usize>()
    };
    assert_eq!(pinned(1), pinned(3));
}

/// Without files that can be read around the page cache there is nothing for cuFile.
fn cufile() -> Option<Child> {
    common::reads_around_cache().then_some(Child { uses_cufile: true, ..CHILD })
}

#[test]
fn reads_by_cufile() {
    let Some(child) = cufile() else { return };
    assert_eq!(child.run("cufile=direct"), ["right by cuFile"; 3]);
    // It stays out where it would copy, does not start, or does not take the file; and does not read what it refuses.
    for settings in [
        "cufile=compat",
        "cufile=direct;fail=cuFileDriverOpen:1:5001",
        "cufile=direct;fail=cuFileDriverGetProperties:1:5030",
        "cufile=direct;fail=cuFileHandleRegister:1:5008;fail=cuFileHandleRegister:2:5008;fail=cuFileHandleRegister:3:5008",
    ] {
        assert_eq!(child.run(settings), ["right"; 3], "{settings}");
    }
    for number in [1, 5, 7] {
        assert_eq!(child.run(&format!("cufile=direct;fail=cuFileRead:{number}:5014")), ["right by cuFile"; 3], "read {number}");
        // EINTR.
        assert_eq!(child.run(&format!("cufile=direct;fail=cuFileRead:{number}:4")), ["right by cuFile"; 3], "read {number}");
        for most in [1, 4096, 5000] {
            let settings = format!("cufile=direct;short=cuFileRead:{number}:{most};short=cuFileRead:{}:1", number + 1);
            assert_eq!(child.run(&settings), ["right by cuFile"; 3], "{settings}");
        }
    }
}

#[test]
fn reads_by_cufile_that_fail() {
    let Some(child) = cufile() else { return };
    let (name, first, count) = child.calls_of_two().into_iter().find(|(name, ..)| name == "cuFileRead").unwrap();
    assert!(first >= requests().len() && count == 2 * first);
    let right = "right by cuFile";
    // EIO.
    let failed = format!("{:?}, wiped", std::io::Error::from_raw_os_error(5).kind());
    for number in 1..=count {
        let place = usize::from(number > first);
        let one_is = |answer| {
            let mut answers = [right; 3];
            answers[place] = answer;
            answers
        };
        assert_eq!(child.run(&format!("cufile=direct;fail={name}:{number}:5")), one_is(&failed), "read {number}");
        assert_eq!(child.run(&format!("cufile=direct;skip={name}:{number}")), one_is("other digests, wiped"), "read {number}");
        assert_eq!(child.run(&format!("cufile=direct;short={name}:{number}:0")), one_is("UnexpectedEof, wiped"), "read {number}");
    }
    let short = Child { missing: 60_000, ..child };
    assert_eq!(short.run("cufile=direct"), ["UnexpectedEof, wiped"; 3]);
}

#[test]
fn a_gpu_that_is_lost_while_cufile_reads_to_it() {
    let Some(child) = cufile() else { return };
    let total: usize = child.calls().into_iter().map(|(_, count)| count).sum();
    for first in (1..=total).step_by(7) {
        for answer in child.run(&format!("cufile=direct;lost={first}")) {
            assert!(answer == "right by cuFile" || answer.starts_with("gpu_lost"), "{first} of {total}: {answer}");
        }
    }
}
