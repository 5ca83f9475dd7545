//! Parquet: a row group is a part.
//!
//! Text and bytes are read as views of the pages that hold them: nothing is copied, and a dictionary of long values that many rows refer to
//! stays as small as it is. What a damaged file claims is bounded before the library makes room for it (`footer`, `pages`).

mod footer;
mod pages;
mod thrift;

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader};
use parquet::arrow::{FieldLevels, ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::{Encoding, Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetStatisticsPolicy, RowGroupMetaData};
use sentry_manifest::{FoundFile, printable};

use super::super::positioned::{Positioned, Spare, guarded, malformed, unfit, unreadable};
use super::{BATCH_BYTES, BATCH_ROWS, Body, Each, check_rows};
use crate::DatasetError;
use pages::OneGroup;

const FORMAT: &str = "Parquet";

/// Values of a batch at most, over all columns.
const BATCH_VALUES: usize = 1 << 20;

/// Longest values of fixed length, in bytes: the library makes room for a batch of them, also where they are missing.
const MAX_FIXED_LENGTH: i32 = 1 << 20;

/// Rows of a batch in which values are the differences to those before them, so that each may be as long as a page.
const DIFFERENCES_ROWS: usize = 16;

struct Parquet {
    metadata: Arc<ParquetMetaData>,
    levels: FieldLevels,
    /// Of all files of the dataset.
    spare: Arc<Spare>,
}

/// Reads the footer, and nothing of the rows.
pub fn open(found: &FoundFile, file: &Positioned, spare: &Arc<Spare>) -> Result<(SchemaRef, Box<dyn Body>), DatasetError> {
    let (schema, parquet) = guarded(found, FORMAT, || {
        footer::check(file).map_err(|reason| unfit(found, FORMAT, reason))?;
        let options = ArrowReaderOptions::new()
            .with_page_index_policy(PageIndexPolicy::Skip)
            .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll);
        let stored = ArrowReaderMetadata::load(file, options).map_err(wrong(found))?;
        let metadata = Arc::clone(stored.metadata());
        let fields: Fields = stored.schema().fields().iter().map(as_views).collect();
        let schema = Arc::new(Schema::new(fields));
        let options = ArrowReaderOptions::new().with_schema(Arc::clone(&schema));
        ArrowReaderMetadata::try_new(Arc::clone(&metadata), options).map_err(wrong(found))?;
        let parquet_schema = metadata.file_metadata().schema_descr();
        let levels = parquet_to_arrow_field_levels(parquet_schema, ProjectionMask::all(), Some(schema.fields())).map_err(wrong(found))?;
        Ok((schema, Parquet { metadata, levels, spare: Arc::clone(spare) }))
    })?;
    parquet.check(found)?;
    Ok((schema, Box::new(parquet)))
}

impl Parquet {
    fn check(&self, found: &FoundFile) -> Result<(), DatasetError> {
        let groups = self.metadata.row_groups();
        let rows = groups.iter().try_fold(0_u64, |sum, group| sum.checked_add(u64::try_from(group.num_rows()).ok()?));
        check_rows(found, FORMAT, rows.unwrap_or(u64::MAX))?;
        let columns = self.metadata.file_metadata().schema_descr().columns();
        match columns.iter().find(|column| column.physical_type() == Type::FIXED_LEN_BYTE_ARRAY && !is_fixed_length(column.type_length())) {
            Some(column) => Err(unfit(
                found,
                FORMAT,
                format!("values of column \"{}\" are {} bytes long", printable(column.name()), column.type_length()),
            )),
            None => Ok(()),
        }
    }

    /// How many rows of a group are read at once: some MiB of them, as the footer says.
    fn batch_rows(&self, group: &RowGroupMetaData) -> usize {
        let rows = u64::try_from(group.num_rows()).unwrap_or(0).max(1);
        let row_bytes = (u64::try_from(group.total_byte_size()).unwrap_or(0) / rows).max(1);
        let fixed_bytes = |length: i32| u64::try_from(length).unwrap_or(0);
        let widest = group.columns().iter().map(|column| fixed_bytes(column.column_descr().type_length())).max().unwrap_or(0);
        let differences = group.columns().iter().any(|column| column.encodings().any(|encoding| encoding == Encoding::DELTA_BYTE_ARRAY));
        let most = (BATCH_VALUES / group.num_columns().max(1)).min(if differences { DIFFERENCES_ROWS } else { BATCH_ROWS });
        (BATCH_BYTES / row_bytes.max(widest)).clamp(1, most.max(1) as u64) as usize
    }
}

fn is_fixed_length(length: i32) -> bool {
    (1..=MAX_FIXED_LENGTH).contains(&length)
}

impl Body for Parquet {
    fn part_bytes(&self) -> Vec<u64> {
        let size = |group: &RowGroupMetaData| u64::try_from(group.compressed_size()).unwrap_or(0);
        self.metadata.row_groups().iter().map(size).collect()
    }

    fn first_row(&self, part: usize) -> u64 {
        self.metadata.row_groups()[..part].iter().map(|group| group.num_rows() as u64).sum()
    }

    fn read(&self, found: &FoundFile, file: &Positioned, part: usize, each: &mut Each<'_>) -> Result<(), DatasetError> {
        let group = self.metadata.row_group(part);
        let mut seen = 0;
        guarded(found, FORMAT, || {
            let pages = OneGroup::new(Arc::new(file.with_buffers(&self.spare)), Arc::clone(&self.metadata), part);
            let reader = ParquetRecordBatchReader::try_new_with_row_groups(&self.levels, &pages, self.batch_rows(group), None);
            for batch in reader.map_err(wrong(found))? {
                let batch = batch.map_err(|error| wrong(found)(error.into()))?;
                seen += batch.num_rows() as u64;
                each(&batch)?;
            }
            Ok(())
        })?;
        if i64::try_from(seen) == Ok(group.num_rows()) {
            return Ok(());
        }
        Err(unfit(found, FORMAT, format!("a row group has {seen} rows, and says that it has {}", group.num_rows())))
    }
}

/// An error of the library, or of reading the file below it.
fn wrong(found: &FoundFile) -> impl Fn(ParquetError) -> DatasetError + '_ {
    move |error| match error {
        ParquetError::External(error) => match error.downcast::<std::io::Error>() {
            Ok(error) if error.raw_os_error().is_some() => unreadable(found)(*error),
            Ok(error) => malformed(found, FORMAT)(error),
            Err(error) => malformed(found, FORMAT)(error),
        },
        error => malformed(found, FORMAT)(error),
    }
}

/// A field whose text and bytes are read as views; dictionaries are what they stand for.
fn as_views(field: &FieldRef) -> FieldRef {
    let data_type = viewed(field.data_type());
    if data_type == *field.data_type() { Arc::clone(field) } else { Arc::new(Field::clone(field).with_data_type(data_type)) }
}

fn viewed(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::Dictionary(_, value) => viewed(value),
        DataType::List(item) => DataType::List(as_views(item)),
        DataType::LargeList(item) => DataType::LargeList(as_views(item)),
        DataType::ListView(item) => DataType::ListView(as_views(item)),
        DataType::LargeListView(item) => DataType::LargeListView(as_views(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(as_views(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(as_views).collect()),
        DataType::Map(entries, sorted) => DataType::Map(as_views(entries), *sorted),
        other => other.clone(),
    }
}
