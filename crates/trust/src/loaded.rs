//! Files that were loaded, against what was signed of them.

use sentry_bundle::Statement;
use sentry_manifest::load::{Found, Head, Loaded, LoadedFile, Part};
use sentry_manifest::safetensors::Header;
use sentry_manifest::{Annotation, ManifestError, Resource, ResourcePath, Shard};

use crate::{Difference, DifferenceKind, Verified, VerifyError};

impl Verified<Statement> {
    /// Reads the header of a safetensors file that is to be loaded. Where the signature has a digest of it, that is checked
    /// first; else the header counts for nothing until the file is loaded whole.
    ///
    /// # Errors
    /// [`VerifyError::Differs`] for another header than the signed one, [`VerifyError::Manifest`] for a malformed one.
    pub fn header(&self, path: &ResourcePath, head: &Head) -> Result<Header, VerifyError> {
        let signed = self.value().manifest.safetensors(path);
        if let Some(signed) = signed
            && signed.header != head.digest()
        {
            let difference = Difference::new(DifferenceKind::ChangedHeader, path.as_str());
            return Err(VerifyError::Differs(vec![difference.with_digests(&signed.header, &head.digest())]));
        }
        let malformed = |source| ManifestError::Safetensors { path: path.in_model(), source };
        let header = head.parse().map_err(malformed)?;
        if let Some(signed) = signed {
            signed.check_header(path.as_str(), &header)?;
        }
        Ok(header)
    }

    /// Steps 6 and 7 for files that were loaded: opens what was read if every digest is the signed one.
    ///
    /// # Errors
    /// [`VerifyError::Differs`] with every difference; what was read is dropped then.
    pub fn confirm_load<R>(&self, loaded: Loaded<R>) -> Result<Verified<Vec<R>>, VerifyError> {
        let found: Vec<Difference> = loaded.files().iter().flat_map(|file| self.file_differences(file)).collect();
        if found.is_empty() { Ok(self.also(loaded.into_receivers())) } else { Err(VerifyError::Differs(found)) }
    }

    fn resources(&self, path: &ResourcePath) -> impl Iterator<Item = &Resource> {
        self.value().manifest.resources().iter().filter(move |resource| resource.path == *path)
    }

    fn file_differences(&self, file: &LoadedFile) -> Vec<Difference> {
        let signed: Vec<_> = self.resources(&file.path).collect();
        if signed.is_empty() {
            return vec![Difference::new(DifferenceKind::UnsignedFile, file.path.as_str())];
        }
        // As many findings as there are signed digests: nothing may be left unchecked.
        if signed.len() != file.found.len() {
            return vec![Difference::new(DifferenceKind::ChangedFile, file.path.as_str())];
        }
        signed.iter().zip(&file.found).flat_map(|(resource, found)| resource_differences(resource, file.part, found)).collect()
    }
}

fn resource_differences(signed: &Resource, part: Part, found: &Found) -> Vec<Difference> {
    let name = signed.path.as_str();
    let changed = || Difference { shard: signed.shard, ..Difference::new(DifferenceKind::ChangedFile, name) };
    match (&signed.annotation, found) {
        (_, Found::Resource { shard, digest }) if *shard == signed.shard && *digest == signed.digest => Vec::new(),
        (_, Found::Resource { shard, digest }) if *shard == signed.shard => vec![changed().with_digests(&signed.digest, digest)],
        (_, Found::Resource { shard, .. }) => {
            let end = |shard: Option<Shard>| shard.map(|shard| format!("an end at byte {}", shard.end));
            vec![Difference { expected: end(signed.shard), found: end(*shard), ..changed() }]
        }
        (Some(Annotation::Blake3(expected)), Found::Blake3(digest)) if expected == digest => Vec::new(),
        (Some(Annotation::Blake3(expected)), Found::Blake3(digest)) => vec![changed().with_digests(expected, digest)],
        (Some(Annotation::Safetensors(expected)), Found::Tensors { header, tensors }) => {
            if expected.header != *header {
                return vec![Difference::new(DifferenceKind::ChangedHeader, name).with_digests(&expected.header, header)];
            }
            let places: Vec<usize> = match part {
                Part::Whole => (0..expected.tensors.len()).collect(),
                Part::Tensor(place) => vec![place],
            };
            if !places.iter().eq(tensors.iter().map(|(place, _)| place)) {
                return vec![changed()];
            }
            let difference = |&(place, digest): &(usize, _)| match expected.tensors.get(place) {
                Some(tensor) if tensor.digest == digest => None,
                Some(tensor) => Some(Difference {
                    tensor: Some(tensor.name.clone()),
                    ..Difference::new(DifferenceKind::ChangedTensor, name).with_digests(&tensor.digest, &digest)
                }),
                None => Some(changed()),
            };
            tensors.iter().filter_map(difference).collect()
        }
        // A digest of another kind than what was signed says nothing.
        _ => vec![changed()],
    }
}
