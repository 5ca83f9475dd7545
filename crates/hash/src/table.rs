//! A source's sample table: the digest of every sample, by id, in a side file.
//!
//! ```text
//! entry   u64 id ‖ 32-byte sample digest       ids ascend, and none is there twice
//! part    2^20 entries, the last part fewer    each has its BLAKE3 digest in the signed statement
//! ```
//!
//! With a table every sample is checked before it is handed out, and a wrong one has a name. Specification:
//! `docs/spec/samples.md`.

use crate::lattice::{Entry, SampleDigest, SourceTag, State};
use crate::{Algorithm, Backend, Digest, HashError};

/// Bytes of an entry.
pub const ENTRY_LEN: usize = 40;

/// Entries that one digest of the statement covers.
pub const PART_ENTRIES: usize = 1 << 20;

/// Entries whose elements are summed at a time, so that a large table is not held twice.
const BATCH: usize = 1 << 16;

/// The entries of one source, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    bytes: Vec<u8>,
}

impl Table {
    /// Makes the table of these samples, which come in any order.
    ///
    /// # Errors
    /// [`HashError::RepeatedId`], and [`HashError::TableLength`] without samples.
    pub fn from_entries(mut entries: Vec<Entry>) -> Result<Self, HashError> {
        entries.sort_unstable_by_key(|entry| entry.id);
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(HashError::RepeatedId { id: pair[0].id });
        }
        Self::parse(entries.iter().flat_map(encode).collect())
    }

    /// Reads a stored table.
    ///
    /// # Errors
    /// [`HashError::TableLength`] unless it has 40 bytes a sample and at least one sample, [`HashError::TableOrder`]
    /// unless the ids ascend.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, HashError> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(ENTRY_LEN) {
            return Err(HashError::TableLength { found: bytes.len() });
        }
        let table = Self { bytes };
        let ids = table.entries().map(|entry| entry.id);
        for (index, (before, id)) in ids.clone().zip(ids.skip(1)).enumerate() {
            if before >= id {
                return Err(HashError::TableOrder { index: index + 1, id });
            }
        }
        Ok(table)
    }

    /// The table as it is stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of samples.
    pub fn count(&self) -> usize {
        self.bytes.len() / ENTRY_LEN
    }

    /// All entries, by id.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + Clone {
        self.rows().iter().map(decode)
    }

    fn rows(&self) -> &[[u8; ENTRY_LEN]] {
        self.bytes.as_chunks().0
    }

    /// The digest of the sample with this id.
    pub fn find(&self, id: u64) -> Option<SampleDigest> {
        self.place(id).map(|(_, digest)| digest)
    }

    /// Which entry has this id, counted from 0, and its digest.
    pub fn place(&self, id: u64) -> Option<(usize, SampleDigest)> {
        let rows = self.rows();
        let place = rows.binary_search_by_key(&id, |row| decode(row).id).ok()?;
        Some((place, decode(&rows[place]).digest))
    }

    /// Checks a sample before it is handed out.
    ///
    /// # Errors
    /// [`HashError::UnknownSample`] if no sample has this id, [`HashError::SampleMismatch`] if another digest belongs to it.
    pub fn check(&self, sample: &Entry) -> Result<(), HashError> {
        match self.find(sample.id) {
            None => Err(HashError::UnknownSample { id: sample.id }),
            Some(expected) if expected != sample.digest => Err(HashError::SampleMismatch { id: sample.id, expected, found: sample.digest }),
            Some(_) => Ok(()),
        }
    }

    /// The BLAKE3 digest of each part, as a statement has them.
    ///
    /// # Errors
    /// The backend's.
    pub fn part_digests(&self, backend: &dyn Backend) -> Result<Vec<Digest>, HashError> {
        let parts: Vec<&[u8]> = self.bytes.chunks(PART_ENTRIES * ENTRY_LEN).collect();
        backend.digest_many(Algorithm::Blake3, &parts)
    }

    /// Checks the parts against the digests of a statement.
    ///
    /// # Errors
    /// [`HashError::TablePart`] for the first part that differs, is missing or is too many.
    pub fn check_parts(&self, expected: &[Digest], backend: &dyn Backend) -> Result<(), HashError> {
        let found = self.part_digests(backend)?;
        let differs = |&part: &usize| expected.get(part) != found.get(part);
        match (0..expected.len().max(found.len())).find(differs) {
            Some(part) => Err(HashError::TablePart { part }),
            None => Ok(()),
        }
    }

    /// The sum of all samples' elements.
    ///
    /// # Errors
    /// The backend's, and [`HashError::TooManySamples`].
    pub fn state(&self, source: &SourceTag, backend: &dyn Backend) -> Result<State, HashError> {
        let mut state = State::new();
        for rows in self.rows().chunks(BATCH) {
            let entries: Vec<Entry> = rows.iter().map(decode).collect();
            state.merge(&backend.lattice_state(source, &entries)?)?;
        }
        Ok(state)
    }

    /// Checks the whole table against the signed state of its source.
    ///
    /// # Errors
    /// [`HashError::TableState`] if the count or the sum differs, and those of [`Table::state`].
    pub fn check_state(&self, source: &SourceTag, expected: &State, backend: &dyn Backend) -> Result<(), HashError> {
        if self.state(source, backend)? == *expected { Ok(()) } else { Err(HashError::TableState) }
    }
}

fn encode(entry: &Entry) -> [u8; ENTRY_LEN] {
    let mut row = [0; ENTRY_LEN];
    row[..8].copy_from_slice(&entry.id.to_le_bytes());
    row[8..].copy_from_slice(entry.digest.as_bytes());
    row
}

fn decode(row: &[u8; ENTRY_LEN]) -> Entry {
    let (id, digest) = row.split_first_chunk().expect("a row has 40 bytes");
    Entry { id: u64::from_le_bytes(*id), digest: SampleDigest::from_bytes(digest.try_into().expect("40 less 8 are 32")) }
}
