//! Signing a model on disk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sentry_bundle::Statement;
use sentry_bundle::limits::MAX_JSON_INTEGER;
use sentry_hash::{Algorithm, Cpu};
use sentry_manifest::{
    FoundFile, GIT_PATHS, HUB_NOTES, IgnoreRules, Method, ModelPath, ModelTree, SIGNATURE_SUFFIX, Serialization, measure,
};
use sentry_trust::{KeyAlgorithm, Signer};

use crate::signature_file::{SIGNATURE_NAME, check_replaceable, default_signature_path, path_inside, write_signature};
use crate::timestamp::sign_and_timestamp;
use crate::{Error, Observer, SignOptions};

/// What was signed, and where the signature is.
#[derive(Debug)]
pub struct Signed {
    /// The signature file.
    pub signature: PathBuf,
    /// What it covers.
    pub statement: Statement,
    /// Bytes of all files.
    pub bytes: u64,
    /// What other readers of the format cannot do with this signature; for people.
    pub notes: Vec<String>,
}

/// Signs a directory or a file, and writes the signature.
///
/// # Errors
/// Any [`Error`]. A signature that was there before is untouched then.
pub fn sign_model(model: &Path, signer: &dyn Signer, options: &SignOptions, observer: &dyn Observer) -> Result<Signed, Error> {
    check_options(options)?;
    let tree = ModelTree::open(model)?;
    let signature = options.signature.clone().unwrap_or_else(|| default_signature_path(model));
    check_replaceable(&signature)?;
    let inside = path_inside(&tree, &signature)?;
    if inside.as_ref().is_some_and(|path| !path.as_str().ends_with(SIGNATURE_SUFFIX)) {
        return Err(Error::Options { reason: "a signature inside the model has a name that ends in .sig" });
    }

    let mut rules = IgnoreRules::default();
    for path in &options.ignore {
        ModelPath::new(path)?;
        rules.add(path);
    }
    if let Some(path) = &inside {
        rules.add_signature(path);
    }
    let notes_of_hub = !tree.is_file() && model.join(HUB_NOTES).is_dir();
    if notes_of_hub {
        rules.add(HUB_NOTES);
    }
    let files = tree.scan(&rules, options.allow_symlinks)?;
    let bytes = measure::total_size(&files);
    let serialization = serialization(&tree, options, inside.as_ref(), notes_of_hub);
    let measure_options = sentry_manifest::ManifestOptions { serialization, annotate: options.annotate };
    observer.begin(bytes, files.len());
    let manifest = measure::for_signing(&tree, &files, &measure_options, &Cpu::new(), &|bytes| observer.advance(bytes))?;

    let statement = Statement { subject: tree.name()?, version: options.version, manifest };
    let bundle = sign_and_timestamp(&statement, signer, options.timestamp.as_deref())?;
    // Once more, for hashing takes its time.
    check_replaceable(&signature)?;
    write_signature(&signature, &bundle)?;
    let notes = notes(&tree, &files, options, signer);
    Ok(Signed { signature, statement, bytes, notes })
}

fn check_options(options: &SignOptions) -> Result<(), Error> {
    let refuse = |reason| Err(Error::Options { reason });
    if !options.hash.is_in_oms() {
        return refuse("OpenSSF model signatures use sha256, blake2b or blake3");
    }
    match options.shard_size {
        Some(_) if options.hash == Algorithm::Blake3 => refuse("BLAKE3 hashes one file on all cores by itself: sign without --shard-size"),
        Some(0) => refuse("a shard has at least 1 byte"),
        Some(size) if size > MAX_JSON_INTEGER => refuse("a shard has at most 2^53 - 1 bytes"),
        _ if options.version.is_some_and(|version| version > MAX_JSON_INTEGER) => refuse("a version is at most 2^53 - 1"),
        _ => Ok(()),
    }
}

fn serialization(tree: &ModelTree, options: &SignOptions, signature: Option<&ModelPath>, notes_of_hub: bool) -> Serialization {
    let mut ignored: BTreeSet<&str> = options.ignore.iter().map(String::as_str).collect();
    if !tree.is_file() {
        ignored.extend(GIT_PATHS);
        ignored.extend(signature.map(ModelPath::as_str));
        ignored.extend(notes_of_hub.then_some(HUB_NOTES));
    }
    Serialization {
        method: options.shard_size.map_or(Method::Files, |size| Method::Shards { size, reference_labels: false }),
        hash: options.hash,
        allow_symlinks: options.allow_symlinks,
        ignore_paths: ignored.into_iter().map(str::to_owned).collect(),
    }
}

/// Which forms the reference implementation does not read, as tried with its version 1.1.1.
fn notes(tree: &ModelTree, files: &[FoundFile], options: &SignOptions, signer: &dyn Signer) -> Vec<String> {
    let mut forms = Vec::new();
    if options.shard_size.is_some() {
        forms.push("shards");
    }
    if options.hash == Algorithm::Blake2b {
        forms.push("BLAKE2b");
    }
    if tree.is_file() {
        forms.push("a single file under its own name");
    }
    if files.iter().any(FoundFile::is_link) {
        forms.push("symbolic links");
    }
    if signer.key_algorithm() == KeyAlgorithm::Ed25519 {
        forms.push("Ed25519");
    }
    let other_signature = files.iter().any(|file| file.path.as_str() == SIGNATURE_NAME);
    let mut notes: Vec<String> =
        forms.into_iter().map(|form| format!("model-signing 1.1.1 does not read signatures with {form}; sentry does")).collect();
    if options.hash == Algorithm::Blake3 && options.shard_size.is_none() {
        notes.push("model-signing 1.1.1 reads BLAKE3 signatures in its Python API, not on its command line".to_owned());
    }
    if other_signature {
        notes.push(format!("this signature also covers the {SIGNATURE_NAME} in the model; to sign the model again there breaks it"));
    }
    notes
}
