//! Sign, verify, tamper, verify: the facade on models in a temporary folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use sentry::{
    Algorithm, DifferenceKind, Error, KeyAlgorithm, PrivateKey, SignOptions, TrustedKey, Verdict, VerifyOptions, sign_model, verify_model,
};

/// A safetensors file of two tensors with `fill` in their bytes.
fn safetensors(fill: u8) -> Vec<u8> {
    let json =
        r#"{"a":{"dtype":"F32","shape":[256],"data_offsets":[0,1024]},"b":{"dtype":"U8","shape":[3000],"data_offsets":[1024,4024]}}"#;
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes.resize(bytes.len() + 4024, fill);
    bytes
}

fn model(dir: &Path) -> std::path::PathBuf {
    let model = dir.join("model");
    fs::create_dir_all(model.join("nested")).unwrap();
    fs::write(model.join("config.json"), "{}").unwrap();
    fs::write(model.join("nested/weights.safetensors"), safetensors(7)).unwrap();
    fs::write(model.join("nested.txt"), "sorts before nested/").unwrap();
    model
}

fn key() -> PrivateKey {
    PrivateKey::generate(KeyAlgorithm::EcdsaP256Sha256).unwrap()
}

fn verify(model: &Path, key: &PrivateKey) -> Result<sentry::Verified<sentry::Model>, Error> {
    verify_model(model, &TrustedKey::new(key.public()), &VerifyOptions::default(), &())
}

#[test]
fn every_algorithm_of_keys_and_files() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    for algorithm in [KeyAlgorithm::EcdsaP256Sha256, KeyAlgorithm::EcdsaP384Sha384, KeyAlgorithm::EcdsaP521Sha512, KeyAlgorithm::Ed25519] {
        let key = PrivateKey::generate(algorithm).unwrap();
        for hash in [Algorithm::Sha256, Algorithm::Blake2b, Algorithm::Blake3] {
            let options = SignOptions { hash, version: Some(3), ..SignOptions::default() };
            sign_model(&model, &key, &options, &()).unwrap();
            let verified = verify(&model, &key).unwrap();
            let statement = verified.value().statement();
            assert_eq!((statement.version, statement.manifest.paths().len(), statement.manifest.tensors()), (Some(3), 3, 2));
            assert_eq!(verify(&model, &self::key()).unwrap_err().code(), "signature_invalid");
        }
    }
}

#[test]
fn a_changed_tensor_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (model, key) = (model(dir.path()), key());
    sign_model(&model, &key, &SignOptions::default(), &()).unwrap();
    let mut bytes = safetensors(7);
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(model.join("nested/weights.safetensors"), bytes).unwrap();
    let error = verify(&model, &key).unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("model_differs", Verdict::Rejected));
    let [difference] = error.differences() else { panic!("one difference, found {:?}", error.differences()) };
    assert_eq!(difference.kind, DifferenceKind::ChangedTensor);
    assert_eq!((difference.file.as_deref(), difference.tensor.as_deref()), (Some("nested/weights.safetensors"), Some("b")));
    assert!(error.to_string().contains("tensor \"b\" in \"nested/weights.safetensors\" was changed: expected blake3:"), "{error}");
}

#[test]
fn shards_cover_a_file_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let (model, key) = (model(dir.path()), key());
    let options = SignOptions { shard_size: Some(1000), ..SignOptions::default() };
    let signed = sign_model(&model, &key, &options, &()).unwrap();
    assert_eq!(signed.statement.manifest.resources().len(), 7);
    verify(&model, &key).unwrap();
    let sound = safetensors(7);
    for length in [sound.len() - 1, sound.len() + 1, 1000, 999, 0, 5000] {
        let mut bytes = sound.clone();
        bytes.resize(length, 7);
        fs::write(model.join("nested/weights.safetensors"), bytes).unwrap();
        let error = verify(&model, &key).unwrap_err();
        assert!(error.differences().iter().all(|difference| difference.kind == DifferenceKind::ChangedFile), "{length}: {error}");
    }
    fs::write(model.join("nested/weights.safetensors"), sound).unwrap();
    verify(&model, &key).unwrap();
}

