//! Loading: what reaches a receiver is the signed file, and nothing comes back of any other.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use sentry::{
    Algorithm, Annotation, Difference, DifferenceKind, Dtype, Error, KeyAlgorithm, Landing, Loader, Manifest, ModelReader, OpenFile, Part,
    PrivateKey, Receiver, Region, Report, Resource, ResourcePath, Room, SignOptions, Statement, TrustedKey, Verdict, VerifyOptions,
    read_bundle, sign_model, verify_model,
};

use DifferenceKind::{AnnotationMismatch, ChangedFile, ChangedHeader, ChangedTensor, MissingFile, UnsignedFile};

/// Names, types, shapes and sizes in bytes; the first tensor is read in several units.
const TENSORS: [(&str, &str, &[u64], usize); 4] =
    [("first", "U8", &[1_300_001], 1_300_001), ("none", "F32", &[0, 4], 0), ("second", "F32", &[2, 3], 24), ("last", "I8", &[999], 999)];

const WEIGHTS: &str = "sub/deep/weights.safetensors";

/// Bytes that differ from place to place, so that a run in the wrong place shows.
fn pattern(length: usize) -> impl Iterator<Item = u8> {
    (0..251).cycle().take(length)
}

fn safetensors(tensors: &[(&str, &str, &[u64], usize)]) -> Vec<u8> {
    let mut end = 0;
    let entry = |&(name, dtype, shape, size): &(&str, &str, &[u64], usize)| {
        let begin = end;
        end += size;
        format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{begin},{end}]}}")
    };
    let json = format!("{{{}}}", tensors.iter().map(entry).collect::<Vec<_>>().join(","));
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes.extend(pattern(end));
    bytes
}

struct Signed {
    dir: tempfile::TempDir,
    model: PathBuf,
    key: PrivateKey,
}

impl Signed {
    /// A model of `files`, signed.
    fn of(files: &[(&str, &[u8])], options: &SignOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let signed = Self { model: dir.path().join("model"), dir, key: PrivateKey::generate(KeyAlgorithm::Ed25519).unwrap() };
        files.iter().for_each(|(name, bytes)| signed.write(name, bytes));
        sign_model(&signed.model, &signed.key, options, &()).unwrap();
        signed
    }

    fn new(options: &SignOptions) -> Self {
        let other: Vec<u8> = pattern(70_001).collect();
        Self::of(&[("config.json", b"{\"layers\":1}"), ("tokens.bin", &other), (WEIGHTS, &safetensors(&TENSORS))], options)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.model.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        // Long ago: whatever is written after this has another time, however coarse the clock is.
        File::options().write(true).open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.bytes(name);
        change(&mut bytes);
        fs::write(self.model.join(name), bytes).unwrap();
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.model.join(name)).unwrap()
    }

    fn reader(&self) -> ModelReader {
        ModelReader::open(&self.model, &[], &TrustedKey::new(self.key.public())).unwrap()
    }

    /// Signs again as a signer would who lies about `name`.
    fn lie(&self, name: &str, lie: impl Fn(&mut Resource)) {
        let signature = self.model.join("model.sig");
        let trust = TrustedKey::new(self.key.public());
        let Statement { subject, version, manifest } = read_bundle(&signature).unwrap().verify(&trust).unwrap().into_value();
        let mut resources = manifest.resources().to_vec();
        resources.iter_mut().filter(|resource| resource.path == path(name)).for_each(lie);
        let manifest = Manifest::new(manifest.serialization().clone(), resources).unwrap();
        fs::write(signature, sentry_trust::sign(&Statement { subject, version, manifest }, &self.key, None).unwrap()).unwrap();
    }
}

fn path(name: &str) -> ResourcePath {
    ResourcePath::new(name).unwrap()
}

fn plain() -> SignOptions {
    SignOptions { annotate: false, ..SignOptions::default() }
}

fn sharded(size: u64) -> SignOptions {
    SignOptions { shard_size: Some(size), ..plain() }
}

/// What it got, and which bytes it got.
#[derive(Debug, Default)]
struct Kept(Mutex<(Vec<u8>, Vec<bool>)>);

impl Kept {
    fn into_parts(self) -> (Vec<u8>, Vec<bool>) {
        self.0.into_inner().unwrap()
    }
}

impl Receiver for Kept {
    fn receive(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut kept = self.0.lock().unwrap();
        let range = offset as usize..offset as usize + bytes.len();
        let length = kept.0.len().max(range.end);
        kept.0.resize(length, 0);
        kept.1.resize(length, false);
        kept.0[range.clone()].copy_from_slice(bytes);
        kept.1[range].fill(true);
        Ok(())
    }
}

fn load_part(reader: &ModelReader, file: &OpenFile, part: Part) -> Result<Kept, Error> {
    let mut kept = reader.load(vec![(file, part, Kept::default())], &())?.into_value();
    assert_eq!(kept.len(), 1);
    Ok(kept.remove(0))
}

fn load(reader: &ModelReader, name: &str) -> Result<Vec<u8>, Error> {
    let file = reader.open_file(&path(name))?;
    Ok(load_part(reader, &file, Part::Whole)?.into_parts().0)
}

