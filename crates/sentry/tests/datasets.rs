//! Datasets on disk: signed, verified, changed, put together from contributions; and what becomes of the files beside a signature.

use std::fs;
use std::path::{Path, PathBuf};

use sentry::{
    Changes, DatasetSignOptions, DatasetStatement, DatasetVerifyOptions, Digest, Error, IdRule, KeyAlgorithm, PrivateKey, ReadOptions,
    SampleCollector, SignedDataset, TrustedKey, Verdict, Verified, VerifiedDataset, diff_dataset, open_samples, read_contributor,
    sign_dataset, sign_samples, update_dataset, verify_dataset,
};

fn key() -> PrivateKey {
    PrivateKey::generate(KeyAlgorithm::EcdsaP256Sha256).unwrap()
}

/// A folder with a CSV file for each source, of rows `id,text`.
fn folder(sources: &[(&str, &[(u64, &str)])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (source, rows) in sources {
        write(&folder.path().join(format!("{source}.csv")), rows);
    }
    folder
}

fn write(path: &Path, rows: &[(u64, &str)]) {
    let rows: String = rows.iter().map(|(id, text)| format!("{id},{text}\n")).collect();
    fs::write(path, format!("id,text\n{rows}")).unwrap();
}

const TRAIN: [(u64, &str); 3] = [(1, "cat"), (2, "dog"), (3, "cow")];
const TEST: [(u64, &str); 2] = [(1, "ant"), (9, "bee")];

fn sign(folder: &Path, key: &PrivateKey, options: &DatasetSignOptions) -> Result<SignedDataset, Error> {
    sign_dataset(folder, key, &[], options, &())
}

fn verify(folder: &Path, key: &PrivateKey) -> Result<VerifiedDataset, Error> {
    verify_dataset(folder, &TrustedKey::new(key.public()), &[], &DatasetVerifyOptions::default(), &())
}

fn update(folder: &Path, key: &PrivateKey, changes: &Changes) -> Result<SignedDataset, Error> {
    update_dataset(folder, changes, &TrustedKey::new(key.public()), key, &DatasetSignOptions::default(), &())
}

fn names(folder: &Path, ending: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(ending))
        .collect();
    names.sort();
    names
}

fn digest(signed: &SignedDataset) -> Digest {
    signed.statement.manifest.digest()
}

#[test]
fn a_signed_dataset_verifies_with_its_tables_beside_the_signature() {
    let (folder, key) = (folder(&[("train", &TRAIN), ("test", &TEST)]), key());
    fs::write(folder.path().join("README.md"), "about").unwrap();
    let signed = sign(folder.path(), &key, &DatasetSignOptions { version: Some(3), ..DatasetSignOptions::default() }).unwrap();
    assert_eq!(signed.signature, folder.path().join("dataset.sig"));
    assert_eq!(signed.others.iter().map(ToString::to_string).collect::<Vec<_>>(), ["README.md"]);
    assert_eq!(names(folder.path(), ".samples").len(), 2);
    let verified = verify(folder.path(), &key).unwrap();
    let manifest = &verified.dataset.value().statement().manifest;
    assert_eq!((manifest.whole().count(), manifest.version(), manifest.ids()), (5, Some(3), &IdRule::Column("id".to_owned())));
    // Another key, and a change.
    assert_eq!(verify(folder.path(), &self::key()).unwrap_err().code(), "signature_invalid");
    write(&folder.path().join("test.csv"), &[(1, "ant"), (9, "bug")]);
    let error = verify(folder.path(), &key).unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("dataset_differs", Verdict::Rejected));
    assert_eq!((error.differences()[0].source.as_deref(), error.differences()[0].sample), (Some("test"), Some(9)));
    let differences = diff_dataset(folder.path(), None, None, &()).unwrap();
    assert_eq!(differences, error.differences());
}

#[test]
fn one_file_has_its_signature_beside_it() {
    let (folder, key) = (folder(&[("pets", &TRAIN), ("others", &TEST)]), key());
    let file = folder.path().join("pets.csv");
    assert_eq!(sign(&file, &key, &DatasetSignOptions::default()).unwrap().signature, folder.path().join("pets.csv.sig"));
    verify(&file, &key).unwrap();
}

