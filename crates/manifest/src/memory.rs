//! Digests of tensors that are in memory already.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use sentry_hash::{Algorithm, Digest, HashError};

use crate::safetensors::Dtype;
use crate::{ListError, ManifestError, TensorDigest, TensorManifest, printable};

/// Where the bytes of a tensor lie; equal for two names of the same bytes. What it means is known to whoever hashes them.
pub trait Memory: Copy + Eq + Hash {
    /// How many bytes there are.
    fn nbytes(&self) -> u64;
}

/// A tensor in memory: row-major, little-endian, without gaps.
#[derive(Debug, Clone)]
pub struct TensorView<M> {
    /// Its name in the model.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape in elements.
    pub shape: Vec<u64>,
    /// Its bytes.
    pub memory: M,
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

    /// Hashes some more tensors of the model with `digest_many`, which gives the digests of bytes in their order; bytes that several
    /// tensors share, once.
    ///
    /// # Errors
    /// [`ManifestError::DuplicateTensor`], [`ManifestError::TensorSize`], [`ManifestError::Hash`], and those of `digest_many`.
    pub fn add<M: Memory, E: From<ManifestError>>(
        &mut self,
        views: &[TensorView<M>],
        digest_many: impl FnOnce(Algorithm, &[M]) -> Result<Vec<Digest>, E>,
    ) -> Result<(), E> {
        for view in views {
            let (expected, found) = (view.dtype.size_of(&view.shape), view.memory.nbytes());
            if expected != Some(found) {
                return Err(ManifestError::TensorSize { tensor: printable(&view.name), expected: expected.unwrap_or(0), found }.into());
            }
        }
        let mut places: HashMap<M, usize> = HashMap::with_capacity(views.len());
        let mut messages: Vec<M> = Vec::with_capacity(views.len());
        let mut view_places = Vec::with_capacity(views.len());
        for view in views {
            let place = *places.entry(view.memory).or_insert(messages.len());
            if place == messages.len() {
                messages.push(view.memory);
            }
            view_places.push(place);
        }
        let digests = digest_many(self.algorithm, &messages)?;
        self.check_digests(&digests, messages.len())?;
        self.bytes = messages.iter().fold(self.bytes, |total, message| total.saturating_add(message.nbytes()));
        for (view, place) in views.iter().zip(view_places) {
            let tensor = TensorDigest { name: view.name.clone(), dtype: view.dtype, shape: view.shape.clone(), digest: digests[place] };
            let measured = MeasuredTensor { tensor, storage: view.storage, persistent: view.persistent };
            if self.tensors.insert(view.name.clone(), measured).is_some() {
                return Err(ManifestError::DuplicateTensor { tensor: printable(&view.name) }.into());
            }
        }
        Ok(())
    }

    /// Whether there is one digest of the model's algorithm for each message.
    fn check_digests(&self, digests: &[Digest], messages: usize) -> Result<(), ManifestError> {
        if digests.len() != messages {
            return Err(HashError::DigestCount { expected: messages, found: digests.len() }.into());
        }
        match digests.iter().find(|digest| digest.algorithm() != self.algorithm) {
            Some(other) => Err(HashError::PieceAlgorithm { expected: self.algorithm, found: other.algorithm() }.into()),
            None => Ok(()),
        }
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
    use std::ptr;

    use super::*;

    /// Bytes that are the same if they lie at the same place.
    #[derive(Debug, Clone, Copy)]
    struct Bytes<'a>(&'a [u8]);

    impl PartialEq for Bytes<'_> {
        fn eq(&self, other: &Self) -> bool {
            ptr::eq(self.0, other.0)
        }
    }

    impl Eq for Bytes<'_> {}

    impl Hash for Bytes<'_> {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            ptr::hash(self.0, state);
        }
    }

    impl Memory for Bytes<'_> {
        fn nbytes(&self) -> u64 {
            self.0.len() as u64
        }
    }

    fn view<'a>(name: &str, dtype: &str, shape: &[u64], bytes: &'a [u8]) -> TensorView<Bytes<'a>> {
        let dtype = Dtype::from_name(dtype).unwrap();
        let storage = (0, bytes.as_ptr().addr() as u64);
        TensorView { name: name.to_owned(), dtype, shape: shape.to_vec(), memory: Bytes(bytes), storage, persistent: true }
    }

    fn digest_many(algorithm: Algorithm, messages: &[Bytes<'_>]) -> Result<Vec<Digest>, ManifestError> {
        Ok(messages.iter().map(|message| algorithm.digest(message.0)).collect())
    }

    fn add(algorithm: Algorithm, views: &[TensorView<Bytes<'_>>]) -> Result<MeasuredTensors, &'static str> {
        let mut measured = MeasuredTensors::new(algorithm);
        measured.add(views, digest_many).map_err(|error| error.code())?;
        Ok(measured)
    }

    #[test]
    fn shared_bytes_are_hashed_once_and_listed_under_each_name() {
        let bytes = [7; 24];
        let views = [view("b", "F32", &[2, 3], &bytes), view("a", "F32", &[2, 3], &bytes), view("c", "F32", &[3, 2], &bytes)];
        let measured = add(Algorithm::Blake3, &views).unwrap();
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
        let add_code = |views: &[TensorView<Bytes<'_>>]| add(Algorithm::Sha256Tree, views).map(|_| ());
        assert_eq!(add_code(&[view("a", "F32", &[2], &[0; 7])]), Err("tensor_size"));
        assert_eq!(add_code(&[view("a", "F32", &[u64::MAX, 2], &[0; 8])]), Err("tensor_size"));
        assert_eq!(add_code(&[view("a", "U8", &[1], &[0]), view("a", "U8", &[1], &[1])]), Err("duplicate_tensor"));
        let empty = view("e", "F32", &[0, 4], &[]);
        let measured = add(Algorithm::Blake3, &[empty.clone(), TensorView { name: "f".to_owned(), ..empty }]).unwrap();
        assert_eq!(measured.tensors()["e"].own_storage(), None, "nothing is not shared");
    }

    #[test]
    fn digests_of_fewer_messages_or_of_another_algorithm_are_refused() {
        let views = [view("a", "U8", &[1], &[0]), view("b", "U8", &[1], &[1])];
        let mut measured = MeasuredTensors::new(Algorithm::Blake3);
        let short = measured.add(&views, |algorithm, messages| digest_many(algorithm, &messages[1..]));
        assert!(matches!(short, Err(ManifestError::Hash(HashError::DigestCount { expected: 2, found: 1 }))));
        let other = measured.add(&views, |_, messages| digest_many(Algorithm::Sha256Tree, messages));
        assert!(matches!(other, Err(ManifestError::Hash(HashError::PieceAlgorithm { .. }))));
        assert!(measured.tensors().is_empty());
    }
}
