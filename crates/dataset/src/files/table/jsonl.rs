//! JSON Lines: an object a line, whose values are of one type in all lines.
//!
//! Nothing is made to fit: a key that occurs twice, values of different types, or a number that no 64 bits hold are errors. Only whole
//! numbers among floats are floats, as long as they are the same number. A key that a line lacks is null.

mod types;
mod value;

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_schema::SchemaRef;
use sentry_manifest::{DatasetField, FoundFile, ModelTree};

use super::super::positioned::{Positioned, malformed, unfit, unreadable, with_file};
use super::{BATCH_BYTES, BATCH_ROWS, Body, Each, schema_of};
use crate::DatasetError;
use types::Type;
use value::Json;

const FORMAT: &str = "JSON Lines";

/// Longest line in bytes: its values are held in memory.
const MAX_LINE: u64 = 1 << 28;

struct Jsonl {
    line: Type,
    schema: SchemaRef,
    size: u64,
}

/// The types that fit all files, unless they are known.
pub fn types<'a>(
    tree: &ModelTree,
    files: impl Iterator<Item = &'a FoundFile>,
    known: Option<&[DatasetField]>,
) -> Result<SchemaRef, DatasetError> {
    // Types that JSON has not are found to differ from those that are inferred.
    if let Some(schema) = known.and_then(schema_of).filter(|schema| Type::of_line(schema).is_some()) {
        return Ok(Arc::new(schema));
    }
    let mut line = Type::Null;
    for found in files {
        with_file(tree, found, |file| each_line(found, file, &mut |object| line.add(&object)))?;
    }
    Ok(Arc::new(line.schema()))
}

pub fn open(found: &FoundFile, shared: &SchemaRef) -> (SchemaRef, Box<dyn Body>) {
    let line = Type::of_line(shared).unwrap_or(Type::Null);
    (Arc::clone(shared), Box::new(Jsonl { line, schema: Arc::clone(shared), size: found.size }))
}

impl Body for Jsonl {
    fn part_bytes(&self) -> Vec<u64> {
        vec![self.size]
    }

    fn first_row(&self, _: usize) -> u64 {
        0
    }

    fn read(&self, found: &FoundFile, file: &Positioned, _: usize, each: &mut Each<'_>) -> Result<(), DatasetError> {
        let mut lines: Vec<Json> = Vec::new();
        let mut bytes = 0;
        let mut failed = None;
        let all = each_line_of(found, file, &mut |object, length| {
            self.line.check(&object)?;
            lines.push(object);
            bytes += length;
            if lines.len() == BATCH_ROWS || bytes >= BATCH_BYTES {
                failed = self.batch(found, &lines).and_then(|batch| each(&batch)).err();
                lines.clear();
                bytes = 0;
            }
            if failed.is_some() { Err(String::new()) } else { Ok(()) }
        });
        match failed {
            Some(error) => return Err(error),
            None => all?,
        }
        if lines.is_empty() { Ok(()) } else { each(&self.batch(found, &lines)?) }
    }
}

impl Jsonl {
    fn batch(&self, found: &FoundFile, lines: &[Json]) -> Result<RecordBatch, DatasetError> {
        let array = self.line.array(&lines.iter().map(Some).collect::<Vec<_>>()).map_err(malformed(found, FORMAT))?;
        let columns = array.as_struct_opt().map(|line| line.columns().to_vec()).unwrap_or_default();
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(lines.len()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(malformed(found, FORMAT))
    }
}

/// Takes the objects of all lines, and says which line is wrong.
fn each_line(found: &FoundFile, file: &Positioned, take: &mut dyn FnMut(Json) -> Result<(), String>) -> Result<(), DatasetError> {
    each_line_of(found, file, &mut |object, _| take(object))
}

/// As [`each_line`], with the length of each.
fn each_line_of(found: &FoundFile, file: &Positioned, take: &mut dyn FnMut(Json, u64) -> Result<(), String>) -> Result<(), DatasetError> {
    let mut reader = BufReader::with_capacity(1 << 16, file.clone());
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read: io::Result<usize> = reader.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut line);
        if read.map_err(unreadable(found))? == 0 {
            break;
        }
        let wrong = |reason: String| unfit(found, FORMAT, format!("line {number}: {reason}"));
        if line.len() as u64 > MAX_LINE {
            return Err(wrong(format!("it is longer than {MAX_LINE} bytes")));
        }
        let object = Json::parse_line(&line).map_err(wrong)?;
        take(object, line.len() as u64).map_err(wrong)?;
    }
    Ok(())
}
