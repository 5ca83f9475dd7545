//! What goes wrong with a driver or a GPU is the right error, and never a digest: the device cases of the threat model.
//!
//! Each case runs in a process of its own, over an emulated driver (`tests/driver`) that is told how to fail.

mod emulated;

use std::env;
use std::path::Path;
use std::process::Command;

use sentry_cuda::{Gpu, GpuError};
use sentry_hash::Algorithm;

/// Longer than a block of any algorithm, so that nodes are joined.
const LENGTH: usize = 1_500_000;

/// What the child does, and prints: the error's code and text, or the digests.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child() {
    let messages = [vec![7; LENGTH], vec![8; 100]];
    let slices: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    for _ in 0..env::var("REPEAT").map_or(1, |count| count.parse().unwrap()) {
        let answer = Gpu::open(0).and_then(|gpu| gpu.digest_many(Algorithm::Blake3, &slices));
        match answer {
            Ok(digests) => println!("\nanswer: {}", digests.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")),
            Err(error) => println!("\nanswer: {}: {error}", error.code()),
        }
    }
}

/// Runs the child over the emulated driver with these settings.
fn run(settings: &str, repeat: usize) -> Vec<String> {
    answers(emulated::child(settings), repeat)
}

fn answers(mut child: Command, repeat: usize) -> Vec<String> {
    emulated::answers(&child.env("REPEAT", repeat.to_string()).output().unwrap(), repeat, "a child")
}

fn right() -> String {
    let digests = [vec![7; LENGTH], vec![8; 100]].map(|message| Algorithm::Blake3.digest(&message).to_string());
    digests.join(" ")
}

/// How often the child calls each function of the driver when nothing fails.
fn calls() -> Vec<(String, usize)> {
    emulated::counts(emulated::calls(|settings| assert_eq!(run(settings, 1), [right()])))
}

#[test]
fn no_driver() {
    let mut command = emulated::plain_child();
    command.env_remove("LD_LIBRARY_PATH");
    let answer = answers(command, 1).remove(0);
    assert_eq!(answer, "gpu_no_driver: there is no NVIDIA driver: libcuda cannot be loaded");
}

#[test]
fn an_old_driver() {
    let answer = run("driver=11080", 1).remove(0);
    assert_eq!(answer, "gpu_old_driver: the NVIDIA driver is too old: it is made for CUDA 11.8, and this needs one for 12.0 or later");
}

#[test]
fn no_device_and_an_old_one() {
    assert_eq!(run("devices=0", 1), ["gpu_not_found: there is no GPU 0: the driver shows 0"]);
    let answer = run("capability=70", 1).remove(0);
    assert!(
        answer.starts_with("gpu_too_old: GPU 0 (") && answer.ends_with("has compute capability 7.0, and at least 7.5 is needed"),
        "{answer}"
    );
}

/// A call that fails, whichever it is, is an error. Calls that free something, also where they enter the context for it, may fail:
/// nobody waits for what they say.
#[test]
fn every_call_of_the_driver_may_fail() {
    let calls = calls();
    let mut failed = 0;
    for (name, count) in &calls {
        let may_be_ignored = ["Free", "Destroy", "PopCurrent", "PushCurrent"].iter().any(|part| name.contains(part));
        // The first, the last, and some between.
        let numbers: Vec<usize> = (1..=*count).filter(|number| *number <= 3 || number == count || number % 7 == 0).collect();
        for number in numbers {
            let answer = run(&format!("fail={name}:{number}:999"), 1).remove(0);
            if may_be_ignored && answer == right() {
                continue;
            }
            assert!(answer.starts_with("gpu_"), "{name}, call {number}: {answer}");
            failed += 1;
        }
    }
    assert!(failed > 30, "{failed} of {calls:?}");
}

/// Work that the driver takes and does not do: a digest that was not written, wherever it got lost.
#[test]
fn work_that_is_not_done_is_no_digest() {
    let count = |wanted: &str| calls().iter().find(|(name, _)| name == wanted).map_or(0, |(_, count)| *count);
    for name in ["cuLaunchKernel", "cuMemcpyDtoHAsync_v2"] {
        let count = count(name);
        assert!(count >= 2, "{name}");
        for number in 1..=count {
            let answer = run(&format!("skip={name}:{number}"), 1).remove(0);
            let is_refused = answer.starts_with("gpu_digest_unwritten: ") || answer.starts_with("gpu_self_test: ");
            assert!(is_refused, "{name}, call {number}: {answer}");
        }
    }
}

