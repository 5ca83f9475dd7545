//! A model against what a signature lists, without asking who signed.

use std::path::Path;

use sentry_bundle::Statement;
use sentry_hash::Cpu;
use sentry_manifest::{Manifest, ModelTree, Resource, ResourcePath, measure};
use sentry_trust::{Difference, Listing, differences, pair_names};

use crate::signature_file::read_bundle;
use crate::verify::ignore_rules;
use crate::{Error, Observer};

/// How a model compares with a list that nobody has vouched for.
#[derive(Debug)]
pub struct Comparison {
    /// Added, removed and changed files, changed tensors.
    pub differences: Vec<Difference>,
    /// Resources whose bytes were compared.
    pub compared: usize,
}

/// Compares a model with the list in a signature file. The signature is *not* verified: this answers "what
/// changed", not "may I use it".
///
/// # Errors
/// Any [`Error`] about reading; a difference is none.
pub fn diff(signature: &Path, model: &Path, observer: &dyn Observer) -> Result<Comparison, Error> {
    let bundle = read_bundle(signature)?;
    let manifest = Statement::parse(&bundle.claims().payload)?.manifest;
    let tree = ModelTree::open(model)?;
    let rules = ignore_rules(&tree, signature, &manifest, &[])?;
    let files = tree.scan(&rules, manifest.serialization().allow_symlinks)?;
    let listing = Listing { files: &files, is_file: tree.is_file(), allow_unsigned: false };
    let mut found = pair_names(&manifest, &listing).err().unwrap_or_default();

    let present = |resource: &&Resource| match &resource.path {
        ResourcePath::Model => tree.is_file(),
        path => files.iter().any(|file| file.path == *path),
    };
    let common: Vec<Resource> = manifest.resources().iter().filter(present).cloned().collect();
    if common.is_empty() {
        return Ok(Comparison { differences: found, compared: 0 });
    }
    let common = Manifest::new(manifest.serialization().clone(), common)?;
    let everything = Listing { allow_unsigned: true, ..listing };
    let pairing = pair_names(&common, &everything).map_err(sentry_trust::VerifyError::Differs)?;
    observer.begin(pairing.files.values().map(|file| file.size).sum(), pairing.files.len());
    let find = |path: &ResourcePath| pairing.files.get(path).copied();
    let measured = measure::as_signed(&tree, &common, find, &Cpu::new(), &|bytes| observer.advance(bytes))?;
    found.extend(differences(common.resources(), &measured.resources));
    Ok(Comparison { differences: found, compared: common.resources().len() })
}
