//! Parts of datasets: their samples are those that they are in the whole.

use std::fs;
use std::path::Path;

use sentry_dataset::DatasetError;
use sentry_dataset::files::{Dataset, ReadOptions};
use sentry_hash::lattice::Entry;
use sentry_manifest::{MeasuredDataset, ModelPath};

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn whole(folder: &Path) -> MeasuredDataset {
    Dataset::open(folder, &ReadOptions::default(), &[]).unwrap().measure(2, &|_| ()).unwrap()
}

fn part(folder: &Path, part: &str) -> Result<MeasuredDataset, DatasetError> {
    let fields = whole(folder).fields().to_vec();
    let options = ReadOptions { fields: Some(fields.clone()), ..ReadOptions::default() };
    let opened = Dataset::open_part(folder, &ModelPath::new(part).unwrap(), &options, &[])?;
    opened.with_fields_of(&fields)?.measure(2, &|_| ())
}

fn entries(measured: &MeasuredDataset) -> Vec<(String, Entry)> {
    let named =
        |source: &sentry_manifest::MeasuredSource| source.table.entries().map(|entry| (source.name.clone(), entry)).collect::<Vec<_>>();
    measured.sources().iter().flat_map(named).collect()
}

/// How many samples a part has, all of which are in the whole.
fn samples_of(folder: &Path, name: &str) -> usize {
    let (found, all) = (entries(&part(folder, name).unwrap()), entries(&whole(folder)));
    assert!(found.iter().all(|entry| all.contains(entry)), "{name}: {found:?} in {all:?}");
    found.len()
}

#[test]
fn images_keep_their_paths_labels_and_what_a_table_says_of_them() {
    let folder = folder(&[
        ("train/cat/1.png", "one"),
        ("train/cat/2.png", "two"),
        ("train/category/3.png", "three"),
        ("train/metadata.csv", "file_name,age\ncat/1.png,4\ncategory/3.png,9\n"),
        ("test/dog.png", "four"),
    ]);
    assert_eq!(samples_of(folder.path(), "train/cat/1.png"), 1);
    assert_eq!(samples_of(folder.path(), "train/cat"), 2);
    assert_eq!(samples_of(folder.path(), "train"), 3);
    // Without a label, and without the table's column.
    assert_eq!(samples_of(folder.path(), "test"), 1);
}

#[test]
fn tables_in_folders_keep_their_source() {
    let folder = folder(&[("train/a.csv", "id,text\n1,x\n2,y\n"), ("train/b.csv", "id,text\n3,x\n"), ("test/a.csv", "id,text\n1,z\n")]);
    assert_eq!(samples_of(folder.path(), "train/b.csv"), 1);
    assert_eq!(samples_of(folder.path(), "train"), 3);
    assert_eq!(samples_of(folder.path(), "test/a.csv"), 1);
}

#[test]
fn a_part_without_samples_is_refused() {
    let folder = folder(&[("train/a.csv", "id,text\n1,x\n"), ("README.md", "about")]);
    for name in ["README.md", "train/a", "tra", "nothing"] {
        let error = part(folder.path(), name).unwrap_err();
        assert_eq!(error.to_string(), format!("\"{name}\" has no samples of this dataset, which is CSV"));
    }
}

#[test]
fn a_part_has_no_other_fields_and_an_image_by_itself_is_none() {
    let folder = folder(&[("a.csv", "id,text\n1,x\n"), ("images/1.png", "one")]);
    let with_fields_of = |name: &str| {
        let opened = Dataset::open(&folder.path().join(name), &ReadOptions::default(), &[]).unwrap();
        opened.with_fields_of(&[]).err().unwrap().to_string()
    };
    assert!(with_fields_of("a.csv").ends_with("a.csv\" has other fields than the dataset"));
    assert!(with_fields_of("images").ends_with("images\" has other fields than the dataset"));
    assert!(with_fields_of("images/1.png").ends_with("has no path in the dataset, and so no id: put it where it belongs first"));
}
