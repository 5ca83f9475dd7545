//! Rows of Arrow columns as samples: one way from what is stored to values of records, whatever the physical layout.

mod pieces;
mod types;
mod values;

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Schema};
use sentry_hash::lattice::{MAX_SOURCE_NAME, SampleDigest};
use sentry_manifest::record::Value;
use sentry_manifest::{DatasetField, IdRule, printable};

pub use types::signed_type;

use crate::{DatasetError, Samples};

/// The column that ids come from, unless the signer names one.
const ID_COLUMN: &str = "id";

/// How rows of one schema become samples: every column is a field, one of them may be the id, one the source.
#[derive(Debug, Clone)]
pub struct Columns {
    /// By name.
    fields: Vec<DatasetField>,
    ids: IdRule,
    source: Option<String>,
}

/// A row as a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The value of the column of sources, if there is one.
    pub source: Option<Arc<str>>,
    /// Its id; none if the number of the row will be the id.
    pub id: Option<u64>,
    /// The digest of the record of all fields.
    pub digest: SampleDigest,
}

impl Columns {
    /// Looks at a schema. `ids` is [`IdRule::Column`] or [`IdRule::Ordinal`]; `source` is the column of sources.
    ///
    /// # Errors
    /// [`DatasetError::Column`]: a column that does not exist, or is of another type; two columns of one name; a type that no record
    /// can hold. [`DatasetError::Layout`]: no column, or ids by paths.
    pub fn new(schema: &Schema, ids: &IdRule, source: Option<&str>) -> Result<Self, DatasetError> {
        let mut fields = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let arrow_type = signed_type(field.data_type()).map_err(|reason| wrong(field.name(), reason))?;
            fields.push(DatasetField { name: field.name().clone(), arrow_type });
        }
        fields.sort_unstable_by(|one, other| one.name.as_bytes().cmp(other.name.as_bytes()));
        if let Some(pair) = fields.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(wrong(&pair[0].name, "there are two columns of this name"));
        }
        match ids {
            IdRule::Column(name) => {
                let found = schema.field_with_name(name).map_err(|_| wrong(name, "there is no such column, which should hold the ids"))?;
                if !decoded(found.data_type()).is_integer() {
                    return Err(wrong(name, format!("ids are integers, and this column is {}", found.data_type())));
                }
            }
            IdRule::Ordinal => {}
            IdRule::Path => {
                return Err(DatasetError::Layout { reason: "rows of columns have no paths that could be their ids".to_owned() });
            }
        }
        if let Some(name) = source {
            let found = schema.field_with_name(name).map_err(|_| wrong(name, "there is no such column, which should name the sources"))?;
            if !is_text(found.data_type()) {
                return Err(wrong(name, format!("names of sources are text, and this column is {}", found.data_type())));
            }
        }
        Ok(Self { fields, ids: ids.clone(), source: source.map(str::to_owned) })
    }

    /// The rule if the signer names none: an integer column `id`, else the number of the row.
    pub fn default_ids(schema: &Schema) -> IdRule {
        match schema.field_with_name(ID_COLUMN) {
            Ok(field) if decoded(field.data_type()).is_integer() => IdRule::Column(ID_COLUMN.to_owned()),
            _ => IdRule::Ordinal,
        }
    }

    /// Name and signed type of every column, sorted by name.
    pub fn fields(&self) -> &[DatasetField] {
        &self.fields
    }

    /// Where ids come from.
    pub fn ids(&self) -> &IdRule {
        &self.ids
    }

    /// The rows of a batch, not yet hashed.
    ///
    /// # Errors
    /// [`DatasetError::Column`] for other columns than those of the schema.
    pub fn samples<'a>(&self, batch: &'a RecordBatch) -> Result<Samples<'a>, DatasetError> {
        let schema = batch.schema_ref();
        if schema.fields().len() != self.fields.len() {
            let reason = format!("a batch has {} columns, and the schema {}", schema.fields().len(), self.fields.len());
            return Err(DatasetError::Layout { reason });
        }
        let mut fields = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            let place = schema.index_of(&field.name).map_err(|_| wrong(&field.name, "a batch lacks this column"))?;
            let array = batch.column(place);
            if signed_type(array.data_type()).as_deref() != Ok(&field.arrow_type) {
                return Err(wrong(&field.name, format!("a batch has it as {}, and the schema as {}", array.data_type(), field.arrow_type)));
            }
            let name: &'a str = schema.field(place).name();
            fields.push((name, values::of_column(array).map_err(|reason| wrong(&field.name, reason))?));
        }
        Samples::new(batch.num_rows(), fields)
    }

    /// The ids of the rows of a batch, if they are a column.
    ///
    /// # Errors
    /// [`DatasetError::Column`] for an id that is missing or negative.
    pub fn row_ids(&self, batch: &RecordBatch) -> Result<Option<Vec<u64>>, DatasetError> {
        self.ids_from(batch, 0)
    }

    fn ids_from(&self, batch: &RecordBatch, first: u64) -> Result<Option<Vec<u64>>, DatasetError> {
        let IdRule::Column(name) = &self.ids else { return Ok(None) };
        let array = batch.column_by_name(name).ok_or_else(|| wrong(name, "a batch lacks this column"))?;
        let id = |row| values::integer(array, row).map_err(|reason| wrong(name, format!("row {} has {reason}", first + row as u64)));
        (0..batch.num_rows()).map(id).collect::<Result<_, _>>().map(Some)
    }

    /// All rows of a batch, whose columns must be those of the schema.
    ///
    /// # Errors
    /// As for [`Columns::samples`] and [`Columns::row_ids`]; a source that is missing or empty; a value that no record can hold.
    pub fn rows(&self, batch: &RecordBatch) -> Result<Vec<Row>, DatasetError> {
        self.rows_from(batch, 0)
    }

    /// As [`Columns::rows`], of a batch before which there were `first` rows, as errors say.
    pub(crate) fn rows_from(&self, batch: &RecordBatch, first: u64) -> Result<Vec<Row>, DatasetError> {
        let pieces = pieces::pieces(batch)
            .map_err(|row| DatasetError::Layout { reason: format!("sample {}: {}", first + row as u64, pieces::too_many()) })?;
        let mut rows = Vec::with_capacity(batch.num_rows());
        for piece in pieces {
            let before = first + piece.start as u64;
            self.add_rows(&mut rows, &batch.slice(piece.start, piece.len()), before)?;
        }
        Ok(rows)
    }

    fn add_rows(&self, rows: &mut Vec<Row>, batch: &RecordBatch, first: u64) -> Result<(), DatasetError> {
        let digests = self.samples(batch)?.digests().map_err(|error| match error {
            DatasetError::Record { place, sample, source } => DatasetError::Record { place, sample: first + sample, source },
            other => other,
        })?;
        let ids = self.ids_from(batch, first)?;
        let sources = self.sources_from(batch, first)?;
        rows.extend(digests.into_iter().enumerate().map(|(row, digest)| Row {
            source: sources.as_ref().map(|sources| Arc::clone(&sources[row])),
            id: ids.as_ref().map(|ids| ids[row]),
            digest,
        }));
        Ok(())
    }

    fn sources_from(&self, batch: &RecordBatch, first: u64) -> Result<Option<Vec<Arc<str>>>, DatasetError> {
        let Some(name) = &self.source else { return Ok(None) };
        let array = batch.column_by_name(name).ok_or_else(|| wrong(name, "a batch lacks this column"))?;
        let mut last: Arc<str> = Arc::from("");
        let mut sources = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let number = first + row as u64;
            let source = values::text(array, row).map_err(|reason| wrong(name, format!("row {number} has {reason}")))?;
            if source.is_empty() || source.len() > MAX_SOURCE_NAME {
                let reason = format!("row {number}: the name of a source has 1 to {MAX_SOURCE_NAME} bytes, found {}", source.len());
                return Err(wrong(name, reason));
            }
            if *source != *last {
                last = Arc::from(source);
            }
            sources.push(Arc::clone(&last));
        }
        Ok(Some(sources))
    }
}

