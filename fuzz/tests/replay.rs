//! Replays the kept inputs of every target on stable Rust.

use std::fs;
use std::path::{Path, PathBuf};

use sentry_fuzz::{TARGETS, target};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The files of a folder, which need not be there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.expect("the folder can be listed").path()).collect()
}

/// Targets whose inputs are never accepted: nobody can sign for the key.
const NEVER_ACCEPTS: [&str; 1] = ["signature"];

#[test]
fn kept_inputs_find_nothing() {
    for (name, run) in TARGETS {
        let corpus = files(&folder("corpus").join(name));
        let accepted = corpus.iter().filter(|path| run(&fs::read(path).expect("a kept input can be read"))).count();
        println!("{name}: {} inputs, {accepted} accepted", corpus.len());
        assert!(corpus.len() >= 5, "{name} has no corpus to speak of");
        assert_eq!(accepted > 0, !NEVER_ACCEPTS.contains(&name), "{name}: {accepted} inputs get through the parser");
    }
}

#[test]
fn old_findings_stay_fixed() {
    let mut replayed = 0;
    for path in files(&folder("regressions")).iter().flat_map(|folder| files(folder)) {
        let name = path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).expect("a folder");
        let run = target(name).unwrap_or_else(|| panic!("no target for {}", path.display()));
        run(&fs::read(&path).expect("a kept input can be read"));
        replayed += 1;
    }
    assert!(replayed > 0, "the findings of the past are gone");
}

#[test]
fn every_folder_has_a_target() {
    for kind in ["corpus", "regressions"] {
        for path in files(&folder(kind)).iter().filter(|path| path.is_dir()) {
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            assert!(target(name).is_some(), "{kind}/{name}");
        }
    }
}
