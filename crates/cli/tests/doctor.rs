//! `sentry doctor`, on whatever machine the tests run: it says what it found, and how a model would be read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A folder of this test's own, in `parent`.
fn folder(parent: &Path, name: &str) -> PathBuf {
    let folder = parent.join(format!("sentry-doctor-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn on_disk(name: &str) -> PathBuf {
    folder(Path::new(env!("CARGO_TARGET_TMPDIR")), name)
}

/// Runs it where no GPU is shown.
fn doctor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sentry")).arg("doctor").args(arguments).env("CUDA_VISIBLE_DEVICES", "").output().unwrap()
}

fn report(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = doctor(arguments);
    assert_eq!((status.code(), String::from_utf8(stderr).unwrap().as_str()), (Some(0), ""));
    String::from_utf8(stdout).unwrap()
}

fn document(arguments: &[&str]) -> Value {
    serde_json::from_str(&report(&[arguments, &["--json"]].concat())).unwrap()
}

fn lines<'a>(report: &'a str, what: &str) -> Vec<&'a str> {
    report.lines().filter(|line| line.starts_with(what)).collect()
}

#[test]
fn without_a_gpu_it_says_why_and_that_all_works_on_the_cpu() {
    let report = report(&[]);
    for what in ["cores  ", "driver  ", "GPU  ", "io_uring  ", "page cache  ", "cuFile  "] {
        assert_eq!(lines(&report, what).len(), 1, "{what} in {report}");
    }
    assert!(lines(&report, "GPU  ")[0].contains("none: there is no "), "{report}");
    assert!(lines(&report, "cuFile  ")[0].contains("is not used: "), "{report}");
    assert!(report.contains("hint: without a GPU everything works on the CPU"), "{report}");
    let document = document(&[]);
    let code = document["error"]["code"].as_str().unwrap();
    assert!(["gpu_no_driver", "gpu_not_found"].contains(&code), "{document}");
    assert_eq!((&document["gpus"], &document["model"]), (&Value::Array(vec![]), &Value::Null));
    assert_eq!(document["cufile"]["used"], false);
}

#[test]
fn a_gpu_that_was_not_asked_for_is_not_looked_for() {
    let report = report(&["--device", "cpu"]);
    assert!(lines(&report, "GPU  ")[0].ends_with("not looked for"), "{report}");
    assert!(!report.contains("without a GPU"), "{report}");
    assert_eq!(document(&["--device", "cpu"])["error"], Value::Null);
}

#[test]
fn every_byte_of_a_model_is_read_in_some_way() {
    let model = on_disk("ways");
    fs::create_dir_all(model.join("weights")).unwrap();
    fs::write(model.join("weights/one.safetensors"), vec![7; 3_000_000]).unwrap();
    fs::write(model.join("config.json"), "{}").unwrap();
    let path = model.to_str().unwrap();
    let found = &document(&[path])["model"];
    assert_eq!((&found["path"], &found["device"], &found["files"]), (&path.into(), &"cpu".into(), &2.into()), "{found}");
    assert_eq!(found["bytes"], 3_000_002);
    let ways = found["read_bytes"].as_object().unwrap();
    assert_eq!(ways.values().map(|bytes| bytes.as_u64().unwrap()).sum::<u64>(), 3_000_002, "{found}");
    assert_eq!(ways["cufile"], 0);
    let report = report(&[path]);
    assert!(report.contains("2 files, 3.00 MB; loaded to the CPU now, they would be read\n"), "{report}");
    fs::remove_dir_all(model).unwrap();
}

#[test]
fn files_in_memory_are_read_there() {
    let shm = Path::new("/dev/shm");
    if !shm.is_dir() {
        return;
    }
    let model = folder(shm, "memory");
    fs::write(model.join("one.bin"), [7; 10_000]).unwrap();
    let path = model.to_str().unwrap();
    let (found, report) = (document(&[path]), report(&[path]));
    fs::remove_dir_all(&model).unwrap();
    assert_eq!(found["model"]["in_memory_bytes"], 10_000, "{found}");
    assert_eq!(found["model"]["read_bytes"]["page_cache"], 10_000);
    assert_eq!(found["model"]["reasons"], Value::Array(vec![]));
    assert!(report.contains("in a file system in memory: copied from there by threads"), "{report}");
}

#[test]
fn what_it_cannot_look_at_is_an_error() {
    let missing = on_disk("missing").join("model");
    let Output { status, stdout, stderr } = doctor(&[missing.to_str().unwrap(), "--json"]);
    assert_eq!(status.code(), Some(2));
    let document: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!((&document["status"], &document["error"]["code"]), (&"not checked".into(), &"io".into()));
    assert!(String::from_utf8(stderr).unwrap().starts_with("error: cannot read "));
    fs::remove_dir_all(missing.parent().unwrap()).unwrap();
    for wrong in [&["--device", "gpu"][..], &["one", "two"], &["--load"]] {
        assert_eq!(doctor(wrong).status.code(), Some(2), "{wrong:?}");
    }
}
