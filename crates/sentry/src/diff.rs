//! A model against what a signature lists, without asking who signed.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use sentry_bundle::Statement;
use sentry_hash::{Algorithm, Cpu};
use sentry_manifest::{
    Annotation, FoundFile, Manifest, ManifestOptions, ModelTree, Resource, ResourcePath, SafetensorsAnnotation, Serialization,
    TensorDigest, measure,
};
use sentry_trust::{Difference, DifferenceKind, Listing, VerifyError, differences, pair_names};

use crate::signature_file::read_bundle;
use crate::verify::ignore_rules;
use crate::{Error, Observer};

/// How a model compares with a list that nobody has vouched for.
#[derive(Debug)]
pub struct Comparison {
    /// Added, removed and changed files and tensors.
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
    let rules = ignore_rules(&tree, &[signature.to_owned()], &manifest, &[])?;
    let files = tree.scan(&rules, manifest.serialization().allow_symlinks)?;
    let listing = Listing { files: &files, is_file: tree.is_file(), allow_unsigned: false };
    let mut found = pair_names(&manifest, &listing).err().unwrap_or_default();

    let by_path: HashMap<&ResourcePath, &FoundFile> = files.iter().map(|file| (&file.path, file)).collect();
    let present = |resource: &&Resource| match &resource.path {
        ResourcePath::Model => tree.is_file(),
        path => by_path.contains_key(path),
    };
    let common: Vec<Resource> = manifest.resources().iter().filter(present).cloned().collect();
    if common.is_empty() {
        return Ok(Comparison { differences: found, compared: 0 });
    }
    let common = Manifest::new(manifest.serialization().clone(), common)?;
    let everything = Listing { allow_unsigned: true, ..listing };
    let pairing = pair_names(&common, &everything).map_err(VerifyError::Differs)?;
    observer.begin(pairing.bytes(), pairing.files.len());
    let find = |path: &ResourcePath| pairing.files.get(path).copied();
    let measured = measure::as_signed(&tree, &common, find, &Cpu::new(), &|bytes| observer.advance(bytes))?;
    for difference in differences(common.resources(), measured.resources()) {
        let tensors = if difference.kind == DifferenceKind::ChangedHeader {
            tensors(&tree, &common, &pairing.files, &difference)?
        } else {
            Vec::new()
        };
        found.push(difference);
        found.extend(tensors);
    }
    Ok(Comparison { differences: found, compared: common.resources().len() })
}

/// What became of the tensors of a file whose header was changed. Empty if the new header is malformed.
fn tensors(
    tree: &ModelTree,
    manifest: &Manifest,
    files: &BTreeMap<&ResourcePath, &FoundFile>,
    difference: &Difference,
) -> Result<Vec<Difference>, Error> {
    let resource = manifest.resources().iter().find(|resource| Some(resource.path.as_str()) == difference.file.as_deref());
    let Some((resource, Some(Annotation::Safetensors(signed)))) = resource.map(|resource| (resource, &resource.annotation)) else {
        return Ok(Vec::new());
    };
    let Some(&file) = files.get(&resource.path) else { return Ok(Vec::new()) };
    let serialization = Serialization { hash: Algorithm::Blake3, ..Serialization::default() };
    let options = ManifestOptions { serialization, annotate: true };
    match measure::for_signing(tree, std::slice::from_ref(file), &options, &Cpu::new(), &|_| ()) {
        Ok(now) => match now.resources().first().and_then(|resource| resource.annotation.as_ref()) {
            Some(Annotation::Safetensors(now)) => Ok(tensor_differences(resource.path.as_str(), signed, now)),
            _ => Ok(Vec::new()),
        },
        Err(sentry_manifest::ManifestError::Safetensors { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn tensor_differences(file: &str, signed: &SafetensorsAnnotation, now: &SafetensorsAnnotation) -> Vec<Difference> {
    let mut unmatched: BTreeMap<&str, &TensorDigest> = now.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let difference = |kind, tensor: &str| Difference { tensor: Some(tensor.to_owned()), ..Difference::new(kind, file) };
    let mut found = Vec::new();
    for tensor in &signed.tensors {
        match unmatched.remove(tensor.name.as_str()) {
            None => found.push(difference(DifferenceKind::MissingTensor, &tensor.name)),
            Some(now) if now != tensor => found.push(Difference {
                expected: Some(describe(tensor)),
                found: Some(describe(now)),
                ..difference(DifferenceKind::ChangedTensor, &tensor.name)
            }),
            Some(_) => {}
        }
    }
    found.extend(unmatched.into_keys().map(|name| difference(DifferenceKind::UnsignedTensor, name)));
    found
}

fn describe(tensor: &TensorDigest) -> String {
    format!("{} {:?} {:?}", tensor.dtype.name(), tensor.shape, tensor.digest)
}
