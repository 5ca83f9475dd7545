//! CSV: a header, and then text that may be numbers.
//!
//! A column is of integers or floats only if every value is spelled as we would print it; else it is text, as it stands. So no two spellings
//! are one sample. An empty value is none.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, NullArray, RecordBatch, StringArray};
use arrow_csv::ReaderBuilder;
use arrow_csv::reader::Format;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use sentry_manifest::{DatasetField, FoundFile, ModelTree, printable};

use super::super::positioned::{Positioned, guarded, malformed, unfit, with_file};
use super::{BATCH_ROWS, Body, Each, schema_of};
use crate::DatasetError;

const FORMAT: &str = "CSV";

struct Csv {
    /// As it is read: all text.
    text: SchemaRef,
    /// As it is signed.
    typed: SchemaRef,
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
    let mut all: Option<Vec<(String, Kind)>> = None;
    for found in files {
        let own = with_file(tree, found, |file| infer(found, file))?;
        match &mut all {
            None => all = Some(own),
            Some(all) if all.iter().map(|(name, _)| name).eq(own.iter().map(|(name, _)| name)) => {
                all.iter_mut().zip(own).for_each(|((_, kind), (_, other))| *kind = kind.with(other));
            }
            Some(_) => {
                let reason = format!("\"{}\" has other columns than the files before it", printable(found.path.as_str()));
                return Err(DatasetError::Layout { reason });
            }
        }
    }
    let fields = all.unwrap_or_default().into_iter().map(|(name, kind)| Field::new(name, kind.data_type(), true));
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

pub fn open(found: &FoundFile, file: &Positioned, shared: &SchemaRef) -> Result<(SchemaRef, Box<dyn Body>), DatasetError> {
    let names = header(found, file)?;
    let typed = names.iter().map(|name| match shared.field_with_name(name) {
        Ok(field) => field.clone(),
        // A column that was not signed: the fields will be found to differ.
        Err(_) => Field::new(name, DataType::Utf8, true),
    });
    let typed: SchemaRef = Arc::new(Schema::new(typed.collect::<Vec<_>>()));
    let text = all_text(&names);
    Ok((Arc::clone(&typed), Box::new(Csv { text, typed, size: found.size })))
}

fn all_text(names: &[String]) -> SchemaRef {
    Arc::new(Schema::new(names.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect::<Vec<_>>()))
}

fn header(found: &FoundFile, file: &Positioned) -> Result<Vec<String>, DatasetError> {
    guarded(found, FORMAT, || {
        let (schema, _) = Format::default().with_header(true).infer_schema(file.clone(), Some(0)).map_err(malformed(found, FORMAT))?;
        if schema.fields().is_empty() {
            return Err(unfit(found, FORMAT, "it has no header"));
        }
        Ok(schema.fields().iter().map(|field| field.name().clone()).collect())
    })
}

/// What the values of a column can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Empty,
    Integer,
    Float,
    Text,
}

impl Kind {
    fn of(text: &str) -> Self {
        if integer(text).is_some() {
            Self::Integer
        } else if float(text).is_some() {
            Self::Float
        } else {
            Self::Text
        }
    }

    /// What the values of both can be: whole numbers are spelled in another way among floats.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Empty, kind) | (kind, Self::Empty) => kind,
            (one, other) if one == other => one,
            _ => Self::Text,
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Empty => DataType::Null,
            Self::Integer => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Text => DataType::Utf8,
        }
    }
}

/// A whole number, spelled as it is printed.
fn integer(text: &str) -> Option<i64> {
    text.parse().ok().filter(|number: &i64| number.to_string() == text)
}

/// A float, spelled as it is printed: always with a point or an exponent, which tells it from a whole number.
fn float(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && print(*number) == text)
}

/// The shortest digits that are this float and no other, as Python's `repr` writes them, and so most of those who write CSV.
fn print(number: f64) -> String {
    let shortest = format!("{number:?}");
    match shortest.split_once('e') {
        None => shortest,
        Some((digits, exponent)) => match exponent.strip_prefix('-') {
            Some(exponent) => format!("{digits}e-{exponent:0>2}"),
            None => format!("{digits}e+{exponent:0>2}"),
        },
    }
}

fn infer(found: &FoundFile, file: &Positioned) -> Result<Vec<(String, Kind)>, DatasetError> {
    let names = header(found, file)?;
    let mut kinds = vec![Kind::Empty; names.len()];
    read_text(found, file, &all_text(&names), &mut |batch| {
        for (kind, column) in kinds.iter_mut().zip(batch.columns()) {
            for text in column.as_string::<i32>().iter().flatten() {
                if *kind == Kind::Text {
                    break;
                }
                *kind = kind.with(Kind::of(text));
            }
        }
        Ok(())
    })?;
    Ok(names.into_iter().zip(kinds).collect())
}

fn read_text(found: &FoundFile, file: &Positioned, schema: &SchemaRef, each: &mut Each<'_>) -> Result<(), DatasetError> {
    guarded(found, FORMAT, || {
        let builder = ReaderBuilder::new(Arc::clone(schema)).with_header(true).with_batch_size(BATCH_ROWS);
        let mut reader = builder.build(file.clone()).map_err(malformed(found, FORMAT))?;
        reader.try_for_each(|batch| each(&batch.map_err(malformed(found, FORMAT))?))
    })
}

impl Body for Csv {
    fn part_bytes(&self) -> Vec<u64> {
        vec![self.size]
    }

    fn first_row(&self, _: usize) -> u64 {
        0
    }

    fn read(&self, found: &FoundFile, file: &Positioned, _: usize, each: &mut Each<'_>) -> Result<(), DatasetError> {
        read_text(found, file, &self.text, &mut |batch| {
            let typed = |(field, column): (&Arc<Field>, &ArrayRef)| {
                let text = column.as_string::<i32>();
                convert(text, field.data_type()).map_err(|value| {
                    let what =
                        format!("column \"{}\" has \"{}\", which is no {}", printable(field.name()), printable(&value), field.data_type());
                    unfit(found, FORMAT, what)
                })
            };
            let columns = self.typed.fields().iter().zip(batch.columns()).map(typed).collect::<Result<_, _>>()?;
            each(&RecordBatch::try_new(Arc::clone(&self.typed), columns).map_err(malformed(found, FORMAT))?)
        })
    }
}

/// Text as values of a type; the first that is none comes back otherwise.
fn convert(text: &StringArray, data_type: &DataType) -> Result<ArrayRef, String> {
    let first_wrong =
        |is_right: fn(&str) -> bool| text.iter().flatten().find(|text| !is_right(text)).map_or(Ok(()), |text| Err(text.to_owned()));
    Ok(match data_type {
        DataType::Int64 => {
            first_wrong(|text| integer(text).is_some())?;
            Arc::new(text.iter().map(|text| text.and_then(integer)).collect::<Int64Array>())
        }
        DataType::Float64 => {
            first_wrong(|text| float(text).is_some())?;
            Arc::new(text.iter().map(|text| text.and_then(float)).collect::<Float64Array>())
        }
        DataType::Null => {
            first_wrong(|_| false)?;
            Arc::new(NullArray::new(text.len()))
        }
        DataType::Utf8 => Arc::new(text.clone()),
        // Signed from elsewhere: the types will be found to differ, for this is what can be read here.
        other => return Err(format!("text where {other} was signed")),
    })
}
