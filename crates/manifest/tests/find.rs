//! A file that is found by its name is the one that a listing has under that name.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use sentry_manifest::load::SignedFile;
use sentry_manifest::{FoundFile, IgnoreRules, Manifest, ManifestError, ModelTree, Resource, ResourcePath, Serialization};

/// A model of a file at its top and one in folders, with a file of the same size outside.
fn model() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    fs::create_dir_all(model.join("a/b")).unwrap();
    fs::write(model.join("top"), "top").unwrap();
    fs::write(model.join("a/b/deep"), "deep").unwrap();
    fs::write(dir.path().join("outside"), "outs").unwrap();
    (dir, model)
}

fn path(name: &str) -> ResourcePath {
    ResourcePath::new(name).unwrap()
}

fn find(tree: &ModelTree, name: &str, follow_links: bool) -> Result<FoundFile, (&'static str, Option<io::ErrorKind>)> {
    tree.find(&path(name), follow_links).map_err(|error| {
        let kind = if let ManifestError::Io { source, .. } = &error { Some(source.kind()) } else { None };
        (error.code(), kind)
    })
}

/// Everything that is listed is found, and is the same.
fn assert_found(tree: &ModelTree, follow_links: bool, count: usize) {
    let files = tree.scan(&IgnoreRules::default(), follow_links).unwrap();
    assert_eq!(files.len(), count);
    for file in files {
        assert_eq!(tree.find(&file.path, follow_links).unwrap(), file);
        assert_eq!(tree.open_file(&file).unwrap().size, file.size);
    }
}

#[test]
fn what_is_listed_is_found() {
    let (dir, model) = model();
    assert_found(&ModelTree::open(&model).unwrap(), false, 2);
    assert_found(&ModelTree::open(&model).unwrap(), true, 2);
    symlink("a/b/deep", model.join("link")).unwrap();
    symlink("../../link", model.join("a/b/twice")).unwrap();
    assert_found(&ModelTree::open(&model).unwrap(), true, 4);
    let snapshot = dir.path().join("cache/snapshots/1a");
    fs::create_dir_all(snapshot.join("a")).unwrap();
    fs::create_dir_all(dir.path().join("cache/blobs")).unwrap();
    fs::write(dir.path().join("cache/blobs/2b"), "blob").unwrap();
    symlink("../../blobs/2b", snapshot.join("top")).unwrap();
    symlink("../../../blobs/2b", snapshot.join("a/deep")).unwrap();
    assert_found(&ModelTree::open(&snapshot).unwrap(), false, 2);
    assert_found(&ModelTree::open(&dir.path().join("outside")).unwrap(), false, 1);
}

#[test]
fn what_is_not_there_is_not_found() {
    let (dir, model) = model();
    let absent = |tree: &ModelTree, name: &str| assert_eq!(find(tree, name, false), Err(("io", Some(io::ErrorKind::NotFound))), "{name}");
    let tree = ModelTree::open(&model).unwrap();
    ["absent", "a/absent", "a/absent/deep", "outside", "Top"].iter().for_each(|name| absent(&tree, name));
    let tree = ModelTree::open(&dir.path().join("outside")).unwrap();
    ["absent", "a/outside", "top"].iter().for_each(|name| absent(&tree, name));
    assert_eq!(find(&tree, ".", false), find(&tree, "outside", false), "a model of one file has two names");
}

#[test]
fn what_is_no_file_is_refused() {
    let (_dir, model) = model();
    let fifo = model.join("a/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o644), 0).unwrap();
    symlink("b", model.join("a/folder")).unwrap();
    symlink("fifo", model.join("a/pipe")).unwrap();
    let tree = ModelTree::open(&model).unwrap();
    for (name, follow_links) in [("a", false), ("a/b", true), ("a/fifo", false), ("a/fifo", true), ("a/folder", true), ("a/pipe", true)] {
        assert_eq!(find(&tree, name, follow_links), Err(("special_file", None)), "{name}");
    }
    for name in ["a/folder", "a/pipe"] {
        assert_eq!(find(&tree, name, false), Err(("symlink", None)), "{name}");
    }
    assert_eq!(find(&tree, ".", false), Err(("io", Some(io::ErrorKind::IsADirectory))));
}

#[test]
fn links_are_followed_as_far_as_the_model_reaches() {
    let (dir, model) = model();
    symlink("a", model.join("folder")).unwrap();
    symlink("../outside", model.join("out")).unwrap();
    symlink(dir.path(), model.join("parent")).unwrap();
    symlink("/proc/self/fd/0", model.join("magic")).unwrap();
    symlink("self", model.join("self")).unwrap();
    symlink("absent", model.join("dangling")).unwrap();
    let tree = ModelTree::open(&model).unwrap();
    let found = find(&tree, "folder/b/deep", true).unwrap();
    assert!(found.is_link() && found.path == path("folder/b/deep") && found.size == 4);
    assert_eq!(tree.open_file(&found).unwrap().size, 4);
    for escape in ["out", "parent/outside", "parent/model/top", "magic"] {
        assert_eq!(find(&tree, escape, true), Err(("symlink_escape", None)), "{escape}");
    }
    assert_eq!(find(&tree, "self", true), Err(("symlink_cycle", None)));
    assert_eq!(find(&tree, "self/deep", true), Err(("symlink_cycle", None)));
    assert_eq!(find(&tree, "dangling", true), Err(("io", Some(io::ErrorKind::NotFound))));
    for name in ["out", "self", "dangling", "magic"] {
        assert_eq!(find(&tree, name, false), Err(("symlink", None)), "{name}");
    }
    for name in ["folder/b/deep", "parent/outside"] {
        assert!(find(&tree, name, false).is_err(), "{name}: no folder is a link unless links are followed");
    }
}

#[test]
fn what_is_opened_is_what_was_found() {
    let (dir, model) = model();
    symlink("top", model.join("link")).unwrap();
    let tree = ModelTree::open(&model).unwrap();
    let (plain, link) = (find(&tree, "a/b/deep", true).unwrap(), find(&tree, "link", true).unwrap());
    fs::rename(dir.path().join("outside"), model.join("a/b/deep")).unwrap();
    assert_eq!(tree.open_file(&plain).unwrap_err().code(), "file_changed_while_read");
    fs::remove_file(model.join("a/b/deep")).unwrap();
    assert_eq!(tree.open_file(&plain).unwrap_err().code(), "file_changed_while_read");
    symlink("../../top", model.join("a/b/deep")).unwrap();
    assert_eq!(tree.open_file(&plain).unwrap_err().code(), "symlink");
    fs::remove_file(model.join("link")).unwrap();
    fs::write(model.join("another"), "top").unwrap();
    symlink("another", model.join("link")).unwrap();
    assert_eq!(tree.open_file(&link).unwrap_err().code(), "file_changed_while_read");
}

#[test]
fn a_signed_file_is_followed_only_if_its_manifest_says_so() {
    let (_dir, model) = model();
    symlink("top", model.join("link")).unwrap();
    let tree = ModelTree::open(&model).unwrap();
    for allow_symlinks in [true, false] {
        let resource =
            Resource { path: path("link"), shard: None, digest: sentry_hash::Algorithm::Sha256.digest(b"top"), annotation: None };
        let manifest = Manifest::new(Serialization { allow_symlinks, ..Serialization::default() }, vec![resource]).unwrap();
        match SignedFile::open(&tree, &manifest, &path("link")) {
            Ok(file) => assert_eq!((file.path().as_str(), file.size(), allow_symlinks), ("link", 3, true)),
            Err(error) => assert_eq!((error.code(), allow_symlinks), ("symlink", false)),
        }
    }
}
