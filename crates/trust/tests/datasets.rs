//! Datasets through what the library offers: what was measured against what was signed, samples one by one, epochs.

use std::collections::BTreeMap;
use std::io;

use sentry_bundle::DatasetStatement;
use sentry_hash::lattice::{Entry, SampleDigest, SourceTag};
use sentry_hash::table::{ENTRY_LEN, Table};
use sentry_hash::{Cpu, Digest};
use sentry_manifest::{DatasetField, DatasetManifest, IdRule, MeasuredDataset, ModelPath, Source, TableDigests};
use sentry_trust::{
    Checked, Difference, Epoch, KeyAlgorithm, PrivateKey, SampleChecker, TableFile, TrustedKey, UnverifiedBundle, Verified, VerifyError,
    sign,
};

fn entry(id: u64, record: &str) -> Entry {
    Entry { id, digest: SampleDigest::of_record(record.as_bytes()) }
}

/// Samples with the ids 10, 20, ….
fn samples(name: &str, count: u64) -> Vec<Entry> {
    (1..=count).map(|number| entry(10 * number, &format!("{name} {number}"))).collect()
}

fn fields() -> Vec<DatasetField> {
    ["image", "label"].map(|name| DatasetField { name: name.to_owned(), arrow_type: "Utf8".to_owned() }).to_vec()
}

fn measured(sources: &[(&str, Vec<Entry>)]) -> MeasuredDataset {
    let sources = sources.iter().map(|(name, entries)| ((*name).to_owned(), entries.clone())).collect();
    MeasuredDataset::new(fields(), IdRule::Path, sources).unwrap()
}

/// What is signed of a dataset, with tables of the sources in `tables`.
fn statement(measured: &MeasuredDataset, tables: &[&str]) -> DatasetStatement {
    let source = |source: &sentry_manifest::MeasuredSource| {
        let table = TableDigests {
            path: ModelPath::new(&format!("{}.samples", source.name)).unwrap(),
            size: source.table.as_bytes().len() as u64,
            parts: source.table.part_digests(&Cpu::new()).unwrap(),
        };
        Source {
            name: source.name.clone(),
            state: source.table.state(&SourceTag::new(&source.name).unwrap(), &Cpu::new()).unwrap(),
            table: tables.contains(&source.name.as_str()).then_some(table),
            statement: None,
        }
    };
    with_sources(measured.sources().iter().map(source).collect())
}

fn with_sources(sources: Vec<Source>) -> DatasetStatement {
    DatasetStatement { manifest: DatasetManifest::new("pets".to_owned(), None, fields(), IdRule::Path, sources).unwrap() }
}

fn verified(statement: &DatasetStatement) -> Verified<DatasetStatement> {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256Sha256).unwrap();
    let bundle = sign(statement, &key, None).unwrap();
    UnverifiedBundle::parse(bundle.as_bytes()).unwrap().verify(&TrustedKey::new(key.public())).unwrap()
}

fn tables(measured: &MeasuredDataset) -> BTreeMap<String, Table> {
    measured.sources().iter().map(|source| (source.name.clone(), source.table.clone())).collect()
}

struct InMemory(Vec<u8>);

