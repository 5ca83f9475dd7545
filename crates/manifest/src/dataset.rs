//! What is signed of a dataset: its fields, and the state of every source. `docs/spec/dataset.md`.

use sentry_hash::lattice::State;
use sentry_hash::table::{ENTRY_LEN, PART_ENTRIES};
use sentry_hash::{Algorithm, Digest};

use crate::limits::{MAX_FIELDS, MAX_SOURCES};
use crate::listed::{ListError, check_names, check_text};
use crate::{ModelPath, printable};

/// A field of every sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetField {
    /// Its name.
    pub name: String,
    /// Its Arrow type, as text.
    pub arrow_type: String,
}

/// Where the ids of samples come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdRule {
    /// A column of integers.
    Column(String),
    /// The hash of a path or a key.
    Path,
    /// The number of the row: the order matters.
    Ordinal,
}

/// The side file with a source's sample digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDigests {
    /// Where it lies, relative to the statement.
    pub path: ModelPath,
    /// Its length in bytes.
    pub size: u64,
    /// BLAKE3 of each part of 2^20 entries.
    pub parts: Vec<Digest>,
}

/// One source of samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name, which is in every element.
    pub name: String,
    /// The sum of its samples, and their number.
    pub state: State,
    /// Its sample table, if it has one.
    pub table: Option<TableDigests>,
    /// SHA-256 of the DSSE payload of the contributor's own statement, if there is one.
    pub statement: Option<Digest>,
}

/// A dataset: the sum of its sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetManifest {
    name: String,
    version: Option<u64>,
    fields: Vec<DatasetField>,
    ids: IdRule,
    sources: Vec<Source>,
    whole: State,
}

impl DatasetManifest {
    /// Checks a dataset whose fields and sources are sorted by the UTF-8 bytes of their names.
    ///
    /// # Errors
    /// [`ListError`]: names that are empty, too long or do not ascend; no field or source, or too many; a source without
    /// samples, or more than 2^40 of all; a table that does not fit its source.
    pub fn new(
        name: String,
        version: Option<u64>,
        fields: Vec<DatasetField>,
        ids: IdRule,
        sources: Vec<Source>,
    ) -> Result<Self, ListError> {
        check_text("name of a dataset", &name)?;
        check_names("field", MAX_FIELDS, fields.iter().map(|field| field.name.as_str()))?;
        fields.iter().try_for_each(|field| check_text("type of a field", &field.arrow_type))?;
        if let IdRule::Column(column) = &ids {
            check_text("name of the column of ids", column)?;
        }
        check_names("source", MAX_SOURCES, sources.iter().map(|source| source.name.as_str()))?;
        let mut whole = State::new();
        for source in &sources {
            source.check()?;
            whole.merge(&source.state)?;
        }
        Ok(Self { name, version, fields, ids, sources, whole })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version, if the signer stated one.
    pub fn version(&self) -> Option<u64> {
        self.version
    }

    /// The fields of every sample, by name.
    pub fn fields(&self) -> &[DatasetField] {
        &self.fields
    }

    /// Where ids come from.
    pub fn ids(&self) -> &IdRule {
        &self.ids
    }

    /// The sources, by name.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The sum of all sources.
    pub fn whole(&self) -> &State {
        &self.whole
    }

    /// The lattice digest of the whole.
    pub fn digest(&self) -> Digest {
        self.whole.digest().expect("every source has samples")
    }
}

impl Source {
    fn check(&self) -> Result<(), ListError> {
        self.state.digest()?;
        let wrong = |what, expected, found| Err(ListError::Table { source_name: printable(&self.name), what, expected, found });
        let samples = self.state.count();
        let Some(table) = &self.table else { return Ok(()) };
        let (size, parts) = (samples * ENTRY_LEN as u64, samples.div_ceil(PART_ENTRIES as u64));
        if table.size != size {
            return wrong("bytes", size, table.size);
        }
        if table.parts.len() as u64 != parts {
            return wrong("digests", parts, table.parts.len() as u64);
        }
        match table.parts.iter().find(|digest| digest.algorithm() != Algorithm::Blake3) {
            Some(digest) => Err(ListError::Algorithm { found: digest.algorithm() }),
            None => Ok(()),
        }
    }
}
