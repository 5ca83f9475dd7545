//! Digests of tensors that are in memory already.

use std::collections::{BTreeMap, HashMap};

use sentry_hash::{Algorithm, Backend, Digest};

use crate::safetensors::Dtype;
use crate::{ListError, ManifestError, TensorDigest, TensorManifest, printable};

/// A tensor in memory: row-major, little-endian, without gaps.
#[derive(Debug, Clone)]
pub struct TensorView<'a> {
    /// Its name in the model.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape in elements.
    pub shape: Vec<u64>,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// What tells its memory from all other memory of the model: the device and the address there. The bytes given here
    /// may be a copy.
    pub storage: (u64, u64),
    /// Whether the model's state holds it. A buffer that is computed when the model is made is not persistent.
    pub persistent: bool,
}

/// A tensor as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredTensor {
    /// Its name, type, shape and digest.
    pub tensor: TensorDigest,
    /// As in [`TensorView::storage`].
    pub storage: (u64, u64),
    /// As in [`TensorView::persistent`].
    pub persistent: bool,
}

impl MeasuredTensor {
    /// What two names of one tensor have in common: memory, type and shape, hence strides. `None` for a tensor without
    /// bytes, which shares nothing.
    pub fn own_storage(&self) -> Option<((u64, u64), Dtype, &[u64])> {
        let TensorDigest { dtype, shape, .. } = &self.tensor;
        let has_bytes = dtype.size_of(shape).is_some_and(|size| size > 0);
        has_bytes.then_some((self.storage, *dtype, &shape[..]))
    }
}

/// The tensors of a model in memory with their digests. Only measuring makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredTensors {
    algorithm: Algorithm,
    tensors: BTreeMap<String, MeasuredTensor>,
    bytes: u64,
}

impl MeasuredTensors {
    /// No tensor yet.
    pub fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, tensors: BTreeMap::new(), bytes: 0 }
    }

    /// Hashes some more tensors of the model; bytes that several of them share, once.
    ///
    /// # Errors
    /// [`ManifestError::DuplicateTensor`], [`ManifestError::TensorSize`], [`ManifestError::Hash`].
    pub fn add(&mut self, views: &[TensorView<'_>], backend: &dyn Backend) -> Result<(), ManifestError> {
        for view in views {
            let (expected, found) = (view.dtype.size_of(&view.shape), view.bytes.len() as u64);
            if expected != Some(found) {
                return Err(ManifestError::TensorSize { tensor: printable(&view.name), expected: expected.unwrap_or(0), found });
            }
        }
        let mut places: HashMap<(usize, usize), usize> = HashMap::new();
        let mut messages: Vec<&[u8]> = Vec::new();
        let mut view_places = Vec::with_capacity(views.len());
        for view in views {
            let place = *places.entry((view.bytes.as_ptr().addr(), view.bytes.len())).or_insert(messages.len());
            if place == messages.len() {
                messages.push(view.bytes);
            }
            view_places.push(place);
        }
        let digests: Vec<Digest> = backend.digest_many(self.algorithm, &messages)?;
        self.bytes = messages.iter().fold(self.bytes, |total, message| total.saturating_add(message.len() as u64));
        for (view, place) in views.iter().zip(view_places) {
            let tensor = TensorDigest { name: view.name.clone(), dtype: view.dtype, shape: view.shape.clone(), digest: digests[place] };
            let measured = MeasuredTensor { tensor, storage: view.storage, persistent: view.persistent };
            if self.tensors.insert(view.name.clone(), measured).is_some() {
                return Err(ManifestError::DuplicateTensor { tensor: printable(&view.name) });
            }
        }
        Ok(())
    }

    /// The algorithm of every digest.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The tensors by the UTF-8 bytes of their names.
    pub fn tensors(&self) -> &BTreeMap<String, MeasuredTensor> {
        &self.tensors
    }

    /// Bytes that were hashed.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The list to sign: the tensors of the model's state.
    ///
    /// # Errors
    /// As [`TensorManifest::new`].
    pub fn to_manifest(&self) -> Result<TensorManifest, ListError> {
        let persistent = self.tensors.values().filter(|measured| measured.persistent);
        TensorManifest::new(self.algorithm, persistent.map(|measured| measured.tensor.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use sentry_hash::Cpu;

    use super::*;

    fn view<'a>(name: &str, dtype: &str, shape: &[u64], bytes: &'a [u8]) -> TensorView<'a> {
        let dtype = Dtype::from_name(dtype).unwrap();
        let storage = (0, bytes.as_ptr().addr() as u64);
        TensorView { name: name.to_owned(), dtype, shape: shape.to_vec(), bytes, storage, persistent: true }
    }

    #[test]
    fn shared_bytes_are_hashed_once_and_listed_under_each_name() {
        let bytes = [7; 24];
        let mut measured = MeasuredTensors::new(Algorithm::Blake3);
        let views = [view("b", "F32", &[2, 3], &bytes), view("a", "F32", &[2, 3], &bytes), view("c", "F32", &[3, 2], &bytes)];
        measured.add(&views, &Cpu::with_threads(2)).unwrap();
        assert_eq!(measured.bytes(), 24);
        let names: Vec<_> = measured.tensors().keys().collect();
        assert_eq!(names, ["a", "b", "c"]);
        let [a, b, c] = ["a", "b", "c"].map(|name| &measured.tensors()[name]);
        assert_eq!(a.own_storage(), b.own_storage());
        assert_ne!(a.own_storage(), c.own_storage(), "another shape is another tensor");
        assert_eq!(c.tensor.digest, Algorithm::Blake3.digest(&bytes));
        assert_eq!(measured.to_manifest().unwrap().tensors().len(), 3);
    }

    #[test]
    fn sizes_and_names_are_checked() {
        let add =
            |views: &[TensorView<'_>]| MeasuredTensors::new(Algorithm::Sha256Tree).add(views, &Cpu::new()).map_err(|error| error.code());
        assert_eq!(add(&[view("a", "F32", &[2], &[0; 7])]), Err("tensor_size"));
        assert_eq!(add(&[view("a", "F32", &[u64::MAX, 2], &[0; 8])]), Err("tensor_size"));
        assert_eq!(add(&[view("a", "U8", &[1], &[0]), view("a", "U8", &[1], &[1])]), Err("duplicate_tensor"));
        let empty = view("e", "F32", &[0, 4], &[]);
        assert_eq!(add(std::slice::from_ref(&empty)), Ok(()));
        let mut measured = MeasuredTensors::new(Algorithm::Blake3);
        measured.add(&[empty.clone(), TensorView { name: "f".to_owned(), ..empty }], &Cpu::new()).unwrap();
        assert_eq!(measured.tensors()["e"].own_storage(), None, "nothing is not shared");
    }
}
