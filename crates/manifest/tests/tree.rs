//! What is opened is what was listed, whatever happens to the directory in between.

use std::fs;
use std::path::PathBuf;

use sentry_hash::Cpu;
use sentry_manifest::{IgnoreRules, ManifestError, ManifestOptions, ModelTree, Serialization, measure};

fn model() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["model/sub", "other"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
        fs::write(dir.path().join(folder).join("weights"), folder).unwrap();
    }
    let model = dir.path().join("model");
    (dir, model)
}

/// Lists the model, does `change`, and measures what was listed.
fn measure_after(change: impl FnOnce(&std::path::Path)) -> Result<(), ManifestError> {
    let (dir, model) = model();
    let tree = ModelTree::open(&model).unwrap();
    let files = tree.scan(&IgnoreRules::default(), false).unwrap();
    change(dir.path());
    let options = ManifestOptions { serialization: Serialization::default(), annotate: true };
    measure::for_signing(&tree, &files, &options, &Cpu::new(), &|_| ()).map(|_| ())
}

#[test]
fn another_folder_in_its_place_is_noticed() {
    measure_after(|_| ()).unwrap();
    let swapped = measure_after(|dir| {
        fs::rename(dir.join("model/sub"), dir.join("aside")).unwrap();
        fs::rename(dir.join("other"), dir.join("model/sub")).unwrap();
    });
    assert_eq!(swapped.unwrap_err().code(), "file_changed_while_read");
}

#[test]
fn another_file_in_its_place_is_noticed() {
    let replaced = measure_after(|dir| fs::rename(dir.join("other/weights"), dir.join("model/sub/weights")).unwrap());
    assert_eq!(replaced.unwrap_err().code(), "file_changed_while_read");
    let linked = measure_after(|dir| {
        fs::remove_file(dir.join("model/sub/weights")).unwrap();
        std::os::unix::fs::symlink(dir.join("other/weights"), dir.join("model/sub/weights")).unwrap();
    });
    assert_eq!(linked.unwrap_err().code(), "symlink");
    let gone = measure_after(|dir| fs::remove_dir_all(dir.join("model/sub")).unwrap());
    assert_eq!(gone.unwrap_err().code(), "file_changed_while_read");
}

#[test]
fn the_model_itself_can_be_renamed_meanwhile() {
    measure_after(|dir| {
        fs::rename(dir.join("model"), dir.join("renamed")).unwrap();
        fs::rename(dir.join("other"), dir.join("model")).unwrap();
    })
    .unwrap();
}