impl TableFile for InMemory {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = offset as usize;
        buffer.copy_from_slice(self.0.get(start..start + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fn checker(measured: &MeasuredDataset, signed_tables: &[&str]) -> SampleChecker {
    checker_with(measured, signed_tables, |_, bytes| bytes).unwrap()
}

/// A checker whose stored tables went through `damage`.
fn checker_with(
    measured: &MeasuredDataset,
    signed_tables: &[&str],
    damage: impl Fn(&str, Vec<u8>) -> Vec<u8>,
) -> Result<SampleChecker, VerifyError> {
    let file = |name: &String, table: &Table| Box::new(InMemory(damage(name, table.as_bytes().to_vec()))) as Box<dyn TableFile>;
    let files = tables(measured).iter().map(|(name, table)| (name.clone(), file(name, table))).collect();
    verified(&statement(measured, signed_tables)).sample_checker(files)
}

fn different<T: std::fmt::Debug>(result: Result<T, VerifyError>) -> Vec<String> {
    match result.unwrap_err() {
        VerifyError::DatasetDiffers(differences) => differences.iter().map(Difference::to_string).collect(),
        other => panic!("{other}"),
    }
}

#[test]
fn a_dataset_with_the_signed_samples_is_confirmed_in_any_order_and_with_or_without_tables() {
    let signed = measured(&[("test", samples("test", 3)), ("train", samples("train", 5))]);
    let mut reversed = samples("train", 5);
    reversed.reverse();
    let found = measured(&[("train", reversed), ("test", samples("test", 3))]);
    for with_tables in [&[][..], &["train"], &["test", "train"]] {
        let statement = verified(&statement(&signed, with_tables));
        for stored in [BTreeMap::new(), tables(&signed)] {
            assert_eq!(statement.confirm_dataset(&found, &stored).unwrap().value().statement().manifest.whole().count(), 8);
        }
    }
}

#[test]
fn every_difference_of_samples_is_named() {
    let signed = measured(&[("train", samples("train", 4))]);
    let mut changed = samples("train", 4);
    changed.remove(0);
    changed[1] = entry(30, "another");
    changed.push(entry(31, "new"));
    let found = measured(&[("train", changed)]);
    let statement = verified(&statement(&signed, &["train"]));
    let named = different(statement.confirm_dataset(&found, &tables(&signed)));
    assert_eq!(named[0], "sample 10 of source \"train\" is missing");
    assert!(named[1].starts_with("sample 30 of source \"train\" was changed: expected "), "{}", named[1]);
    assert_eq!(named[2..], ["sample 31 of source \"train\" is not signed"]);
    // Without its table it is only known that something is different.
    assert_eq!(different(statement.confirm_dataset(&found, &BTreeMap::new())), ["source \"train\" was changed"]);
}

#[test]
fn samples_and_labels_that_were_swapped_or_moved_are_found() {
    let signed = measured(&[("test", samples("a", 2)), ("train", samples("b", 2))]);
    let statement = verified(&statement(&signed, &["test", "train"]));
    let swapped = measured(&[("test", vec![entry(10, "a 2"), entry(20, "a 1")]), ("train", samples("b", 2))]);
    assert_eq!(different(statement.confirm_dataset(&swapped, &tables(&signed))).len(), 2);
    let moved = measured(&[("test", vec![entry(10, "a 1"), entry(20, "a 2"), entry(30, "b 2")]), ("train", samples("b", 1))]);
    let named = different(statement.confirm_dataset(&moved, &tables(&signed)));
    assert_eq!(named, ["sample 30 of source \"test\" is not signed", "sample 20 of source \"train\" is missing"]);
    let renamed = measured(&[("test", samples("a", 2)), ("training", samples("b", 2))]);
    let named = different(statement.confirm_dataset(&renamed, &tables(&signed)));
    assert_eq!(named, ["source \"train\" is missing", "source \"training\" is not signed"]);
}

#[test]
fn other_fields_are_named_before_samples_are_looked_at() {
    let signed = measured(&[("train", samples("train", 2))]);
    let statement = verified(&statement(&signed, &[]));
    let mut others = fields();
    others[1].arrow_type = "Int64".to_owned();
    others.push(DatasetField { name: "weight".to_owned(), arrow_type: "Float32".to_owned() });
    let sources = BTreeMap::from([("train".to_owned(), samples("train", 2))]);
    let found = MeasuredDataset::new(others, IdRule::Ordinal, sources).unwrap();
    let named = different(statement.confirm_dataset(&found, &BTreeMap::new()));
    assert_eq!(
        named,
        [
            "field \"label\" of all samples was changed: expected Utf8, found Int64",
            "field \"weight\" of all samples was changed: expected no such field, found Float32",
            "ids of samples come from elsewhere: expected paths, found numbers of rows"
        ]
    );
}

#[test]
fn a_stored_table_that_is_not_the_signed_one_is_refused() {
    let signed = measured(&[("train", samples("train", 3))]);
    let statement = verified(&statement(&signed, &["train"]));
    let other = tables(&measured(&[("train", samples("other", 3))]));
    let error = statement.confirm_dataset(&signed, &other).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        ("table_differs", "table \"train.samples\": part 0 of a sample table is not the one that was signed")
    );
}

#[test]
fn a_statement_whose_table_and_state_disagree_is_refused_whichever_of_them_the_samples_fit() {
    let (of_state, of_table) = (measured(&[("train", samples("state", 3))]), measured(&[("train", samples("table", 3))]));
    let (mut source, other) = (statement(&of_state, &["train"]).manifest.sources()[0].clone(), statement(&of_table, &["train"]));
    source.table = other.manifest.sources()[0].table.clone();
    let statement = verified(&with_sources(vec![source.clone()]));
    assert_eq!(statement.confirm_dataset(&of_state, &BTreeMap::new()).unwrap_err().code(), "table_differs");
    assert_eq!(statement.confirm_dataset(&of_table, &BTreeMap::new()).unwrap_err().code(), "dataset_differs");
    assert_eq!(statement.confirm_dataset(&of_table, &tables(&of_table)).unwrap_err().code(), "table_state");
    let file: Box<dyn TableFile> = Box::new(InMemory(tables(&of_table)["train"].as_bytes().to_vec()));
    let checker = statement.sample_checker(BTreeMap::from([("train".to_owned(), file)])).unwrap();
    assert_eq!(checker.check_tables().unwrap_err().code(), "table_state");
    // Looked up one by one, every sample is the signed one; the epoch of them is not.
    let mut epoch = Epoch::new(&checker);
    deliver(&mut epoch, &checker, 0, &samples("table", 3)).unwrap();
    assert_eq!(epoch.delivered(), [3]);
    assert_eq!(epoch.finish(&checker).unwrap_err().code(), "table_state");
}

#[test]
fn contributors_are_asked_for_and_must_say_the_same() {
    let theirs = measured(&[("alice", samples("alice", 3))]);
    let contributor = verified(&statement(&theirs, &[]));
    let whole = |entries: Vec<Entry>, payload: Digest| {
        let mut sources = statement(&measured(&[("alice", entries), ("own", samples("own", 2))]), &[]).manifest.sources().to_vec();
        sources[0].statement = Some(payload);
        verified(&with_sources(sources))
    };
    let payload = contributor.payload_sha256();
    assert!(whole(samples("alice", 3), payload).with_contributors(std::slice::from_ref(&contributor)).is_ok());
    let error = whole(samples("alice", 3), payload).with_contributors(&[]).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        ("contributor_statement", "source \"alice\" is a contributor's: its statement was not given")
    );
    // A state that the contributor did not sign: a rogue source.
    let error = whole(samples("mallory", 3), payload).with_contributors(std::slice::from_ref(&contributor)).unwrap_err();
    assert!(error.to_string().ends_with("its statement is about other samples"), "{error}");
    // A statement that nothing refers to is no contributor's.
    let own = verified(&statement(&measured(&[("own", samples("own", 2))]), &[]));
    let error = own.with_contributors(std::slice::from_ref(&contributor)).unwrap_err();
    assert!(error.to_string().ends_with("the dataset does not name its statement"), "{error}");
    let other = verified(&statement(&measured(&[("bob", samples("alice", 3))]), &[]));
    let error = whole(samples("alice", 3), other.payload_sha256()).with_contributors(&[other]).unwrap_err();
    assert!(error.to_string().ends_with("its statement has no source of this name"), "{error}");
}

#[test]
fn samples_are_checked_one_by_one() {
    let signed = measured(&[("train", samples("train", 70))]);
    let checker = checker(&signed, &["train"]);
    let train = checker.source("train").unwrap();
    assert_eq!(checker.check(train, &[entry(700, "train 70"), entry(10, "train 1")]).unwrap(), [Checked::Signed(69), Checked::Signed(0)]);
    for id in [0, 5, 15, 705, u64::MAX] {
        assert_eq!(different(checker.check(train, &[entry(id, "train 1")])), [format!("sample {id} of source \"train\" is not signed")]);
    }
    let named = different(checker.check(train, &[entry(10, "train 2"), entry(20, "train 2"), entry(30, "train 30")]));
    assert!(named.len() == 2 && named[0].starts_with("sample 10 of") && named[1].starts_with("sample 30 of"), "{named:?}");
    assert_eq!(different(checker.source("test")), ["source \"test\" is not signed"]);
    checker.check_tables().unwrap();
}

#[test]
fn every_byte_of_a_stored_table_counts() {
    let signed = measured(&[("train", samples("train", 3))]);
    let length = 3 * ENTRY_LEN;
    for place in 0..length {
        let flip = |_: &str, mut bytes: Vec<u8>| {
            bytes[place] ^= 1;
            bytes
        };
        let checker = checker_with(&signed, &["train"], flip).unwrap();
        let error = checker.check(0, &[entry(10, "train 1"), entry(20, "train 2")]).unwrap_err();
        // A first id that is higher hides the samples before it.
        assert!(["table_differs", "dataset_differs"].contains(&error.code()), "{error}");
        assert_eq!(checker.check_tables().unwrap_err().code(), "table_differs");
    }
    let code = |damage: fn(&str, Vec<u8>) -> Vec<u8>| checker_with(&signed, &["train"], damage).err().unwrap().code();
    assert_eq!(code(|_, bytes| bytes[..80].to_vec()), "table_malformed");
    assert_eq!(code(|_, bytes| [bytes, vec![0; 40]].concat()), "table_malformed");
}

#[test]
fn a_table_that_is_not_there_is_an_error() {
    let signed = measured(&[("train", samples("train", 3))]);
    let without = verified(&statement(&signed, &["train"])).sample_checker(BTreeMap::new());
    assert_eq!(different(without.map(|_| ())), ["\"train.samples\" is missing"]);
}

fn deliver(epoch: &mut Epoch, checker: &SampleChecker, source: usize, samples: &[Entry]) -> Result<(), VerifyError> {
    let checked = checker.check(source, samples)?;
    epoch.deliver(checker, source, samples, &checked)
}

#[test]
fn an_epoch_is_verified_once_every_sample_was_delivered_by_any_worker() {
    let signed = measured(&[("test", samples("test", 2)), ("train", samples("train", 100))]);
    for with_tables in [&[][..], &["train"], &["test", "train"]] {
        let checker = checker(&signed, with_tables);
        let (mut one, mut other) = (Epoch::new(&checker), Epoch::new(&checker));
        let (test, train) = (samples("test", 2), samples("train", 100));
        deliver(&mut one, &checker, 0, &test).unwrap();
        deliver(&mut one, &checker, 1, &train[60..]).unwrap();
        deliver(&mut other, &checker, 1, &train[..59]).unwrap();
        let mut whole = Epoch::new(&checker);
        whole.merge(&checker, &one).unwrap();
        whole.merge(&checker, &Epoch::from_bytes(&checker, &other.to_bytes()).unwrap()).unwrap();
        assert_eq!(whole.delivered(), [2, 99]);
        let error = whole.finish(&checker).unwrap_err();
        assert_eq!(error.to_string(), "the epoch is not complete: of source \"train\" 99 of 100 samples were delivered");
        assert_eq!(error.code(), "epoch_incomplete");
        deliver(&mut whole, &checker, 1, &train[59..60]).unwrap();
        assert_eq!(whole.finish(&checker).unwrap().value().samples(), 102);
    }
}

#[test]
fn repeats_are_counted_with_a_table_and_an_error_without() {
    let signed = measured(&[("train", samples("train", 3))]);
    let train = samples("train", 3);
    let listed = checker(&signed, &["train"]);
    let mut epoch = Epoch::new(&listed);
    deliver(&mut epoch, &listed, 0, &train).unwrap();
    deliver(&mut epoch, &listed, 0, &train[..2]).unwrap();
    assert_eq!(epoch.delivered(), [3]);
    assert_eq!(epoch.finish(&listed).unwrap().value().repeated(), 2);
    let mut other = Epoch::from_bytes(&listed, &epoch.to_bytes()).unwrap();
    deliver(&mut other, &listed, 0, &[train[0]; 3]).unwrap();
    assert_eq!(other.finish(&listed).unwrap().value().repeated(), 5);
    // Of another rank: those that both have, and what it repeated itself.
    epoch.merge(&listed, &other).unwrap();
    assert_eq!(epoch.finish(&listed).unwrap().value().repeated(), 2 + 5 + 3);

    let bare = checker(&signed, &[]);
    let mut epoch = Epoch::new(&bare);
    deliver(&mut epoch, &bare, 0, &train[..2]).unwrap();
    assert_eq!(deliver(&mut epoch, &bare, 0, &train[..1]).unwrap_err().code(), "sample_repeated");
    // Nothing of a batch with a repeat counts.
    assert_eq!(deliver(&mut epoch, &bare, 0, &[train[2], train[0]]).unwrap_err().code(), "sample_repeated");
    assert_eq!(deliver(&mut epoch, &bare, 0, &[train[2], train[2]]).unwrap_err().code(), "sample_repeated");
    assert_eq!(epoch.delivered(), [2]);
    let mut other = Epoch::new(&bare);
    deliver(&mut other, &bare, 0, &train[1..]).unwrap();
    assert_eq!(epoch.merge(&bare, &other).unwrap_err().code(), "sample_repeated");
}

#[test]
fn without_a_table_another_sample_shows_at_the_end() {
    let signed = measured(&[("train", samples("train", 3))]);
    let checker = checker(&signed, &[]);
    let mut epoch = Epoch::new(&checker);
    deliver(&mut epoch, &checker, 0, &[entry(10, "train 1"), entry(20, "another"), entry(30, "train 3")]).unwrap();
    assert_eq!(different(epoch.finish(&checker)), ["source \"train\" was changed"]);
    // More samples than were signed.
    let mut epoch = Epoch::new(&checker);
    deliver(&mut epoch, &checker, 0, &samples("train", 4)).unwrap();
    assert_eq!(different(epoch.finish(&checker)), ["source \"train\" was changed"]);
}

#[test]
fn only_what_was_checked_counts() {
    let signed = measured(&[("train", samples("train", 3))]);
    let checker = checker(&signed, &["train"]);
    let mut epoch = Epoch::new(&checker);
    let one = [entry(10, "train 1")];
    let expected = one[0].digest;
    for checked in
        [Checked::Provisional, Checked::Unsigned, Checked::Changed { place: 0, expected }, Checked::Signed(3), Checked::Signed(u64::MAX)]
    {
        assert_eq!(epoch.deliver(&checker, 0, &one, &[checked]).unwrap_err().code(), "epoch_state");
    }
    assert_eq!(epoch.deliver(&checker, 0, &one, &[]).unwrap_err().code(), "epoch_state");
    assert_eq!(epoch.deliver(&checker, 1, &one, &[Checked::Signed(0)]).unwrap_err().code(), "epoch_state");
    assert_eq!(epoch.delivered(), [0]);
}

#[test]
fn a_stored_epoch_is_read_strictly() {
    let signed = measured(&[("test", samples("test", 2)), ("train", samples("train", 70))]);
    let checker_of = checker(&signed, &["train"]);
    let mut epoch = Epoch::new(&checker_of);
    deliver(&mut epoch, &checker_of, 0, &samples("test", 2)).unwrap();
    deliver(&mut epoch, &checker_of, 1, &samples("train", 70)[..9]).unwrap();
    let bytes = epoch.to_bytes();
    assert_eq!(Epoch::from_bytes(&checker_of, &bytes).unwrap().delivered(), [2, 9]);
    let refused = |bytes: &[u8]| Epoch::from_bytes(&checker_of, bytes).unwrap_err().code() == "epoch_state";
    assert!((0..bytes.len()).all(|length| refused(&bytes[..length])));
    assert!(refused(&[&bytes[..], &[0]].concat()));
    // Bits beyond the last sample, in the last word before the counts of repeats and of those that were kept back.
    let mut beyond = bytes.clone();
    let last_bits = beyond.len() - 17;
    beyond[last_bits] |= 0x80;
    assert!(refused(&beyond));
    // The same dataset signed again is another statement.
    let again = checker(&signed, &["test", "train"]);
    assert_eq!(Epoch::from_bytes(&again, &bytes).unwrap_err().code(), "epoch_state");
    assert_eq!(Epoch::new(&again).merge(&again, &epoch).unwrap_err().code(), "epoch_state");
    assert_eq!(epoch.finish(&again).unwrap_err().code(), "epoch_state");
}

#[test]
fn an_epoch_of_some_sources_says_nothing_of_the_rest() {
    let signed = measured(&[("test", samples("test", 2)), ("train", samples("train", 3))]);
    for tables in [&["test", "train"][..], &["test"], &[]] {
        let checker = checker(&signed, tables);
        let mut epoch = Epoch::new(&checker);
        deliver(&mut epoch, &checker, 1, &samples("train", 3)).unwrap();
        assert_eq!(epoch.finish(&checker).unwrap_err().code(), "epoch_incomplete");
        assert_eq!(epoch.finish_of(&checker, &["train"]).unwrap().value().samples(), 3);
        for wrong in [&["test"][..], &["test", "train"]] {
            assert_eq!(epoch.finish_of(&checker, wrong).unwrap_err().code(), "epoch_incomplete");
        }
        assert_eq!(different(epoch.finish_of(&checker, &["train", "validation"])), ["source \"validation\" is not signed"]);
        assert_eq!(epoch.finish_of(&checker, &[]).unwrap_err().code(), "epoch_state");
        deliver(&mut epoch, &checker, 0, &samples("test", 2)).unwrap();
        assert_eq!(epoch.finish_of(&checker, &["test", "train", "test"]).unwrap().value().samples(), 5);
    }
}

#[test]
fn samples_that_were_kept_back_are_counted_and_the_epoch_can_end() {
    let signed = measured(&[("train", samples("train", 3))]);
    let checker = checker(&signed, &["train"]);
    let mut epoch = Epoch::new(&checker);
    let train = samples("train", 3);
    deliver(&mut epoch, &checker, 0, &train[..2]).unwrap();
    let looked = checker.look(0, &[entry(30, "another"), entry(31, "new"), train[0]]).unwrap();
    epoch.quarantine(0, &looked[1]).unwrap();
    assert_eq!(epoch.finish(&checker).unwrap_err().code(), "epoch_incomplete");
    assert_eq!(epoch.quarantine(0, &looked[2]).unwrap_err().code(), "epoch_state");
    epoch.quarantine(0, &looked[0]).unwrap();
    let epoch = Epoch::from_bytes(&checker, &epoch.to_bytes()).unwrap();
    let finished = epoch.finish(&checker).unwrap();
    assert_eq!((finished.value().samples(), finished.value().quarantined(), epoch.delivered()), (3, 1, vec![2]));
    // One that comes again as it was signed is delivered after all.
    let mut epoch = epoch;
    deliver(&mut epoch, &checker, 0, &train[2..]).unwrap();
    assert_eq!(epoch.finish(&checker).unwrap().value().quarantined(), 0);
}
