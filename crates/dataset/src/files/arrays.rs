//! NumPy's `.npy` files: each is a field, and its first dimension counts samples. Pickles are never read.

mod header;

use std::collections::BTreeMap;

use sentry_hash::{Algorithm, Hasher};
use sentry_manifest::record::{Kind, MAX_INLINE, Value};
use sentry_manifest::safetensors::Dtype;
use sentry_manifest::{DatasetField, FoundFile, IdRule, ModelTree, printable};

use super::layout::{Group, is_split};
use super::positioned::{LONGEST_HELD, Positioned, unfit, unreadable, with_file};
use super::{ReadOptions, SampleFile, Sink, SourceFile};
use crate::{DatasetError, FieldValues, Row, Samples};
use header::{Header, MAX_HEADER, MAX_START};

const FORMAT: &str = "npy";

/// The array that holds the ids, unless the signer names one.
const ID: &str = "id";

/// Bytes of all fields that one thread reads at a time, at least one sample.
const PART_BYTES: u64 = 8 << 20;

/// Arrays with one first dimension.
struct Arrays {
    name: String,
    arrays: Vec<Array>,
    fields: Vec<DatasetField>,
    ids: IdRule,
    samples: u64,
    /// Samples of a part.
    step: u64,
    /// Bytes of one sample in all arrays.
    sample_bytes: u64,
}

struct Array {
    found: FoundFile,
    field: String,
    header: Header,
    /// Of one sample.
    shape: Vec<u64>,
    /// Bytes of one sample.
    sample_bytes: u64,
    samples: u64,
}

/// What an array has of some samples.
enum Body {
    /// The elements of all of them.
    Held(Vec<u8>),
    /// Digests of their elements, one by one.
    Hashed(Vec<[u8; 32]>),
}

/// Opens the arrays of all sources; those of one folder belong together.
pub fn open(tree: &ModelTree, groups: Vec<Group>, options: &ReadOptions) -> Result<Vec<SourceFile>, DatasetError> {
    let mut opened = Vec::new();
    for group in groups {
        let mut folders: BTreeMap<String, Vec<Array>> = BTreeMap::new();
        for found in group.files {
            let folder = found.path.as_str().rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
            folders.entry(folder).or_default().push(Array::open(tree, found)?);
        }
        for arrays in folders.into_values() {
            opened.push(SourceFile { source: group.source.clone(), samples: Box::new(Arrays::new(arrays, options.ids.as_ref())?) });
        }
    }
    Ok(opened)
}

impl Array {
    fn open(tree: &ModelTree, found: FoundFile) -> Result<Self, DatasetError> {
        let length = found.size.min((MAX_START + MAX_HEADER) as u64) as usize;
        let head = with_file(tree, &found, |file| file.bytes(0, length).map_err(unreadable(&found)))?;
        let wrong = |reason: String| unfit(&found, FORMAT, reason);
        let header = Header::parse(&head).map_err(wrong)?;
        let [samples, shape @ ..] = header.shape.as_slice() else {
            return Err(wrong("it has no dimension that could count samples".to_owned()));
        };
        if header.is_fortran && !shape.is_empty() {
            return Err(wrong("it is in Fortran order, in which no sample lies together: save it in C order".to_owned()));
        }
        let sample_bytes = header.dtype.size_of(shape).ok_or_else(|| wrong("its shape is too large".to_owned()))?;
        if sample_bytes == 0 {
            return Err(wrong("its samples have no bytes".to_owned()));
        }
        let end = sample_bytes.checked_mul(*samples).and_then(|length| length.checked_add(header.start));
        if end != Some(found.size) {
            let needed = end.map_or("too many".to_owned(), |end| end.to_string());
            return Err(wrong(format!("its shape and type need {needed} bytes, and it has {}", found.size)));
        }
        let field = field_of(found.path.as_str());
        Ok(Self { field, shape: shape.to_vec(), sample_bytes, samples: *samples, header, found })
    }

    fn dtype(&self) -> Dtype {
        self.header.dtype
    }