#[test]
fn a_column_that_is_gone_or_new_is_said_so() {
    let (folder, key) = (folder(&[("train", &TRAIN)]), key());
    sign(folder.path(), &key, &DatasetSignOptions::default()).unwrap();
    for (text, message) in [
        ("key,text\n1,cat\n", "field \"id\" of all samples was changed: expected Int64, found no such field"),
        ("id,text,more\n1,cat,x\n2,dog,x\n3,cow,x\n", "field \"more\" of all samples was changed: expected no such field, found Utf8"),
    ] {
        fs::write(folder.path().join("train.csv"), text).unwrap();
        let error = verify(folder.path(), &key).unwrap_err();
        assert_eq!((error.code(), error.differences()[0].to_string().as_str()), ("dataset_differs", message));
    }
}

#[test]
fn tables_that_are_missing_damaged_or_another_datasets_are_refused() {
    let (folder, key) = (folder(&[("train", &TRAIN)]), key());
    sign(folder.path(), &key, &DatasetSignOptions::default()).unwrap();
    let table = folder.path().join(&names(folder.path(), ".samples")[0]);
    let whole = fs::read(&table).unwrap();
    let code = |bytes: Option<&[u8]>| {
        match bytes {
            Some(bytes) => fs::write(&table, bytes).unwrap(),
            None => fs::remove_file(&table).unwrap(),
        }
        let verified = verify(folder.path(), &key).unwrap_err();
        let opened = open_samples(folder.path(), &[], &TrustedKey::new(key.public()), &[]).and_then(|checker| Ok(checker.check_tables()?));
        assert_eq!(opened.unwrap_err().code(), verified.code());
        verified.code()
    };
    let mut flipped = whole.clone();
    flipped[20] ^= 1;
    assert_eq!(code(Some(&flipped)), "table_differs");
    assert_eq!(code(Some(&whole[..80])), "table_malformed");
    assert_eq!(code(Some(&[])), "table_malformed");
    assert_eq!(code(None), "dataset_differs");
    fs::create_dir(&table).unwrap();
    assert_eq!(verify(folder.path(), &key).unwrap_err().verdict(), Verdict::Unchecked);
}

#[test]
fn without_tables_a_dataset_verifies_and_a_change_has_no_name() {
    let (folder, key) = (folder(&[("train", &TRAIN)]), key());
    sign(folder.path(), &key, &DatasetSignOptions { tables: false, ..DatasetSignOptions::default() }).unwrap();
    assert!(names(folder.path(), ".samples").is_empty());
    verify(folder.path(), &key).unwrap();
    write(&folder.path().join("train.csv"), &[(1, "cat"), (2, "dog"), (3, "cat")]);
    assert_eq!(verify(folder.path(), &key).unwrap_err().to_string(), "source \"train\" was changed");
}

#[test]
fn samples_that_come_and_go_again_leave_the_old_digest() {
    let (folder, key) = (folder(&[("train", &TRAIN), ("test", &TEST)]), key());
    let before = sign(folder.path(), &key, &DatasetSignOptions { version: Some(1), ..DatasetSignOptions::default() }).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let news = elsewhere.path().join("train.csv");
    write(&news, &[(7, "emu"), (8, "elk")]);
    let more = update(folder.path(), &key, &Changes { add: vec![news.clone()], ..Changes::default() }).unwrap();
    assert_ne!(digest(&more), digest(&before));
    assert_eq!(names(folder.path(), ".samples").len(), 2, "old tables are gone");
    write(&folder.path().join("train.csv"), &[&TRAIN[..], &[(7, "emu"), (8, "elk")]].concat());
    verify(folder.path(), &key).unwrap();

    let replaced = elsewhere.path().join("replaced").join("train.csv");
    fs::create_dir(replaced.parent().unwrap()).unwrap();
    write(&replaced, &[(2, "ape")]);
    let other = update(folder.path(), &key, &Changes { replace: vec![replaced.clone()], ..Changes::default() }).unwrap();
    write(&folder.path().join("train.csv"), &[(1, "cat"), (2, "ape"), (3, "cow"), (7, "emu"), (8, "elk")]);
    verify(folder.path(), &key).unwrap();
    assert_eq!(other.statement.manifest.version(), Some(3));

    write(&replaced, &[(2, "dog")]);
    let remove = [("train".to_owned(), "7".to_owned()), ("train".to_owned(), "8".to_owned())].to_vec();
    let after = update(folder.path(), &key, &Changes { replace: vec![replaced], remove, ..Changes::default() }).unwrap();
    assert_eq!(digest(&after), digest(&before));
    write(&folder.path().join("train.csv"), &TRAIN);
    verify(folder.path(), &key).unwrap();
}

