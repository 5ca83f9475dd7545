//! The statement about tensors in memory: `docs/spec/tensors.md`.

use sentry_hash::{Algorithm, Digest};
use sentry_manifest::json::Object;
use sentry_manifest::safetensors::Dtype;
use sentry_manifest::{TensorDigest, TensorManifest, printable};
use serde::{Deserialize, Serialize};

use crate::BundleError;
use crate::in_toto::{InToto, check_name, digest, integer};
use crate::uris::TENSORS_V1;

/// What was signed: tensors under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorsStatement {
    /// The subject's name. It informs; nothing is looked up by it.
    pub subject: String,
    /// The model's version, if the signer stated one; at most 2^53 - 1.
    pub version: Option<u64>,
    manifest: TensorManifest,
    /// The manifest's.
    digest: Digest,
}

impl TensorsStatement {
    /// What is to be signed.
    pub fn new(subject: String, version: Option<u64>, manifest: TensorManifest) -> Self {
        let digest = PredicateJson::new(&manifest).digest();
        Self { subject, version, manifest, digest }
    }

    /// The same with another version.
    pub fn with_version(self, version: Option<u64>) -> Self {
        Self { version, ..self }
    }

    /// The tensors.
    pub fn manifest(&self) -> &TensorManifest {
        &self.manifest
    }

    /// Parses a payload, whose signature the caller has checked.
    ///
    /// # Errors
    /// Any [`BundleError`] about the statement.
    pub fn parse(payload: &[u8]) -> Result<Self, BundleError> {
        let statement: InToto<PredicateJson> = InToto::parse(payload, TENSORS_V1)?;
        check_name(&statement.name)?;
        // The digest is that of what was understood; only checked numbers have a canonical form.
        let read = Self::new(statement.name, statement.version, statement.predicate.check()?);
        if statement.digest != read.digest {
            return Err(BundleError::SubjectDigest { expected: statement.digest.to_hex(), found: read.digest.to_hex() });
        }
        Ok(read)
    }

    /// The subject's digest: SHA-256 of the predicate in canonical form.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The payload to sign.
    pub fn to_payload(&self) -> Vec<u8> {
        let predicate = PredicateJson::new(&self.manifest);
        InToto { name: self.subject.clone(), version: self.version, digest: self.digest, predicate }.to_payload(TENSORS_V1)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PredicateJson {
    algorithm: String,
    tensors: Vec<Object<TensorJson>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TensorJson {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    digest: String,
}

impl PredicateJson {
    fn new(manifest: &TensorManifest) -> Self {
        let tensors = manifest.tensors().iter().map(|tensor| Object(TensorJson::new(tensor))).collect();
        Self { algorithm: manifest.algorithm().to_string(), tensors }
    }

    /// SHA-256 of the canonical form (RFC 8785) of a checked predicate.
    fn digest(&self) -> Digest {
        Algorithm::Sha256.digest(&serde_json_canonicalizer::to_vec(self).expect("strings and whole numbers have a canonical form"))
    }

    fn check(self) -> Result<TensorManifest, BundleError> {
        let algorithm = match self.algorithm.as_str() {
            "blake3" => Algorithm::Blake3,
            "sha256-tree" => Algorithm::Sha256Tree,
            other => return Err(BundleError::Value { field: "algorithm", found: printable(other) }),
        };
        let tensors = self.tensors.into_iter().map(|Object(tensor)| tensor.check(algorithm)).collect::<Result<_, _>>()?;
        Ok(TensorManifest::new(algorithm, tensors)?)
    }
}

impl TensorJson {
    fn new(tensor: &TensorDigest) -> Self {
        let TensorDigest { name, dtype, shape, digest } = tensor;
        Self { name: name.clone(), dtype: dtype.name().to_owned(), shape: shape.clone(), digest: digest.to_hex() }
    }

    fn check(self, algorithm: Algorithm) -> Result<TensorDigest, BundleError> {
        let digest = digest(&self.name, algorithm, &self.digest)?;
        let unknown = || BundleError::Value { field: "dtype", found: printable(&self.dtype) };
        let dtype = Dtype::from_name(&self.dtype).ok_or_else(unknown)?;
        self.shape.iter().try_for_each(|&dim| integer("shape", dim).map(|_| ()))?;
        Ok(TensorDigest { name: self.name, dtype, shape: self.shape, digest })
    }
}
