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
        let digest = Algorithm::Sha256.digest(&canonical(&manifest));
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

/// The predicate in the canonical form of RFC 8785: keys in order, no white space; whole numbers up to 2^53 - 1 and strings are as
/// `serde_json` writes them. A general library for that form takes six times as long; the test holds this against one.
fn canonical(manifest: &TensorManifest) -> Vec<u8> {
    #[derive(Serialize)]
    struct Predicate<'a> {
        algorithm: &'a str,
        tensors: Vec<Tensor<'a>>,
    }
    #[derive(Serialize)]
    struct Tensor<'a> {
        digest: String,
        dtype: &'a str,
        name: &'a str,
        shape: &'a [u64],
    }
    let tensors = manifest
        .tensors()
        .iter()
        .map(|tensor| Tensor { digest: tensor.digest.to_hex(), dtype: tensor.dtype.name(), name: &tensor.name, shape: &tensor.shape })
        .collect();
    serde_json::to_vec(&Predicate { algorithm: manifest.algorithm().name(), tensors }).expect("strings and numbers serialise")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canonical_form_is_that_of_a_library_for_it() {
        let odd: String = (0..0x100).filter_map(char::from_u32).chain("\u{2028}\u{feff}😀𝒳\\\"/".chars()).collect();
        let names = ["", "\u{1}\u{8}\t\n\u{c}\r\u{1f}\u{7f}", "\"quoted\"", "a.b", "ä", &odd, "😀"];
        let mut names: Vec<String> = names.iter().map(ToString::to_string).filter(|name| !name.is_empty()).collect();
        names.sort();
        let tensor = |name: &String| TensorDigest {
            name: name.clone(),
            dtype: Dtype::from_name("BF16").unwrap(),
            shape: vec![0, 1, (1 << 53) - 1, 10],
            digest: Algorithm::Blake3.digest(name.as_bytes()),
        };
        for manifest in [names.iter().map(tensor).collect(), vec![TensorDigest { shape: Vec::new(), ..tensor(&names[0]) }]] {
            let manifest = TensorManifest::new(Algorithm::Blake3, manifest).unwrap();
            let expected = serde_json_canonicalizer::to_vec(&PredicateJson::new(&manifest)).unwrap();
            assert_eq!(String::from_utf8(canonical(&manifest)), String::from_utf8(expected));
        }
    }
}
