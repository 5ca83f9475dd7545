//! Samples in memory, field by field, such as a batch that is about to be handed out.

use sentry_hash::blake3_many;
use sentry_hash::lattice::SampleDigest;
use sentry_manifest::printable;
use sentry_manifest::record::{Field, Kind, MAX_INLINE, RecordError, Value, encode};
use sentry_manifest::safetensors::Dtype;

use crate::DatasetError;

/// One field of all samples.
#[derive(Debug, Clone)]
pub enum FieldValues<'a> {
    /// A number or an array of each sample, all of one type and shape, one after the other.
    Tensors {
        /// The type of an element.
        dtype: Dtype,
        /// The shape of one sample's value; none for a number.
        shape: &'a [u64],
        /// The elements of all samples, row-major and little-endian.
        bytes: &'a [u8],
    },
    /// A value of each sample.
    Values(Vec<Value<'a>>),
}

/// Samples in memory.
#[derive(Debug, Clone)]
pub struct Samples<'a> {
    count: usize,
    fields: Vec<(&'a str, FieldValues<'a>)>,
}

impl<'a> Samples<'a> {
    /// Takes `count` samples, whose fields come in any order.
    ///
    /// # Errors
    /// [`DatasetError::Column`] for a field with more or fewer values than there are samples.
    pub fn new(count: usize, fields: Vec<(&'a str, FieldValues<'a>)>) -> Result<Self, DatasetError> {
        for (name, values) in &fields {
            let wrong = |reason: String| Err(DatasetError::Column { column: printable(name), reason });
            match values {
                FieldValues::Values(values) if values.len() == count => {}
                FieldValues::Values(values) => return wrong(format!("it has {} values for {count} samples", values.len())),
                FieldValues::Tensors { dtype, shape, bytes } => {
                    let expected = dtype.size_of(shape).and_then(|size| size.checked_mul(count as u64));
                    if expected != Some(bytes.len() as u64) {
                        return wrong(format!("{count} values of {} and shape {shape:?} do not have {} bytes", dtype.name(), bytes.len()));
                    }
                }
            }
        }
        Ok(Self { count, fields })
    }

    /// How many samples there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The names of the fields, as they were given.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| *name)
    }

    /// The fields of one sample.
    ///
    /// # Panics
    /// If there is no such sample.
    pub fn record(&self, sample: usize) -> Vec<Field<'_>> {
        assert!(sample < self.count, "sample {sample} of {}", self.count);
        self.fields.iter().map(|(name, values)| Field { name, value: values.of(sample, self.count) }).collect()
    }

    /// The digest of every sample's record, in their order, on this thread.
    ///
    /// # Errors
    /// [`DatasetError::Record`].
    pub fn digests(&self) -> Result<Vec<SampleDigest>, DatasetError> {
        let records: Vec<Vec<Field<'_>>> = (0..self.count).map(|sample| self.record(sample)).collect();
        let bodies: Vec<&[u8]> = records.iter().flatten().filter_map(|field| long_body(&field.value)).collect();
        let mut hashed = blake3_many(&bodies).into_iter();
        let encoded = |(sample, mut record): (usize, Vec<Field<'_>>)| {
            // The same bodies in the same order as above.
            for field in &mut record {
                if let Some(bytes) = long_body(&field.value) {
                    let digest = hashed.next().expect("every long body was hashed");
                    field.value = by_digest(&field.value, bytes, digest).map_err(|error| (sample, error))?;
                }
            }
            encode(&record).map_err(|error| (sample, error))
        };
        let wrong =
            |(sample, source): (usize, RecordError)| DatasetError::Record { place: "the batch".to_owned(), sample: sample as u64, source };
        let records: Vec<Vec<u8>> = records.into_iter().enumerate().map(encoded).collect::<Result<_, _>>().map_err(wrong)?;
        Ok(SampleDigest::of_records(&records.iter().map(Vec::as_slice).collect::<Vec<_>>()))
    }
}

impl FieldValues<'_> {
    fn of(&self, sample: usize, count: usize) -> Value<'_> {
        match self {
            Self::Values(values) => values[sample].clone(),
            Self::Tensors { dtype, shape, bytes } => {
                let size = bytes.len() / count;
                Value::Tensor { dtype: *dtype, shape, bytes: &bytes[sample * size..(sample + 1) * size] }
            }
        }
    }
}

/// The bytes of a value that are hashed by themselves.
fn long_body<'a>(value: &Value<'a>) -> Option<&'a [u8]> {
    let bytes = match value {
        Value::Tensor { bytes, .. } | Value::Bytes(bytes) => bytes,
        Value::Text(text) => text.as_bytes(),
        _ => return None,
    };
    (bytes.len() as u64 > MAX_INLINE).then_some(bytes)
}