#[test]
fn what_lies_in_the_dataset_already_has_the_ids_and_sources_that_it_is_verified_with() {
    let (folder, key) = (tempfile::tempdir().unwrap(), key());
    let put = |name: &str, bytes: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    };
    put("train/cat/1.png", "one");
    let second = put("train/dog/2.png", "two");
    put("test/cat/1.png", "three");
    sign(folder.path(), &key, &DatasetSignOptions::default()).unwrap();

    let third = put("train/dog/3.png", "four");
    update(folder.path(), &key, &Changes { add: vec![third.clone()], ..Changes::default() }).unwrap();
    verify(folder.path(), &key).unwrap();
    put("train/dog/2.png", "TWO");
    update(folder.path(), &key, &Changes { replace: vec![folder.path().join("train/dog")], ..Changes::default() }).unwrap();
    verify(folder.path(), &key).unwrap();
    fs::remove_file(second).unwrap();
    let remove = vec![("train".to_owned(), "train/dog/2.png".to_owned())];
    let removed = update(folder.path(), &key, &Changes { remove, ..Changes::default() }).unwrap();
    assert_eq!(removed.statement.manifest.whole().count(), 3);
    verify(folder.path(), &key).unwrap();

    // Elsewhere it has another path, and by itself none.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::copy(&third, elsewhere.path().join("4.png")).unwrap();
    let refused = update(folder.path(), &key, &Changes { add: vec![elsewhere.path().join("4.png")], ..Changes::default() }).unwrap_err();
    assert_eq!(refused.code(), "dataset_layout");
    let missing = update(folder.path(), &key, &Changes { add: vec![folder.path().join("5.png")], ..Changes::default() }).unwrap_err();
    assert_eq!(missing.code(), "io");
    // The folder itself: everything in it is there already.
    let whole = update(folder.path(), &key, &Changes { add: vec![folder.path().to_owned()], ..Changes::default() }).unwrap_err();
    assert!(whole.to_string().ends_with("already"), "{whole}");
    verify(folder.path(), &key).unwrap();
}

