//! Parquet: a row group is a part.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use sentry_manifest::FoundFile;

use super::super::positioned::{Positioned, guarded, malformed, unfit};
use super::{BATCH_BYTES, BATCH_ROWS, Body, Each};
use crate::DatasetError;

const FORMAT: &str = "Parquet";

struct Parquet {
    metadata: ArrowReaderMetadata,
}

pub fn open(found: &FoundFile, file: &Positioned) -> Result<(SchemaRef, Box<dyn Body>), DatasetError> {
    let metadata = guarded(found, FORMAT, || ArrowReaderMetadata::load(file, ArrowReaderOptions::new()).map_err(malformed(found, FORMAT)))?;
    Ok((Arc::clone(metadata.schema()), Box::new(Parquet { metadata })))
}

impl Body for Parquet {
    fn part_bytes(&self) -> Vec<u64> {
        let size = |group: &parquet::file::metadata::RowGroupMetaData| u64::try_from(group.compressed_size()).unwrap_or(0);
        self.metadata.metadata().row_groups().iter().map(size).collect()
    }

    fn read(&self, found: &FoundFile, file: &Positioned, part: usize, each: &mut Each<'_>) -> Result<(), DatasetError> {
        let group = self.metadata.metadata().row_group(part);
        let rows = u64::try_from(group.num_rows()).unwrap_or(0).max(1);
        let row_bytes = (u64::try_from(group.total_byte_size()).unwrap_or(0) / rows).max(1);
        let batch_rows = (BATCH_BYTES / row_bytes).clamp(1, BATCH_ROWS as u64) as usize;
        let mut seen = 0;
        guarded(found, FORMAT, || {
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), self.metadata.clone());
            let reader = builder.with_row_groups(vec![part]).with_batch_size(batch_rows).build().map_err(malformed(found, FORMAT))?;
            for batch in reader {
                let batch = batch.map_err(malformed(found, FORMAT))?;
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