/// The second time, memory that was used before still holds the right nodes and digests.
#[test]
fn what_an_earlier_call_left_is_not_taken_for_an_answer() {
    let launches = |repeat| {
        let calls = emulated::calls(|settings| drop(run(settings, repeat)));
        calls.into_iter().filter(|name| name == "cuLaunchKernel").count()
    };
    let (once, twice) = (launches(1), launches(2));
    assert!(once < twice);
    for number in once + 1..=twice {
        let answers = run(&format!("skip=cuLaunchKernel:{number}"), 2);
        assert_eq!(answers[0], right());
        assert!(answers[1].starts_with("gpu_digest_unwritten: "), "launch {number} did nothing: {}", answers[1]);
    }
}

#[test]
fn memory_runs_out() {
    // Nothing fits; then what the test of the kernels needs, and not the message.
    for memory in [1 << 10, 1 << 18, 1 << 20] {
        let answer = run(&format!("memory={memory}"), 1).remove(0);
        assert!(answer.starts_with("gpu_out_of_memory: GPU 0 has no memory left for "), "{memory}: {answer}");
    }
    assert_eq!(run(&format!("memory={}", 64 << 20), 1), [right()]);
}

/// Memory comes back: what fails the first time works the second time.
#[test]
fn after_an_error_the_next_call_works() {
    let (_, allocations) = calls().into_iter().find(|(name, _)| name == "cuMemAlloc_v2").unwrap();
    for number in 1..=allocations {
        let answers = run(&format!("fail=cuMemAlloc_v2:{number}:2"), 2);
        assert!(answers[0].starts_with("gpu_out_of_memory: "), "allocation {number}: {}", answers[0]);
        assert_eq!(answers[1], right(), "after allocation {number}");
    }
}

#[test]
fn a_fault_while_a_kernel_runs_is_that_call_s_error() {
    for number in [1, 3] {
        // An illegal address: it comes to light when the stream is waited for, and the context is of no more use.
        let answers = run(&format!("async=cuLaunchKernel:{number}:700"), 2);
        for answer in answers {
            assert!(answer.starts_with("gpu_failed: GPU 0: "), "{answer}");
            assert!(answer.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{answer}");
        }
    }
}

/// From any moment on.
#[test]
fn a_gpu_that_is_lost_is_an_error_and_no_other_place_hashes() {
    let total: usize = calls().iter().map(|(_, count)| count).sum();
    let (mut lost, mut at_the_end) = (0, 0);
    for call in (1..=total).step_by(5) {
        for answer in run(&format!("lost={call}"), 2) {
            if answer == right() {
                // Only memory was left to be freed.
                at_the_end += 1;
                assert!(call * 10 > total * 8, "lost at call {call} of {total}");
            } else {
                assert!(answer.starts_with("gpu_lost: GPU 0 was lost while "), "lost at call {call}: {answer}");
                lost += 1;
            }
        }
    }
    assert!(lost > 2 * at_the_end, "{lost}, {at_the_end}");
}

/// The loader is asked for the driver by its name: a library of that name in the working directory is not one.
#[test]
fn a_library_planted_in_the_working_directory_is_not_loaded() {
    let emulated = env::var("LD_LIBRARY_PATH").expect("where the emulated driver is");
    let library = emulated.split(':').map(|folder| Path::new(folder).join("libcuda.so.1")).find(|path| path.exists()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in ["libcuda.so.1", "libcuda.so", "cuda", "libnvcuda.so"] {
        std::fs::copy(&library, folder.path().join(name)).unwrap();
    }
    let mut command = emulated::plain_child();
    command.env_remove("LD_LIBRARY_PATH").current_dir(folder.path());
    assert!(answers(command, 1)[0].starts_with("gpu_no_driver: "));
    // It would have worked from a folder that the loader searches.
    let mut command = emulated::plain_child();
    command.env("LD_LIBRARY_PATH", folder.path()).current_dir(folder.path());
    assert_eq!(answers(command, 1), [right()]);
}

#[test]
fn errors_have_a_name_for_programs_and_a_text_for_people() {
    let error = GpuError::OutOfMemory { ordinal: 1, wanted: "4096 bytes".to_owned() };
    assert_eq!(error.code(), "gpu_out_of_memory");
    let text = "GPU 1 has no memory left for 4096 bytes; other users of the GPU may hold it, such as torch's cache";
    assert_eq!(error.to_string(), text);
}