#[test]
fn changes_that_make_no_sense_are_refused_and_leave_everything_as_it_was() {
    let (folder, key) = (folder(&[("train", &TRAIN)]), key());
    sign(folder.path(), &key, &DatasetSignOptions::default()).unwrap();
    let before = fs::read(folder.path().join("dataset.sig")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("train.csv");
    let refused = |rows: &[(u64, &str)], change: fn(PathBuf) -> Changes| {
        write(&file, rows);
        update(folder.path(), &key, &change(file.clone())).unwrap_err().to_string()
    };
    let add = |file| Changes { add: vec![file], ..Changes::default() };
    let replace = |file| Changes { replace: vec![file], ..Changes::default() };
    assert_eq!(refused(&[(2, "emu")], add), "source \"train\" has a sample with id 2 already");
    assert_eq!(refused(&[(7, "emu")], replace), "source \"train\" has no sample with id 7");
    let remove = Changes { remove: vec![("train".to_owned(), "7".to_owned())], ..Changes::default() };
    assert_eq!(update(folder.path(), &key, &remove).unwrap_err().to_string(), "source \"train\" has no sample with id 7");
    // The old signature must hold.
    let remove = Changes { remove: vec![("train".to_owned(), "1".to_owned())], ..Changes::default() };
    assert_eq!(update(folder.path(), &self::key(), &remove).unwrap_err().code(), "signature_invalid");
    assert_eq!(fs::read(folder.path().join("dataset.sig")).unwrap(), before);
    verify(folder.path(), &key).unwrap();
}

#[test]
fn numbers_of_rows_are_signed_with_their_order_and_cannot_be_updated() {
    let (folder, key) = (tempfile::tempdir().unwrap(), key());
    fs::write(folder.path().join("train.csv"), "text\ncat\ndog\n").unwrap();
    sign(folder.path(), &key, &DatasetSignOptions::default()).unwrap();
    let remove = Changes { remove: vec![("train".to_owned(), "1".to_owned())], ..Changes::default() };
    assert_eq!(update(folder.path(), &key, &remove).unwrap_err().code(), "usage");
    fs::write(folder.path().join("train.csv"), "text\ndog\ncat\n").unwrap();
    assert_eq!(verify(folder.path(), &key).unwrap_err().differences().len(), 2);
}

#[test]
fn contributions_are_signed_by_who_made_them_and_again_with_the_whole() {
    let (alice, bob, publisher) = (key(), key(), key());
    let (of_alice, of_bob) = (folder(&[("train", &TRAIN)]), folder(&[("test", &TEST)]));
    sign(of_alice.path(), &alice, &DatasetSignOptions::default()).unwrap();
    sign(of_bob.path(), &bob, &DatasetSignOptions::default()).unwrap();
    let contributor = |folder: &Path, key: &PrivateKey| -> Result<Verified<DatasetStatement>, Error> {
        read_contributor(&folder.join("dataset.sig"), &TrustedKey::new(key.public()))
    };
    let contributors = [contributor(of_alice.path(), &alice).unwrap(), contributor(of_bob.path(), &bob).unwrap()];
    assert_eq!(contributor(of_alice.path(), &bob).unwrap_err().code(), "signature_invalid");

    let whole = folder(&[("train", &TRAIN), ("test", &TEST), ("validation", &[(4, "own")])]);
    sign_dataset(whole.path(), &publisher, &contributors, &DatasetSignOptions::default(), &()).unwrap();
    let trust = TrustedKey::new(publisher.public());
    let check = |contributors: &[Verified<DatasetStatement>]| {
        verify_dataset(whole.path(), &trust, contributors, &DatasetVerifyOptions::default(), &()).map(|verified| verified.bytes)
    };
    check(&contributors).unwrap();
    assert_eq!(check(&contributors[..1]).unwrap_err().code(), "contributor_statement");

    // A rogue source: other samples under the name of a contributor's.
    let rogue = folder(&[("train", &[(1, "cat"), (2, "dog"), (3, "COW")]), ("test", &TEST)]);
    let refused = sign_dataset(rogue.path(), &publisher, &contributors, &DatasetSignOptions::default(), &()).unwrap_err();
    assert_eq!((refused.code(), refused.to_string().as_str()), ("usage", "a source has other samples than its contributor signed"));
    let missing = folder(&[("train", &TRAIN)]);
    let refused = sign_dataset(missing.path(), &publisher, &contributors, &DatasetSignOptions::default(), &()).unwrap_err();
    assert_eq!(refused.to_string(), "a contributor signed source \"test\", which is not there");
}

#[test]
fn samples_of_memory_are_signed_like_those_of_files() {
    let (folder, key) = (folder(&[("train", &TRAIN)]), key());
    let from_files = sign(folder.path(), &key, &DatasetSignOptions::default()).unwrap();
    let memory = tempfile::tempdir().unwrap();
    let options = DatasetSignOptions {
        signature: Some(memory.path().join("pets.sig")),
        name: Some("pets".to_owned()),
        read: ReadOptions::default(),
        ..DatasetSignOptions::default()
    };
    let mut collector = SampleCollector::new(Some(IdRule::Column("id".to_owned())));
    for batch in [&TRAIN[..1], &TRAIN[1..]] {
        let ids: Vec<u64> = batch.iter().map(|(id, _)| *id).collect();
        let values = batch.iter().map(|(id, _)| sentry::record::Value::Integer(*id as i64)).collect();
        let texts = batch.iter().map(|(_, text)| sentry::record::Value::Text(text)).collect();
        let fields = vec![("text", sentry::FieldValues::Values(texts)), ("id", sentry::FieldValues::Values(values))];
        let samples = sentry::Samples::new(batch.len(), fields).unwrap();
        collector.add("train", from_files.statement.manifest.fields(), Some(&ids), &samples).unwrap();
    }
    let statement = sign_samples(&collector.finish().unwrap(), &key, &[], &options).unwrap();
    assert_eq!(statement.manifest.digest(), digest(&from_files));
}