#[test]
fn one_file_has_its_signature_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let (file, key) = (dir.path().join("weights.safetensors"), key());
    fs::write(&file, safetensors(1)).unwrap();
    let signed = sign_model(&file, &key, &SignOptions::default(), &()).unwrap();
    assert_eq!(signed.signature, dir.path().join("weights.safetensors.sig"));
    verify(&file, &key).unwrap();
    fs::rename(&file, dir.path().join("renamed.safetensors")).unwrap();
    let options = VerifyOptions { signatures: vec![signed.signature], ..VerifyOptions::default() };
    let trust = TrustedKey::new(key.public());
    let error = verify_model(&dir.path().join("renamed.safetensors"), &trust, &options, &()).unwrap_err();
    assert_eq!(error.code(), "model_differs");
}

/// `models--ORG--NAME/{blobs,snapshots/REVISION}` as a hub client leaves it.
#[test]
fn a_hub_cache_verifies_as_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    let (published, key) = (model(dir.path()), key());
    sign_model(&published, &key, &SignOptions::default(), &()).unwrap();
    let cache = dir.path().join("models--org--name");
    let snapshot = cache.join("snapshots/0123abcd");
    fs::create_dir_all(snapshot.join("nested")).unwrap();
    fs::create_dir_all(cache.join("blobs")).unwrap();
    for (blob, (name, up)) in ["config.json", "nested.txt", "model.sig", "nested/weights.safetensors"]
        .iter()
        .map(|name| (name, "../".repeat(name.matches('/').count())))
        .enumerate()
    {
        fs::copy(published.join(name), cache.join(format!("blobs/b{blob}"))).unwrap();
        symlink(format!("{up}../../blobs/b{blob}"), snapshot.join(name)).unwrap();
    }
    verify(&snapshot, &key).unwrap();
    // A link of the same form beside the cache is a link like any other.
    let elsewhere = dir.path().join("elsewhere");
    fs::rename(&snapshot, &elsewhere).unwrap();
    assert!(verify(&elsewhere, &key).is_err());
    fs::rename(&elsewhere, &snapshot).unwrap();
    fs::remove_file(snapshot.join("config.json")).unwrap();
    symlink("../../blobs/../blobs/b0", snapshot.join("config.json")).unwrap();
    assert_eq!(verify(&snapshot, &key).unwrap_err().code(), "symlink");
}

#[test]
fn a_refused_signing_leaves_the_old_signature() {
    let dir = tempfile::tempdir().unwrap();
    let (model, key) = (model(dir.path()), key());
    sign_model(&model, &key, &SignOptions::default(), &()).unwrap();
    let before = fs::read(model.join("model.sig")).unwrap();
    fs::write(model.join("broken.safetensors"), "no header").unwrap();
    assert_eq!(sign_model(&model, &key, &SignOptions::default(), &()).unwrap_err().code(), "safetensors_header_too_large");
    assert_eq!(fs::read(model.join("model.sig")).unwrap(), before);
    let options = SignOptions { signature: Some(model.join("config.json")), ..SignOptions::default() };
    assert_eq!(sign_model(&model, &key, &options, &()).unwrap_err().code(), "would_overwrite");
    assert_eq!(fs::read(model.join("config.json")).unwrap(), b"{}");
}

#[test]
fn diff_lists_what_changed_without_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let (model, key) = (model(dir.path()), key());
    sign_model(&model, &key, &SignOptions::default(), &()).unwrap();
    assert!(sentry::diff(&model.join("model.sig"), &model, &()).unwrap().differences.is_empty());
    fs::remove_file(model.join("nested.txt")).unwrap();
    fs::write(model.join("new.txt"), "new").unwrap();
    fs::write(model.join("config.json"), "{ }").unwrap();
    let comparison = sentry::diff(&model.join("model.sig"), &model, &()).unwrap();
    let mut found: Vec<_> =
        comparison.differences.iter().map(|difference| (difference.file.as_deref().unwrap(), difference.kind)).collect();
    found.sort_unstable();
    let expected = [
        ("config.json", DifferenceKind::ChangedFile),
        ("nested.txt", DifferenceKind::MissingFile),
        ("new.txt", DifferenceKind::UnsignedFile),
    ];
    assert_eq!(found, expected);
}
