//! A model in memory, against what was signed of its tensors.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use sentry_manifest::{ManifestError, MeasuredTensor, MeasuredTensors, ResourcePath, TensorDigest, printable};

use crate::{Difference, DifferenceKind, ModelStatement, Verified, VerifyError};

/// A model in memory whose tensors are the signed ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInMemory {
    tensors: usize,
    bytes: u64,
    aliases: Vec<String>,
    not_covered: Vec<String>,
    missing: Vec<String>,
}

impl ModelInMemory {
    /// Signed tensors that were found and are equal.
    pub fn tensors(&self) -> usize {
        self.tensors
    }

    /// Bytes that were hashed.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Names that are not signed and share the memory of a tensor that is, such as tied weights.
    pub fn aliases(&self) -> &[String] {
        &self.aliases
    }

    /// Buffers that are not part of the model's state and are not signed. Nothing is known of them.
    pub fn not_covered(&self) -> &[String] {
        &self.not_covered
    }

    /// Signed tensors that the model lacks, which the caller allowed.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }
}

/// Signed tensors by name.
type SignedTensors<'a> = BTreeMap<&'a str, &'a TensorDigest>;

impl Verified<ModelStatement> {
    /// Steps 6 and 7 for a model in memory. `files` says which files' tensors it should have, if the statement is about
    /// files; `allow_missing` which signed tensors it may lack.
    ///
    /// # Errors
    /// [`VerifyError::Differs`] with every difference; [`VerifyError::NoTensors`] if the signature has no digests of tensors.
    pub fn confirm_tensors(
        &self,
        measured: &MeasuredTensors,
        files: &[ResourcePath],
        allow_missing: &BTreeSet<String>,
    ) -> Result<Verified<ModelInMemory>, VerifyError> {
        if measured.algorithm() != self.value().tensor_algorithm() {
            return Err(VerifyError::NoTensors { reason: format!("no digest of a tensor is {}", measured.algorithm()) });
        }
        let signed = self.signed_tensors(files)?;
        // A file holds tied weights once, under one of their names. A statement about tensors lists every name.
        let tied: HashSet<_> = match self.value() {
            ModelStatement::Tensors(_) => HashSet::new(),
            ModelStatement::Files(_) => {
                let of_signed = measured.tensors().iter().filter(|(name, _)| signed.contains_key(name.as_str()));
                of_signed.filter_map(|(_, tensor)| tensor.own_storage()).collect()
            }
        };
        let is_tied = |found: &MeasuredTensor| found.own_storage().is_some_and(|storage| tied.contains(&storage));
        let mut different = Vec::new();
        let mut result =
            ModelInMemory { tensors: 0, bytes: measured.bytes(), aliases: Vec::new(), not_covered: Vec::new(), missing: Vec::new() };
        for (name, found) in measured.tensors() {
            match signed.get(name.as_str()) {
                Some(signed) => {
                    different.extend(tensor_difference(signed, &found.tensor));
                    result.tensors += 1;
                }
                None if !found.persistent => result.not_covered.push(name.clone()),
                None if is_tied(found) => result.aliases.push(name.clone()),
                None => different.push(Difference::of_tensor(DifferenceKind::UnsignedTensor, name)),
            }
        }
        for name in signed.into_keys().filter(|name| !measured.tensors().contains_key(*name)) {
            if allow_missing.contains(name) {
                result.missing.push(name.to_owned());
            } else {
                different.push(Difference::of_tensor(DifferenceKind::MissingTensor, name));
            }
        }
        if result.tensors == 0 && different.is_empty() {
            return Err(VerifyError::NoTensors { reason: "the model has none of the signed tensors".to_owned() });
        }
        if different.is_empty() { Ok(self.also(result)) } else { Err(VerifyError::Differs(different)) }
    }

    fn signed_tensors(&self, files: &[ResourcePath]) -> Result<SignedTensors<'_>, VerifyError> {
        let statement = match self.value() {
            ModelStatement::Tensors(statement) => {
                return Ok(statement.manifest().tensors().iter().map(|tensor| (tensor.name.as_str(), tensor)).collect());
            }
            ModelStatement::Files(statement) => statement,
        };
        let mut signed = SignedTensors::new();
        for path in files {
            let Some(annotation) = statement.manifest.safetensors(path) else {
                return Err(VerifyError::NoTensors { reason: format!("\"{path}\" has none") });
            };
            for tensor in &annotation.tensors {
                if signed.insert(&tensor.name, tensor).is_some() {
                    return Err(ManifestError::DuplicateTensor { tensor: printable(&tensor.name) }.into());
                }
            }
        }
        Ok(signed)
    }
}

/// How a tensor differs from the signed one of its name, if it does.
fn tensor_difference(signed: &TensorDigest, found: &TensorDigest) -> Option<Difference> {
    let difference = |kind, expected, found| {
        Some(Difference { expected: Some(expected), found: Some(found), ..Difference::of_tensor(kind, &signed.name) })
    };
    if signed.dtype != found.dtype {
        return difference(DifferenceKind::ChangedType, signed.dtype.name().to_owned(), found.dtype.name().to_owned());
    }
    if signed.shape != found.shape {
        return difference(DifferenceKind::ChangedShape, format!("{:?}", signed.shape), format!("{:?}", found.shape));
    }
    if signed.digest != found.digest {
        return difference(DifferenceKind::ChangedTensor, format!("{:?}", signed.digest), format!("{:?}", found.digest));
    }
    None
}