/// The code of an error, and the kinds of its differences.
fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> (&'static str, Vec<DifferenceKind>) {
    let error = result.unwrap_err();
    (error.code(), error.differences().iter().map(|difference| difference.kind).collect())
}

fn differs(kind: DifferenceKind) -> (&'static str, Vec<DifferenceKind>) {
    ("model_differs", vec![kind])
}

fn error(code: &'static str) -> (&'static str, Vec<DifferenceKind>) {
    (code, Vec::new())
}

#[test]
fn every_byte_of_every_construction_reaches_its_receiver() {
    let mut options = vec![sharded(999), sharded(65_537), sharded(524_289), sharded(10_000_000)];
    for hash in [Algorithm::Sha256, Algorithm::Blake2b, Algorithm::Blake3] {
        options.extend([true, false].map(|annotate| SignOptions { hash, annotate, ..SignOptions::default() }));
    }
    for options in options {
        let signed = Signed::new(&options);
        let reader = signed.reader();
        let names: Vec<_> = reader.statement().value().manifest.paths().into_iter().cloned().collect();
        assert_eq!(names, ["config.json", WEIGHTS, "tokens.bin"].map(path));
        let files: Vec<_> = names.iter().map(|name| reader.open_file(name).unwrap()).collect();
        // The first file twice: each receiver has its own.
        let loads = files.iter().chain(&files[..1]).map(|file| (file, Part::Whole, Kept::default())).collect();
        let loaded = reader.load(loads, &()).unwrap();
        assert_eq!(loaded.payload_sha256(), reader.statement().payload_sha256());
        let kept = loaded.into_value();
        assert_eq!(kept.len(), 4);
        for (file, kept) in files.iter().chain(&files[..1]).zip(kept) {
            let (name, (bytes, received)) = (file.path().as_str(), kept.into_parts());
            assert!(bytes == signed.bytes(name) && received.iter().all(|&received| received), "{name}, {options:?}");
            assert_eq!((file.size(), file.header().is_some()), (bytes.len() as u64, name == WEIGHTS));
            assert!(file.head().unwrap_or_default() == &bytes[..file.head().map_or(0, <[u8]>::len)]);
            assert!(reader.read(file.path()).unwrap() == bytes, "{name}, {options:?}");
        }
    }
}

#[test]
fn a_tensor_is_read_alone_where_it_has_a_digest_of_its_own() {
    for (options, alone) in [(SignOptions::default(), true), (plain(), false), (sharded(1001), false)] {
        let signed = Signed::new(&options);
        let (reader, whole) = (signed.reader(), signed.bytes(WEIGHTS));
        let file = reader.open_file(&path(WEIGHTS)).unwrap();
        let header = file.header().unwrap();
        assert_eq!(header.tensors.len(), TENSORS.len());
        for (place, tensor) in header.tensors.iter().enumerate() {
            let (bytes, received) = load_part(&reader, &file, Part::Tensor(place)).unwrap().into_parts();
            let range = tensor.range.start as usize..tensor.range.end as usize;
            let wanted = |at| !alone || at < header.data_start as usize || range.contains(&at);
            let right = |at: usize| received.get(at) == Some(&true) && bytes[at] == whole[at];
            let wrong = (0..whole.len()).find(|&at| right(at) != wanted(at));
            assert_eq!(wrong, None, "the place of a byte, tensor {}", tensor.name);
        }
    }
    let signed = Signed::new(&SignOptions::default());
    let reader = signed.reader();
    let file = reader.open_file(&path(WEIGHTS)).unwrap();
    for beyond in [TENSORS.len(), usize::MAX] {
        assert_eq!(refused(load_part(&reader, &file, Part::Tensor(beyond))), differs(ChangedFile));
    }
    signed.change(WEIGHTS, |bytes| *bytes.last_mut().unwrap() ^= 1);
    let reader = signed.reader();
    let file = reader.open_file(&path(WEIGHTS)).unwrap();
    assert!(load_part(&reader, &file, Part::Tensor(0)).is_ok(), "only the last tensor was changed");
    assert_eq!(refused(load_part(&reader, &file, Part::Tensor(3))), differs(ChangedTensor));
}

#[test]
fn files_without_bytes_or_tensors_are_loaded() {
    let bare = safetensors(&[]);
    for options in [SignOptions::default(), plain()] {
        let signed = Signed::of(&[("empty.txt", b""), ("bare.safetensors", &bare)], &options);
        let reader = signed.reader();
        assert_eq!(load(&reader, "empty.txt").unwrap(), b"");
        assert_eq!(load(&reader, "bare.safetensors").unwrap(), bare);
        assert_eq!(reader.load(Vec::<(&OpenFile, Part, Kept)>::new(), &()).unwrap().value().len(), 0);
        signed.change("empty.txt", |bytes| bytes.push(0));
        assert_eq!(refused(load(&reader, "empty.txt")), differs(ChangedFile));
    }
    // Shards of one byte: the file ends with the last one.
    let signed = Signed::of(&[("a.txt", b"abc"), ("bare.safetensors", &bare)], &sharded(1));
    let reader = signed.reader();
    assert_eq!((load(&reader, "a.txt").unwrap(), load(&reader, "bare.safetensors").unwrap()), (b"abc".to_vec(), bare));
    for (changed, count) in [("ab", 1), ("abcd", 1), ("", 3), ("xbz", 2)] {
        signed.write("a.txt", changed.as_bytes());
        assert_eq!(refused(load(&reader, "a.txt")), ("model_differs", vec![ChangedFile; count]), "{changed}");
    }
}

