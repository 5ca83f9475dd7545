//! Child processes over the emulated driver (`tests/driver`). A child is the test program's own ignored test `child`, which prints lines
//! that begin with `answer: `.

#![allow(dead_code, reason = "each test program uses some of it")]

use std::env;
use std::process::{Command, Output};

/// The child, over the emulated driver with these settings.
pub fn child(settings: &str) -> Command {
    let mut command = plain_child();
    command.env("SENTRY_EMULATED_CUDA", settings);
    command
}

/// The child, over whatever driver there is.
pub fn plain_child() -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "child", "--include-ignored", "--nocapture"]);
    command
}

/// So many answers of a child that has ended well.
pub fn answers(ended: &Output, count: usize, what: &str) -> Vec<String> {
    let output = str::from_utf8(&ended.stdout).unwrap();
    assert!(ended.status.success(), "{what}: {output}\n{}", String::from_utf8_lossy(&ended.stderr));
    let answers: Vec<String> = output.lines().filter_map(|line| line.strip_prefix("answer: ")).map(str::to_owned).collect();
    assert_eq!(answers.len(), count, "{what}: {output}");
    answers
}

/// The calls of the driver, in their order, by what `run` does with these settings.
pub fn calls(run: impl FnOnce(&str)) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    run(&format!("log={}", log.display()));
    std::fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect()
}

/// How often each function is called, in the order of their first calls.
pub fn counts(calls: Vec<String>) -> Vec<(String, usize)> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for name in calls {
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    counts
}
