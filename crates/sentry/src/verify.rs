//! Verifying a model on disk.

use std::path::{Path, PathBuf};

use sentry_bundle::Statement;
use sentry_hash::Cpu;
use sentry_manifest::{EntryKind, IgnoreRules, Manifest, ManifestError, ModelPath, ModelTree, ResourcePath, measure, printable};
use sentry_trust::{Listing, Model, Verified, Verifier, VerifyError, pair_names};

use crate::signature_file::{path_inside, read_verified, signature_paths};
use crate::{Error, Observer, VerifyOptions};

/// Verifies a directory or a file: the signature first, then the names of the files, then their bytes.
///
/// # Errors
/// Any [`Error`]; [`Error::verdict`] tells a rejected model from one that could not be checked.
pub fn verify_model(
    model: &Path,
    verifier: &dyn Verifier,
    options: &VerifyOptions,
    observer: &dyn Observer,
) -> Result<Verified<Model>, Error> {
    let tree = ModelTree::open(model)?;
    let signatures = signature_paths(model, &options.signatures);
    let statement: Verified<Statement> = read_verified(&signatures, verifier)?;
    let manifest = &statement.value().manifest;

    let rules = ignore_rules(&tree, &signatures, manifest, &options.ignore)?;
    let files = tree.scan(&rules, manifest.serialization().allow_symlinks)?;
    let listing = Listing { files: &files, is_file: tree.is_file(), allow_unsigned: options.allow_unsigned };
    let pairing = pair_names(manifest, &listing).map_err(VerifyError::Differs)?;
    observer.begin(pairing.bytes(), pairing.files.len());
    let find = |path: &ResourcePath| pairing.files.get(path).copied();
    let measured = measure::as_signed(&tree, manifest, find, &Cpu::new(), &|bytes| observer.advance(bytes))?;
    Ok(statement.confirm(&listing, &measured)?)
}

/// What to leave out: the signatures, what they say to ignore, and what the caller adds. A signed file cannot be left
/// out.
pub(crate) fn ignore_rules(tree: &ModelTree, signatures: &[PathBuf], manifest: &Manifest, ignore: &[String]) -> Result<IgnoreRules, Error> {
    let mut callers = IgnoreRules::default();
    for path in ignore {
        ModelPath::new(path)?;
        callers.add(path);
    }
    for path in manifest.paths() {
        if let ResourcePath::File(path) = path
            && let Some(ignored) = callers.hides(path, EntryKind::File)
        {
            return Err(Error::IgnoresSigned { path: path.clone(), ignored: printable(ignored) });
        }
    }
    let mut rules = callers;
    for signature in signatures {
        if let Some(path) = path_inside(tree, signature)? {
            if manifest.paths().contains(&ResourcePath::File(path.clone())) {
                return Err(ManifestError::ResourceIgnored { name: path.to_string(), ignored: path.to_string() }.into());
            }
            rules.add_signature(&path);
        }
    }
    let is_signature = |recorded: &str| signatures.iter().any(|signature| Path::new(recorded).file_name() == signature.file_name());
    for recorded in &manifest.serialization().ignore_paths {
        // Where the signature lay when it was made, if it has kept its name.
        match ModelPath::new(recorded) {
            Ok(path) if is_signature(recorded) => rules.add_signature(&path),
            _ => rules.add(recorded),
        }
    }
    Ok(rules)
}