#[test]
fn one_file_is_loaded_by_its_own_name() {
    let signed = Signed::new(&SignOptions::default());
    let file = signed.model.join(WEIGHTS);
    let written = sign_model(&file, &signed.key, &SignOptions::default(), &()).unwrap();
    let trust = TrustedKey::new(signed.key.public());
    let reader = ModelReader::open(&file, &[], &trust).unwrap();
    assert_eq!(load(&reader, "weights.safetensors").unwrap(), signed.bytes(WEIGHTS));
    assert_eq!(refused(load(&reader, ".")), differs(UnsignedFile));
    let weights = reader.open_weights(None).unwrap();
    assert_eq!(weights.iter().map(|file| file.path().as_str()).collect::<Vec<_>>(), ["weights.safetensors"]);
    // The reader holds the file that it opened, not its name.
    let whole = signed.bytes(WEIGHTS);
    fs::rename(signed.model.join("config.json"), &file).unwrap();
    assert_eq!(load(&reader, "weights.safetensors").unwrap(), whole);
    fs::rename(&file, signed.model.join("renamed")).unwrap();
    let reader = ModelReader::open(&signed.model.join("renamed"), std::slice::from_ref(&written.signature), &trust).unwrap();
    assert_eq!(refused(load(&reader, "weights.safetensors")), differs(MissingFile));
}

#[test]
fn a_signature_that_does_not_hold_opens_nothing() {
    let signed = Signed::new(&SignOptions::default());
    let open = |signature: Option<PathBuf>, key: &PrivateKey| {
        ModelReader::open(&signed.model, &Vec::from_iter(signature), &TrustedKey::new(key.public())).map(|_| ()).unwrap_err().code()
    };
    assert_eq!(open(None, &PrivateKey::generate(KeyAlgorithm::Ed25519).unwrap()), "signature_invalid");
    assert_eq!(open(Some(signed.dir.path().join("none.sig")), &signed.key), "signature_not_found");
    assert_eq!(open(Some(signed.model.join("config.json")), &signed.key), "json_field");
}

type Change = fn(&mut Vec<u8>);

/// What a change is called, and the codes and differences that it has with and without digests of tensors.
type Refused = (&'static str, Change, [(&'static str, Option<DifferenceKind>); 2]);

#[test]
fn changed_files_are_refused_by_what_was_changed() {
    let changes: [Refused; 8] = [
        ("data", |bytes| *bytes.last_mut().unwrap() ^= 1, [("model_differs", Some(ChangedTensor)), ("model_differs", Some(ChangedFile))]),
        ("far", |bytes| bytes[900_000] ^= 128, [("model_differs", Some(ChangedTensor)), ("model_differs", Some(ChangedFile))]),
        ("name", |bytes| bytes[10] ^= 1, [("model_differs", Some(ChangedHeader)), ("model_differs", Some(ChangedFile))]),
        ("shorter", |bytes| bytes.truncate(bytes.len() - 1), [("safetensors_past_end", None); 2]),
        ("longer", |bytes| bytes.push(0), [("safetensors_trailing_data", None); 2]),
        ("cut in its header", |bytes| bytes.truncate(100), [("safetensors_header_truncated", None); 2]),
        ("emptied", Vec::clear, [("safetensors_header_truncated", None); 2]),
        ("said to have a long header", |bytes| bytes[6] = 1, [("safetensors_header_too_large", None); 2]),
    ];
    for (options, column) in [(SignOptions::default(), 0), (plain(), 1), (sharded(600_000), 1)] {
        let signed = Signed::new(&options);
        let (reader, whole) = (signed.reader(), signed.bytes(WEIGHTS));
        for (what, change, expected) in &changes {
            signed.change(WEIGHTS, change);
            let (code, kind) = expected[column];
            let found = load(&reader, WEIGHTS).unwrap_err();
            assert_eq!((found.code(), found.verdict()), (code, Verdict::Rejected), "{what}, {options:?}");
            assert_eq!(found.differences().iter().map(|difference| difference.kind).collect::<Vec<_>>(), Vec::from_iter(kind), "{what}");
            assert!(found.differences().iter().all(|difference| difference.file.as_deref() == Some(WEIGHTS)));
            assert_eq!(reader.read(&path(WEIGHTS)).unwrap_err().code(), code, "{what}");
            signed.write(WEIGHTS, &whole);
        }
        assert_eq!(load(&reader, WEIGHTS).unwrap(), whole);
        let whole = signed.bytes("tokens.bin");
        let changes: [Change; 4] = [|bytes| bytes[70_000] ^= 1, |bytes| bytes.truncate(70_000), |bytes| bytes.push(9), Vec::clear];
        for change in changes {
            signed.change("tokens.bin", change);
            assert_eq!(refused(load(&reader, "tokens.bin")), differs(ChangedFile), "{options:?}");
            signed.write("tokens.bin", &whole);
        }
    }
}

