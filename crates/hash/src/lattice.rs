//! A digest of a set of samples that does not depend on their order: LtHash, with 1024 lanes of 16 bits.
//!
//! Every sample becomes a vector of lanes (its [`element`]), and a set is their sum. So samples can be added and removed,
//! and the sums of workers or of sources be added up, in any order. Specification: `docs/spec/samples.md`; construction
//! and the bound of 200 bits: IACR ePrint 2019/227.
//!
//! ```
//! use sentry_hash::lattice::{Entry, SampleDigest, SourceTag, State};
//!
//! let source = SourceTag::new("train")?;
//! let samples = [b"cat", b"dog"].map(|record| SampleDigest::of_record(record));
//! let entries = [Entry { id: 0, digest: samples[0] }, Entry { id: 1, digest: samples[1] }];
//! let (mut one, mut other) = (State::new(), State::new());
//! for (entry, reverse) in entries.iter().zip(entries.iter().rev()) {
//!     one.add(&source, entry)?;
//!     other.add(&source, reverse)?;
//! }
//! assert_eq!(one.digest()?, other.digest()?);
//! # Ok::<(), sentry_hash::HashError>(())
//! ```
//!
//! **A [`State`] is only worth something if no id occurs twice.** It is a sum modulo 2^16: 65,536 times the same element
//! is nothing, and who may repeat elements finds a set with any given state by linear algebra. [`Partial`] and
//! [`Table`](crate::table::Table) refuse a second sample with the same id; a bare `State` cannot see it.

use std::collections::HashSet;
use std::fmt;
use std::sync::LazyLock;

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};
use data_encoding::HEXLOWER;

use crate::many::derive_many;
use crate::{Algorithm, Digest, HashError};

/// Lanes of an element and of a state, of 16 bits each.
pub const LANES: usize = 1024;

/// Bytes of an element and of a state.
pub const STATE_LEN: usize = 2 * LANES;

/// Most samples of a set: far beyond any dataset, and within the bound that the construction was analysed for.
pub const MAX_SAMPLES: u64 = 1 << 40;

/// Longest name of a source, in bytes of UTF-8.
pub const MAX_SOURCE_NAME: usize = 4096;

/// What the lattice digest begins with.
const DIGEST_DOMAIN: &[u8] = b"sentry-ml/v1 lattice";

static SAMPLE: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context("sentry-ml/v1 sample"));
static SOURCE: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context("sentry-ml/v1 source"));
static ELEMENT: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context("sentry-ml/v1 element"));
static ID: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context("sentry-ml/v1 id"));

fn derive(context: &ContextKey, material: &[u8]) -> blake3::Hash {
    blake3::Hasher::new_from_context_key(context).update(material).finalize()
}

/// The digest of one sample's record, 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SampleDigest([u8; 32]);

impl SampleDigest {
    /// Hashes a record, in the encoding of `docs/spec/samples.md`.
    pub fn of_record(record: &[u8]) -> Self {
        Self(*derive(&SAMPLE, record).as_bytes())
    }

    /// Hashes records, in their order, on this thread: several at a time, which takes less time than one by one.
    pub fn of_records(records: &[&[u8]]) -> Vec<Self> {
        derive_many(&SAMPLE, records).into_iter().map(Self).collect()
    }

    /// Takes the raw bytes of a digest.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for SampleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for SampleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sample:{self}")
    }
}

/// The id of a sample that is known by a path or a key: 64 bits of its hash.
pub fn path_id(path: &str) -> u64 {
    let hash = derive(&ID, path.as_bytes());
    u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

/// Stands for a source's name in its elements, so that a sample cannot move to another source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceTag([u8; 24]);

impl SourceTag {
    /// The tag of the source of this name.
    ///
    /// # Errors
    /// [`HashError::SourceName`] unless it has 1 to [`MAX_SOURCE_NAME`] bytes.
    pub fn new(name: &str) -> Result<Self, HashError> {
        if name.is_empty() || name.len() > MAX_SOURCE_NAME {
            return Err(HashError::SourceName { length: name.len() });
        }
        Ok(Self(*derive(&SOURCE, name.as_bytes()).as_bytes().first_chunk().expect("a hash has 32 bytes")))
    }

    /// The tag's bytes.
    pub const fn as_bytes(&self) -> &[u8; 24] {
        &self.0
    }
}

/// A sample in its source: the id, which no other sample of the source has, and the digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The sample's id.
    pub id: u64,
    /// The digest of its record.
    pub digest: SampleDigest,
}

/// The lanes that a sample adds to the sum; lane i is bytes 2i and 2i + 1, little-endian.
pub fn element(source: &SourceTag, entry: &Entry) -> [u8; STATE_LEN] {
    let mut block = [0; 64];
    block[..24].copy_from_slice(&source.0);
    block[24..32].copy_from_slice(&entry.id.to_le_bytes());
    block[32..].copy_from_slice(&entry.digest.0);
    let mut lanes = [0; STATE_LEN];
    blake3::Hasher::new_from_context_key(&ELEMENT).update(&block).finalize_xof().fill(&mut lanes);
    lanes
}

/// A sum of elements, and how many they are.
#[derive(Clone, PartialEq, Eq)]
pub struct State {
    lanes: Box<[u16; LANES]>,
    count: u64,
}

impl State {
    /// The sum of no element.
    pub fn new() -> Self {
        Self { lanes: Box::new([0; LANES]), count: 0 }
    }

