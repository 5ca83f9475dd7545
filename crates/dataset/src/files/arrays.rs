//! NumPy's `.npy` files: each is a field, and its first dimension counts samples. Pickles are never read.

use std::collections::BTreeMap;

use npyz::{DType, NpyHeader, Order, TypeChar};
use sentry_manifest::limits::MAX_DIMENSIONS;
use sentry_manifest::safetensors::Dtype;
use sentry_manifest::{DatasetField, FoundFile, IdRule, ModelTree, printable};

use super::layout::{Group, is_split};
use super::positioned::{Positioned, guarded, malformed, unfit, unreadable, with_file};
use super::{SampleFile, Sink, SourceFile};
use crate::{DatasetError, FieldValues, Row, Samples};

const FORMAT: &str = "npy";

/// The array that holds the ids.
const ID: &str = "id";

/// Bytes of all fields that one thread reads at a time, at least one sample.
const PART_BYTES: u64 = 8 << 20;

/// Longest header, with its magic; NumPy itself refuses longer ones than 10,000 bytes.
const MAX_HEADER: usize = 1 << 16;

/// Arrays with one first dimension.
struct Arrays {
    name: String,
    arrays: Vec<Array>,
    fields: Vec<DatasetField>,
    ids: IdRule,
    samples: u64,
    /// Samples of a part.
    step: u64,
}

struct Array {
    found: FoundFile,
    field: String,
    dtype: Dtype,
    /// Of one sample.
    shape: Vec<u64>,
    /// Bytes of one sample, and of one number in it.
    sample_bytes: u64,
    number_bytes: usize,
    is_big_endian: bool,
    /// Where the data begin.
    start: u64,
    samples: u64,
}

/// Opens the arrays of all sources; those of one folder belong together.
pub fn open(tree: &ModelTree, groups: Vec<Group>) -> Result<Vec<SourceFile>, DatasetError> {
    let mut opened = Vec::new();
    for group in groups {
        let mut folders: BTreeMap<String, Vec<Array>> = BTreeMap::new();
        for found in group.files {
            let folder = found.path.as_str().rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
            folders.entry(folder).or_default().push(Array::open(tree, found)?);
        }
        for arrays in folders.into_values() {
            opened.push(SourceFile { source: group.source.clone(), samples: Box::new(Arrays::new(arrays)?) });
        }
    }
    Ok(opened)
}

impl Array {
    fn open(tree: &ModelTree, found: FoundFile) -> Result<Self, DatasetError> {
        let header = with_file(tree, &found, |file| guarded(&found, FORMAT, || read_header(&found, file)))?;
        let (header, start) = header;
        let wrong = |reason: String| unfit(&found, FORMAT, reason);
        let DType::Plain(kind) = header.dtype() else { return Err(wrong("its elements are structures".to_owned())) };
        if kind.uses_pickled_array() {
            return Err(wrong("its elements are Python objects, which nobody loads from an unverified file".to_owned()));
        }
        let name = match (kind.type_char(), kind.size_field()) {
            (TypeChar::Bool, 1) => "BOOL",
            (TypeChar::Int, 1) => "I8",
            (TypeChar::Int, 2) => "I16",
            (TypeChar::Int, 4) => "I32",
            (TypeChar::Int, 8) => "I64",
            (TypeChar::Uint, 1) => "U8",
            (TypeChar::Uint, 2) => "U16",
            (TypeChar::Uint, 4) => "U32",
            (TypeChar::Uint, 8) => "U64",
            (TypeChar::Float, 2) => "F16",
            (TypeChar::Float, 4) => "F32",
            (TypeChar::Float, 8) => "F64",
            (TypeChar::Complex, 8) => "C64",
            _ => return Err(wrong(format!("elements of type {kind} cannot be signed"))),
        };
        let [samples, shape @ ..] = header.shape() else { return Err(wrong("it has no dimension that could count samples".to_owned())) };
        if shape.len() > MAX_DIMENSIONS {
            return Err(wrong(format!("it has more than {MAX_DIMENSIONS} dimensions")));
        }
        if header.order() == Order::Fortran && header.shape().len() > 1 {
            return Err(wrong("it is in Fortran order, in which no sample lies together: save it in C order".to_owned()));
        }
        let dtype = Dtype::from_name(name).expect("a type of the format");
        let sample_bytes = dtype.size_of(shape).ok_or_else(|| wrong("its shape is too large".to_owned()))?;
        if sample_bytes == 0 {
            return Err(wrong("its samples have no bytes".to_owned()));
        }
        let end = sample_bytes.checked_mul(*samples).and_then(|length| length.checked_add(start));
        if end != Some(found.size) {
            return Err(wrong(format!(
                "its shape and type need {} bytes, and it has {}",
                end.map_or("too many".to_owned(), |end| end.to_string()),
                found.size
            )));
        }
        let (samples, shape) = (*samples, shape.to_vec());
        // A complex number is two numbers.
        let number_bytes = if name == "C64" { 4 } else { kind.size_field() as usize };
        let is_big_endian = kind.endianness() == npyz::Endianness::Big;
        let field = field_of(found.path.as_str());
        Ok(Self { field, dtype, shape, sample_bytes, number_bytes, is_big_endian, start, samples, found })
    }

    /// The signed type. A number of each sample is one like in a table.
    fn arrow_type(&self) -> String {
        let name = match self.dtype.name() {
            "BOOL" => "Boolean".to_owned(),
            "C64" => "Complex64".to_owned(),
            name => {
                let kind = match name.as_bytes()[0] {
                    b'I' => "Int",
                    b'U' => "UInt",
                    _ => "Float",
                };
                format!("{kind}{}", &name[1..])
            }
        };
        if self.shape.is_empty() && name != "Complex64" { name } else { format!("FixedShapeTensor({name}, {:?})", self.shape) }
    }