/// A value with the digest of its bytes. What a tensor may hold is checked here, as the record no longer shows it; text is text.
fn by_digest<'a>(value: &Value<'a>, bytes: &[u8], digest: [u8; 32]) -> Result<Value<'a>, RecordError> {
    let (kind, shape) = match value {
        Value::Tensor { dtype, shape, .. } => (Kind::Tensor(*dtype), *shape),
        Value::Text(_) => (Kind::Utf8, &[][..]),
        _ => (Kind::Bytes, &[][..]),
    };
    if let Kind::Tensor(_) = kind {
        kind.check_bytes(bytes)?;
    }
    Ok(Value::Hashed { kind, shape, length: bytes.len() as u64, digest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dtype(name: &str) -> Dtype {
        Dtype::from_name(name).unwrap()
    }

    fn one_by_one(samples: &Samples<'_>) -> Vec<SampleDigest> {
        (0..samples.count()).map(|sample| SampleDigest::of_record(&encode(&samples.record(sample)).unwrap())).collect()
    }

    #[test]
    fn digests_are_those_of_the_records_one_by_one() {
        let images: Vec<u8> = (0..5 * 3072).map(|place| (place % 251) as u8).collect();
        let text = "long ".repeat(20);
        let fields = vec![
            ("image", FieldValues::Tensors { dtype: dtype("U8"), shape: &[32, 32, 3], bytes: &images }),
            ("label", FieldValues::Values((0..5).map(Value::Integer).collect())),
            (
                "text",
                FieldValues::Values(vec![
                    Value::Text(&text),
                    Value::Text("short"),
                    Value::Null,
                    Value::Bytes(&images[..65]),
                    Value::Text(""),
                ]),
            ),
            ("boxes", FieldValues::Values(vec![Value::List(vec![Value::Text(&text)]); 5])),
        ];
        let samples = Samples::new(5, fields.clone()).unwrap();
        assert_eq!(samples.digests().unwrap(), one_by_one(&samples));
        let backwards = Samples::new(5, fields.into_iter().rev().collect()).unwrap();
        assert_eq!(backwards.digests().unwrap(), samples.digests().unwrap());
    }

    #[test]
    fn a_sample_has_the_same_digest_in_any_batch() {
        let images: Vec<u8> = (0..4 * 100).map(|place| place as u8).collect();
        let batch = |from: usize, to: usize| {
            let bytes = &images[100 * from..100 * to];
            Samples::new(to - from, vec![("image", FieldValues::Tensors { dtype: dtype("U8"), shape: &[100], bytes })])
                .unwrap()
                .digests()
                .unwrap()
        };
        let whole = batch(0, 4);
        assert_eq!(whole, [batch(0, 1), batch(1, 4)].concat());
        assert_eq!(whole.iter().collect::<std::collections::HashSet<_>>().len(), 4);
    }

    #[test]
    fn fields_of_unequal_length_are_refused() {
        let values = FieldValues::Values(vec![Value::Null; 3]);
        let error = Samples::new(2, vec![("label", values)]).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), ("dataset_column", "column \"label\": it has 3 values for 2 samples"));
        let tensors = FieldValues::Tensors { dtype: dtype("F32"), shape: &[2], bytes: &[0; 12] };
        assert_eq!(Samples::new(2, vec![("x", tensors)]).unwrap_err().code(), "dataset_column");
        let tensors = FieldValues::Tensors { dtype: dtype("F32"), shape: &[u64::MAX, 2], bytes: &[] };
        assert_eq!(Samples::new(2, vec![("x", tensors)]).unwrap_err().code(), "dataset_column");
    }

    #[test]
    fn a_sample_without_a_record_is_named() {
        let wrong = Value::Tensor { dtype: dtype("BOOL"), shape: &[2], bytes: &[0, 2] };
        let right = Value::Tensor { dtype: dtype("BOOL"), shape: &[2], bytes: &[0, 1] };
        let error = Samples::new(2, vec![("x", FieldValues::Values(vec![right, wrong]))]).unwrap().digests().unwrap_err();
        assert!(error.to_string().starts_with("sample 1 of the batch: "), "{error}");
        let long = [2; 100];
        let tensors = FieldValues::Tensors { dtype: dtype("BOOL"), shape: &[100], bytes: &long };
        assert_eq!(Samples::new(1, vec![("x", tensors)]).unwrap().digests().unwrap_err().code(), "sample_record");
    }
}