    /// A state as it is stored: 2048 bytes, and the number of samples beside them.
    ///
    /// # Errors
    /// [`HashError::StateLength`], [`HashError::TooManySamples`].
    pub fn from_bytes(count: u64, bytes: &[u8]) -> Result<Self, HashError> {
        let lanes: &[u8; STATE_LEN] = bytes.try_into().map_err(|_| HashError::StateLength { found: bytes.len() })?;
        let mut state = Self { count: bounded(count)?, ..Self::new() };
        state.combine(lanes, u16::wrapping_add);
        Ok(state)
    }

    /// The lanes in the form of an [`element`].
    pub fn to_bytes(&self) -> [u8; STATE_LEN] {
        let mut bytes = [0; STATE_LEN];
        for (bytes, lane) in bytes.as_chunks_mut().0.iter_mut().zip(&*self.lanes) {
            *bytes = lane.to_le_bytes();
        }
        bytes
    }

    /// How many samples are in the sum.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds a sample. The caller sees to it that no id is added twice; [`Partial`] does.
    ///
    /// # Errors
    /// [`HashError::TooManySamples`].
    pub fn add(&mut self, source: &SourceTag, entry: &Entry) -> Result<(), HashError> {
        self.count = bounded(self.count + 1)?;
        self.combine(&element(source, entry), u16::wrapping_add);
        Ok(())
    }

    /// Takes a sample out, which the caller knows to be in the sum.
    ///
    /// # Errors
    /// [`HashError::NoSamples`].
    pub fn remove(&mut self, source: &SourceTag, entry: &Entry) -> Result<(), HashError> {
        self.count = self.count.checked_sub(1).ok_or(HashError::NoSamples)?;
        self.combine(&element(source, entry), u16::wrapping_sub);
        Ok(())
    }

    /// Adds the sum of other samples.
    ///
    /// # Errors
    /// [`HashError::TooManySamples`].
    pub fn merge(&mut self, other: &Self) -> Result<(), HashError> {
        self.count = bounded(self.count + other.count)?;
        self.combine(&other.to_bytes(), u16::wrapping_add);
        Ok(())
    }

    /// The digest of a set: SHA-256 over the count and the lanes.
    ///
    /// # Errors
    /// [`HashError::NoSamples`]: an empty set has none.
    pub fn digest(&self) -> Result<Digest, HashError> {
        if self.count == 0 {
            return Err(HashError::NoSamples);
        }
        let message = [DIGEST_DOMAIN, &self.count.to_le_bytes(), &self.to_bytes()].concat();
        Ok(Algorithm::Sha256.digest(&message))
    }

    fn combine(&mut self, lanes: &[u8; STATE_LEN], operation: impl Fn(u16, u16) -> u16) {
        for (sum, lane) in self.lanes.iter_mut().zip(lanes.as_chunks().0) {
            *sum = operation(*sum, u16::from_le_bytes(*lane));
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State({} samples, {}...)", self.count, HEXLOWER.encode(&self.to_bytes()[..16]))
    }
}

/// `count`, if a set may have so many samples. Sums of two counts stay far below 2^64.
fn bounded(count: u64) -> Result<u64, HashError> {
    if count > MAX_SAMPLES { Err(HashError::TooManySamples) } else { Ok(count) }
}

/// A part of one source's samples, as a worker or a rank has seen it: their sum, and the set of their ids.
///
/// Memory grows with the number of samples, by 8 to 18 bytes for each id.
#[derive(Debug, Clone)]
pub struct Partial {
    source: SourceTag,
    state: State,
    ids: HashSet<u64>,
}

impl Partial {
    /// A part without samples.
    pub fn new(source: SourceTag) -> Self {
        Self { source, state: State::new(), ids: HashSet::new() }
    }

    /// A part as it was stored: its ids, none of which is there twice, and the sum of their samples.
    ///
    /// # Errors
    /// [`HashError::RepeatedId`]; [`HashError::TableState`] unless there are as many ids as samples in the sum.
    pub fn from_parts(source: SourceTag, state: State, ids: impl IntoIterator<Item = u64>) -> Result<Self, HashError> {
        let mut seen = HashSet::new();
        for id in ids {
            if !seen.insert(id) {
                return Err(HashError::RepeatedId { id });
            }
        }
        if seen.len() as u64 == state.count() { Ok(Self { source, state, ids: seen }) } else { Err(HashError::TableState) }
    }

    /// Adds a sample. After an error the part is as before.
    ///
    /// # Errors
    /// [`HashError::RepeatedId`] if its id is there already, [`HashError::TooManySamples`].
    pub fn insert(&mut self, entry: &Entry) -> Result<(), HashError> {
        if self.ids.contains(&entry.id) {
            return Err(HashError::RepeatedId { id: entry.id });
        }
        self.state.add(&self.source, entry)?;
        self.ids.insert(entry.id);
        Ok(())
    }

    /// Adds another part of the same source. After an error this part is as before.
    ///
    /// # Errors
    /// [`HashError::RepeatedId`] if both have a sample of the same id, [`HashError::SourceMismatch`] if the other is of
    /// another source, [`HashError::TooManySamples`].
    pub fn merge(&mut self, other: &Self) -> Result<(), HashError> {
        if self.source != other.source {
            return Err(HashError::SourceMismatch);
        }
        if let Some(&id) = self.ids.intersection(&other.ids).min() {
            return Err(HashError::RepeatedId { id });
        }
        self.state.merge(&other.state)?;
        self.ids.extend(&other.ids);
        Ok(())
    }

    /// The sum of the samples so far.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The ids of the samples so far.
    pub fn ids(&self) -> &HashSet<u64> {
        &self.ids
    }
}