#[test]
fn every_difference_of_a_load_is_listed() {
    let signed = Signed::new(&SignOptions::default());
    signed.change(WEIGHTS, |bytes| {
        bytes[1000] ^= 1;
        *bytes.last_mut().unwrap() ^= 1;
    });
    signed.change("config.json", |bytes| bytes.push(b' '));
    let reader = signed.reader();
    let files = [WEIGHTS, "tokens.bin", "config.json"].map(|name| reader.open_file(&path(name)).unwrap());
    let result = reader.load(files.iter().map(|file| (file, Part::Whole, Kept::default())).collect(), &());
    let error = result.unwrap_err();
    let place = |difference: &Difference| (difference.kind, difference.file.clone().unwrap(), difference.tensor.clone());
    let expected = [
        (ChangedTensor, WEIGHTS.to_owned(), Some("first".to_owned())),
        (ChangedTensor, WEIGHTS.to_owned(), Some("last".to_owned())),
        (ChangedFile, "config.json".to_owned(), None),
    ];
    assert_eq!(error.differences().iter().map(place).collect::<Vec<_>>(), expected);
    assert!(error.differences().iter().all(|difference| difference.expected.is_some() && difference.expected != difference.found));
}

#[test]
fn only_signed_files_that_are_files_are_opened() {
    let signed = Signed::new(&SignOptions::default());
    let reader = signed.reader();
    signed.write("unsigned.txt", b"");
    for unsigned in ["unsigned.txt", "model.sig", "absent.txt", "sub", "sub/deep", ".", "Config.json"] {
        assert_eq!(refused(reader.open_file(&path(unsigned))), differs(UnsignedFile), "{unsigned}");
    }
    let config = signed.model.join("config.json");
    let aside = signed.dir.path().join("aside.json");
    fs::rename(&config, &aside).unwrap();
    assert_eq!(refused(reader.open_file(&path("config.json"))), differs(MissingFile));
    symlink(&aside, &config).unwrap();
    assert_eq!(refused(reader.open_file(&path("config.json"))), error("symlink"));
    fs::remove_file(&config).unwrap();
    fs::create_dir(&config).unwrap();
    assert_eq!(refused(reader.open_file(&path("config.json"))), error("special_file"));
    fs::remove_dir(&config).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, &config, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(refused(reader.open_file(&path("config.json"))), error("special_file"));
    fs::rename(signed.model.join("sub"), signed.dir.path().join("sub")).unwrap();
    assert_eq!(refused(reader.open_file(&path(WEIGHTS))), differs(MissingFile));
}

#[test]
fn a_file_that_changes_after_it_was_opened_is_noticed() {
    for options in [SignOptions::default(), plain(), sharded(4096)] {
        for name in ["tokens.bin", WEIGHTS] {
            let signed = Signed::new(&options);
            let (reader, whole) = (signed.reader(), signed.bytes(name));
            // The last writes the same bytes again.
            let changes: [Change; 4] = [|bytes| *bytes.last_mut().unwrap() ^= 1, |bytes| bytes.truncate(9), |bytes| bytes.push(9), |_| ()];
            for change in changes {
                let file = reader.open_file(&path(name)).unwrap();
                signed.change(name, change);
                let found = load_part(&reader, &file, Part::Whole).unwrap_err();
                assert_eq!((found.code(), found.verdict()), ("file_changed_while_read", Verdict::Rejected), "{name}, {options:?}");
                signed.write(name, &whole);
            }
            // With its old times back only its bytes, or the time of the last change, can tell.
            let file = reader.open_file(&path(name)).unwrap();
            signed.write(name, &whole.iter().rev().copied().collect::<Vec<_>>());
            let code = load_part(&reader, &file, Part::Whole).unwrap_err().code();
            assert!(["file_changed_while_read", "model_differs"].contains(&code), "{code}");
        }
    }
}

#[test]
fn a_file_that_is_replaced_is_never_another() {
    for by_rename in [true, false] {
        let signed = Signed::new(&SignOptions::default());
        let (reader, whole) = (signed.reader(), signed.bytes(WEIGHTS));
        let file = reader.open_file(&path(WEIGHTS)).unwrap();
        signed.write("evil", &whole.iter().map(|byte| byte ^ 1).collect::<Vec<_>>());
        if !by_rename {
            fs::rename(signed.model.join(WEIGHTS), signed.dir.path().join("aside")).unwrap();
        }
        fs::rename(signed.model.join("evil"), signed.model.join(WEIGHTS)).unwrap();
        match load_part(&reader, &file, Part::Whole) {
            Ok(kept) => assert!(kept.into_parts().0 == whole),
            Err(error) => assert_eq!(error.code(), "file_changed_while_read"),
        }
        assert_eq!(refused(reader.open_file(&path(WEIGHTS))), error("safetensors_header_too_large"));
    }
}