/// The text in a row of a column, if there is some.
pub fn text_of(column: &ArrayRef, row: usize) -> Result<&str, String> {
    values::text(column, row)
}

/// The value in a row of a batch's column.
///
/// # Errors
/// [`DatasetError::Column`].
pub fn value_of<'a>(batch: &'a RecordBatch, column: &str, row: usize) -> Result<Value<'a>, DatasetError> {
    let array = batch.column_by_name(column).ok_or_else(|| wrong(column, "a batch lacks this column"))?;
    values::value(array, row).map_err(|reason| wrong(column, reason))
}

fn wrong(column: &str, reason: impl Into<String>) -> DatasetError {
    DatasetError::Column { column: printable(column), reason: reason.into() }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(decoded(data_type), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// What a dictionary or runs stand for.
fn decoded(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, value) => decoded(value),
        DataType::RunEndEncoded(_, values) => decoded(values.data_type()),
        other => other,
    }
}

/// The array that a dictionary or runs stand for, and the row in it.
fn resolve(array: &ArrayRef, row: usize) -> Result<(&ArrayRef, usize), String> {
    match array.data_type() {
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let key = values::integer_of(dictionary.keys(), row).map_err(|_| "a key that is none of its dictionary's")?;
            let key = usize::try_from(key).ok().filter(|&key| key < dictionary.values().len());
            resolve(dictionary.values(), key.ok_or("a key that is none of its dictionary's")?)
        }
        DataType::RunEndEncoded(ends, _) => {
            let (values, row) = match ends.data_type() {
                DataType::Int16 => values::run::<arrow_array::types::Int16Type>(array, row),
                DataType::Int32 => values::run::<arrow_array::types::Int32Type>(array, row),
                _ => values::run::<arrow_array::types::Int64Type>(array, row),
            };
            resolve(values, row)
        }
        _ => Ok((array, row)),
    }
}
