//! A list of tensors in memory, each bound by name, type, shape and content: `docs/spec/tensors.md`.

use sentry_hash::Algorithm;

use crate::TensorDigest;
use crate::limits::{MAX_DIMENSIONS, MAX_TENSORS};
use crate::listed::{ListError, check_names};

/// The tensors of a model, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorManifest {
    algorithm: Algorithm,
    tensors: Vec<TensorDigest>,
}

impl TensorManifest {
    /// Checks a list that is sorted by the UTF-8 bytes of the names.
    ///
    /// # Errors
    /// [`ListError`]: another algorithm than `blake3` or `sha256-tree`, also of a single digest; no tensor or too many; names
    /// that do not ascend; a shape that has no size.
    pub fn new(algorithm: Algorithm, tensors: Vec<TensorDigest>) -> Result<Self, ListError> {
        let digests = tensors.iter().map(|tensor| tensor.digest.algorithm());
        if !matches!(algorithm, Algorithm::Blake3 | Algorithm::Sha256Tree) {
            return Err(ListError::Algorithm { found: algorithm });
        }
        if let Some(found) = digests.into_iter().find(|&found| found != algorithm) {
            return Err(ListError::Algorithm { found });
        }
        check_names("tensor", MAX_TENSORS, tensors.iter().map(|tensor| tensor.name.as_str()))?;
        for TensorDigest { name, dtype, shape, .. } in &tensors {
            if shape.len() > MAX_DIMENSIONS || dtype.size_of(shape).is_none() {
                return Err(ListError::shape(name, shape));
            }
        }
        Ok(Self { algorithm, tensors })
    }

    /// The algorithm of every digest.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The tensors, by the UTF-8 bytes of their names.
    pub fn tensors(&self) -> &[TensorDigest] {
        &self.tensors
    }
}