#[test]
fn a_file_opened_in_another_model_is_not_this_models() {
    let signed = Signed::new(&SignOptions::default());
    let mut changed = safetensors(&TENSORS);
    *changed.last_mut().unwrap() ^= 1;
    let renamed = safetensors(&[("f", "U8", &[8], 8)]);
    for (bytes, kind) in [(&changed, ChangedTensor), (&renamed, ChangedHeader)] {
        let other = Signed::of(&[(WEIGHTS, bytes), ("other.txt", b"")], &SignOptions::default());
        let other = other.reader();
        let file = other.open_file(&path(WEIGHTS)).unwrap();
        assert_eq!(refused(load_part(&signed.reader(), &file, Part::Whole)), differs(kind));
        let file = other.open_file(&path("other.txt")).unwrap();
        assert_eq!(refused(load_part(&signed.reader(), &file, Part::Whole)), differs(UnsignedFile));
    }
}

#[test]
fn links_are_followed_inside_the_model_if_the_signature_says_so() {
    let signed = Signed::new(&SignOptions::default());
    symlink("config.json", signed.model.join("linked.json")).unwrap();
    let options = SignOptions { allow_symlinks: true, ..SignOptions::default() };
    sign_model(&signed.model, &signed.key, &options, &()).unwrap();
    let reader = signed.reader();
    assert_eq!(load(&reader, "linked.json").unwrap(), signed.bytes("config.json"));
    fs::rename(signed.model.join("sub"), signed.model.join("moved")).unwrap();
    symlink("moved", signed.model.join("sub")).unwrap();
    assert_eq!(load(&reader, WEIGHTS).unwrap(), signed.bytes(WEIGHTS));
    let link = |target: &Path| {
        fs::remove_file(signed.model.join("linked.json")).unwrap();
        symlink(target, signed.model.join("linked.json")).unwrap();
        refused(load(&reader, "linked.json"))
    };
    fs::write(signed.dir.path().join("config.json"), signed.bytes("config.json")).unwrap();
    assert_eq!(link(Path::new("../config.json")), error("symlink_escape"));
    assert_eq!(link(&signed.model.join("config.json")), error("symlink_escape"));
    assert_eq!(link(Path::new("linked.json")), error("symlink_cycle"));
    assert_eq!(link(Path::new("nothing")), differs(MissingFile));
    assert_eq!(link(Path::new("moved")), error("special_file"));
    assert_eq!(link(Path::new("tokens.bin")), differs(ChangedFile));
}

#[test]
fn a_hub_cache_is_loaded_as_it_lies() {
    let signed = Signed::new(&SignOptions::default());
    let cache = signed.dir.path().join("models--org--name");
    let snapshot = cache.join("snapshots/0123abcd");
    fs::create_dir_all(snapshot.join("sub/deep")).unwrap();
    fs::create_dir_all(cache.join("blobs")).unwrap();
    for (blob, name) in ["config.json", "tokens.bin", WEIGHTS, "model.sig"].iter().enumerate() {
        fs::copy(signed.model.join(name), cache.join(format!("blobs/b{blob}"))).unwrap();
        symlink(format!("{}../../blobs/b{blob}", "../".repeat(name.matches('/').count())), snapshot.join(name)).unwrap();
    }
    let reader = ModelReader::open(&snapshot, &[], &TrustedKey::new(signed.key.public())).unwrap();
    for name in ["config.json", "tokens.bin", WEIGHTS] {
        assert_eq!(load(&reader, name).unwrap(), signed.bytes(name));
    }
    fs::copy(cache.join("blobs/b1"), cache.join("blobs/b0")).unwrap();
    assert_eq!(refused(load(&reader, "config.json")), differs(ChangedFile));
    fs::remove_file(cache.join("blobs/b2")).unwrap();
    assert_eq!(refused(load(&reader, WEIGHTS)), differs(MissingFile));
    fs::remove_file(snapshot.join("tokens.bin")).unwrap();
    symlink("../../blobs/../blobs/b1", snapshot.join("tokens.bin")).unwrap();
    assert_eq!(refused(load(&reader, "tokens.bin")), error("symlink"));
}