    fn read(&self, tree: &ModelTree, first: u64, samples: u64) -> Result<Vec<u8>, DatasetError> {
        let length = usize::try_from(samples * self.sample_bytes).unwrap_or(usize::MAX);
        let read = |file: &Positioned| file.bytes(self.start + first * self.sample_bytes, length).map_err(unreadable(&self.found));
        let mut bytes = with_file(tree, &self.found, read)?;
        if self.is_big_endian {
            bytes.chunks_exact_mut(self.number_bytes).for_each(<[u8]>::reverse);
        }
        Ok(bytes)
    }
}

/// The header, and where the data begin.
fn read_header(found: &FoundFile, file: &Positioned) -> Result<(NpyHeader, u64), DatasetError> {
    let head = file.bytes(0, found.size.min(MAX_HEADER as u64) as usize).map_err(unreadable(found))?;
    let mut rest = &head[..];
    let header = NpyHeader::from_reader(&mut rest).map_err(malformed(found, FORMAT))?;
    Ok((header, (head.len() - rest.len()) as u64))
}

/// The name of the field: that of the file, without the split.
fn field_of(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let words: Vec<&str> = stem.split('_').filter(|word| !is_split(word)).collect();
    if words.is_empty() { stem.to_owned() } else { words.join("_") }
}

impl Arrays {
    fn new(mut arrays: Vec<Array>) -> Result<Self, DatasetError> {
        arrays.sort_unstable_by(|one, other| one.field.as_bytes().cmp(other.field.as_bytes()));
        let layout = |reason: String| Err(DatasetError::Layout { reason });
        let name = |array: &Array| printable(array.found.path.as_str());
        if let Some(pair) = arrays.windows(2).find(|pair| pair[0].field == pair[1].field) {
            return layout(format!("\"{}\" and \"{}\" are the same field", name(&pair[0]), name(&pair[1])));
        }
        let samples = arrays[0].samples;
        if let Some(other) = arrays.iter().find(|array| array.samples != samples) {
            return layout(format!("\"{}\" has {samples} samples and \"{}\" has {}", name(&arrays[0]), name(other), other.samples));
        }
        let ids = match arrays.iter().find(|array| array.field == ID) {
            None => IdRule::Ordinal,
            Some(array) if array.shape.is_empty() && matches!(array.dtype.name().as_bytes()[0], b'I' | b'U') => {
                IdRule::Column(ID.to_owned())
            }
            Some(array) => return layout(format!("\"{}\" holds no integers that could be ids", name(array))),
        };
        let fields = arrays.iter().map(|array| DatasetField { name: array.field.clone(), arrow_type: array.arrow_type() }).collect();
        let bytes = arrays.iter().fold(0_u64, |sum, array| sum.saturating_add(array.sample_bytes));
        let step = (PART_BYTES / bytes.max(1)).max(1);
        Ok(Self { name: arrays[0].found.path.as_str().to_owned(), arrays, fields, ids, samples, step })
    }
}

impl SampleFile for Arrays {
    fn name(&self) -> &str {
        &self.name
    }

    fn fields(&self) -> &[DatasetField] {
        &self.fields
    }

    fn ids(&self) -> &IdRule {
        &self.ids
    }

    fn part_bytes(&self) -> Vec<u64> {
        let bytes: u64 = self.arrays.iter().map(|array| array.sample_bytes).sum();
        (0..self.samples)
            .step_by(usize::try_from(self.step).unwrap_or(usize::MAX))
            .map(|first| bytes * self.step.min(self.samples - first))
            .collect()
    }

    fn read(&self, tree: &ModelTree, part: usize, _: &[DatasetField], sink: &mut Sink<'_>) -> Result<(), DatasetError> {
        let first = part as u64 * self.step;
        let samples = self.step.min(self.samples - first);
        let bodies: Vec<Vec<u8>> = self.arrays.iter().map(|array| array.read(tree, first, samples)).collect::<Result<_, _>>()?;
        let columns = self.arrays.iter().zip(&bodies);
        let columns = columns.map(|(array, bytes)| {
            (array.field.as_str(), FieldValues::Tensors { dtype: array.dtype, shape: &array.shape, bytes: bytes.as_slice() })
        });
        let digests = Samples::new(samples as usize, columns.collect())?.digests()?;
        let ids = match self.arrays.iter().zip(&bodies).find(|(array, _)| array.field == ID) {
            Some((array, bytes)) => Some(ids(array, bytes)?),
            None => None,
        };
        let row = |(row, digest)| Row { source: None, id: ids.as_ref().map(|ids| ids[row]), digest };
        sink(digests.into_iter().enumerate().map(row).collect())
    }
}

/// The ids in an array of integers.
fn ids(array: &Array, bytes: &[u8]) -> Result<Vec<u64>, DatasetError> {
    let is_signed = array.dtype.name().starts_with('I');
    let id = |number: &[u8]| {
        let is_negative = is_signed && number.last().is_some_and(|&highest| highest >= 0x80);
        if is_negative {
            let reason = "an id is negative".to_owned();
            return Err(DatasetError::Column { column: ID.to_owned(), reason });
        }
        Ok(number.iter().rev().fold(0_u64, |id, &byte| id << 8 | u64::from(byte)))
    };
    bytes.chunks_exact(array.number_bytes).map(id).collect()
}
