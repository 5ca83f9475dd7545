//! JSON Lines: an object a line, whose values are of one type in all lines.

use std::io::BufReader;
use std::sync::Arc;

use arrow_json::ReaderBuilder;
use arrow_json::reader::infer_json_schema;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use sentry_manifest::{DatasetField, FoundFile, ModelTree, printable};

use super::super::positioned::{Positioned, guarded, malformed, with_file};
use super::{BATCH_ROWS, Body, Each, schema_of};
use crate::DatasetError;

const FORMAT: &str = "JSON Lines";

struct Jsonl {
    schema: SchemaRef,
    size: u64,
}

/// The types that fit all files, unless they are known.
pub fn types<'a>(
    tree: &ModelTree,
    files: impl Iterator<Item = &'a FoundFile>,
    known: Option<&[DatasetField]>,
) -> Result<SchemaRef, DatasetError> {
    if let Some(schema) = known.and_then(schema_of) {
        return Ok(Arc::new(schema));
    }
    let mut all: Option<Schema> = None;
    for found in files {
        let own = with_file(tree, found, |file| {
            guarded(found, FORMAT, || {
                let (schema, _) = infer_json_schema(BufReader::new(file.clone()), None).map_err(malformed(found, FORMAT))?;
                Ok(schema)
            })
        })?;
        all = Some(match all {
            None => own,
            Some(all) => unite(&all, &own).ok_or_else(|| {
                let reason = format!("\"{}\" has values of other types than the files before it", printable(found.path.as_str()));
                DatasetError::Layout { reason }
            })?,
        });
    }
    Ok(Arc::new(all.unwrap_or_else(Schema::empty)))
}

/// The fields of both; a field without any value in one has the other's type.
fn unite(one: &Schema, other: &Schema) -> Option<Schema> {
    let mut fields: Vec<Field> = Vec::new();
    for field in one.fields() {
        fields.push(match other.field_with_name(field.name()) {
            Ok(theirs) if field.data_type() == &DataType::Null => theirs.clone(),
            Ok(theirs) if theirs.data_type() == field.data_type() || theirs.data_type() == &DataType::Null => Field::clone(field),
            Ok(_) => return None,
            Err(_) => Field::clone(field),
        });
    }
    let news = other.fields().iter().filter(|field| one.field_with_name(field.name()).is_err());
    fields.extend(news.map(|field| Field::clone(field)));
    Some(Schema::new(fields))
}

pub fn open(found: &FoundFile, shared: &SchemaRef) -> (SchemaRef, Box<dyn Body>) {
    (Arc::clone(shared), Box::new(Jsonl { schema: Arc::clone(shared), size: found.size }))
}

impl Body for Jsonl {
    fn part_bytes(&self) -> Vec<u64> {
        vec![self.size]
    }

    fn read(&self, found: &FoundFile, file: &Positioned, _: usize, each: &mut Each<'_>) -> Result<(), DatasetError> {
        guarded(found, FORMAT, || {
            let builder = ReaderBuilder::new(Arc::clone(&self.schema)).with_strict_mode(true).with_batch_size(BATCH_ROWS);
            let mut reader = builder.build(BufReader::new(file.clone())).map_err(malformed(found, FORMAT))?;
            reader.try_for_each(|batch| each(&batch.map_err(malformed(found, FORMAT))?))
        })
    }
}