/// Changes the annotation of a safetensors file.
fn in_annotation(change: impl Fn(&mut sentry_manifest::SafetensorsAnnotation)) -> impl Fn(&mut Resource) {
    move |resource| match &mut resource.annotation {
        Some(Annotation::Safetensors(annotation)) => change(annotation),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_signer_who_lies_is_caught() {
    let other = Algorithm::Blake3.digest(b"another file");
    let expect = |name: &str, lie: &dyn Fn(&mut Resource), loaded: (&str, Vec<DifferenceKind>), verified: (&str, Vec<DifferenceKind>)| {
        let signed = Signed::new(&SignOptions::default());
        signed.lie(name, lie);
        assert_eq!(refused(load(&signed.reader(), name)), loaded);
        let trust = TrustedKey::new(signed.key.public());
        assert_eq!(refused(verify_model(&signed.model, &trust, &VerifyOptions::default(), &())), verified);
    };
    let mismatch = || differs(AnnotationMismatch);
    expect("config.json", &|resource| resource.annotation = Some(Annotation::Blake3(other)), differs(ChangedFile), mismatch());
    expect(WEIGHTS, &|resource| resource.annotation = Some(Annotation::Blake3(other)), differs(ChangedFile), mismatch());
    expect(WEIGHTS, &in_annotation(|annotation| annotation.tensors[2].digest = other), differs(ChangedTensor), mismatch());
    expect(WEIGHTS, &in_annotation(|annotation| annotation.header = other), differs(ChangedHeader), mismatch());
    let invalid = || error("annotation_invalid");
    let lies: [&dyn Fn(&mut sentry_manifest::SafetensorsAnnotation); 6] = [
        &|annotation| annotation.tensors[2].name = "renamed".to_owned(),
        &|annotation| annotation.tensors[2].shape = vec![3, 2],
        &|annotation| annotation.tensors[2].dtype = Dtype::from_name("I32").unwrap(),
        &|annotation| annotation.tensors.swap(2, 3),
        &|annotation| drop(annotation.tensors.remove(1)),
        &|annotation| annotation.tensors.clear(),
    ];
    for lie in lies {
        let signed = Signed::new(&SignOptions::default());
        signed.lie(WEIGHTS, in_annotation(lie));
        assert_eq!(refused(signed.reader().open_file(&path(WEIGHTS))), invalid());
    }
    // Not a safetensors file, and said to be one.
    let signed = Signed::new(&SignOptions::default());
    let annotation = sentry_manifest::SafetensorsAnnotation { header: other, tensors: Vec::new() };
    signed.lie("config.json", |resource| resource.annotation = Some(Annotation::Safetensors(annotation.clone())));
    assert_eq!(refused(signed.reader().open_file(&path("config.json"))), error("safetensors_header_too_large"));
}

#[test]
fn an_annotation_of_the_whole_file_stands_for_one_of_its_tensors() {
    let signed = Signed::new(&SignOptions::default());
    let whole = Algorithm::Blake3.digest(&signed.bytes(WEIGHTS));
    signed.lie(WEIGHTS, |resource| resource.annotation = Some(Annotation::Blake3(whole)));
    assert_eq!(load(&signed.reader(), WEIGHTS).unwrap(), signed.bytes(WEIGHTS));
    signed.change(WEIGHTS, |bytes| bytes[10] ^= 1);
    assert_eq!(refused(load(&signed.reader(), WEIGHTS)), differs(ChangedFile));
}

/// Fails at the first byte at or after a place.
#[derive(Debug)]
struct Full(u64);

impl Receiver for Full {
    fn receive(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if offset + bytes.len() as u64 > self.0 { Err(io::Error::other("there is no room")) } else { Ok(()) }
    }
}

#[test]
fn a_receiver_that_fails_fails_the_load() {
    for options in [SignOptions::default(), plain(), sharded(1000)] {
        let reader = Signed::new(&options);
        let reader = reader.reader();
        let file = reader.open_file(&path(WEIGHTS)).unwrap();
        for room in [0, 1000, file.size() - 1] {
            let found = reader.load(vec![(&file, Part::Whole, Full(room))], &()).unwrap_err();
            assert_eq!((found.code(), found.verdict()), ("io", Verdict::Unchecked));
            assert!(found.to_string().contains("there is no room"), "{found}");
        }
        assert!(reader.load(vec![(&file, Part::Whole, Full(file.size()))], &()).is_ok());
    }
}

/// Loads a part of a file to memory as long as the file, in regions that begin at `starts` and end where the next one does; what was in
/// the memory before is 0xEE.
fn land(reader: &ModelReader, file: &OpenFile, part: Part, starts: &[u64]) -> (Result<Report, Error>, Vec<u8>) {
    let mut memory = vec![0xEE; file.size() as usize];
    let mut regions = Vec::new();
    let mut rest = &mut memory[..];
    let mut end = file.size();
    for &start in starts.iter().rev() {
        let (before, room) = rest.split_at_mut(start as usize);
        regions.push(Region { range: start..end, room: Room::Host(room.into()) });
        (rest, end) = (before, start);
    }
    let landing = Landing::new(regions).unwrap();
    let loaded = reader.load_to(vec![(file, part, landing)], &Loader::default(), &());
    (loaded, memory)
}

/// Every kind of signature, and whether it lists tensors.
fn kinds() -> Vec<SignOptions> {
    let blake3 = |annotate| SignOptions { hash: Algorithm::Blake3, annotate, ..SignOptions::default() };
    vec![SignOptions::default(), plain(), blake3(true), blake3(false), sharded(65_537), sharded(524_289), sharded(10_000_000)]
}

#[test]
fn bytes_land_where_they_are_wanted() {
    for options in kinds() {
        let signed = Signed::new(&options);
        let reader = signed.reader();
        let file = reader.open_file(&path(WEIGHTS)).unwrap();
        let data = file.header().unwrap().tensors[0].range.start;
        let bytes = signed.bytes(WEIGHTS);
        for starts in [&[data][..], &[data, data + 1, data + 1_000_000], &[0, 7, data, file.size() - 1]] {
            let (loaded, memory) = land(&reader, &file, Part::Whole, starts);
            let report = loaded.unwrap();
            // The head, of which tensors' digests say nothing, was checked when it was parsed.
            let landed = if options.annotate { data } else { starts[0] } as usize;
            assert!(memory[landed..] == bytes[landed..], "{options:?} {starts:?}");
            assert!(memory[..starts[0] as usize].iter().all(|&byte| byte == 0xEE), "{options:?} {starts:?}");
            assert!(report.cached + report.queued + report.direct >= file.size() - data);
        }
    }
}

#[test]
fn only_what_has_a_digest_lands() {
    let signed = Signed::new(&SignOptions::default());
    let reader = signed.reader();
    let file = reader.open_file(&path(WEIGHTS)).unwrap();
    let tensors = &file.header().unwrap().tensors;
    for (place, tensor) in tensors.iter().enumerate() {
        let (loaded, memory) = land(&reader, &file, Part::Tensor(place), &[0]);
        loaded.unwrap();
        let range = tensor.range.start as usize..tensor.range.end as usize;
        assert!(memory[range.clone()] == signed.bytes(WEIGHTS)[range.clone()]);
        let others = memory[..range.start].iter().chain(&memory[range.end..]);
        assert!(others.into_iter().all(|&byte| byte == 0xEE), "nobody asked for the others");
    }
    // A place beyond the last tensor.
    assert_eq!(refused(land(&reader, &file, Part::Tensor(tensors.len()), &[0]).0), differs(ChangedFile));
}

#[test]
fn nothing_stays_of_what_is_not_the_signed_file() {
    for options in kinds() {
        let signed = Signed::new(&options);
        let honest = signed.bytes(WEIGHTS);
        // After the file was opened, as a load would find it: its times are other ones.
        for change in [
            &(|bytes: &mut Vec<u8>| bytes[700_000] ^= 1) as &dyn Fn(&mut Vec<u8>),
            &|bytes| bytes.truncate(1_000_000),
            &|bytes| bytes.push(0),
            &|bytes| bytes[9] ^= 1,
        ] {
            let reader = signed.reader();
            let file = reader.open_file(&path(WEIGHTS)).unwrap();
            signed.change(WEIGHTS, change);
            let data = file.header().unwrap().tensors[0].range.start;
            let (loaded, memory) = land(&reader, &file, Part::Whole, &[data]);
            assert_eq!(refused(loaded), error("file_changed_while_read"), "{options:?}");
            assert!(memory[data as usize..].iter().all(|&byte| byte == 0), "{options:?}: it is wiped");
            signed.write(WEIGHTS, &honest);
        }
        // Before it was opened: the digests differ.
        signed.change(WEIGHTS, |bytes| bytes[700_000] ^= 1);
        let reader = signed.reader();
        let file = reader.open_file(&path(WEIGHTS)).unwrap();
        let data = file.header().unwrap().tensors[0].range.start;
        let (loaded, memory) = land(&reader, &file, Part::Whole, &[data, data + 5]);
        assert_eq!(refused(loaded), differs(if options.annotate { ChangedTensor } else { ChangedFile }), "{options:?}");
        assert!(memory[data as usize..].iter().all(|&byte| byte == 0), "{options:?}: it is wiped");
        signed.write(WEIGHTS, &honest);
        let reader = signed.reader();
        let file = reader.open_file(&path(WEIGHTS)).unwrap();
        assert!(land(&reader, &file, Part::Whole, &[data]).0.is_ok(), "the next load works");
    }
}

/// Loads whole files to memory as long as they, which held 0xEE before.
fn land_all(reader: &ModelReader, files: &[OpenFile]) -> (Result<Report, Error>, Vec<Vec<u8>>) {
    let mut memories: Vec<Vec<u8>> = files.iter().map(|file| vec![0xEE; file.size() as usize]).collect();
    let mut loads = Vec::new();
    for (file, memory) in files.iter().zip(&mut memories) {
        let region = Region { range: 0..file.size(), room: Room::Host(memory.as_mut_slice().into()) };
        loads.push((file, Part::Whole, Landing::new(vec![region]).unwrap()));
    }
    (reader.load_to(loads, &Loader::default(), &()), memories)
}

#[test]
fn several_files_land_or_none() {
    for options in kinds() {
        let signed = Signed::new(&options);
        let reader = signed.reader();
        let names = ["config.json", WEIGHTS, "tokens.bin"];
        let open = || names.map(|name| reader.open_file(&path(name)).unwrap());
        let files = open();
        // The head of a file whose tensors have digests was read before.
        let starts =
            files.each_ref().map(|file| if options.annotate { file.header().map_or(0, |header| header.data_start) } else { 0 } as usize);
        let are_right = |memories: &[Vec<u8>]| {
            names.iter().zip(memories).zip(starts).all(|((name, memory), start)| memory[start..] == signed.bytes(name)[start..])
        };
        let (loaded, memories) = land_all(&reader, &files);
        loaded.unwrap();
        assert!(are_right(&memories), "{options:?}");
        // One of them is another one; the good ones do not stay either.
        for name in ["config.json", "tokens.bin"] {
            let whole = signed.bytes(name);
            for (change, is_open) in [(true, false), (true, true), (false, true)] {
                let before = open();
                signed.change(name, |bytes| if change { bytes[5] ^= 1 } else { bytes.truncate(7) });
                let files = if is_open { before } else { open() };
                let (loaded, memories) = land_all(&reader, &files);
                let expected = if is_open { error("file_changed_while_read") } else { differs(ChangedFile) };
                assert_eq!(refused(loaded), expected, "{name}, {options:?}");
                assert!(memories.iter().flatten().all(|&byte| byte == 0), "{name}, {options:?}: all are wiped");
                signed.write(name, &whole);
            }
        }
        let (loaded, memories) = land_all(&reader, &open());
        loaded.unwrap();
        assert!(are_right(&memories), "the next load works");
    }
}

#[test]
fn what_replaces_a_file_does_not_land() {
    for options in kinds() {
        let signed = Signed::new(&options);
        let (reader, whole) = (signed.reader(), signed.bytes(WEIGHTS));
        let file = reader.open_file(&path(WEIGHTS)).unwrap();
        signed.write("evil", &whole.iter().map(|byte| byte ^ 1).collect::<Vec<_>>());
        fs::rename(signed.model.join("evil"), signed.model.join(WEIGHTS)).unwrap();
        let data = file.header().unwrap().data_start;
        let (loaded, memory) = land(&reader, &file, Part::Whole, &[data]);
        match loaded {
            // It is the file that was opened, whatever its name says now.
            Ok(_) => assert!(memory[data as usize..] == whole[data as usize..]),
            Err(error) => {
                assert_eq!(error.code(), "file_changed_while_read");
                assert!(memory[data as usize..].iter().all(|&byte| byte == 0));
            }
        }
        assert_eq!(refused(reader.open_file(&path(WEIGHTS))), error("safetensors_header_too_large"));
        // Another header, of a file that was opened in another model.
        let other = Signed::of(&[(WEIGHTS, &safetensors(&[("f", "U8", &[8], 8)]))], &options);
        let file = other.reader().open_file(&path(WEIGHTS)).unwrap();
        let (loaded, memory) = land(&reader, &file, Part::Whole, &[0]);
        let (code, differences) = refused(loaded);
        assert_eq!((code, differences.is_empty()), ("model_differs", false), "{options:?}");
        assert!(memory.iter().all(|&byte| byte == 0), "{options:?}: it is wiped");
    }
}

const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
const INDEX: &str = "model.safetensors.index.json";

/// Two files of weights: `a` and `b` in the first, `second` in the other; and an index with this map.
fn indexed(map: &str, second: &[&str]) -> Signed {
    let second: Vec<(&str, &str, &[u64], usize)> = second.iter().map(|&name| (name, "U8", &[3][..], 3)).collect();
    let files = [safetensors(&[("a", "U8", &[5], 5), ("b", "U8", &[6], 6)]), safetensors(&second)];
    let index = format!("{{\"metadata\":{{}},\"weight_map\":{{{map}}}}}");
    let index = index.replace("@1", SHARDS[0]).replace("@2", SHARDS[1]);
    let files: [(&str, &[u8]); 4] = [("config.json", b"{}"), (INDEX, index.as_bytes()), (SHARDS[0], &files[0]), (SHARDS[1], &files[1])];
    Signed::of(&files, &SignOptions::default())
}

fn weights(signed: &Signed, named: Option<&[&str]>) -> Result<Vec<String>, Error> {
    let named: Option<Vec<String>> = named.map(|names| names.iter().map(|&name| name.to_owned()).collect());
    let files = signed.reader().open_weights(named.as_deref())?;
    Ok(files.iter().map(|file| file.path().as_str().to_owned()).collect())
}

const MAP: &str = r#""a":"@1","c":"@2","b":"@1""#;

#[test]
fn weights_are_the_files_of_the_index() {
    let signed = indexed(MAP, &["c"]);
    assert_eq!(weights(&signed, None).unwrap(), SHARDS);
    assert_eq!(weights(&signed, Some(&[SHARDS[1]])).unwrap(), SHARDS[1..]);
    let unclear = || error("weights_unclear");
    assert_eq!(refused(weights(&signed, Some(&["config.json"]))), unclear());
    assert_eq!(refused(weights(&signed, Some(&["absent.safetensors"]))), unclear());
    assert_eq!(refused(weights(&signed, Some(&[]))), unclear());
    assert_eq!(refused(weights(&signed, Some(&["../config.json"]))), error("unsafe_path"));
    signed.change(INDEX, |bytes| bytes.push(b' '));
    assert_eq!(refused(weights(&signed, None)), differs(ChangedFile));
    let signed = indexed(MAP, &["c"]);
    fs::remove_file(signed.model.join(SHARDS[1])).unwrap();
    assert_eq!(refused(weights(&signed, None)), differs(MissingFile));
}

#[test]
fn an_index_that_does_not_match_its_files_is_refused() {
    for map in [
        r#""a":"@1","c":"@2""#,
        r#""a":"@1","b":"@2","c":"@2""#,
        r#""a":"@1","b":"@1","c":"@2","d":"@2""#,
        r#""a":"@1","b":"@1","c":"@2","d":"absent.safetensors""#,
        r#""a":"@1","b":"@1","c":"./@2""#,
        "",
    ] {
        assert_eq!(refused(weights(&indexed(map, &["c"]), None)), error("index_invalid"), "{map}");
    }
    assert_eq!(weights(&indexed(r#""a":"@1","b":"@1""#, &["c"]), None).unwrap(), SHARDS[..1], "the index says which files");
    assert_eq!(refused(weights(&indexed(MAP, &["a", "c"]), None)), error("index_invalid"));
    assert_eq!(refused(weights(&indexed(MAP, &["a"]), Some(&SHARDS))), error("duplicate_tensor"));
}
