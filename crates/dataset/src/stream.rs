//! Rows that come as an Arrow stream in memory: how another library hands over its columns, copied, and checked as they are read.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_schema::SchemaRef;
use sentry_manifest::printable;

use crate::DatasetError;

/// Reads all batches of a stream.
///
/// # Errors
/// [`DatasetError::Malformed`].
pub fn read_stream(bytes: &[u8]) -> Result<(SchemaRef, Vec<RecordBatch>), DatasetError> {
    let wrong = |reason: String| DatasetError::Malformed { file: "the batch".to_owned(), format: "Arrow", reason };
    let read = || {
        let reader = StreamReader::try_new(bytes, None)?;
        let schema = reader.schema();
        Ok::<_, arrow_schema::ArrowError>((schema, reader.collect::<Result<Vec<_>, _>>()?))
    };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|error| wrong(printable(&error.to_string()))),
        Err(_) => Err(wrong("its reader gives up".to_owned())),
    }
}
