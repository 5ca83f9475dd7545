//! Tables: Parquet, Arrow, CSV and JSON Lines, read by their own libraries into columns of Arrow.

mod arrow;
mod csv;
mod jsonl;
mod parquet;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use sentry_manifest::{DatasetField, FoundFile, IdRule, ModelTree, printable};

use super::layout::{Format, Group};
use super::positioned::{Positioned, unfit, with_file};
use super::{ReadOptions, SampleFile, Sink, SourceFile};
use crate::{Columns, DatasetError};

/// Rows of a batch at most, and about how many bytes.
const BATCH_ROWS: usize = 1 << 14;
const BATCH_BYTES: u64 = 8 << 20;

/// A file whose rows are samples.
struct Table {
    found: FoundFile,
    columns: Columns,
    body: Box<dyn Body>,
}

/// How the rows of one format are read.
trait Body: Send + Sync {
    /// The bytes of each part.
    fn part_bytes(&self) -> Vec<u64>;

    /// How many rows come before a part.
    fn first_row(&self, part: usize) -> u64;

    /// Reads a part, batch by batch.
    fn read(&self, found: &FoundFile, file: &Positioned, part: usize, each: &mut Each<'_>) -> Result<(), DatasetError>;
}

/// Takes batches as they are read.
type Each<'a> = dyn FnMut(&RecordBatch) -> Result<(), DatasetError> + 'a;

/// Opens all tables of a dataset. The types of CSV and JSON are those that fit all files.
pub fn open(tree: &ModelTree, format: Format, groups: Vec<Group>, options: &ReadOptions) -> Result<Vec<SourceFile>, DatasetError> {
    let files: Vec<(String, FoundFile)> =
        groups.into_iter().flat_map(|group| group.files.into_iter().map(move |file| (group.source.clone(), file))).collect();
    let shared = match format {
        Format::Csv => Some(csv::types(tree, files.iter().map(|(_, file)| file), options.fields.as_deref())?),
        Format::Jsonl => Some(jsonl::types(tree, files.iter().map(|(_, file)| file), options.fields.as_deref())?),
        _ => None,
    };
    let spare = Arc::default();
    let open_one = |(source, found): (String, FoundFile)| {
        let (schema, body): (SchemaRef, Box<dyn Body>) = with_file(tree, &found, |file| match (format, &shared) {
            (Format::Csv, Some(schema)) => csv::open(&found, file, schema),
            (Format::Jsonl, Some(schema)) => Ok(jsonl::open(&found, schema)),
            (Format::Arrow, _) => arrow::open(&found, file),
            _ => parquet::open(&found, file, &spare),
        })?;
        let ids = options.ids.clone().unwrap_or_else(|| Columns::default_ids(&schema));
        let columns = Columns::new(&schema, &ids, options.source_column.as_deref())?;
        Ok(SourceFile { source, samples: Box::new(Table { found, columns, body }) })
    };
    files.into_iter().map(open_one).collect()
}

/// Reads a small table whole: its rows, and its fields.
pub fn read_whole(tree: &ModelTree, found: &FoundFile) -> Result<(RecordBatch, Vec<DatasetField>), DatasetError> {
    let is_csv = found.path.as_str().ends_with(".csv");
    let files = std::iter::once(found);
    let schema = if is_csv { csv::types(tree, files, None)? } else { jsonl::types(tree, files, None)? };
    let columns = Columns::new(&schema, &IdRule::Ordinal, None)?;
    let mut batches = Vec::new();
    with_file(tree, found, |file| {
        let (_, body) = if is_csv { csv::open(found, file, &schema)? } else { jsonl::open(found, &schema) };
        let mut each = |batch: &RecordBatch| {
            batches.push(batch.clone());
            Ok(())
        };
        (0..body.part_bytes().len()).try_for_each(|part| body.read(found, file, part, &mut each))
    })?;
    let whole = arrow_select::concat::concat_batches(&schema, &batches);
    let name = found.path.as_str();
    let whole = whole.map_err(|error| DatasetError::Layout { reason: format!("\"{}\": {error}", printable(name)) })?;
    Ok((whole, columns.fields().to_vec()))
}

impl SampleFile for Table {
    fn name(&self) -> &str {
        self.found.path.as_str()
    }

    fn fields(&self) -> &[DatasetField] {
        self.columns.fields()
    }

    fn ids(&self) -> &IdRule {
        self.columns.ids()
    }

    fn part_bytes(&self) -> Vec<u64> {
        self.body.part_bytes()
    }

    fn read(&self, tree: &ModelTree, part: usize, _: &[DatasetField], sink: &mut Sink<'_>) -> Result<(), DatasetError> {
        let mut row = self.body.first_row(part);
        with_file(tree, &self.found, |file| {
            self.body.read(&self.found, file, part, &mut |batch| {
                let rows = self.columns.rows_from(batch, row).map_err(|error| in_file(&self.found, error))?;
                row += rows.len() as u64;
                sink(rows)
            })
        })
    }
}

/// Rows of a file at most: this many, and [`ROWS_A_BYTE`] for each of its bytes. Only rows that are all alike take less, and each costs
/// memory for its id and digest.
const MOST_ROWS: u64 = 1 << 24;
const ROWS_A_BYTE: u64 = 64;

/// Bounds how many rows a file claims to have.
fn check_rows(found: &FoundFile, format: &'static str, rows: u64) -> Result<(), DatasetError> {
    let most = found.size.saturating_mul(ROWS_A_BYTE).saturating_add(MOST_ROWS);
    if rows <= most { Ok(()) } else { Err(unfit(found, format, format!("it claims {rows} rows, and {most} are the most for its size"))) }
}

/// Says of which file a batch is that has no record.
fn in_file(found: &FoundFile, error: DatasetError) -> DatasetError {
    let name = printable(found.path.as_str());
    match error {
        DatasetError::Record { sample, source, .. } => DatasetError::Record { place: format!("\"{name}\""), sample, source },
        DatasetError::Column { column, reason } => DatasetError::Column { column, reason: format!("{reason}, in \"{name}\"") },
        DatasetError::Layout { reason } => DatasetError::Layout { reason: format!("\"{name}\": {reason}") },
        other => other,
    }
}

/// The schema of signed fields, if every type can be read from its text.
fn schema_of(fields: &[DatasetField]) -> Option<Schema> {
    let field = |field: &DatasetField| Some(arrow_schema::Field::new(&field.name, field.arrow_type.parse().ok()?, true));
    Some(Schema::new(fields.iter().map(field).collect::<Option<Vec<_>>>()?))
}
