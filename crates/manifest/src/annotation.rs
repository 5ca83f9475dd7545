//! What our signatures add to a resource, beside the digest that every OpenSSF tool checks.

use sentry_hash::{Algorithm, Digest};
use serde::{Deserialize, Serialize};

use crate::json::Object;
use crate::safetensors::{Dtype, Header};
use crate::{ManifestError, limits, printable};

/// The algorithm of every digest in our annotations.
pub const ALGORITHM: Algorithm = Algorithm::Blake3;

/// Digests of a file that can be checked in parallel, or tensor by tensor, while it is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Annotation {
    /// `sentry-ml.dev/safetensors/v1`: the header and every tensor.
    Safetensors(SafetensorsAnnotation),
    /// `sentry-ml.dev/blake3`: the whole file.
    Blake3(Digest),
}

/// Digests that together cover every byte of a safetensors file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafetensorsAnnotation {
    /// Of the length field and the JSON after it.
    pub header: Digest,
    /// In the order of their bytes: by (begin, end, name).
    pub tensors: Vec<TensorDigest>,
}

/// One tensor with the digest of its bytes, row-major and little-endian as they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorDigest {
    /// The tensor's name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape in elements.
    pub shape: Vec<u64>,
    /// BLAKE3 of its bytes.
    pub digest: Digest,
}

impl SafetensorsAnnotation {
    /// Bytes of all tensors together; their sizes were checked when the annotation was read.
    pub fn data_size(&self) -> u64 {
        let size = |tensor: &TensorDigest| tensor.dtype.size_of(&tensor.shape).unwrap_or(u64::MAX);
        self.tensors.iter().fold(0, |total, tensor| size(tensor).saturating_add(total))
    }

    /// Checks that a header, whose digest has matched, describes exactly these tensors in this order.
    ///
    /// # Errors
    /// [`ManifestError::AnnotationInvalid`] with the first difference.
    pub fn check_header(&self, name: &str, header: &Header) -> Result<(), ManifestError> {
        let invalid = |reason| Err(ManifestError::AnnotationInvalid { name: printable(name), reason });
        if header.tensors.len() != self.tensors.len() {
            return invalid(format!("it lists {} tensors, the signed header {}", self.tensors.len(), header.tensors.len()));
        }
        for (listed, described) in self.tensors.iter().zip(&header.tensors) {
            if (&listed.name, listed.dtype, &listed.shape) != (&described.name, described.dtype, &described.shape) {
                return invalid(format!(
                    "it lists the tensor \"{}\" of type {} and shape {:?} where the signed header has \"{}\" of type {} and shape {:?}",
                    printable(&listed.name),
                    listed.dtype.name(),
                    listed.shape,
                    printable(&described.name),
                    described.dtype.name(),
                    described.shape
                ));
            }
        }
        Ok(())
    }
}

/// The `annotations` object of a resource. Keys of other tools are left alone.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct AnnotationsJson {
    #[serde(rename = "sentry-ml.dev/safetensors/v1", default, skip_serializing_if = "Option::is_none")]
    safetensors: Option<Object<SafetensorsJson>>,
    #[serde(rename = "sentry-ml.dev/blake3", default, skip_serializing_if = "Option::is_none")]
    blake3: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SafetensorsJson {
    algorithm: String,
    header: String,
    tensors: Vec<Object<TensorJson>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TensorJson {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    digest: String,
}

impl AnnotationsJson {
    /// The form that is written.
    pub fn new(annotation: &Annotation) -> Self {
        match annotation {
            Annotation::Blake3(digest) => Self { blake3: Some(digest.to_hex()), ..Self::default() },
            Annotation::Safetensors(annotation) => Self {
                safetensors: Some(Object(SafetensorsJson {
                    algorithm: ALGORITHM.to_string(),
                    header: annotation.header.to_hex(),
                    tensors: annotation.tensors.iter().map(|tensor| Object(TensorJson::new(tensor))).collect(),
                })),
                ..Self::default()
            },
        }
    }

    /// Checks what was read for the resource `name`.
    ///
    /// # Errors
    /// [`ManifestError::AnnotationInvalid`] or [`ManifestError::Digest`].
    pub fn check(self, name: &str) -> Result<Option<Annotation>, ManifestError> {
        let invalid = |reason: &str| ManifestError::AnnotationInvalid { name: printable(name), reason: reason.to_owned() };
        match (self.safetensors, self.blake3) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(invalid("it has two of our annotations")),
            (None, Some(hex)) => Ok(Some(Annotation::Blake3(digest(name, &hex)?))),
            (Some(Object(json)), None) => {
                if json.algorithm != ALGORITHM.name() {
                    return Err(invalid("its algorithm is not blake3"));
                }
                if json.tensors.len() > limits::MAX_TENSORS {
                    return Err(invalid("it has more than a million tensors"));
                }
                let header = digest(name, &json.header)?;
                let tensors: Vec<_> = json.tensors.into_iter().map(|Object(tensor)| tensor.check(name)).collect::<Result<_, _>>()?;
                let mut names: Vec<_> = tensors.iter().map(|tensor| &tensor.name).collect();
                names.sort_unstable();
                if names.windows(2).any(|pair| pair[0] == pair[1]) {
                    return Err(invalid("it lists a tensor twice"));
                }
                Ok(Some(Annotation::Safetensors(SafetensorsAnnotation { header, tensors })))
            }
        }
    }
}

impl TensorJson {
    fn new(tensor: &TensorDigest) -> Self {
        Self {
            name: tensor.name.clone(),
            dtype: tensor.dtype.name().to_owned(),
            shape: tensor.shape.clone(),
            digest: tensor.digest.to_hex(),
        }
    }

    fn check(self, resource: &str) -> Result<TensorDigest, ManifestError> {
        let invalid = |reason| ManifestError::AnnotationInvalid { name: printable(resource), reason };
        let shown = printable(&self.name);
        if self.name.len() > limits::MAX_NAME_BYTES {
            return Err(invalid("a tensor's name is longer than 4096 bytes".to_owned()));
        }
        let dtype = Dtype::from_name(&self.dtype)
            .ok_or_else(|| invalid(format!("tensor \"{shown}\" has the unknown dtype \"{}\"", printable(&self.dtype))))?;
        if dtype.size_of(&self.shape).is_none() {
            return Err(invalid(format!("tensor \"{shown}\" of shape {:?} has no size in bytes", self.shape)));
        }
        let digest = digest(&format!("{resource}: {}", self.name), &self.digest)?;
        Ok(TensorDigest { name: self.name, dtype, shape: self.shape, digest })
    }
}

fn digest(name: &str, hex: &str) -> Result<Digest, ManifestError> {
    Digest::from_hex(ALGORITHM, hex).map_err(|source| ManifestError::Digest { name: printable(name), source })
}
