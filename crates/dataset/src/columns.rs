//! Rows of Arrow columns as samples.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::Schema;
use sentry_hash::lattice::SampleDigest;
use sentry_manifest::record::Field;
use sentry_manifest::{DatasetField, IdRule};

use crate::DatasetError;

/// How rows of one schema become samples: every column is a field, one of them may be the id, one the source.
#[derive(Debug, Clone)]
pub struct Columns {}

/// A row as a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The value of the column of sources, if there is one.
    pub source: Option<Arc<str>>,
    /// The value of the column of ids; none if the number of the row will be the id.
    pub id: Option<u64>,
    /// The digest of the record of all columns.
    pub digest: SampleDigest,
}

impl Columns {
    /// Looks at a schema. `ids` is [`IdRule::Column`] or [`IdRule::Ordinal`].
    ///
    /// # Errors
    /// [`DatasetError`]: a column that does not exist, or is of another type; two columns of one name; a type that no record can hold.
    pub fn new(_schema: &Schema, _ids: &IdRule, _source: Option<&str>) -> Result<Self, DatasetError> {
        todo!()
    }

    /// The rule if the signer names none: an integer column `id`, else the number of the row.
    pub fn default_ids(_schema: &Schema) -> IdRule {
        todo!()
    }

    /// Name and signed type of every column, sorted by name.
    pub fn fields(&self) -> &[DatasetField] {
        todo!()
    }

    /// All rows of a batch, whose columns must be those of the schema.
    ///
    /// # Errors
    /// [`DatasetError`]: other columns; an id that is missing or negative, a source that is missing or empty; a value that no record can hold.
    pub fn rows(&self, _batch: &RecordBatch) -> Result<Vec<Row>, DatasetError> {
        todo!()
    }

    /// Calls `each` with the fields of a row, to say what is in it.
    ///
    /// # Errors
    /// As for [`Columns::rows`].
    pub fn with_record<R>(&self, _batch: &RecordBatch, _row: usize, _each: impl FnOnce(&[Field<'_>]) -> R) -> Result<R, DatasetError> {
        todo!()
    }
}
