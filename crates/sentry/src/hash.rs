//! Digests for those who only want integrity.

use std::path::Path;

use sentry_hash::{Algorithm, Cpu};
use sentry_manifest::{IgnoreRules, Manifest, ModelTree, Serialization, measure};

use crate::{Device, Error, Observer};

/// Hashes the files of a model, and the tensors of its safetensors files if asked to. Git's own files at the
/// top are left out, as in a signature.
///
/// # Errors
/// [`Error::Manifest`]; [`Error::Gpu`] if the device is a GPU that cannot be used, or that cannot compute this hash.
pub fn hash_model(model: &Path, hash: Algorithm, tensors: bool, device: Device, observer: &dyn Observer) -> Result<Manifest, Error> {
    let gpu = device.gpu_for(hash)?;
    let tree = ModelTree::open(model)?;
    let files = tree.scan(&IgnoreRules::default(), false)?;
    let serialization = Serialization { hash, ..Serialization::default() };
    let options = sentry_manifest::ManifestOptions { serialization, annotate: tensors };
    observer.begin(measure::total_size(&files), files.len());
    let advance = |bytes| observer.advance(bytes);
    Ok(match gpu {
        Some(gpu) => measure::for_signing(&tree, &files, &options, &gpu, &advance)?,
        None => measure::for_signing(&tree, &files, &options, &Cpu::new(), &advance)?,
    })
}