    /// The signed type. A number of each sample is one like in a table.
    fn arrow_type(&self) -> String {
        let name = match self.dtype().name() {
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

    /// Whether its elements are integers, one of each sample.
    fn may_be_ids(&self) -> bool {
        self.shape.is_empty() && matches!(self.dtype().name().as_bytes()[0], b'I' | b'U')
    }

    /// Bytes of a number, of which a complex one is two.
    fn number_bytes(&self) -> usize {
        if self.dtype().name() == "C64" { 4 } else { self.dtype().size_of(&[]).unwrap_or(1) as usize }
    }

    /// Reads some samples, and holds them if one is short and there is `room`.
    fn read(&self, tree: &ModelTree, first: u64, samples: u64, room: u64) -> Result<Body, DatasetError> {
        let length = samples.saturating_mul(self.sample_bytes);
        let begin = self.header.start + first * self.sample_bytes;
        with_file(tree, &self.found, |file| {
            if self.sample_bytes <= MAX_INLINE || (self.sample_bytes <= LONGEST_HELD && length <= room) {
                return self.elements(file, begin, length).map(Body::Held);
            }
            let hashed = |sample| self.hash(file, first + sample, begin + sample * self.sample_bytes);
            (0..samples).map(hashed).collect::<Result<_, _>>().map(Body::Hashed)
        })
    }

    /// Elements as they are in a record: little-endian.
    fn elements(&self, file: &Positioned, offset: u64, length: u64) -> Result<Vec<u8>, DatasetError> {
        let mut bytes = file.bytes(offset, usize::try_from(length).unwrap_or(usize::MAX)).map_err(unreadable(&self.found))?;
        if self.header.is_big_endian {
            bytes.chunks_exact_mut(self.number_bytes()).for_each(<[u8]>::reverse);
        }
        Ok(bytes)
    }

    /// The digest of a long sample, of which a piece is held at a time. A piece has whole numbers.
    fn hash(&self, file: &Positioned, sample: u64, offset: u64) -> Result<[u8; 32], DatasetError> {
        let mut hasher = Hasher::new(Algorithm::Blake3);
        let mut done = 0;
        while done < self.sample_bytes {
            let piece = self.elements(file, offset + done, (self.sample_bytes - done).min(LONGEST_HELD))?;
            let place = || format!("\"{}\"", printable(self.found.path.as_str()));
            let wrong = |source| DatasetError::Record { place: place(), sample, source };
            Kind::Tensor(self.dtype()).check_bytes(&piece).map_err(wrong)?;
            hasher.update(&piece);
            done += piece.len() as u64;
        }
        Ok(*hasher.finish().as_bytes().first_chunk().expect("a BLAKE3 digest has 32 bytes"))
    }

    fn values<'a>(&'a self, body: &'a Body) -> FieldValues<'a> {
        let hashed = |digest: &[u8; 32]| Value::Hashed {
            kind: Kind::Tensor(self.dtype()),
            shape: &self.shape,
            length: self.sample_bytes,
            digest: *digest,
        };
        match body {
            Body::Held(bytes) => FieldValues::Tensors { dtype: self.dtype(), shape: &self.shape, bytes },
            Body::Hashed(digests) => FieldValues::Values(digests.iter().map(hashed).collect()),
        }
    }

    /// The ids in an array of integers, of which the first is that of sample `first`.
    fn ids(&self, bytes: &[u8], first: u64) -> Result<Vec<u64>, DatasetError> {
        let is_signed = self.dtype().name().starts_with('I');
        let id = |(number, bytes): (u64, &[u8])| {
            let is_negative = is_signed && bytes.last().is_some_and(|&highest| highest >= 0x80);
            let fill = if is_negative { u64::MAX } else { 0 };
            let id = bytes.iter().rev().fold(fill, |id, &byte| id << 8 | u64::from(byte));
            if !is_negative {
                return Ok(id);
            }
            let reason = format!("row {} has the id {}, and ids are not negative", first + number, id as i64);
            Err(DatasetError::Column { column: printable(&self.field), reason })
        };
        (0..).zip(bytes.chunks_exact(self.number_bytes())).map(id).collect()
    }
}

/// The name of the field: that of the file, without the split.
fn field_of(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let words: Vec<&str> = stem.split('_').filter(|word| !is_split(word)).collect();
    if words.is_empty() { stem.to_owned() } else { words.join("_") }
}

impl Arrays {
    fn new(mut arrays: Vec<Array>, wanted: Option<&IdRule>) -> Result<Self, DatasetError> {
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
        let ids = ids_of(&arrays, wanted)?;
        let fields = arrays.iter().map(|array| DatasetField { name: array.field.clone(), arrow_type: array.arrow_type() }).collect();
        // All arrays together are no longer than their files.
        let sample_bytes = arrays.iter().fold(0_u64, |sum, array| sum.saturating_add(array.sample_bytes));
        let step = (PART_BYTES / sample_bytes).max(1);
        Ok(Self { name: arrays[0].found.path.as_str().to_owned(), arrays, fields, ids, samples, step, sample_bytes })
    }
}

/// Where ids come from: the array that is named, else one of the name `id`, else the number of the row.
fn ids_of(arrays: &[Array], wanted: Option<&IdRule>) -> Result<IdRule, DatasetError> {
    let (column, is_named) = match wanted {
        None => (ID, false),
        Some(IdRule::Column(column)) => (column.as_str(), true),
        Some(IdRule::Ordinal) => return Ok(IdRule::Ordinal),
        Some(IdRule::Path) => {
            return Err(DatasetError::Layout { reason: "rows of arrays have no paths that could be their ids".to_owned() });
        }
    };
    let wrong = |reason: String| Err(DatasetError::Column { column: printable(column), reason });
    match arrays.iter().find(|array| array.field == column) {
        Some(array) if array.may_be_ids() => Ok(IdRule::Column(column.to_owned())),
        Some(array) => wrong(format!("\"{}\" holds no integers that could be ids", printable(array.found.path.as_str()))),
        None if is_named => wrong("there is no such array, which should hold the ids".to_owned()),
        None => Ok(IdRule::Ordinal),
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
        let parts = self.samples.div_ceil(self.step);
        let samples = |part| self.step.min(self.samples - part * self.step);
        (0..parts).map(|part| self.sample_bytes.saturating_mul(samples(part))).collect()
    }

    fn read(&self, tree: &ModelTree, part: usize, _: &[DatasetField], sink: &mut Sink<'_>) -> Result<(), DatasetError> {
        let first = part as u64 * self.step;
        let samples = self.step.min(self.samples - first);
        let mut room = 2 * PART_BYTES;
        let mut bodies = Vec::with_capacity(self.arrays.len());
        for array in &self.arrays {
            let body = array.read(tree, first, samples, room)?;
            if let Body::Held(bytes) = &body {
                room = room.saturating_sub(bytes.len() as u64);
            }
            bodies.push(body);
        }
        let columns = self.arrays.iter().zip(&bodies).map(|(array, body)| (array.field.as_str(), array.values(body))).collect();
        let digests = Samples::new(samples as usize, columns)?.digests().map_err(|error| self.in_files(error, first))?;
        let ids = match &self.ids {
            IdRule::Column(column) => {
                let mut array = self.arrays.iter().zip(&bodies).filter(|(array, _)| array.field == *column);
                let Some((array, Body::Held(bytes))) = array.next() else { unreachable!("integers are held") };
                Some(array.ids(bytes, first)?)
            }
            _ => None,
        };
        let row = |(row, digest)| Row { source: None, id: ids.as_ref().map(|ids| ids[row]), digest };
        sink(digests.into_iter().enumerate().map(row).collect())
    }
}

impl Arrays {
    /// Says of which files samples are that have no record.
    fn in_files(&self, error: DatasetError, first: u64) -> DatasetError {
        match error {
            DatasetError::Record { sample, source, .. } => {
                DatasetError::Record { place: format!("\"{}\"", printable(&self.name)), sample: first + sample, source }
            }
            other => other,
        }
    }
}
