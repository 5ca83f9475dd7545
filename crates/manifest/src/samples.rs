//! What the samples of a dataset turned out to be.

use std::collections::BTreeMap;

use sentry_hash::HashError;
use sentry_hash::lattice::Entry;
use sentry_hash::table::Table;

use crate::limits::MAX_SOURCES;
use crate::listed::{ListError, check_names};
use crate::{DatasetField, IdRule, printable};

/// The samples of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredSource {
    /// Its name.
    pub name: String,
    /// Every sample, by id.
    pub table: Table,
}

/// A dataset whose samples were read, all of them. It counts for nothing until it was compared with a signed statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredDataset {
    fields: Vec<DatasetField>,
    ids: IdRule,
    sources: Vec<MeasuredSource>,
}

/// Samples that are no dataset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SamplesError {
    /// Two samples of a source have one id.
    #[error("source \"{source_name}\" has two samples with id {id}")]
    RepeatedId {
        /// The source, escaped for printing.
        source_name: String,
        /// The id.
        id: u64,
    },
    /// Fields or sources are none, too many, or named alike.
    #[error(transparent)]
    List(#[from] ListError),
    /// A source's samples are too many.
    #[error(transparent)]
    Hash(HashError),
}

impl SamplesError {
    /// A stable name of this error for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::RepeatedId { .. } => "sample_repeated",
            Self::List(error) => error.code(),
            Self::Hash(_) => "list_state",
        }
    }
}

impl MeasuredDataset {
    /// Takes the samples of every source, which come in any order. Fields come in any order too.
    ///
    /// # Errors
    /// [`SamplesError`]: no sample, an id that a source has twice, names that nobody may sign.
    pub fn new(mut fields: Vec<DatasetField>, ids: IdRule, sources: BTreeMap<String, Vec<Entry>>) -> Result<Self, SamplesError> {
        fields.sort_unstable_by(|one, other| one.name.as_bytes().cmp(other.name.as_bytes()));
        check_names("field", crate::limits::MAX_FIELDS, fields.iter().map(|field| field.name.as_str()))?;
        check_names("source", MAX_SOURCES, sources.keys().map(String::as_str).collect::<Vec<_>>().into_iter())?;
        let sources = sources.into_iter().map(|(name, entries)| MeasuredSource::new(name, entries)).collect::<Result<_, _>>()?;
        Ok(Self { fields, ids, sources })
    }

    /// Name and type of each field, by name.
    pub fn fields(&self) -> &[DatasetField] {
        &self.fields
    }

    /// Where ids come from.
    pub fn ids(&self) -> &IdRule {
        &self.ids
    }

    /// The sources, by name.
    pub fn sources(&self) -> &[MeasuredSource] {
        &self.sources
    }

    /// How many samples there are.
    pub fn samples(&self) -> u64 {
        self.sources.iter().map(|source| source.table.count() as u64).sum()
    }
}

impl MeasuredSource {
    fn new(name: String, entries: Vec<Entry>) -> Result<Self, SamplesError> {
        match Table::from_entries(entries) {
            Ok(table) => Ok(Self { name, table }),
            Err(HashError::RepeatedId { id }) => Err(SamplesError::RepeatedId { source_name: printable(&name), id }),
            Err(error) => Err(SamplesError::Hash(error)),
        }
    }
}
